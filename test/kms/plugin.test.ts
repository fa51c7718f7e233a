/** tsrke's client against the labs' plugin, over a stream as SSH would give it. */
import { mkdtempSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openPlugin } from '../../src/kms/plugin.ts';
import { listenAsKms } from '../../src/lab/kms-server.ts';
import { KmsPlugin } from '../../src/lab/kms-plugin.ts';

const { signal } = new AbortController();
const path = join(mkdtempSync(join(tmpdir(), 'tsrke-kms-')), 'socket.sock');
const server = new KmsPlugin(new Map(), 'kek-1');
let end: () => void;

beforeEach(async () => {
  server.healthy = true;
  end = await listenAsKms(server, path);
});

afterEach(() => end());

function open(version: 'v1' | 'v2') {
  const dial = () =>
    new Promise<ReturnType<typeof connect>>((resolve, reject) => {
      const socket = connect(path, () => resolve(socket)).once('error', reject);
    });
  return openPlugin({ node: 'n1', path, version, dial });
}

test.each(['v1', 'v2'] as const)('%s: says how it is, encrypts and decrypts', async (version) => {
  const plugin = open(version);
  expect(await plugin.status(signal)).toEqual(
    version === 'v2'
      ? { version: 'v2', healthz: 'ok', keyId: 'kek-1' }
      : { version: 'v1beta1', healthz: 'ok', keyId: '' },
  );
  const plain = Buffer.from('a data key');
  const wrapped = await plugin.encrypt(plain, signal);
  expect(wrapped.keyId).toBe(version === 'v2' ? 'kek-1' : '');
  expect(wrapped.ciphertext.includes(plain)).toBe(false);
  expect(await plugin.decrypt(wrapped, signal)).toEqual(plain);
  plugin.close();
});

test('what the plugin says goes into the error, what it was given does not', async () => {
  const plugin = open('v2');
  server.healthy = false;
  await expect(plugin.encrypt(Buffer.from('a data key'), signal)).rejects.toMatchObject({
    code: 'KMS_UNHEALTHY',
    node: 'n1',
    message: `the KMS plugin at ${path} did not answer Encrypt: the KMS does not answer`,
  });
  plugin.close();
});

test('nobody listens', async () => {
  end();
  await expect(open('v2').status(signal)).rejects.toMatchObject({
    code: 'KMS_UNHEALTHY',
    message: expect.stringContaining('ENOENT') as string,
  });
});
