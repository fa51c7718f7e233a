/**
 * Whether hosts can become nodes at all: Docker, disks, clocks, SELinux and ports, looked at before anything is
 * deployed, so that all that has to be put right is told at once.
 */
import { posix } from 'node:path';
import { runsOnDocker } from '../config/versions.ts';
import { allToTheirEnd, TsrkeError, type ErrorCode } from '../errors.ts';
import type { Clock, Health, HostFiles, HostInfo, NodeName, Report, ServiceContainers } from '../ports.ts';
import { dockerHostOf, prefixOn, type DockerHost } from '../services/cluster.ts';
import type { ServiceName } from '../services/container.ts';

/** As cluster.yml's nodes. */
export interface FitnessNode {
  readonly name: NodeName;
  readonly internalAddress: string;
  readonly roles: readonly string[];
}

export interface FitnessOptions {
  /** Those that are looked at. */
  readonly nodes: readonly FitnessNode[];
  /** Nodes of the cluster besides them, which have to reach them and to be reached. */
  readonly others?: readonly FitnessNode[];
  /** As cluster.yml's. */
  readonly kubernetesVersion: string | undefined;
  readonly ignoreDockerVersion: boolean;
  readonly prefixPath: string;
  /** One with a shell (RKE's rke-tools); pulled where a node does not have it. */
  readonly image: string;
  /** Not with --disable-port-check. */
  readonly checkPorts: boolean;
}

export interface FitnessWorld {
  readonly services: ServiceContainers;
  readonly hostFiles: HostFiles;
  readonly health: Health;
  readonly clock: Clock;
  readonly report: Pick<Report, 'note'>;
}

export interface Problem {
  readonly code: ErrorCode;
  readonly node: NodeName;
  readonly text: string;
  readonly next: string;
}

/** What RKE asks of a host's policy; its package rancher-selinux brings it. */
const rkeLabel = 'label=type:rke_container_t';
const leastFree = 1024 ** 3;

/** Throws NODE_UNFIT, or UNSUPPORTED, with all problems of all hosts; nothing is deployed. Warnings are reported. */
export async function needFitHosts(
  options: FitnessOptions,
  world: FitnessWorld,
  signal: AbortSignal,
): Promise<void> {
  const looked = await allToTheirEnd(
    options.nodes.map(async (node) => {
      const before = world.clock.now().getTime();
      const info = await world.services.info(node.name, signal);
      return { node, info, before, after: world.clock.now().getTime() };
    }),
  );
  const { problems, warnings } = judgeClocks(
    looked.map(({ node, info, before, after }) => ({
      node: node.name,
      time: info.SystemTime,
      before,
      after,
    })),
  );
  for (const { node, text } of warnings) world.report.note('warning', text, node);
  const found = await allToTheirEnd([
    ...looked.map(({ node, info }) => problemsOf(node, info, options, world, signal)),
    ...(options.checkPorts ? [unreachables(options, world, signal)] : []),
  ]);
  const all = [...problems, ...found.flat()];
  if (all.length > 0) throw unfit(all);
}

/** UNSUPPORTED where RKE does not run this Kubernetes version on this version of Docker. */
export function dockerProblem(
  node: NodeName,
  version: string,
  wanted: Pick<FitnessOptions, 'kubernetesVersion' | 'ignoreDockerVersion'>,
): Problem | undefined {
  if (wanted.ignoreDockerVersion || runsOnDocker(wanted.kubernetesVersion, version)) return undefined;
  return {
    ...{ code: 'UNSUPPORTED', node, text: `Docker ${version} is not one that RKE supports` },
    next: 'install a supported version, or give --ignore-docker-version',
  };
}

/** One problem as the error it is, several as one error that lists them. */
export function unfit(problems: readonly Problem[]): TsrkeError {
  const [first, ...others] = problems;
  if (first !== undefined && others.length === 0) {
    return new TsrkeError(first.code, first.text, { node: first.node, next: first.next });
  }
  const sorted = problems.toSorted((a, b) => a.node.localeCompare(b.node, 'en', { numeric: true }));
  return new TsrkeError('NODE_UNFIT', `${problems.length} things on the hosts have to be put right first`, {
    details: sorted.map(({ node, text, next }) => `${node}: ${text} (${next})`),
    next: 'put them right, then run the same command again; nothing was deployed',
  });
}

