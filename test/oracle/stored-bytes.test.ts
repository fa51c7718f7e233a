/** The memory lab's stored bytes against kube-apiserver's own transformers: each reads what the other has written. */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseProviderFile } from '../../src/encryption/configuration.ts';
import { transformerFor } from '../../src/lab/storage.ts';
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
