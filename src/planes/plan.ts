/**
 * From what cluster.yml asks and what is on the nodes to the stages that lead from one to the other, in RKE's order of
 * planes. Pure. Whoever carries a stage out looks again and plans again, so there is no position to lose.
 */
import type { RkeConfig } from '../config/rke-config.ts';
import type { Delivered, NodeName } from '../ports.ts';
import type { Container, Plane, ServiceName } from '../services/container.ts';
import { expulsions, planOfMembers } from './members.ts';
import { nameOf, type ClusterSight, type NodeSight } from './sight.ts';
import { imageKey, serviceOf, workOn, type NodeWork, type PlanesWish, type ServiceWork } from './work.ts';

export type Move =
  | { readonly kind: 'pull'; readonly node: NodeName; readonly images: readonly string[] }
  | { readonly kind: 'deliver'; readonly node: NodeName; readonly files: readonly Delivered[] }
  | (ServiceWork & { readonly node: NodeName })
  | { readonly kind: 'cordon' | 'drain' | 'uncordon'; readonly node: NodeName }
  /** Its etcd becomes a member, with this container. */
  | { readonly kind: 'join'; readonly node: NodeName; readonly container: Container }
  /** The member of etcd with this address leaves. */
  | { readonly kind: 'expel'; readonly node: NodeName; readonly peerUrl: string }
  | { readonly kind: 'leave'; readonly node: NodeName; readonly services: readonly ServiceName[] }
  | { readonly kind: 'forget'; readonly node: NodeName };

export interface Stage {
  readonly title: string;
  readonly plane: Plane | 'all' | 'leaving';
  /** Moves of a lane follow each other; this many lanes go side by side. */
  readonly width: number;
  readonly lanes: readonly (readonly Move[])[];
}

/** A stage with these moves only; undefined: it has none of them. */
export function narrowed(stage: Stage, keeps: (move: Move) => boolean): Stage | undefined {
  const lanes = stage.lanes.map((lane) => lane.filter(keeps)).filter((lane) => lane.length > 0);
  return lanes.length === 0 ? undefined : { ...stage, lanes };
}

export interface PlanOptions {
  readonly planes: PlanesWish;
  readonly sight: ClusterSight;
  /** What was carried out last; undefined: the cluster is made for the first time. */
  readonly recorded: RkeConfig | undefined;
}

/** In the order in which they are to be carried out; none: all is as cluster.yml has it. Throws UNSUPPORTED and ETCD. */
export function stagesOf(options: PlanOptions): Stage[] {
  const { planes, sight, recorded } = options;
  const works = sight.nodes.map((each) => workOn(each, planes));
  const isNew = recorded === undefined;
  const { rke } = planes.wish;
  const stages: Stage[] = [
    { ...together('images', 'all'), lanes: works.map((work) => pulls(work, planes.pulled)) },
    { ...together('certificates and files', 'all'), lanes: works.map(deliveries) },
    ...etcdStages(works, options),
    {
      title: isNew ? 'control plane' : 'controlplane nodes',
      plane: 'controlplane',
      // A cluster that serves keeps serving: one node after the other.
      width: isNew ? works.length : 1,
      lanes: works.filter(isControlplane).map((work) => controlplaneLane(work, rke, isNew)),
    },
    {
      title: isNew ? 'worker plane' : 'other nodes',
      plane: 'worker',
      width: isNew ? works.length : workersAtOnce(rke, sight),
      lanes: works
        .filter((work) => isNew || !isControlplane(work))
        .map((work) => rolled(work, movesOf(work, workerPlaneOf(work)), rke)),
    },
    { ...together('nodes that leave', 'leaving'), width: 1, lanes: leavingLanes(works, options) },
  ];
  return stages
    .map((stage) => ({ ...stage, lanes: stage.lanes.filter((lane) => lane.length > 0) }))
    .filter(({ lanes }) => lanes.length > 0);
}

const together = (title: string, plane: Stage['plane']): Pick<Stage, 'title' | 'plane' | 'width'> => ({
  ...{ title, plane },
  width: Number.POSITIVE_INFINITY,
});

const isControlplane = ({ sight }: NodeWork) => sight.node.role.includes('controlplane');

const etcdServices: readonly ServiceName[] = ['etcd', 'etcd-rolling-snapshots'];
const workerServices: readonly ServiceName[] = ['nginx-proxy', 'kubelet', 'kube-proxy'];
const isEtcdService = (name: ServiceName) => etcdServices.includes(name);

/** service-sidekick comes with whatever needs it first. */
function workerPlaneOf(work: NodeWork): (name: ServiceName) => boolean {
  return (name) => workerServices.includes(name) || (name === 'service-sidekick' && !isControlplane(work));
}

function pulls({ sight, images }: NodeWork, pulled: ReadonlySet<string>): Move[] {
  const node = nameOf(sight.node);
  const missing = images.filter((image) => !isThere(sight, image) && !pulled.has(imageKey(node, image)));
  return missing.length === 0 ? [] : [{ kind: 'pull', node, images: missing }];
}

/** What a container there runs need not be pulled. */
function isThere({ services }: NodeSight, image: string): boolean {
  return [...services.values()].some(({ inspect }) => inspect.Config.Image === image);
}

