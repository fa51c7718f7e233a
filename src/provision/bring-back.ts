/**
 * A cluster of the state whose kube-apiservers, or most of whose etcd, have lost their containers: they are made again
 * as they were recorded, with its keys, certificates and data, before anything else is looked at.
 */
import { bundleIn } from '../certificates/bundle.ts';
import { caPath } from '../certificates/paths.ts';
import type { ClusterConfig } from '../config/load.ts';
import { ownFieldsOf } from '../config/own-fields.ts';
import type { RkeNode } from '../config/rke-config.ts';
import type { PlannedStage } from '../encryption/plan-document.ts';
import { providerPath } from '../encryption/world.ts';
import { allToTheirEnd, TsrkeError } from '../errors.ts';
import { waitReady } from '../kube/ready.ts';
import { isSameFile } from '../planes/files.ts';
import { lookAtNodes } from '../planes/look.ts';
import { narrowed, stagesOf, type Move, type Stage } from '../planes/plan.ts';
import { previewOf } from '../planes/preview.ts';
import { nameOf, type ClusterSight, type NodeSight } from '../planes/sight.ts';
import type { NodeName } from '../ports.ts';
import { dockerHostOf, imageOf, nodesWith, serviceInput } from '../services/cluster.ts';
import type { ClusterState, JsonObject } from '../state/rkestate.ts';
import { counted } from '../words.ts';
import { expectAllReached, makePlugins, reachFirst } from './first-up.ts';
import type { Links } from './links.ts';
import {
  fileInForce,
  noObjects,
  planesOf,
  recordedConfig,
  runStages,
  sourcesOf,
  withStartedAnew,
  type Planes,
} from './planes.ts';
import { sameOwnFields } from './record.ts';
import type { UpOptions } from './up.ts';
import { wantedReload } from './wanted.ts';

export interface LostAsk {
  readonly config: ClusterConfig;
  readonly state: ClusterState;
  readonly where: string;
  readonly links: Links;
  readonly options: Pick<UpOptions, 'report' | 'signal' | 'approve'>;
}

export interface Lost {
  readonly planes: Planes;
  readonly sight: ClusterSight;
  /** Not one kube-apiserver has a container. */
  readonly servers: boolean;
  /** So few members of etcd have one that it cannot have a quorum. */
  readonly etcd: boolean;
}

export interface BroughtBack {
  /** For people: `5 containers were made again on 3 nodes`. */
  readonly said: string;
  /** With what the servers have loaded. */
  readonly known: (state: ClusterState) => Promise<ClusterState>;
}

/** undefined: the containers are there. Throws NODE_UNREACHABLE and WRONG_CLUSTER. */
export async function lookForLost({
  config,
  state,
  where,
  links,
  options,
}: LostAsk): Promise<Lost | undefined> {
  const { report, signal } = options;
  const rke = recordedConfig(state);
  if (rke === undefined) return undefined;
  const isOurs = (rke.services.etcd.externalUrls ?? []).length === 0;
  const [servers, members] = [nodesWith(rke, 'controlplane'), isOurs ? nodesWith(rke, 'etcd') : []];
  const away = new Set<RkeNode>();
  const [withServer, withEtcd] = await Promise.all([
    countOf(servers, async (name) => (await links.runtime.apiserver(name, signal)) !== undefined),
    countOf(members, async (name) => (await links.services.list(name, signal)).has('etcd')),
  ]);
  const lost = { servers: withServer === 0, etcd: withEtcd < quorumOf(members) };
  if (!lost.servers && !lost.etcd) return undefined;
  // The usual way names each of them, and refuses.
  const wanted = new Set(config.nodes.map(({ address }) => address));
  if (servers.some((node) => away.has(node) && wanted.has(node.address))) return undefined;

  const { desiredState, currentState } = state.document;
  const bundle = bundleIn(desiredState?.certificatesBundle ?? currentState?.certificatesBundle ?? {});
  const own = ownFieldsOf(config.raw) as JsonObject | undefined;
  const reloads = wantedReload(config, state) === 'on' && sameOwnFields(state, own);
  const planes = planesOf({ config, rke, state, bundle, file: fileInForce(state), reloads });
  // Whose data are gone must not begin a new cluster.
  const wish = { ...planes.wish.wish, joining: new Set(members.map(({ address }) => address)) };
  const asNew: Planes = { rke, wish: { ...planes.wish, wish }, recorded: undefined };
  const sight = await report.task('look at the nodes that the state names', () =>
    lookAtNodes(rke, undefined, { ...sourcesOf(asNew, links), membership: undefined }, signal),
  );
  expectReached(config, [...servers, ...members], sight, options);
  expectSameCa(bundle['kube-ca']?.certificatePEM ?? '', sight, where);
  return { planes: asNew, sight, ...lost };

  /** One that cannot be reached tells nothing; whether that may be is decided later. */
  async function countOf(
    nodes: readonly RkeNode[],
    has: (name: NodeName) => Promise<boolean>,
  ): Promise<number> {
    const found = await allToTheirEnd(
      nodes.map(async (node) => {
        try {
          await links.connect(nameOf(node), signal);
          return await has(nameOf(node));
        } catch (error) {
          if (!(error instanceof TsrkeError) || error.code !== 'NODE_UNREACHABLE') throw error;
          away.add(node);
          return false;
        }
      }),
    );
    return found.filter(Boolean).length;
  }
}

