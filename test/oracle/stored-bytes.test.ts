/** The memory lab's stored bytes against kube-apiserver's own transformers: each reads what the other has written. */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseProviderFile } from '../../src/encryption/configuration.ts';
import { listenAsKms } from '../../src/lab/kms-server.ts';
import { KmsPlugin } from '../../src/lab/kms-plugin.ts';
import { transformerFor, type Kek } from '../../src/lab/storage.ts';
import { openOracles, type Oracle } from '../lab/oracle.ts';

let oracles: readonly Oracle[] = [];
beforeAll(async () => {
  oracles = await openOracles();
});
afterAll(() => {
  for (const oracle of oracles) oracle[Symbol.dispose]();
});

const secret = (seed: string, length = 32) =>
  createHash('sha256').update(seed).digest().subarray(0, length).toString('base64');
const keys = (...names: string[]) =>
  `{keys: [${names.map((name) => `{name: ${name}, secret: ${secret(name)}}`).join(', ')}]}`;
const fileOf = (...providers: string[]) =>
  `kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: [{resources: [secrets], providers: [${providers.join(', ')}]}]\n`;

const resource = 'secrets';
const key = '/registry/secrets/default/db';
const noKek = () => undefined;

test.each([
  ['identity', fileOf('{identity: {}}')],
  ['aescbc', fileOf(`{aescbc: ${keys('a')}}`, '{identity: {}}')],
  ['aescbc with 16 bytes', fileOf(`{aescbc: {keys: [{name: a, secret: ${secret('a', 16)}}]}}`)],
  ['aesgcm', fileOf(`{aesgcm: ${keys('a', 'b')}}`, '{identity: {}}')],
  ['secretbox', fileOf(`{secretbox: ${keys('a')}}`, '{identity: {}}')],
])('%s, both ways, at each version', async (_, text) => {
  const lab = transformerFor(parseProviderFile(text, 'it'), resource, noKek);
  for (const oracle of oracles) {
    for (const length of [0, 1, 15, 16, 17, 1000]) {
      const plain = Buffer.concat([Buffer.from('k8s\0'), randomBytes(length)]);
      const theirs = await oracle.encrypt({ text, resource, key, value: plain });
      expect(lab.fromStorage(theirs, key)).toEqual({ plain, stale: false });
      const ours = await oracle.decrypt({ text, resource, key, value: lab.toStorage(plain, key) });
      expect(ours).toEqual({ value: plain, stale: false });
    }
  }
});

test('what is read by anything but the first key is stale to both', async () => {
  const write = fileOf(`{aesgcm: ${keys('old')}}`);
  const read = fileOf(`{secretbox: ${keys('new')}}`, `{aesgcm: ${keys('old')}}`);
  const plain = Buffer.from('k8s\0 value');
  const value = transformerFor(parseProviderFile(write, 'it'), resource, noKek).toStorage(plain, key);
  expect(transformerFor(parseProviderFile(read, 'it'), resource, noKek).fromStorage(value, key).stale).toBe(
    true,
  );
  for (const oracle of oracles)
    expect(await oracle.decrypt({ text: read, resource, key, value })).toEqual({ value: plain, stale: true });
});

test('a value under another etcd key is refused by both where the key is authenticated', async () => {
  const text = fileOf(`{aesgcm: ${keys('a')}}`);
  const lab = transformerFor(parseProviderFile(text, 'it'), resource, noKek);
  const value = lab.toStorage(Buffer.from('k8s\0'), key);
  const elsewhere = '/registry/secrets/default/other';
  expect(() => lab.fromStorage(value, elsewhere)).toThrow('message authentication failed');
  for (const oracle of oracles) {
    await expect(oracle.decrypt({ text, resource, key: elsewhere, value })).rejects.toThrow(
      'message authentication failed',
    );
  }
});

interface Asked {
  readonly plugin: KmsPlugin;
  /** The plugin as the lab's server sees it when it has just looked at its Status. */
  readonly kek: () => Kek;
  readonly file: (apiVersion: string) => string;
}

