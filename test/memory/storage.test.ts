import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it, test } from 'vitest';
import { parseProviderFile, type ProviderFile } from '../../src/encryption/configuration.ts';
import { Secret, type Key } from '../../src/encryption/key.ts';
import { decryptable } from '../../src/etcd/decrypt.ts';
import { storedKeyOf } from '../../src/etcd/stored.ts';
import { deserialise, secrets, serialise, widgets } from '../../src/lab/kinds.ts';
import { transformerFor, type Kek } from '../../src/lab/storage.ts';

const key = (provider: Key['provider'], name: string, fill: number): Key => ({
  provider,
  name,
  secret: new Secret(Buffer.alloc(32, fill).toString('base64')),
});

const local = (...keys: Key[]): ProviderFile => ({
  entries: [
    { resources: ['secrets'], providers: keys.map((each) => ({ kind: each.provider, keys: [each] })) },
  ],
});

const kms = (apiVersion: 'v1' | 'v2', name = 'vault'): ProviderFile => ({
  entries: [
    { resources: ['secrets'], providers: [{ kind: 'kms', apiVersion, name, endpoint: 'unix:///kms.sock' }] },
  ],
});

/** A plugin that xors; its key id can change. */
class Plugin implements Kek {
  keyId = 'kek-1';
  refuses = false;
  wrap(dataKey: Buffer): Buffer {
    return dataKey.map((byte) => byte ^ 0x5a) as Buffer;
  }
  unwrap(wrapped: Buffer): Buffer | undefined {
    return this.refuses ? undefined : Buffer.from(wrapped.map((byte) => byte ^ 0x5a));
  }
}

const plugin = new Plugin();
const keks = (endpoint: string) => (endpoint === 'unix:///kms.sock' ? plugin : undefined);
const etcdKey = '/registry/secrets/default/db';
const plain = Buffer.from('k8s\0 what was stored');

const stored = (file: ProviderFile) => transformerFor(file, 'secrets', keks).toStorage(plain, etcdKey);
const read = (file: ProviderFile, value: Buffer, where = etcdKey) =>
  transformerFor(file, 'secrets', keks).fromStorage(value, where);

const cbc = key('aescbc', 'k-1', 1);
const gcm = key('aesgcm', 'k-2', 2);
const box = key('secretbox', 'k-3', 3);