async function problemsOf(
  node: FitnessNode,
  info: HostInfo,
  options: FitnessOptions,
  world: FitnessWorld,
  signal: AbortSignal,
): Promise<Problem[]> {
  let host: DockerHost;
  try {
    host = dockerHostOf(info, node.name);
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    return [{ code: error.code, node: node.name, text: error.message, next: error.next ?? '' }];
  }
  const docker = dockerProblem(node.name, info.ServerVersion, options);
  await world.services.needImage(node.name, options.image, signal);
  const found = await Promise.all([
    tooSmall(node, host, options, world, signal),
    host.selinux ? withoutLabel(node, options, world, signal) : [],
    options.checkPorts ? takenPorts(node, world, signal) : [],
  ]);
  return [...(docker === undefined ? [] : [docker]), ...found.flat()];
}

async function tooSmall(
  { name, roles }: FitnessNode,
  host: DockerHost,
  { image, prefixPath }: FitnessOptions,
  { hostFiles }: FitnessWorld,
  signal: AbortSignal,
): Promise<Problem[]> {
  const folders = [
    host.rootFolder,
    ...(roles.includes('etcd') ? [posix.join(prefixOn(host, prefixPath), '/var/lib/etcd')] : []),
  ];
  const all = await Promise.all(
    folders.map(async (path) => [path, await hostFiles.free(name, { image, path }, signal)] as const),
  );
  return all
    .filter(([, free]) => free < leastFree)
    .map(([path, free]) => ({
      ...{ code: 'NODE_UNFIT', node: name, next: 'make room there' },
      text: `${Math.floor(free / 1024 ** 2)} MiB are free on ${path}; 1 GiB is the least to begin with`,
    }));
}

async function withoutLabel(
  { name }: FitnessNode,
  { image }: FitnessOptions,
  { hostFiles }: FitnessWorld,
  signal: AbortSignal,
): Promise<Problem[]> {
  const why = await hostFiles.refuses(name, { image, securityOption: rkeLabel }, signal);
  if (why === undefined) return [];
  const text = `SELinux is on, and no container starts with ${rkeLabel}: ${why}`;
  return [{ code: 'NODE_UNFIT', node: name, text, next: 'install the package rancher-selinux' }];
}

interface Port {
  readonly port: number;
  /** Whose it is: one that runs has it, and rightly so. */
  readonly of: readonly ServiceName[];
}

/** What a node's own services listen on. */
export function portsOf(roles: readonly string[]): readonly Port[] {
  const etcd: readonly Port[] = [2379, 2380].map((port) => ({ port, of: ['etcd'] }));
  const controlplane: readonly Port[] = [
    { port: 10257, of: ['kube-controller-manager'] },
    { port: 10259, of: ['kube-scheduler'] },
  ];
  return [
    ...(roles.includes('etcd') ? etcd : []),
    // Where kube-apiserver is not, nginx-proxy stands in for it; a change of roles makes one of the other.
    { port: 6443, of: ['kube-apiserver', 'nginx-proxy'] },
    ...(roles.includes('controlplane') ? controlplane : []),
    { port: 10248, of: ['kubelet'] },
    { port: 10250, of: ['kubelet'] },
    { port: 10256, of: ['kube-proxy'] },
  ];
}

async function takenPorts(
  { name, roles, internalAddress }: FitnessNode,
  { services, health }: FitnessWorld,
  signal: AbortSignal,
): Promise<Problem[]> {
  const seen = await services.list(name, signal);
  const runs = (service: ServiceName) => seen.get(service)?.inspect.State.Running === true;
  const free = portsOf(roles).filter(({ of }) => !of.some(runs));
  const taken = await Promise.all(
    free.map(async ({ port }) => {
      const knocks = await Promise.all(
        ['127.0.0.1', internalAddress].map((host) => health.knock(name, { host, port }, signal)),
      );
      return { port, is: knocks.some(({ kind }) => kind === 'accepted') };
    }),
  );
  const ports = taken.filter(({ is }) => is).map(({ port }) => port);
  if (ports.length === 0) return [];
  const text = `port${ports.length > 1 ? 's' : ''} ${ports.join(', ')}: somebody else listens there already`;
  const next = `see with \`ss -ltnp\` on ${name} who does, or give --disable-port-check`;
  return [{ code: 'NODE_UNFIT', node: name, text, next }];
}

/** Who has to reach whom, as RKE checks it. */
const needed: readonly (readonly [from: string, to: string, ports: readonly number[]])[] = [
  ['etcd', 'etcd', [2379, 2380]],
  ['controlplane', 'etcd', [2379]],
  ['controlplane', 'worker', [10250]],
  ['worker', 'controlplane', [6443]],
];

