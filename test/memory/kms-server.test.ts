import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { kmsPackage } from '../../src/kms/proto.ts';
import { listenAsKms } from '../../src/lab/kms-server.ts';
import { KmsPlugin, type Vault } from '../../src/lab/kms-plugin.ts';

const service = loadPackageDefinition(kmsPackage) as unknown as Record<
  'v2' | 'v1beta1',
  { KeyManagementService: new (...args: ConstructorParameters<typeof Client>) => Client }
>;

let folder: string;
const closing: (() => void)[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kms-'));
});
afterEach(() => {
  for (const close of closing.splice(0)) close();
  rmSync(folder, { recursive: true });
});

/** As kube-apiserver dials: by the socket's path, as `localhost`. */
function dial(version: 'v2' | 'v1beta1', socket: string) {
  const client = new service[version].KeyManagementService(`unix://${socket}`, credentials.createInsecure(), {
    'grpc.default_authority': 'localhost',
    // A socket that was gone a moment ago is not waited for by who dials it anew.
    'grpc.use_local_subchannel_pool': 1,
  });
  closing.push(() => {
    client.close();
  });
  const methods = client as unknown as Record<
    string,
    (request: object, done: (error: Error | null, value: Record<string, unknown>) => void) => void
  >;
  return (method: string, request: object) =>
    new Promise<Record<string, unknown>>((resolve, reject) => {
      methods[method]?.call(client, request, (error, value) => {
        if (error === null) resolve(value);
        else reject(error);
      });
    });
}

async function listen(plugin: KmsPlugin, name = 'socket.sock') {
  const socket = join(folder, name);
  const stop = await listenAsKms(plugin, socket);
  closing.push(stop);
  return { socket, stop };
}

const dataKey = randomBytes(32);

describe('a KMS plugin on a socket', () => {
  it('wraps and unwraps for v2, and names its key', async () => {
    const { socket } = await listen(new KmsPlugin(new Map(), 'kek-1'));
    const v2 = dial('v2', socket);
    expect(await v2('Status', {})).toEqual({ version: 'v2', healthz: 'ok', key_id: 'kek-1' });
    const { ciphertext, key_id } = await v2('Encrypt', { plaintext: dataKey, uid: 'u' });
    expect(key_id).toBe('kek-1');
    expect(ciphertext).not.toEqual(dataKey);
    expect(await v2('Decrypt', { ciphertext, key_id, uid: 'u' })).toEqual({ plaintext: dataKey });
  });

  it('wraps and unwraps for v1beta1, which has no key ids, also what an older key wrapped', async () => {
    const plugin = new KmsPlugin(new Map(), 'kek-1');
    const { socket } = await listen(plugin);
    const v1 = dial('v1beta1', socket);
    expect(await v1('Version', { version: 'v1beta1' })).toMatchObject({ version: 'v1beta1' });
    const { cipher } = await v1('Encrypt', { version: 'v1beta1', plain: dataKey });
    plugin.rotate('kek-2');
    expect(await v1('Decrypt', { version: 'v1beta1', cipher })).toEqual({ plain: dataKey });
  });

  it('goes on to unwrap with an older key until that is destroyed', async () => {
    const plugin = new KmsPlugin(new Map(), 'kek-1');
    const { socket } = await listen(plugin);
    const v2 = dial('v2', socket);
    const old = await v2('Encrypt', { plaintext: dataKey });
    plugin.rotate('kek-2');
    expect((await v2('Status', {}))['key_id']).toBe('kek-2');
    expect((await v2('Encrypt', { plaintext: dataKey }))['key_id']).toBe('kek-2');
    expect(await v2('Decrypt', old)).toEqual({ plaintext: dataKey });
    plugin.destroy('kek-1');
    await expect(v2('Decrypt', old)).rejects.toThrow('the KMS has no key for this ciphertext');
  });

  it('of the same KMS unwraps what another has wrapped; of another one it does not', async () => {
    const vault: Vault = new Map();
    const mine = dial('v2', (await listen(new KmsPlugin(vault, 'kek-1'), 'a.sock')).socket);
    const same = dial('v2', (await listen(new KmsPlugin(vault, 'kek-1'), 'b.sock')).socket);
    const other = dial('v2', (await listen(new KmsPlugin(new Map(), 'kek-1'), 'c.sock')).socket);
    const wrapped = await mine('Encrypt', { plaintext: dataKey });
    expect(await same('Decrypt', wrapped)).toEqual({ plaintext: dataKey });
    await expect(other('Decrypt', wrapped)).rejects.toThrow('the KMS has no key');
  });

  it('says what is wrong with it, and does nothing else until it is well', async () => {
    const plugin = new KmsPlugin(new Map(), 'kek-1');
    plugin.healthy = false;
    const { socket } = await listen(plugin);
    const v2 = dial('v2', socket);
    expect((await v2('Status', {}))['healthz']).toBe('the KMS does not answer');
    await expect(v2('Encrypt', { plaintext: dataKey })).rejects.toThrow('the KMS does not answer');
    plugin.healthy = true;
    expect((await v2('Encrypt', { plaintext: dataKey }))['key_id']).toBe('kek-1');
  });

  it('can end, and start again in the place of a socket that was left behind', async () => {
    const plugin = new KmsPlugin(new Map(), 'kek-1');
    const { socket, stop } = await listen(plugin);
    stop();
    await expect(dial('v2', socket)('Status', {})).rejects.toThrow('UNAVAILABLE');
    expect(existsSync(socket)).toBe(false);
    writeFileSync(socket, '');
    await listen(plugin);
    expect((await dial('v2', socket)('Status', {}))['healthz']).toBe('ok');
  });

  it('breaks off the connections it has when it ends', async () => {
    const { socket, stop } = await listen(new KmsPlugin(new Map(), 'kek-1'));
    const v2 = dial('v2', socket);
    await v2('Status', {});
    stop();
    await expect(v2('Status', {})).rejects.toThrow('UNAVAILABLE');
  });
});