function deliveries({ sight, files }: NodeWork): Move[] {
  return files.length === 0 ? [] : [{ kind: 'deliver', node: nameOf(sight.node), files }];
}

function movesOf({ sight, services }: NodeWork, of: (name: ServiceName) => boolean): Move[] {
  const node = nameOf(sight.node);
  return services.filter((work) => of(serviceOf(work))).map((work) => ({ ...work, node }));
}

/** All members of a new cluster at once: none is well before most of them are there. Else one after the other. */
function etcdStages(works: readonly NodeWork[], { planes, sight, recorded }: PlanOptions): Stage[] {
  const stage = { title: 'etcd', plane: 'etcd' as const };
  // Who is a member no more goes when nobody reads from it any more.
  const own = (work: NodeWork) => movesOf(work, isEtcdService).filter(({ kind }) => kind !== 'remove');
  if (recorded === undefined) return [{ ...stage, width: works.length, lanes: works.map(own) }];
  const { rke } = planes.wish;
  return [{ ...stage, width: 1, lanes: [planOfMembers({ works, rke, recorded, sight, movesOf: own })] }];
}

function controlplaneLane(work: NodeWork, rke: RkeConfig, isNew: boolean): Move[] {
  if (isNew) return movesOf(work, (name) => !isEtcdService(name) && !workerServices.includes(name));
  return rolled(
    work,
    movesOf(work, (name) => !isEtcdService(name)),
    rke,
  );
}

/** Where kubelet is made anew no new pod should come meanwhile, and with `drain` none stays. */
function rolled({ sight }: NodeWork, moves: readonly Move[], rke: RkeConfig): Move[] {
  const isRolled = moves.some((move) => move.kind === 'exchange' && move.container.name === 'kubelet');
  if (!isRolled) return [...moves];
  const node = nameOf(sight.node);
  const drains = strategyOf(rke).drain === true;
  return [
    { kind: 'cordon', node },
    ...(drains ? [{ kind: 'drain' as const, node }] : []),
    ...moves,
    { kind: 'uncordon', node },
  ];
}

interface UpgradeStrategy {
  readonly maxUnavailableWorker?: string;
  readonly drain?: boolean;
}

function strategyOf(rke: RkeConfig): UpgradeStrategy {
  return rke['upgradeStrategy'] ?? {};
}

/** RKE's rule: a part of all is rounded down, at least one, at most 50; nodes that are away count. */
export function workersAtOnce(rke: RkeConfig, { unreached }: Pick<ClusterSight, 'unreached'>): number {
  const workers = rke.nodes.filter(({ role }) => !role.includes('controlplane'));
  const [, count = '10', percent] = /^\s*(\d+)\s*(%?)\s*$/.exec(
    strategyOf(rke).maxUnavailableWorker ?? '',
  ) ?? [...['', '10', '%']];
  const asked = percent === '%' ? Math.floor((workers.length * Number(count)) / 100) : Number(count);
  const away = workers.filter((node) => unreached.has(nameOf(node))).length;
  return Math.max(1, Math.min(50, Math.max(1, asked)) - away);
}

/** Last of all: whoever used them has other ones by now. */
function leavingLanes(works: readonly NodeWork[], { planes, sight, recorded }: PlanOptions): Move[][] {
  const leaves = recorded === undefined ? [] : expulsions(planes.wish.rke, recorded, sight.etcd);
  const formerMembers = works.map((work) =>
    movesOf(work, isEtcdService).filter(({ kind }) => kind === 'remove'),
  );
  return [
    [...leaves, ...formerMembers.flat()],
    ...sight.leaving.map(({ node, services }): Move[] => {
      const name = nameOf(node);
      return [
        { kind: 'cordon', node: name },
        { kind: 'drain', node: name },
        { kind: 'leave', node: name, services: [...services.keys()] },
        { kind: 'forget', node: name },
      ];
    }),
    ...sight.gone.map((node): Move[] => [{ kind: 'forget', node: nameOf(node) }]),
  ];
}

/** A line for people, e.g. `h1: make kubelet anew (argument --v: 2 in the container, 4 wanted)`. */
export function describeMove(move: Move): string {
  switch (move.kind) {
    case 'pull':
      return `pull ${move.images.join(', ')}`;
    case 'deliver':
      return `write ${move.files.length === 1 ? (move.files[0]?.path ?? '') : `${move.files.length} files below /etc/kubernetes`}`;
    case 'create':
      return `create ${move.container.name}`;
    case 'exchange':
      return `make ${move.container.name} anew (${move.why.join('; ')})`;
    case 'start':
      return `start ${move.container.name}`;
    case 'restart':
      return `restart ${move.container.name} (${move.why.join('; ')})`;
    case 'finish':
      return `finish making ${move.container.name} anew`;
    case 'remove':
      return `remove ${move.name} (${move.why.join('; ')})`;
    case 'cordon':
      return 'take no new pods (cordon)';
    case 'drain':
      return 'move pods away (drain)';
    case 'uncordon':
      return 'take pods again (uncordon)';
    case 'join':
      return 'join etcd: as a learner, until it has caught up';
    case 'expel':
      return 'leave etcd';
    case 'leave':
      return `remove ${move.services.length} containers, those of pods, and what they kept on the host`;
    case 'forget':
      return 'remove the node from Kubernetes';
  }
}
