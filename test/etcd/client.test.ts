import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { messageOf } from '../../src/errors.ts';
import { createEtcd, type EtcdOptions } from '../../src/etcd/client.ts';
import type { Dial, Etcd } from '../../src/ports.ts';
import { certificate, kubeCa, otherCa } from '../kube/certificates.ts';
import { startEtcd, type FakeEtcd } from './fake-etcd.ts';

const opened: { close(): unknown }[] = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

async function member(tls = true): Promise<FakeEtcd> {
  const etcd = await startEtcd(tls);
  opened.push(etcd);
  return etcd;
}

/** A stream as SSH would open it. */
async function dialTo({ port }: FakeEtcd) {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

const noSsh: Dial = () => Promise.reject(new Error('SSH is down'));

function etcdAt(endpoints: readonly string[], more: Partial<EtcdOptions> = {}): Etcd {
  const etcd = createEtcd({
    endpoints,
    ca: kubeCa,
    ...certificate('kube-node'),
    dial: noSsh,
    node: 'cp-1',
    directTimeout: 300,
    ...more,
  });
  opened.push(etcd);
  return etcd;
}

const { signal } = new AbortController();
const all = { from: Buffer.from('/registry/'), end: Buffer.from('/registry0'), limit: 10, revision: 0n };

describe('etcd client', () => {
  test('reads a range with its revision and the id of the cluster', async () => {
    const fake = await member();
    fake.values.set('/registry/secrets/default/a', Buffer.from([0, 255, 1]));
    const page = await etcdAt([`https://127.0.0.1:${fake.port}`]).range(all, signal);
    expect(page).toEqual({
      kvs: [
        { key: Buffer.from('/registry/secrets/default/a'), value: Buffer.from([0, 255, 1]), modRevision: 7n },
      ],
      more: false,
      revision: 100n,
      clusterId: '14841639068965178418',
    });
  });

  test("works without TLS where kube-apiserver does; the node's loopback is not this machine's", async () => {
    const [ours, theirs] = [await member(false), await member(false)];
    const etcd = etcdAt([`http://127.0.0.1:${ours.port}`], { dial: () => dialTo(theirs) });
    expect((await etcd.range(all, signal)).kvs).toEqual([]);
    expect(ours.ranges).toEqual([]);
  });

  test('is reached through SSH where something else listens at the address as seen from here', async () => {
    const fake = await member();
    const listening = async (server: Server) => {
      server.listen(0, '127.0.0.1');
      opened.push(server);
      await once(server, 'listening');
      return (server.address() as AddressInfo).port;
    };
    const silent = await listening(createServer((socket) => socket.resume()));
    const ofAnotherCa = await listening(createTlsServer(certificate('kube-apiserver-requestheader-ca')));
    for (const port of [silent, ofAnotherCa, (await member(false)).port]) {
      const dialled: string[] = [];
      const dial: Dial = (node, host, asked) => {
        dialled.push(`${node} ${host}:${asked}`);
        return dialTo(fake);
      };
      const etcd = etcdAt([`https://127.0.0.1:${port}`], { dial });
      expect((await etcd.range(all, signal)).revision).toBe(100n);
      expect(dialled).toEqual([`cp-1 127.0.0.1:${port}`]);
    }
  });

  test('goes on to the next member when one is down or has no quorum', async () => {
    const [down, alone, well] = [await member(), await member(), await member()];
    down.close();
    alone.withoutQuorum = true;
    const etcd = etcdAt([down, alone, well].map(({ port }) => `https://127.0.0.1:${port}`));
    await etcd.range(all, signal);
    await etcd.range(all, signal);
    // Asked once whether it is healthy, and then left alone.
    expect(alone.ranges.length).toBe(1);
    expect(well.ranges.length).toBe(3);
  });

  test('a member that fails later is left for another', async () => {
    const [first, second] = [await member(), await member()];
    const etcd = etcdAt([first, second].map(({ port }) => `https://127.0.0.1:${port}`));
    await etcd.range(all, signal);
    first.withoutQuorum = true;
    expect((await etcd.range(all, signal)).revision).toBe(100n);
    first.close();
    expect((await etcd.range(all, signal)).revision).toBe(100n);
  });

  test('when no member answers, each is named with its reason', async () => {
    const [first, second] = [await member(), await member()];
    first.close();
    second.withoutQuorum = true;
    const etcd = etcdAt([first, second].map(({ port }) => `https://127.0.0.1:${port}`));
    const error: unknown = await etcd.range(all, signal).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ETCD', node: 'cp-1' });
    expect(messageOf(error)).toMatch(/SSH is down.*no leader/s);
  });

  test('through SSH it is a socket of our own, and the real name is what counts', async () => {
    const fake = await member();
    const dialled: string[] = [];
    const dial: Dial = (node, host, port) => {
      dialled.push(`${node} ${host}:${port}`);
      return dialTo(fake);
    };
    const folders = () => readdirSync(tmpdir()).filter((name) => name.startsWith('tsrke-')).length;
    const before = folders();
    const etcd = etcdAt(['https://198.51.100.12:2379'], { dial, direct: false });
    expect((await etcd.range(all, signal)).revision).toBe(100n);
    expect(dialled).toEqual(['cp-1 198.51.100.12:2379']);
    expect(folders()).toBe(before + 1);
    etcd.close();
    await expect.poll(folders).toBe(before);
    const wrong = etcdAt(['https://198.51.100.99:2379'], { dial, direct: false });
    const error: unknown = await wrong.range(all, signal).catch((reason: unknown) => reason);
    expect(messageOf(error)).toContain("IP: 198.51.100.99 is not in the cert's list");
  });

  test('a server of another CA is refused', async () => {
    const fake = await member();
    const etcd = etcdAt([`https://127.0.0.1:${fake.port}`], { ca: otherCa });
    await expect(etcd.range(all, signal)).rejects.toMatchObject({ code: 'ETCD' });
  });

  test('an abort rejects with its reason', async () => {
    const fake = await member();
    const etcd = etcdAt([`https://127.0.0.1:${fake.port}`]);
    const stop = new AbortController();
    fake.onRange = () => {
      stop.abort(new Error('interrupted'));
    };
    await expect(etcd.range(all, stop.signal)).rejects.toThrow('interrupted');
  });

  test('compacts; what is compacted already is fine, a future revision is not', async () => {
    const fake = await member();
    const etcd = etcdAt([`https://127.0.0.1:${fake.port}`]);
    await etcd.compact(50n, signal);
    expect(fake.compacted).toBe(50n);
    await etcd.compact(40n, signal);
    await expect(etcd.compact(1000n, signal)).rejects.toMatchObject({ code: 'ETCD' });
  });

  test('the size is that of the largest member, by what is in use; the quota the smallest', async () => {
    const [first, second, down] = [await member(), await member(), await member()];
    first.status = { dbSize: '900', dbSizeInUse: '300', dbSizeQuota: '2000' };
    second.status = { dbSize: '500', dbSizeInUse: '400' };
    down.close();
    const etcd = etcdAt([first, second, down].map(({ port }) => `https://127.0.0.1:${port}`));
    expect(await etcd.size(signal)).toEqual({ used: 400, quota: 2000 });
    first.status = { dbSize: '900' };
    expect(await etcd.size(signal)).toEqual({ used: 900, quota: undefined });
  });

  test('a page that is too large comes halved', async () => {
    const fake = await member();
    const value = Buffer.alloc(1024 * 1024);
    for (let index = 10; index < 60; index += 1) fake.values.set(`/registry/secrets/default/${index}`, value);
    const etcd = etcdAt([`https://127.0.0.1:${fake.port}`]);
    const page = await etcd.range({ ...all, limit: 50 }, signal);
    expect(page.kvs.length).toBe(25);
    expect(page.more).toBe(true);
    expect((await etcd.range({ ...all, limit: 25 }, signal)).kvs.at(-1)?.key.toString()).toMatch(/34$/);
  });
});
