import { createCipheriv, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decryptable, type LocalKey } from '../../src/etcd/decrypt.ts';
import { etcdPathOf, etcdPathOfKey, resourceOfPath } from '../../src/etcd/paths.ts';
import { storedKeyOf } from '../../src/etcd/stored.ts';

const bytes = (...parts: (string | number[] | Buffer)[]) =>
  Buffer.concat(parts.map((part) => (Array.isArray(part) ? Buffer.from(part) : Buffer.from(part as string))));

/** One length-delimited protobuf field. */
function field(number: number, value: Buffer): Buffer {
  const length = [];
  let rest = value.length;
  while (rest > 127) {
    length.push((rest & 127) | 128);
    rest >>= 7;
  }
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length, rest]), value]);
}

const encrypted = field(1, randomBytes(300));
const keyId = field(2, Buffer.from('vault/key:7'));

describe('what a value says wrote it', () => {
  test.each([
    { $: 'protobuf', value: bytes('k8s\0', [10, 9]), id: 'identity' },
    { $: 'JSON', value: bytes('{"kind":"Widget"}'), id: 'identity' },
    { $: 'nothing', value: bytes(''), id: 'identity' },
    { $: 'aescbc', value: bytes('k8s:enc:aescbc:v1:k-7mrb6:', randomBytes(48)), id: 'aescbc:k-7mrb6' },
    { $: 'aesgcm', value: bytes('k8s:enc:aesgcm:v1:key1:', randomBytes(48)), id: 'aesgcm:key1' },
    { $: 'secretbox', value: bytes('k8s:enc:secretbox:v1:schlüssel:', [58, 58]), id: 'secretbox:schlüssel' },
    { $: 'kms v1', value: bytes('k8s:enc:kms:v1:vault:', [0, 32], randomBytes(32)), id: 'kms1:vault' },
    { $: 'kms v1, colons', value: bytes('k8s:enc:kms:v1:a:b:c:', [1, 2], randomBytes(9)), id: 'kms1:a:b:c' },
    { $: 'another provider', value: bytes('k8s:enc:rot13:v9:key1:', [1]), id: 'unknown:rot13:v9:key1' },
    { $: 'another version', value: bytes('k8s:enc:aescbc:v2:key1:', [1]), id: 'unknown:aescbc:v2:key1' },
    { $: 'no name', value: bytes('k8s:enc:aescbc:v1::', [1]), id: 'unknown:aescbc:v1' },
    { $: 'a name without end', value: bytes('k8s:enc:aescbc:v1:key1'), id: 'unknown:aescbc:v1' },
    { $: 'the bare marker', value: bytes('k8s:enc:'), id: 'unknown:malformed' },
    { $: 'kms v2, not protobuf', value: bytes('k8s:enc:kms:v2:vault:', [7, 7]), id: 'unknown:kms:v2:vault' },
    { $: 'kms v2, no key id', value: bytes('k8s:enc:kms:v2:vault:', encrypted), id: 'unknown:kms:v2:vault' },
  ])('$$: $id', ({ value, id }) => {
    expect(storedKeyOf(value).id).toBe(id);
  });

  test('kms v2 carries the id of its key, wherever the field stands', () => {
    const rest = field(3, randomBytes(60));
    for (const message of [
      [encrypted, keyId, rest],
      [keyId, encrypted],
      [Buffer.from([0x28, 1]), encrypted, keyId],
    ]) {
      const stored = storedKeyOf(bytes('k8s:enc:kms:v2:vault:', ...message));
      expect(stored).toEqual({ provider: 'kms2', name: 'vault', keyId: 'vault/key:7', id: 'kms2:vault' });
    }
  });

  test('no bytes make it throw, and none of what follows the prefix gets out', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom('', 'k8s:enc:', 'k8s:enc:kms:v2:a:'),
        (tail, head) => {
          const { id } = storedKeyOf(Buffer.concat([Buffer.from(head), tail]));
          if (id.length > 300) throw new Error(`${id} is too long`);
        },
      ),
    );
  });
});

