import { describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { judgeClocks, needFitHosts, pathsBetween, portsOf } from '../../src/hosts/preflight.ts';
import type { FitnessNode, FitnessOptions, FitnessWorld } from '../../src/hosts/preflight.ts';
import type { HostInfo, Knock, SeenService } from '../../src/ports.ts';
import type { ServiceName } from '../../src/services/container.ts';
import { Notes } from './notes.ts';

const { signal } = new AbortController();
const now = Date.parse('2026-01-01T00:00:00Z');
const at = (seconds: number) => new Date(now + seconds * 1000).toISOString();

const node = (name: string, number: number, ...roles: string[]): FitnessNode => ({
  ...{ name, internalAddress: `10.0.0.${number}`, roles },
});
const cp1 = node('cp-1', 1, 'controlplane', 'etcd');
const cp2 = node('cp-2', 2, 'controlplane', 'etcd');
const worker = node('worker-1', 3, 'worker');

/** What the hosts are like, by their names; all else is as it should be. */
interface Hosts {
  readonly info?: Record<string, Partial<HostInfo>>;
  /** Bytes, by node and path: `cp-1 /var/lib/etcd`. */
  readonly free?: Record<string, number>;
  readonly refuses?: Record<string, string>;
  readonly runs?: Record<string, readonly ServiceName[]>;
  /** By node and address: `cp-1 10.0.0.2:2379`. */
  readonly knocks?: Record<string, Knock>;
}

function world(hosts: Hosts) {
  const report = new Notes();
  const [pulled, knocked]: [string[], string[]] = [[], []];
  const nothing = () => Promise.reject(new Error('nothing is to be changed'));
  const running = { inspect: { State: { Running: true } } } as SeenService;
  const made: FitnessWorld = {
    report,
    clock: { now: () => new Date(now), sleep: nothing },
    services: {
      ...({} as FitnessWorld['services']),
      info: (name) =>
        Promise.resolve({
          ...{ ServerVersion: '20.10.24', SystemTime: at(0), Architecture: 'x86_64', OSType: 'linux' },
          ...{ DockerRootDir: '/var/lib/docker', OperatingSystem: 'Debian GNU/Linux 12 (bookworm)' },
          ...hosts.info?.[name],
        }),
      list: (name) => Promise.resolve(new Map((hosts.runs?.[name] ?? []).map((each) => [each, running]))),
      needImage: (name, image) => Promise.resolve(void pulled.push(`${name} ${image}`)),
    },
    hostFiles: {
      ...({} as FitnessWorld['hostFiles']),
      free: (name, { path }) => Promise.resolve(hosts.free?.[`${name} ${path}`] ?? 50 * 1024 ** 3),
      refuses: (name, { securityOption }) => Promise.resolve(hosts.refuses?.[`${name} ${securityOption}`]),
    },
    health: {
      ask: nothing,
      knock: (name, { host, port }) => {
        knocked.push(`${name} ${host}:${port}`);
        const refused = { kind: 'refused', why: 'connection refused' } as const;
        return Promise.resolve(hosts.knocks?.[`${name} ${host}:${port}`] ?? refused);
      },
    },
  };
  return { world: made, report, pulled, knocked };
}

async function look(hosts: Hosts, more: Partial<FitnessOptions> = {}) {
  const { world: made, ...rest } = world(hosts);
  const options: FitnessOptions = {
    ...{ nodes: [cp1, cp2, worker], kubernetesVersion: 'v1.30.5-rancher1-1', ignoreDockerVersion: false },
    ...{ prefixPath: '/', image: 'rancher/rke-tools:v0.1.103', checkPorts: true },
    ...more,
  };
  const error = await needFitHosts(options, made, signal).then(
    () => undefined,
    (thrown: unknown) => {
      if (thrown instanceof TsrkeError) return thrown;
      throw thrown;
    },
  );
  return { ...rest, error };
}

test('hosts that are as they should be are asked, and nothing is said', async () => {
  const { error, report, pulled, knocked } = await look({});
  expect(error).toBeUndefined();
  expect(report.notes).toEqual([]);
  expect(pulled.sort()).toEqual(
    ['cp-1', 'cp-2', 'worker-1'].map((each) => `${each} rancher/rke-tools:v0.1.103`),
  );
  expect(knocked.filter((each) => each.startsWith('worker-1 10.0.0.1'))).toEqual(['worker-1 10.0.0.1:6443']);
});

const silent: Knock = { kind: 'silent', why: 'no answer within 5 s' };
const accepted: Knock = { kind: 'accepted', why: '' };
const forbidden: Knock = { kind: 'forbidden', why: 'sshd forbids it' };
const selinux = { SecurityOptions: ['name=seccomp,profile=default', 'name=selinux'] };

test.each<[what: string, hosts: Hosts, code: string, on: string, text: string]>([
  [
    'Docker that RKE does not support',
    { info: { 'cp-2': { ServerVersion: '1.12.6' } } },
    ...(['UNSUPPORTED', 'cp-2', 'Docker 1.12.6 is not one that RKE supports'] as const),
  ],
  [
    'Windows',
    { info: { 'worker-1': { OSType: 'windows' } } },
    ...(['UNSUPPORTED', 'worker-1', 'the host runs Windows, which tsrke does not provision'] as const),
  ],
  [
    'no room for etcd',
    { free: { 'cp-1 /var/lib/etcd': 300 * 1024 ** 2, 'worker-1 /var/lib/etcd': 0 } },
    ...([
      'NODE_UNFIT',
      'cp-1',
      '300 MiB are free on /var/lib/etcd; 1 GiB is the least to begin with',
    ] as const),
  ],
  [
    'no room for images',
    { info: { 'worker-1': { DockerRootDir: '/data/docker' } }, free: { 'worker-1 /data/docker': 0 } },
    ...([
      'NODE_UNFIT',
      'worker-1',
      '0 MiB are free on /data/docker; 1 GiB is the least to begin with',
    ] as const),
  ],
  [
    'no room where a system of its own kind has etcd',
    { info: { 'cp-1': { OperatingSystem: 'Flatcar' } }, free: { 'cp-1 /opt/rke/var/lib/etcd': 0 } },
    ...([
      'NODE_UNFIT',
      'cp-1',
      '0 MiB are free on /opt/rke/var/lib/etcd; 1 GiB is the least to begin with',
    ] as const),
  ],
  [
    'a policy without RKE’s label',
    { info: { 'cp-1': selinux }, refuses: { 'cp-1 label=type:rke_container_t': 'invalid argument' } },
    ...([
      'NODE_UNFIT',
      'cp-1',
      'SELinux is on, and no container starts with label=type:rke_container_t: invalid argument',
    ] as const),
  ],
  [
    'ports that somebody else has',
    {
      runs: { 'cp-1': ['kube-apiserver'] },
      knocks: {
        ...{ 'cp-1 127.0.0.1:10250': accepted, 'cp-1 10.0.0.1:2379': accepted },
        'cp-1 127.0.0.1:6443': accepted,
      },
    },
    ...(['NODE_UNFIT', 'cp-1', 'ports 2379, 10250: somebody else listens there already'] as const),
  ],
  [
    'a firewall between two nodes',
    { knocks: { 'cp-1 10.0.0.2:2380': silent, 'cp-1 10.0.0.2:2379': accepted } },
    ...(['NODE_UNFIT', 'cp-1', 'cannot reach cp-2 at 10.0.0.2:2380: no answer within 5 s'] as const),
  ],
  [
    'no way between two nodes',
    { knocks: { 'worker-1 10.0.0.2:6443': { kind: 'failed', why: 'no route to host' } } },
    ...(['NODE_UNFIT', 'worker-1', 'cannot reach cp-2 at 10.0.0.2:6443: no route to host'] as const),
  ],
  [
    'an sshd without streams to ports, once',
    { knocks: { 'cp-1 10.0.0.2:2380': forbidden, 'cp-1 10.0.0.2:2379': forbidden } },
    ...(['NODE_UNFIT', 'cp-1', 'streams to ports through SSH: sshd forbids it'] as const),
  ],
  [
    'a clock that is minutes away',
    { info: { 'cp-1': { SystemTime: at(-70) } } },
    ...(['NODE_UNFIT', 'cp-1', "its clock is 70 s behind this machine's"] as const),
  ],
])('one problem is the error itself: %s', async (_, hosts, code, on, text) => {
  const { error } = await look(hosts);
  expect(error).toMatchObject({ code, node: on, message: text, exitCode: 3 });
  expect(error?.next).toBeTruthy();
});

test('all problems of all hosts are told at once', async () => {
  const { error } = await look({
    info: { 'worker-1': { ServerVersion: '1.12.6' } },
    free: { 'cp-2 /var/lib/docker': 0, 'cp-1 /var/lib/etcd': 0 },
    knocks: { 'cp-1 127.0.0.1:2379': accepted },
  });
  expect(error).toMatchObject({ code: 'NODE_UNFIT', node: undefined });
  expect(error?.message).toBe('4 things on the hosts have to be put right first');
  expect(error?.details.map((each) => each.replace(/ \(.*/, ''))).toEqual([
    'cp-1: 0 MiB are free on /var/lib/etcd; 1 GiB is the least to begin with',
    'cp-1: port 2379: somebody else listens there already',
    'cp-2: 0 MiB are free on /var/lib/docker; 1 GiB is the least to begin with',
    'worker-1: Docker 1.12.6 is not one that RKE supports',
  ]);
});

test('whoever wants it is not asked about Docker’s version, nor about ports', async () => {
  const hosts: Hosts = {
    info: { 'cp-1': { ServerVersion: '1.12.6' } },
    knocks: { 'cp-1 127.0.0.1:2379': accepted, 'cp-1 10.0.0.2:2379': silent },
  };
  const { error, knocked } = await look(hosts, { ignoreDockerVersion: true, checkPorts: false });
  expect(error).toBeUndefined();
  expect(knocked).toEqual([]);
});

test('ports are those of a node’s roles, kube-apiserver’s on each', () => {
  const ports = (...roles: string[]) => portsOf(roles).map(({ port }) => port);
  expect(ports('worker')).toEqual([6443, 10248, 10250, 10256]);
  expect(ports('etcd')).toEqual([2379, 2380, 6443, 10248, 10250, 10256]);
  expect(ports('controlplane')).toEqual([6443, 10257, 10259, 10248, 10250, 10256]);
});

test('nodes have to reach each other, but not those that were there before among themselves', () => {
  const paths = (nodes: FitnessNode[], others: FitnessNode[]) =>
    pathsBetween(nodes, others)
      .map(({ from, to, port }) => `${from.name} ${to.name} ${port}`)
      .sort();
  expect(paths([worker], [cp1, cp2])).toEqual([
    ...['cp-1 worker-1 10250', 'cp-2 worker-1 10250', 'worker-1 cp-1 6443', 'worker-1 cp-2 6443'],
  ]);
  expect(paths([cp2], [cp1])).toEqual([
    ...['cp-1 cp-2 2379', 'cp-1 cp-2 2380', 'cp-2 cp-1 2379', 'cp-2 cp-1 2380'],
  ]);
  expect(paths([node('all', 4, 'controlplane', 'etcd', 'worker')], [])).toEqual([]);
});

describe('clocks', () => {
  /** Asked for two seconds each, from `now` on. */
  const judged = (...offsets: (number | undefined)[]) => {
    const { problems, warnings } = judgeClocks(
      offsets.map((off, index) => ({
        ...{ node: `h${index + 1}`, time: off === undefined ? undefined : at(off) },
        ...{ before: now, after: now + 2_000 },
      })),
    );
    const told = ({ node: name, text }: { node: string | undefined; text: string }) =>
      `${name ?? 'all'}: ${text}`;
    return {
      problems: problems.map(told),
      warnings: warnings.map((each) => told(each).replace(/; let NTP.*/, '')),
    };
  };

  test.each<[string, (number | undefined)[], string[], string[]]>([
    ['of one host that agrees', [1], [], []],
    [
      'of hosts that are near enough to us, but not to each other',
      [-4.9, 6.9, undefined],
      [],
      ['all: the clocks of the hosts are 10 s apart'],
    ],
    ['of hosts that nobody minds', [3, 5], [], []],
    ['of a host that is ahead', [0, 30], [], ["h2: its clock is 28 s ahead of this machine's"]],
    ['of a host that is far behind', [0, -61], ["h2: its clock is 61 s behind this machine's"], []],
    [
      'of hosts that agree, but not with us',
      [-31, -30],
      [],
      ["h1: this machine's clock is 31 s ahead of those of all hosts"],
    ],
    [
      'of hosts that agree, and we are far off',
      [90, 92],
      ["h1: this machine's clock is 88 s behind those of all hosts"],
      [],
    ],
    ['that nobody tells', [undefined], [], []],
  ])('%s', (_, offsets, problems, warnings) => {
    expect(judged(...offsets)).toEqual({ problems, warnings });
  });
});