describe('values in etcd', () => {
  test.each([
    { name: 'aescbc', file: local(cbc), prefix: 'k8s:enc:aescbc:v1:k-1:' },
    { name: 'aesgcm', file: local(gcm), prefix: 'k8s:enc:aesgcm:v1:k-2:' },
    { name: 'secretbox', file: local(box), prefix: 'k8s:enc:secretbox:v1:k-3:' },
    { name: 'kms v1', file: kms('v1'), prefix: 'k8s:enc:kms:v1:vault:' },
    { name: 'kms v2', file: kms('v2'), prefix: 'k8s:enc:kms:v2:vault:' },
  ])('$name: written under its prefix, read back, not stale', ({ file, prefix }) => {
    const value = stored(file);
    expect(value.toString('latin1').startsWith(prefix)).toBe(true);
    expect(value.includes('what was stored')).toBe(false);
    expect(read(file, value)).toEqual({ plain, stale: false });
    expect(stored(file)).not.toEqual(value);
  });

  it('identity is the plain bytes', () => {
    expect(stored({ entries: [] })).toBe(plain);
    expect(read({ entries: [] }, plain)).toEqual({ plain, stale: false });
  });

  it('bytes are those that the census of tsrke knows and opens', () => {
    for (const each of [cbc, gcm]) {
      const value = stored(local(each));
      const found = storedKeyOf(value);
      expect(found.id).toBe(`${each.provider}:${each.name}`);
      const bytes = { provider: each.provider, name: each.name, secret: each.secret.bytes() };
      expect(decryptable(value, etcdKey, found, [bytes])).toBe(true);
    }
    expect(storedKeyOf(stored(kms('v2'))).keyId).toBe('kek-1');
    expect(storedKeyOf(stored(kms('v1'))).id).toBe('kms1:vault');
  });

  test.each([
    { name: 'another key first', file: local(box, cbc) },
    { name: 'identity first', file: parseProviderFile(fileText(['identity: {}', aesCbcText()]), 'a file') },
  ])('$name: read, and stale', ({ file }) => {
    expect(read(file, stored(local(cbc)))).toEqual({ plain, stale: true });
  });

  it('a second key of the same provider is stale too', () => {
    const two: ProviderFile = {
      entries: [
        { resources: ['secrets'], providers: [{ kind: 'aescbc', keys: [key('aescbc', 'k-9', 9), cbc] }] },
      ],
    };
    expect(read(two, stored(local(cbc))).stale).toBe(true);
  });

  it('plain bytes behind a key are stale', () => {
    const file = parseProviderFile(fileText([aesCbcText(), 'identity: {}']), 'a file');
    expect(read(file, plain)).toEqual({ plain, stale: true });
  });

  it('kms v2 is stale once the key encryption key is another; v1 never is', () => {
    const [v1, v2] = [stored(kms('v1')), stored(kms('v2'))];
    plugin.keyId = 'kek-2';
    try {
      expect(read(kms('v2'), v2)).toEqual({ plain, stale: true });
      expect(read(kms('v1'), v1)).toEqual({ plain, stale: false });
      expect(storedKeyOf(stored(kms('v2'))).keyId).toBe('kek-2');
    } finally {
      plugin.keyId = 'kek-1';
    }
  });

  test.each([
    [
      'no entry for the resource',
      { entries: [] },
      local(cbc),
      'identity transformer tried to read encrypted data',
    ],
    ['no provider of the kind', local(box), local(cbc), 'no matching prefix found'],
    [
      'another name',
      local(key('aescbc', 'k-0', 1)),
      local(cbc),
      'no matching key was found for the provided AES transformer',
    ],
    [
      'another name (secretbox)',
      local(key('secretbox', 'k-0', 3)),
      local(box),
      'no matching key was found for the provided Secretbox transformer',
    ],
    [
      'other bytes (aesgcm)',
      local(key('aesgcm', 'k-2', 7)),
      local(gcm),
      'cipher: message authentication failed',
    ],
    [
      'other bytes (secretbox)',
      local(key('secretbox', 'k-3', 7)),
      local(box),
      'output array was not large enough for encryption',
    ],
  ] as const)('%s: refused in the words of kube-apiserver', (_, reader, writer, words) => {
    expect(() => read(reader, stored(writer))).toThrow(words);
  });

  it('a wrong aescbc key fails by its padding, or gives what is no object', () => {
    const value = stored(local(cbc));
    for (let i = 0; i < 600; i += 1) {
      const secret = new Secret(createHash('sha256').update(String(i)).digest('base64'));
      let found: Buffer;
      try {
        found = read(local({ ...cbc, secret }), value).plain;
      } catch (error) {
        expect((error as Error).message).toMatch(
          /^invalid (padding on input|PKCS7 data \(empty or not padded\))$/,
        );
        continue;
      }
      expect(() => deserialise(found, 1)).toThrow();
    }
  });

  it('a plugin that refuses, and one that is not there', () => {
    const value = stored(kms('v2'));
    plugin.refuses = true;
    try {
      expect(() => read(kms('v2'), value)).toThrow('failed to decrypt DEK, error: ');
    } finally {
      plugin.refuses = false;
    }
    const nobody = transformerFor(kms('v2'), 'secrets', () => undefined);
    expect(() => nobody.fromStorage(value, etcdKey)).toThrow('connection error');
  });

  it('aesgcm and kms values are bound to their etcd key', () => {
    for (const file of [local(gcm), kms('v1'), kms('v2')]) {
      expect(() => read(file, stored(file), '/registry/secrets/default/other')).toThrow(
        'cipher: message authentication failed',
      );
    }
    expect(read(local(cbc), stored(local(cbc)), '/registry/secrets/default/other').plain).toEqual(plain);
  });

  it('resources are looked up by name, then by the wildcard of their group, then by *.*', () => {
    const file: ProviderFile = {
      entries: [
        { resources: ['secrets'], providers: [{ kind: 'aescbc', keys: [cbc] }] },
        { resources: ['*.example.com'], providers: [{ kind: 'aesgcm', keys: [gcm] }] },
        { resources: ['*.*'], providers: [{ kind: 'secretbox', keys: [box] }] },
      ],
    };
    const id = (resource: string) =>
      storedKeyOf(transformerFor(file, resource, keks).toStorage(plain, etcdKey)).id;
    expect(id('secrets')).toBe('aescbc:k-1');
    expect(id('widgets.example.com')).toBe('aesgcm:k-2');
    expect(id('configmaps')).toBe('secretbox:k-3');
  });
});

it('objects lie in protobuf’s envelope, custom ones as JSON', () => {
  const object = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'db', uid: 'u', creationTimestamp: '2025-01-01T00:00:00Z', resourceVersion: '7' },
    data: { password: randomBytes(200).toString('base64') },
  };
  const bytes = serialise(secrets, object);
  expect(bytes.subarray(0, 6)).toEqual(Buffer.from([0x6b, 0x38, 0x73, 0x00, 0x0a, 0x0c]));
  expect(deserialise(bytes, 9)).toEqual({
    ...object,
    metadata: { ...object.metadata, resourceVersion: '9' },
  });
  expect(serialise(widgets, object).subarray(0, 1).toString()).toBe('{');
  expect(serialise(widgets, object).includes('resourceVersion')).toBe(false);
});

function aesCbcText(): string {
  return `aescbc: {keys: [{name: k-1, secret: ${cbc.secret.reveal()}}]}`;
}

function fileText(providers: readonly string[]): string {
  return [
    'kind: EncryptionConfiguration',
    'apiVersion: apiserver.config.k8s.io/v1',
    `resources: [{resources: [secrets], providers: [${providers.map((each) => `{${each}}`).join(', ')}]}]`,
  ].join('\n');
}
