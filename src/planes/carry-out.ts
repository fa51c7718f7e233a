/** The only interpreter of moves: each ends with what it made being well, or brought back. */
import { posix } from 'node:path';
import type { Bundle } from '../certificates/bundle.ts';
import { allToTheirEnd, messageOf, TsrkeError } from '../errors.ts';
import { stopHere } from '../encryption/interruption.ts';
import { waitReady } from '../kube/ready.ts';
import type {
  Clock,
  Health,
  HostFiles,
  KubeApi,
  NodeName,
  Report,
  ServiceContainers,
  TaskReport,
} from '../ports.ts';
import { dockerHostOf, imageOf, serviceInput, type ClusterWish } from '../services/cluster.ts';
import type { Container, ServiceName } from '../services/container.ts';
import { etcdContainer } from '../services/etcd.ts';
import { expectSpare, expel, join, type EtcdWorld } from './join.ts';
import { describeMove, type Move, type Stage } from './plan.ts';
import { nameOf, type NodeSight } from './sight.ts';

/** What Kubernetes is told of its nodes. */
export interface NodeObjects {
  cordon(node: NodeName, signal: AbortSignal): Promise<void>;
  uncordon(node: NodeName, signal: AbortSignal): Promise<void>;
  drain(node: NodeName, signal: AbortSignal): Promise<void>;
  /** Deletes it; none there is fine. */
  forget(node: NodeName, signal: AbortSignal): Promise<void>;
}

export interface PlanesWorld {
  readonly services: ServiceContainers;
  readonly hostFiles: HostFiles;
  readonly health: Health;
  readonly kube: KubeApi;
  readonly objects: NodeObjects;
  readonly clock: Clock;
  readonly report: Report;
  /** undefined: a new cluster's members all start at once, and an external etcd is not ours. */
  readonly etcd: EtcdWorld | undefined;
  /** Before each node: throws LOCK_LOST once another run has taken the cluster's lock. */
  hold(signal: AbortSignal): Promise<void>;
}

interface Carried {
  readonly wish: ClusterWish;
  readonly bundle: Bundle;
  /** As they were looked at, by node. */
  readonly sights: ReadonlyMap<NodeName, NodeSight>;
  readonly world: PlanesWorld;
}

const goesOn = 'run the same command again: it looks at what is there and goes on from it';

/** Milliseconds in which a service must have become well after its start. */
const wellLimit = 120_000;

/**
 * Folders on a node that leaves: RKE's own list, and what it leaves behind. `under`: below `prefix_path`. Snapshots
 * and kube-apiserver's audit log stay.
 */
const foldersToEmpty = {
  under: [
    ...['/etc/kubernetes', '/var/lib/cni', '/var/lib/etcd'],
    ...['/var/lib/kubelet', '/var/lib/cri-dockerd'],
  ],
  everywhere: [
    ...['/etc/cni', '/opt/cni', '/var/run/calico'],
    // kubelet has its folder for volume plugins there, whatever the prefix is.
    ...['/var/lib/kubelet', '/var/lib/calico', '/run/flannel', '/var/lib/rancher/rke'],
    ...['/var/log/containers', '/var/log/pods'],
  ],
} as const;

/** All lanes, `width` of them side by side; the first that fails keeps others from beginning. */
export async function carryOut(stage: Stage, carried: Carried, signal: AbortSignal): Promise<void> {
  const { world } = carried;
  await world.report.task(stage.title, async (task) => {
    const lanes = [...stage.lanes];
    const names = [...new Set(lanes.flatMap((lane) => lane[0]?.node ?? []))];
    task.expects?.(names);
    let failed = false;
    const worker = async () => {
      for (let lane = lanes.shift(); lane !== undefined && !failed; lane = lanes.shift()) {
        try {
          await walk(lane, stage, carried, signal);
        } catch (error) {
          failed = true;
          throw error;
        }
      }
    };
    const width = Math.max(1, Math.min(stage.width, lanes.length));
    await allToTheirEnd(Array.from({ length: width }, worker));
  });
}

async function walk(
  lane: readonly Move[],
  { title }: Stage,
  carried: Carried,
  signal: AbortSignal,
): Promise<void> {
  const [first] = lane;
  if (first === undefined) return;
  await carried.world.report.task(first.node, async (task) => {
    for (const move of lane) {
      stopHere(signal, `before ${move.node}: ${describeMove(move)} (${title})`, goesOn);
      await carried.world.hold(signal);
      if (lane.length > 1) task.progress(describeMove(move));
      // What was begun on a node is finished even when the user interrupts: half a step helps nobody.
      await make(move, carried, task, new AbortController().signal);
    }
    task.done(`${first.node}: ${summaryOf(lane)}`);
  });
}