const quorumOf = (members: readonly unknown[]): number =>
  members.length === 0 ? 0 : Math.floor(members.length / 2) + 1;

/** For a plan, which looks at no data. */
export function previewOfLost(lost: Lost): PlannedStage[] {
  const { planes, sight } = lost;
  const stages = stagesOf({ planes: planes.wish, sight, recorded: undefined });
  return previewOf(
    stages.flatMap((stage) => lostOf(stage, lost, () => true) ?? []),
    [],
  );
}

/** undefined: nothing is lost. Throws as `lookForLost`, and ETCD where too few of its members' data are there. */
export async function bringBack(ask: LostAsk): Promise<BroughtBack | undefined> {
  const lost = await lookForLost(ask);
  if (lost === undefined) return undefined;
  const { config, links, options } = ask;
  const { report, signal } = options;
  const { planes } = lost;
  const what = lost.servers
    ? 'no controlplane node has a kube-apiserver'
    : 'most members of etcd have no container';
  if (options.approve !== undefined) {
    throw new TsrkeError('PLAN_STALE', `${what}: no plan says what is to be done beyond making them again`, {
      next: 'run `tsrke up` without a plan. Nothing was touched',
    });
  }
  report.note('warning', `${what}: what the state has recorded is made again, with the data that are there`);
  const withData = lost.etcd ? await membersWithData(lost, links, signal) : new Set<NodeName>();
  if (lost.servers) await makePlugins(config, planes.rke, links, report, signal);
  const keepsFile = lost.servers ? await havingFile(lost, links, signal) : new Set<NodeName>();
  const encryption = { ...planes.wish.encryption, keepsFile };
  const kept: Planes = { ...planes, wish: { ...planes.wish, encryption } };
  const run = { planes: kept, links, objects: noObjects, report, signal, hold: () => Promise.resolve() };
  const { done } = await runStages(run, (stage) => lostOf(stage, lost, (node) => withData.has(node)));
  // Those that are there have to notice that etcd is back.
  if (!lost.servers) await settled(lost, links, signal);
  const made = done.filter((move) => 'container' in move);
  const nodes = new Set(made.map(({ node }) => node));
  return {
    said: `${counted(made.length, 'container')} on ${counted(nodes.size, 'node')} made again`,
    known: (now) => withStartedAnew(now, kept, links, done, signal),
  };
}

/** What of a stage is lost; whatever else differs from cluster.yml comes later. */
function lostOf(stage: Stage, lost: Lost, hasData: (node: NodeName) => boolean): Stage | undefined {
  const roles = [...(lost.servers ? ['controlplane'] : []), ...(lost.etcd ? ['etcd'] : [])];
  const concerned = new Set(
    lost.planes.rke.nodes.filter(({ role }) => role.some((each) => roles.includes(each))).map(nameOf),
  );
  const isLost = (move: Move): boolean => {
    if (!concerned.has(move.node)) return false;
    if (stage.plane === 'all') return true;
    if (!['create', 'start', 'finish'].includes(move.kind) || !('container' in move)) return false;
    if (stage.plane === 'controlplane') return lost.servers;
    if (stage.plane !== 'etcd' || move.container.name !== 'etcd') return false;
    return move.kind !== 'create' || (lost.etcd && hasData(move.node));
  };
  return narrowed(stage, isLost);
}

