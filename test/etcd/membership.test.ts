import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { status } from '@grpc/grpc-js';
import { messageOf } from '../../src/errors.ts';
import { nextMembershipChange, type EtcdNode } from '../../src/etcd/membership-change.ts';
import { createEtcdMembership, healthyMembers, type MembershipOptions } from '../../src/etcd/membership.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import type { Dial, EtcdMembership } from '../../src/ports.ts';
import { systemClock } from '../../src/provision/links.ts';
import { certificate, kubeCa } from '../kube/certificates.ts';
import { startEtcd, type FakeEtcd } from './fake-etcd.ts';

const opened: { close(): unknown }[] = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

const { signal } = new AbortController();
const noSsh: Dial = () => Promise.reject(new Error('SSH is down'));

const one = {
  ID: '11142394561364166478',
  name: 'etcd-cp-1',
  peerURLs: ['https://198.51.100.11:2380'],
  clientURLs: ['https://198.51.100.11:2379'],
  isLearner: false,
};

async function member(): Promise<FakeEtcd> {
  const etcd = await startEtcd();
  etcd.members = [one];
  opened.push(etcd);
  return etcd;
}

function membershipAt(fakes: readonly FakeEtcd[], more: Partial<MembershipOptions> = {}): EtcdMembership {
  const etcd = createEtcdMembership({
    endpoints: fakes.map(({ port }, at) => ({ url: `https://127.0.0.1:${port}`, node: `cp-${at + 1}` })),
    ca: kubeCa,
    ...certificate('kube-node'),
    dial: noSsh,
    clock: new VirtualClock(),
    directTimeout: 300,
    ...more,
  });
  opened.push(etcd);
  return etcd;
}

const two = 'https://198.51.100.12:2380';
const refused = (details: string) => ({ code: status.UNAVAILABLE, details: `etcdserver: ${details}` });