function summaryOf(lane: readonly Move[]): string {
  const words = lane.filter(({ kind }) => !['cordon', 'uncordon'].includes(kind)).map(describeMove);
  return words.length > 3 ? `${words.slice(0, 3).join(', ')} and ${words.length - 3} more` : words.join(', ');
}

async function make(move: Move, carried: Carried, task: TaskReport, signal: AbortSignal): Promise<void> {
  const { world } = carried;
  const { services, objects } = world;
  const { node } = move;
  switch (move.kind) {
    case 'pull':
      for (const image of move.images) await services.needImage(node, image, signal);
      return;
    case 'deliver': {
      const place = placeOf(carried, node);
      await services.needImage(node, place.image, signal);
      await world.hostFiles.deliver(
        node,
        { image: place.image, folder: place.onHost('/etc/kubernetes'), files: move.files },
        signal,
      );
      return;
    }
    case 'create':
      await services.needImage(node, move.container.image, signal);
      if (move.container.name === 'etcd') await ownData(move.container, carried, node, signal);
      await services.create(node, move.container, signal);
      await expectWell(node, move.container, carried, task, signal);
      return;
    case 'exchange':
      await expectSpareEtcd(move.container, node, carried, task, signal);
      await exchange(move.container, node, carried, task, signal);
      return;
    case 'finish':
    case 'start':
      await services.finish(node, move.container.name, signal);
      await expectWell(node, move.container, carried, task, signal);
      return;
    case 'restart':
      await expectSpareEtcd(move.container, node, carried, task, signal);
      await services.restart(node, move.container.name, signal);
      await expectWell(node, move.container, carried, task, signal);
      return;
    case 'remove':
      await services.remove(node, move.name, signal);
      return;
    case 'cordon':
    case 'uncordon':
    case 'drain':
    case 'forget':
      await objects[move.kind](node, signal);
      return;
    case 'join':
      await joinEtcd(move.container, node, carried, task, signal);
      return;
    case 'expel':
      if (world.etcd !== undefined) await expel(move.peerUrl, world.etcd, signal);
      return;
    case 'leave':
      await leave(move.services, node, carried, signal);
      return;
  }
}

/** etcd refuses a folder that others may read, and one of its own that is another user's. */
async function ownData(
  container: Container,
  carried: Carried,
  node: NodeName,
  signal: AbortSignal,
): Promise<void> {
  const { image, onHost } = placeOf(carried, node);
  const uid = Number(container.user?.split(':')[0] ?? 0);
  await carried.world.services.needImage(node, image, signal);
  await carried.world.hostFiles.own(node, { image, path: onHost('/var/lib/etcd'), uid }, signal);
}

async function expectSpareEtcd(
  { name }: Container,
  node: NodeName,
  { world, sights }: Carried,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const sight = sights.get(node);
  if (name !== 'etcd' || world.etcd === undefined || sight === undefined) return;
  await expectSpare(sight.node, world.etcd, task, signal);
}

async function joinEtcd(
  container: Container,
  node: NodeName,
  carried: Carried,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { world, sights } = carried;
  const sight = sights.get(node);
  if (world.etcd === undefined || sight === undefined) return;
  const { image, onHost } = placeOf(carried, node);
  await world.services.needImage(node, image, signal);
  const path = onHost('/var/lib/etcd');
  const start = async (initialCluster?: readonly string[]) => {
    const made = initialCluster === undefined ? container : memberOf(sight, carried.wish, initialCluster);
    await world.services.needImage(node, made.image, signal);
    await ownData(made, carried, node, signal);
    await world.services.create(node, made, signal);
  };
  const isBlank = !(await world.hostFiles.holdsAnything(node, { image, path }, signal));
  const isThere = sight.services.has('etcd');
  await join({ node: sight.node, isThere, isBlank, start, task }, world.etcd, signal);
  await expectWell(node, container, carried, task, signal);
}

/** etcd joins by exactly this list. */
function memberOf(
  { node, info }: NodeSight,
  wish: ClusterWish,
  initialCluster: readonly string[],
): Container {
  const joins = { ...wish, joining: new Set([node.address]), initialCluster };
  return etcdContainer(serviceInput(node, dockerHostOf(info, nameOf(node)), joins));
}