/**
 * A plugin that both ask: the lab the object, the oracle its socket. An abstract one, because kube-apiserver up to 1.28
 * sends the name of the socket as `:authority`, and Node's HTTP/2 refuses a path there. The name is as long as can be:
 * Node 20 would fill up a shorter one.
 */
async function withKms(run: (asked: Asked) => Promise<void>) {
  const name = `tsrke-kms-${process.pid}-`.padEnd(107, '.');
  const plugin = new KmsPlugin(new Map(), 'kek-1');
  const kek = (): Kek => ({
    keyId: plugin.keyId,
    wrap: (dataKey) => plugin.encrypt(dataKey),
    unwrap: (wrapped) => plugin.decrypt(wrapped),
  });
  const stop = await listenAsKms(plugin, `\0${name}`);
  const kms = (apiVersion: string) =>
    `{kms: {apiVersion: ${apiVersion}, name: vault, endpoint: 'unix:///@${name}', timeout: 3s}}`;
  try {
    await run({ plugin, kek, file: (apiVersion) => fileOf(kms(apiVersion), '{identity: {}}') });
  } finally {
    stop();
  }
}

/** Those that write as the lab does: v1 with AES-GCM from 1.25 on, v2 with a seed from 1.29 on. */
const kmsVersions = [
  { apiVersion: 'v1', since: 25, gates: { kmsV1: true } },
  { apiVersion: 'v2', since: 29, gates: {} },
];

test.each(kmsVersions)('KMS $apiVersion, both ways, from 1.$since on', ({ apiVersion, since, gates }) =>
  withKms(async ({ kek, file }) => {
    const question = { text: file(apiVersion), resource, key, ...gates };
    const lab = transformerFor(parseProviderFile(question.text, 'it'), resource, kek);
    for (const oracle of oracles.filter(({ minor }) => minor >= since)) {
      for (const length of [0, 1, 15, 16, 17, 1000]) {
        const plain = Buffer.concat([Buffer.from('k8s\0'), randomBytes(length)]);
        const theirs = await oracle.encrypt({ ...question, value: plain });
        expect(lab.fromStorage(theirs, key)).toEqual({ plain, stale: false });
        const ours = await oracle.decrypt({ ...question, value: lab.toStorage(plain, key) });
        expect(ours).toEqual({ value: plain, stale: false });
      }
    }
  }),
);

test('KMS v2 without a seed, as 1.27 and 1.28 write it, is read and stale', () =>
  withKms(async ({ kek, file }) => {
    const text = file('v2');
    const lab = transformerFor(parseProviderFile(text, 'it'), resource, kek);
    const plain = Buffer.from('k8s\0 value');
    for (const oracle of oracles.filter(({ minor }) => minor === 27 || minor === 28)) {
      const theirs = await oracle.encrypt({ text, resource, key, value: plain, kmsV2: true });
      expect(lab.fromStorage(theirs, key)).toEqual({ plain, stale: true });
    }
  }));

test.each([
  { apiVersion: 'v1', stale: false },
  { apiVersion: 'v2', stale: true },
])(
  'KMS $apiVersion: once the key is rotated, what the old one wrapped is stale to both: $stale; once that is destroyed, neither reads it',
  ({ apiVersion, stale }) =>
    withKms(async ({ plugin, kek, file }) => {
      const text = file(apiVersion);
      const lab = transformerFor(parseProviderFile(text, 'it'), resource, kek);
      const plain = Buffer.from('k8s\0 value');
      const value = lab.toStorage(plain, key);
      const question = { text, resource, key, value, kmsV1: true };
      const since = apiVersion === 'v1' ? 25 : 29;
      plugin.rotate('kek-2');
      expect(lab.fromStorage(value, key)).toEqual({ plain, stale });
      for (const oracle of oracles.filter(({ minor }) => minor >= since)) {
        expect(await oracle.decrypt(question)).toEqual({ value: plain, stale });
      }
      plugin.destroy('kek-1');
      expect(() => lab.fromStorage(value, key)).toThrow('failed to decrypt DEK');
      for (const oracle of oracles.filter(({ minor }) => minor >= since)) {
        await expect(oracle.decrypt(question)).rejects.toThrow('the KMS has no key');
      }
    }),
);