describe('membership of etcd', () => {
  test('lists members with ids as etcdctl prints them', async () => {
    const fake = await member();
    expect(await membershipAt([fake]).list(signal)).toEqual([
      {
        id: '9aa1bcd1915b074e',
        name: 'etcd-cp-1',
        peerUrls: ['https://198.51.100.11:2380'],
        clientUrls: ['https://198.51.100.11:2379'],
        learner: false,
      },
    ]);
  });

  test('a member joins as a learner, is promoted once it has caught up, and leaves', async () => {
    const fake = await member();
    const etcd = membershipAt([fake]);
    await etcd.addLearner(two, signal);
    const id = (await etcd.list(signal))[1]?.id ?? '';
    fake.isInSync = false;
    expect(await etcd.promote(id, signal)).toBe(false);
    fake.isInSync = true;
    expect(await etcd.promote(id, signal)).toBe(true);
    expect((await etcd.list(signal))[1]).toMatchObject({ name: '', peerUrls: [two], learner: false });
    await etcd.remove(id, signal);
    expect((await etcd.list(signal)).map(({ name }) => name)).toEqual(['etcd-cp-1']);
    const decimal = BigInt(`0x${id}`).toString();
    expect(fake.changes).toEqual([
      `add learner ${two}`,
      `promote ${decimal}`,
      `promote ${decimal}`,
      `remove ${decimal}`,
    ]);
  });

  test('what is done already is fine, and is not asked of etcd where a look is enough', async () => {
    const fake = await member();
    const etcd = membershipAt([fake]);
    await etcd.addLearner('https://198.51.100.11:2380', signal);
    expect(fake.changes).toEqual([]);
    expect(await etcd.promote('9aa1bcd1915b074e', signal)).toBe(true);
    await etcd.remove('abc', signal);
    expect(fake.members).toEqual([one]);
  });

  test('a change whose answer was lost is done once', async () => {
    const [first, second] = [await member(), await member()];
    second.members = first.members = [one];
    const etcd = membershipAt([first, second]);
    first.afterChange = () => refused('server stopped');
    await etcd.addLearner(two, signal);
    const id = (await etcd.list(signal))[1]?.id ?? '';
    first.afterChange = () => refused('server stopped');
    expect(await etcd.promote(id, signal)).toBe(true);
    first.afterChange = () => refused('server stopped');
    await etcd.remove(id, signal);
    expect(first.members).toEqual([one]);
    expect(first.changes.length + second.changes.length).toBe(6);
  });

  test('waits while etcd has not settled: a member just back, a leader just gone', async () => {
    const fake = await member();
    const clock = new VirtualClock();
    const etcd = membershipAt([fake], { clock });
    const began = clock.now().getTime();
    fake.refusals.push(refused('unhealthy cluster'), refused('leader changed'), refused('no leader'));
    await etcd.addLearner(two, signal);
    expect(fake.changes.length).toBe(4);
    expect(clock.now().getTime() - began).toBe(3_000);
    fake.refusals.push(...Array<Refusal>(100).fill(refused('unhealthy cluster')));
    await expect(etcd.remove('9aa1bcd1915b074e', signal)).rejects.toMatchObject({ code: 'ETCD' });
    expect(clock.now().getTime() - began).toBe(33_000);
  });

  test('a removal resolves once the rest has agreed on a leader', async () => {
    const fake = await member();
    const etcd = membershipAt([fake]);
    let looks = 0;
    fake.afterChange = () => {
      fake.withoutQuorum = true;
      fake.onRange = () => {
        looks += 1;
        fake.withoutQuorum = looks < 3;
      };
      return undefined;
    };
    await etcd.remove('9aa1bcd1915b074e', signal);
    expect(looks).toBe(3);
    expect(fake.members).toEqual([]);
  });

  test('a refusal of etcd is an error with its words', async () => {
    const fake = await member();
    const etcd = membershipAt([fake]);
    await etcd.addLearner(two, signal);
    const error: unknown = await etcd
      .addLearner('https://198.51.100.13:2380', signal)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ETCD', node: 'cp-1' });
    expect(messageOf(error)).toContain('too many learner members in cluster');
  });

  test('health is that of one endpoint, in its own words', async () => {
    const [well, alone, down] = [await member(), await member(), await member()];
    alone.withoutQuorum = true;
    down.close();
    const etcd = membershipAt([well, alone]);
    const at = ({ port }: FakeEtcd) => `https://127.0.0.1:${port}`;
    expect(await etcd.health(at(well), signal)).toBeUndefined();
    expect(await etcd.health(at(alone), signal)).toBe('etcdserver: no leader');
    expect(await etcd.health(at(down), signal)).toContain('SSH is down');
    const members = [well, alone, down, well].map((fake, index) => ({
      ...{ id: String(index), name: '', peerUrls: [], clientUrls: [at(fake)] },
      learner: index === 3,
    }));
    expect(await healthyMembers(etcd, members, signal)).toEqual(new Set(['0']));
    alone.withoutQuorum = false;
    expect(await etcd.health(at(alone), signal)).toBeUndefined();
  });

  test('each endpoint is reached through its own node', async () => {
    const fake = await member();
    const dialled: string[] = [];
    const dial: Dial = async (node, host, port) => {
      dialled.push(`${node} ${host}:${port}`);
      if (node === 'cp-1') throw new Error('SSH is down');
      const socket = connect(fake.port, '127.0.0.1');
      await once(socket, 'connect');
      return socket;
    };
    const endpoints = [11, 12].map((last) => ({
      url: `https://198.51.100.${last}:2379`,
      node: `cp-${last - 10}`,
    }));
    const etcd = membershipAt([], { endpoints, dial, direct: false });
    expect((await etcd.list(signal)).length).toBe(1);
    expect(dialled).toEqual(['cp-1 198.51.100.11:2379', 'cp-2 198.51.100.12:2379']);
    expect(await etcd.health('https://198.51.100.12:2379', signal)).toBeUndefined();
    expect(dialled.length).toBe(2);
  });

  test('an abort rejects with its reason, also while it waits', async () => {
    const fake = await member();
    const stop = new AbortController();
    const etcd = membershipAt([fake], {
      clock: {
        now: () => new Date(0),
        sleep: (_, given) => {
          stop.abort(new Error('interrupted'));
          return Promise.reject(given.reason as Error);
        },
      },
    });
    fake.refusals.push(refused('unhealthy cluster'));
    await expect(etcd.addLearner(two, stop.signal)).rejects.toThrow('interrupted');
    await expect(etcd.health(`https://127.0.0.1:${fake.port}`, stop.signal)).rejects.toThrow('interrupted');
  });
});

type Refusal = FakeEtcd['refusals'][number];

/** Built by the real lab, if it ever ran here. */
const cache =
  process.env['TSRKE_LAB_CACHE'] ??
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tsrke-lab');
const binary = (() => {
  try {
    return readdirSync(cache).find((name) => /^etcd-v[^.]+\.[^.]+\.[^.]+$/.test(name));
  } catch {
    return undefined;
  }
})();