/** The old one comes back where the new one is not well. */
async function exchange(
  container: Container,
  node: NodeName,
  carried: Carried,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { services } = carried.world;
  await services.needImage(node, container.image, signal);
  await services.exchange(node, container, signal);
  try {
    await expectWell(node, container, carried, task, signal);
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'SERVICE_NOT_WELL') throw error;
    await services.settle(node, container.name, 'back', signal);
    throw new TsrkeError(error.code, `${error.message}; the container of before is back`, {
      node,
      details: error.details,
      ...(error.next === undefined ? {} : { next: error.next }),
    });
  }
  await services.settle(node, container.name, 'keep', signal);
}

/** Throws SERVICE_NOT_WELL with its last log lines. */
async function expectWell(
  node: NodeName,
  { name, health, restart }: Container,
  { bundle, world }: Carried,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  if (restart === undefined || health === undefined) return;
  const { clock, kube } = world;
  const element = health.certificate === undefined ? undefined : bundle[health.certificate];
  const client = element === undefined ? undefined : { cert: element.certificatePEM, key: element.keyPEM };
  const end = clock.now().getTime() + wellLimit;
  let trouble: string | undefined;
  do {
    trouble = await world.health.ask(node, health, client, signal);
    if (trouble === undefined) break;
    task.progress(`${name}: ${trouble}`);
    await clock.sleep(250, signal);
  } while (clock.now().getTime() < end);
  if (trouble === undefined && name === 'kube-apiserver') {
    // /healthz does not know whether it can read what etcd holds.
    const limit = Math.max(1_000, end - clock.now().getTime());
    const seen = await waitReady({ kube, node, limit, clock, signal });
    trouble = seen.ready ? undefined : `not ready: ${seen.failing.join(', ')}`;
  }
  if (trouble === undefined) return;
  throw new TsrkeError(
    'SERVICE_NOT_WELL',
    `${name} is not well ${wellLimit / 1000} s after its start: ${trouble}`,
    {
      node,
      details: await lastWords(node, name, world, signal),
      next: `mend what its log says (\`docker logs ${name}\` on ${node}), then run the same command again; it continues from here`,
    },
  );
}

async function lastWords(
  node: NodeName,
  name: ServiceName,
  { services }: PlanesWorld,
  signal: AbortSignal,
): Promise<string[]> {
  try {
    return await services.logs(node, name, 10, signal);
  } catch (error) {
    return [`its log cannot be read: ${messageOf(error)}`];
  }
}

async function leave(
  names: readonly ServiceName[],
  node: NodeName,
  carried: Carried,
  signal: AbortSignal,
): Promise<void> {
  const { services, hostFiles, report } = carried.world;
  // kubelet last to come is first to go: it would start pods again.
  for (const name of [...names].reverse()) await services.remove(node, name, signal);
  await services.removeLeftovers(node, signal);
  const { image, onHost } = placeOf(carried, node);
  await services.needImage(node, image, signal);
  const folders = [...foldersToEmpty.under.map(onHost), ...foldersToEmpty.everywhere];
  const mounted = [onHost('/var/lib/kubelet'), '/var/lib/kubelet', '/var/run/calico'];
  try {
    await hostFiles.unmount(node, { image, paths: mounted }, signal);
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'DOCKER') throw error;
    // What is mounted there is left alone below.
    report.note('warning', messageOf(error), node);
  }
  await hostFiles.empty(node, { image, paths: folders }, signal);
  await hostFiles.discard(node, { image, paths: [...folders, ...foldersLeft(onHost)] }, signal);
}

/** They go where nothing is left in them, from the inside out. */
function foldersLeft(onHost: (path: string) => string): string[] {
  const own = ['/etc', '/var/lib', '/var/log', '/var'].map(onHost);
  return [
    ...['/etc/ceph', '/var/log/kube-audit'].map(onHost),
    '/var/lib/rancher',
    ...(onHost('/') === '/' ? [] : own),
    ...['/opt/rke/etcd-snapshots', '/opt/rke'],
  ];
}

/** Where RKE's folders are on this host, and the image that helps there: it has a shell. */
function placeOf(
  { wish, sights }: Carried,
  node: NodeName,
): { readonly image: string; readonly onHost: (path: string) => string } {
  const sight = sights.get(node);
  if (sight === undefined) throw new Error(`${node} was not looked at`);
  const { onHost } = serviceInput(sight.node, dockerHostOf(sight.info, node), wish);
  return { image: imageOf(wish.rke, 'alpine'), onHost: (path) => posix.normalize(onHost(path)) };
}

/** By name, those that are there and those that leave. */
export function sightsOf(all: readonly NodeSight[]): ReadonlyMap<NodeName, NodeSight> {
  return new Map(all.map((sight) => [nameOf(sight.node), sight]));
}