export interface Path {
  readonly from: FitnessNode;
  readonly to: FitnessNode;
  readonly port: number;
}

/** Each once; none between two nodes that were there before. */
export function pathsBetween(nodes: readonly FitnessNode[], others: readonly FitnessNode[]): Path[] {
  const all = [...nodes, ...others];
  return all.flatMap((from) =>
    all.flatMap((to) => {
      if (from === to || (others.includes(from) && others.includes(to))) return [];
      const ports = needed.flatMap(([source, target, each]) =>
        from.roles.includes(source) && to.roles.includes(target) ? each : [],
      );
      return [...new Set(ports)].map((port) => ({ from, to, port }));
    }),
  );
}

async function unreachables(
  { nodes, others = [] }: FitnessOptions,
  { health }: FitnessWorld,
  signal: AbortSignal,
): Promise<Problem[]> {
  const asked = await Promise.all(
    pathsBetween(nodes, others).map(async (path) => ({
      path,
      knock: await health.knock(path.from.name, { host: path.to.internalAddress, port: path.port }, signal),
    })),
  );
  const forbidden = new Set<NodeName>();
  return asked.flatMap(({ path: { from, to, port }, knock: { kind, why } }): Problem[] => {
    // Refused by the host itself: a packet came there and another back.
    if (kind === 'accepted' || kind === 'refused') return [];
    if (kind === 'forbidden') {
      if (forbidden.has(from.name)) return [];
      forbidden.add(from.name);
      const text = `streams to ports through SSH: ${why}`;
      const next = 'allow them: health checks need them as well';
      return [{ code: 'NODE_UNFIT', node: from.name, text, next }];
    }
    const text = `cannot reach ${to.name} at ${to.internalAddress}:${port}: ${why}`;
    const next = 'open the port in firewalls and security groups, or give --disable-port-check';
    return [{ code: 'NODE_UNFIT', node: from.name, text, next }];
  });
}

export interface ClockReading {
  readonly node: NodeName;
  /** RFC 3339; undefined: Docker does not tell it. */
  readonly time: string | undefined;
  /** Our own clock's milliseconds before and after it was asked. */
  readonly before: number;
  readonly after: number;
}

/** Milliseconds: up to here nobody minds, from there on certificates, leases and tokens do. */
const wellWithin = 5_000;
const tooFar = 60_000;

/** Where all hosts agree with each other, it is our own clock that is told of. */
export function judgeClocks(readings: readonly ClockReading[]): {
  readonly problems: readonly Problem[];
  readonly warnings: readonly { readonly node: NodeName | undefined; readonly text: string }[];
} {
  const offsets = readings.flatMap(({ node, time, before, after }) => {
    const told = Date.parse(time ?? '');
    if (Number.isNaN(told)) return [];
    // Within the round trip nobody knows when it was read.
    const early = told - after;
    const late = told - before;
    return [{ node, off: early > 0 ? early : Math.min(late, 0) }];
  });
  const far = offsets.filter(({ off }) => Math.abs(off) > wellWithin);
  const offs = offsets.map(({ off }) => off);
  const agree = Math.max(...offs) - Math.min(...offs) <= wellWithin;
  const [first] = far;
  const next = 'let NTP set the clocks (chrony, systemd-timesyncd)';
  if (first === undefined) {
    if (offs.length < 2 || agree) return { problems: [], warnings: [] };
    const text = `the clocks of the hosts are ${seconds(Math.max(...offs) - Math.min(...offs))} apart; ${next}`;
    return { problems: [], warnings: [{ node: undefined, text }] };
  }
  const told =
    agree && offsets.length > 1
      ? [{ ...first, text: `this machine's clock is ${apart(-first.off)} those of all hosts` }]
      : far.map((each) => ({ ...each, text: `its clock is ${apart(each.off)} this machine's` }));
  return {
    problems: told
      .filter(({ off }) => Math.abs(off) > tooFar)
      .map(({ node, text }) => ({ code: 'NODE_UNFIT', node, text, next })),
    warnings: told
      .filter(({ off }) => Math.abs(off) <= tooFar)
      .map(({ node, text }) => ({ node, text: `${text}; ${next}` })),
  };
}

function apart(off: number): string {
  return `${seconds(off)} ${off > 0 ? 'ahead of' : 'behind'}`;
}

function seconds(milliseconds: number): string {
  return `${Math.round(Math.abs(milliseconds) / 1000)} s`;
}