/** A server that nobody reaches may well be at work. Throws NODE_UNREACHABLE. */
function expectReached(
  config: ClusterConfig,
  nodes: readonly RkeNode[],
  { unreached }: ClusterSight,
  { report }: Pick<LostAsk['options'], 'report'>,
): void {
  const wanted = new Set(config.nodes.map(({ address }) => address));
  const away = new Map<NodeName, string>();
  for (const node of new Set(nodes)) {
    const why = unreached.get(nameOf(node));
    if (why === undefined) continue;
    if (wanted.has(node.address)) away.set(nameOf(node), why);
    else report.note('warning', 'is not in cluster.yml and cannot be reached: taken for gone', nameOf(node));
  }
  expectAllReached(away, reachFirst);
}

/** As far as the nodes show it. Throws WRONG_CLUSTER. */
function expectSameCa(ca: string, { nodes }: ClusterSight, where: string): void {
  for (const { node, files } of nodes) {
    const there = files?.get(caPath);
    if (there === undefined || isSameFile(ca, there)) continue;
    throw new TsrkeError('WRONG_CLUSTER', `its ${caPath} is of another cluster than ${where}`, {
      node: nameOf(node),
      next: 'see whether cluster.yml and the state file belong to these hosts. Nothing was touched',
    });
  }
}

/** Members of etcd that can go on with what they have. Throws ETCD where they are too few. */
async function membersWithData(
  lost: Lost,
  links: Links,
  signal: AbortSignal,
): Promise<ReadonlySet<NodeName>> {
  const { planes, sight } = lost;
  const members = nodesWith(planes.rke, 'etcd');
  const found = sight.nodes.filter(({ node }) => members.includes(node));
  const withData = await having(found, '/var/lib/etcd', lost, links, signal);
  const there = found.filter(({ node, services }) => services.has('etcd') || withData.has(nameOf(node)));
  if (there.length >= quorumOf(members)) return withData;
  throw new TsrkeError(
    'ETCD',
    `of ${counted(members.length, 'member')} of etcd only ${there.length} still ${there.length === 1 ? 'has its' : 'have their'} data: it cannot have a quorum again`,
    {
      details: found
        .filter((each) => !there.includes(each))
        .map(({ node }) => `${nameOf(node)}: /var/lib/etcd has nothing in it`),
      next: 'bring the data of etcd back to where they were, then run the same command again; nothing was touched. An etcd without them is a new cluster: only `tsrke remove` and then `tsrke up` make one',
    },
  );
}

/**
 * The file that a server had is the one that it could read everything with, and may have a key that the state lacks: it
 * stays, and encryption goes on from it.
 */
async function havingFile(lost: Lost, links: Links, signal: AbortSignal): Promise<ReadonlySet<NodeName>> {
  const controlplane = lost.sight.nodes.filter(({ node }) => node.role.includes('controlplane'));
  return await having(controlplane, providerPath, lost, links, signal);
}

async function having(
  sights: readonly NodeSight[],
  path: string,
  { planes }: Lost,
  { services, hostFiles }: Links,
  signal: AbortSignal,
): Promise<ReadonlySet<NodeName>> {
  const image = imageOf(planes.rke, 'alpine');
  const found = await allToTheirEnd(
    sights.map(async ({ node, info }) => {
      const name = nameOf(node);
      const { onHost } = serviceInput(node, dockerHostOf(info, name), planes.wish.wish);
      await services.needImage(name, image, signal);
      return (await hostFiles.holdsAnything(name, { image, path: onHost(path) }, signal)) ? [name] : [];
    }),
  );
  return new Set(found.flat());
}

/** Milliseconds in which servers that run must have found their etcd again. */
const settleLimit = 120_000;

async function settled({ sight }: Lost, { kube, clock, runtime }: Links, signal: AbortSignal): Promise<void> {
  const controlplane = sight.nodes.filter(({ node }) => node.role.includes('controlplane'));
  await Promise.all(
    controlplane.map(async ({ node }) => {
      const container = await runtime.apiserver(nameOf(node), signal);
      if (container?.running === true)
        await waitReady({ kube, node: nameOf(node), limit: settleLimit, clock, signal });
    }),
  );
}