describe('a trial read', () => {
  const etcdKey = '/registry/secrets/default/db';
  const plain = bytes('k8s\0', randomBytes(100));

  function stored(
    provider: 'aescbc' | 'aesgcm',
    name: string,
    secret: Uint8Array,
    aad = etcdKey,
    text = plain,
  ): Buffer {
    const prefix = `k8s:enc:${provider}:v1:${name}:`;
    if (provider === 'aescbc') {
      const iv = randomBytes(16);
      const cipher = createCipheriv(`aes-${secret.length * 8}-cbc`, secret, iv);
      return bytes(prefix, iv, cipher.update(text), cipher.final());
    }
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', secret, nonce);
    cipher.setAAD(Buffer.from(aad));
    return bytes(prefix, nonce, cipher.update(text), cipher.final(), cipher.getAuthTag());
  }

  const key = (provider: LocalKey['provider'], name: string, secret: Uint8Array): LocalKey => ({
    provider,
    name,
    secret,
  });
  const read = (value: Buffer, keys: LocalKey[], at = etcdKey) =>
    decryptable(value, at, storedKeyOf(value), keys);

  test.each(['aescbc', 'aesgcm'] as const)('%s opens with its key and with no other', (provider) => {
    const [right, wrong] = [randomBytes(32), randomBytes(32)];
    const value = stored(provider, 'one', right);
    expect(read(value, [key(provider, 'one', right)])).toBe(true);
    expect(read(value, [key(provider, 'one', wrong), key(provider, 'one', right)])).toBe(true);
    expect(read(value, [key(provider, 'one', wrong)])).toBe(false);
    expect(read(value, [key(provider, 'other', right)])).toBeUndefined();
    expect(read(value.subarray(0, 40), [key(provider, 'one', right)])).toBe(false);
  });

  test('a wrong aescbc key is found out even when the padding fits by chance', () => {
    const right = randomBytes(32);
    const value = stored('aescbc', 'one', right);
    for (let tries = 0; tries < 2000; tries += 1) {
      if (read(value, [key('aescbc', 'one', randomBytes(32))]) !== false)
        throw new Error('a wrong key opened it');
    }
  });

  test('an aesgcm value under another etcd key does not open', () => {
    const secret = randomBytes(32);
    const value = stored('aesgcm', 'one', secret, '/registry/secrets/default/other');
    expect(read(value, [key('aesgcm', 'one', secret)])).toBe(false);
  });

  test('shorter keys and custom resources open too, what is no object does not', () => {
    for (const size of [16, 24, 32]) {
      const secret = randomBytes(size);
      expect(read(stored('aescbc', 'one', secret), [key('aescbc', 'one', secret)])).toBe(true);
    }
    const secret = randomBytes(32);
    expect(read(stored('aesgcm', 'one', secret, etcdKey, bytes('{}')), [key('aesgcm', 'one', secret)])).toBe(
      true,
    );
    expect(read(stored('aesgcm', 'one', secret, etcdKey, bytes('x')), [key('aesgcm', 'one', secret)])).toBe(
      false,
    );
  });

  test('identity and KMS cannot be told', () => {
    expect(read(plain, [])).toBeUndefined();
    expect(read(bytes('k8s:enc:kms:v1:vault:', [0, 1, 1]), [])).toBeUndefined();
  });
});

test.each([
  { resource: 'secrets', group: '', custom: false, path: 'secrets' },
  { resource: 'nodes', group: '', custom: false, path: 'minions' },
  { resource: 'services', group: '', custom: false, path: 'services/specs' },
  { resource: 'endpoints', group: '', custom: false, path: 'services/endpoints' },
  { resource: 'replicationcontrollers', group: '', custom: false, path: 'controllers' },
  { resource: 'ingresses', group: 'networking.k8s.io', custom: false, path: 'ingress' },
  { resource: 'leases', group: 'coordination.k8s.io', custom: false, path: 'leases' },
  {
    resource: 'apiservices',
    group: 'apiregistration.k8s.io',
    custom: false,
    path: 'apiregistration.k8s.io/apiservices',
  },
  { resource: 'widgets', group: 'example.com', custom: true, path: 'example.com/widgets' },
  { resource: 'services', group: 'serving.knative.dev', custom: true, path: 'serving.knative.dev/services' },
  {
    resource: 'gateways',
    group: 'gateway.networking.k8s.io',
    custom: true,
    path: 'gateway.networking.k8s.io/gateways',
  },
])('$resource of group "$group" lie under $path', ({ resource, group, custom, path }) => {
  expect(etcdPathOf(resource, group, custom)).toBe(path);
  expect(etcdPathOfKey(`${path}/default/x`)).toBe(path);
  expect(etcdPathOfKey(`${path}/x`)).toBe(path);
  expect(resourceOfPath(path)).toBe(group === '' ? resource : `${resource}.${group}`);
});

test('what kube-apiserver stores past its encryption has no name', () => {
  expect(['ranges', 'masterleases'].map(resourceOfPath)).toEqual([undefined, undefined]);
});