describe.skipIf(binary === undefined)('membership of a real etcd, where the real lab has built it', () => {
  async function freePorts(count: number): Promise<number[]> {
    const servers = await Promise.all(
      Array.from({ length: count }, async () => {
        const server = createServer().listen(0, '127.0.0.1');
        await once(server, 'listening');
        return server;
      }),
    );
    const ports = servers.map((server) => (server.address() as AddressInfo).port);
    for (const server of servers) server.close();
    return ports;
  }

  test('one member becomes three, one of them dies and is replaced, the first leaves', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tsrke-etcd-'));
    const running = new Map<string, ChildProcess>();
    const names = ['a', 'b', 'c', 'd'];
    const ports = await freePorts(names.length * 2);
    const nodes = names.map((name, at): EtcdNode & { client: string } => ({
      node: name,
      name: `etcd-${name}`,
      peerUrl: `http://127.0.0.1:${ports[at * 2]}`,
      client: `http://127.0.0.1:${ports[at * 2 + 1]}`,
    }));
    const start = (node: (typeof nodes)[number], state: 'new' | 'existing', cluster: readonly string[]) => {
      const args = {
        name: node.name,
        'data-dir': join(folder, node.node),
        'listen-peer-urls': node.peerUrl,
        'initial-advertise-peer-urls': node.peerUrl,
        'listen-client-urls': node.client,
        'advertise-client-urls': node.client,
        'initial-cluster': cluster.join(),
        'initial-cluster-state': state,
        'heartbeat-interval': '50',
        'election-timeout': '500',
      };
      const words = Object.entries(args).map(([name, value]) => `--${name}=${value}`);
      running.set(node.node, spawn(join(cache, binary ?? ''), words, { stdio: 'ignore' }));
    };
    const end = async (name: string) => {
      const etcd = running.get(name);
      running.delete(name);
      if (etcd === undefined || etcd.exitCode !== null) return;
      etcd.kill('SIGKILL');
      await once(etcd, 'exit');
    };
    const dial: Dial = async (_, host, port) => {
      const socket = connect(port, host);
      await once(socket, 'connect');
      return socket;
    };
    const etcd = createEtcdMembership({
      endpoints: nodes.map(({ client, node }) => ({ url: client, node })),
      dial,
      clock: systemClock,
    });
    opened.push(etcd);
    const find = (name: string) => {
      const found = nodes.find(({ node }) => node === name);
      if (found === undefined) throw new Error(`no node ${name}`);
      return found;
    };

    /** As a run would: look, take the next change, look again. */
    const settle = async (wanted: readonly string[], recorded: readonly string[]) => {
      const story: string[] = [];
      for (;;) {
        const members = await etcd.list(signal);
        const change = nextMembershipChange({
          wanted: wanted.map(find),
          recorded: recorded.map(find),
          members,
          healthy: await healthyMembers(etcd, members, signal),
          reachable: new Set(names),
        });
        if (change === undefined) return story;
        const step = `${change.kind} ${change.kind === 'remove' ? change.name : change.node}`;
        if (story.at(-1) !== step) story.push(step);
        if (change.kind === 'add-learner') await etcd.addLearner(change.peerUrl, signal);
        else if (change.kind === 'remove') await etcd.remove(change.id, signal);
        else if (change.kind === 'promote') await etcd.promote(change.id, signal);
        else {
          start(find(change.node), 'existing', change.initialCluster);
          const isNamed = async () => (await etcd.list(signal)).every(({ name }) => name !== '');
          await expect.poll(isNamed, { timeout: 30_000 }).toBe(true);
        }
      }
    };

    try {
      start(find('a'), 'new', [`etcd-a=${find('a').peerUrl}`]);
      const answers = async () => etcd.health(find('a').client, signal);
      await expect.poll(answers, { timeout: 30_000 }).toBeUndefined();
      expect(await settle(['a', 'b', 'c'], ['a'])).toEqual([
        ...['add-learner b', 'start b', 'promote b'],
        ...['add-learner c', 'start c', 'promote c'],
      ]);
      await end('c');
      expect(await settle(['a', 'b', 'd'], ['a', 'b', 'c'])).toEqual([
        'remove etcd-c',
        ...['add-learner d', 'start d', 'promote d'],
      ]);
      // The leader, perhaps: the others agree on another.
      expect(await settle(['b', 'd'], ['a', 'b', 'd'])).toEqual(['remove etcd-a']);
      const left = await etcd.list(signal);
      expect(left.map(({ name, learner }) => `${name} ${learner}`).sort()).toEqual([
        'etcd-b false',
        'etcd-d false',
      ]);
      expect((await healthyMembers(etcd, left, signal)).size).toBe(2);
    } finally {
      await Promise.all([...running.keys()].map(end));
      rmSync(folder, { recursive: true });
    }
  });
});
