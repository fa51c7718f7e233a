/** What Kubernetes is told of a cluster's nodes, and what it is given beside them: marks of nodes, addons. */
import type { Addon, AddonName } from '../addons/addon.ts';
import { carryOutAddons } from '../addons/carry-out.ts';
import { readIncludes } from '../addons/includes.ts';
import { lineOf, planAddons, type AddonPlan } from '../addons/plan.ts';
import { nothingSeen, seeAddons, type SeenAddons } from '../addons/seen.ts';
import { settingsOf } from '../addons/settings.ts';
import { wantedAddons } from '../addons/wanted.ts';
import type { ClusterConfig } from '../config/load.ts';
import type { RkeConfig, RkeNode } from '../config/rke-config.ts';
import { TsrkeError } from '../errors.ts';
import { drain, type DrainInput } from '../kube/drain.ts';
import {
  deleteNode,
  describeMarks,
  listNodes,
  marksToSet,
  nodeOf,
  setMarks,
  setSchedulable,
} from '../kube/nodes.ts';
import type { Server } from '../kube/patient.ts';
import { endpointAddresses, identityLeases, kubeSystemLeases } from '../kube/members.ts';
import { readiness } from '../kube/ready.ts';
import type { NodeObjects } from '../planes/carry-out.ts';
import { nameOf, type ClusterSight } from '../planes/sight.ts';
import type { Clock, KubeApi, NodeName, Report } from '../ports.ts';
import { marksOf } from '../services/node.ts';
import type { Planes } from './planes.ts';

export interface ObjectsAsk {
  readonly config: ClusterConfig;
  readonly planes: Planes;
  readonly links: { readonly kube: KubeApi; readonly clock: Clock };
  readonly sight: ClusterSight;
  readonly signal: AbortSignal;
}

export interface ObjectWork {
  /** For people: `h1: label a=b`. */
  readonly does: string;
}

/** What of objects is to be done, as far as it can be told now. Throws KUBE, UNSUPPORTED and as `readIncludes`. */
export async function lookAtObjects(ask: ObjectsAsk): Promise<ObjectWork[]> {
  const { planes, signal } = ask;
  const server = await readyServer(ask);
  if (server === undefined) return [];
  const nodes = await listNodes(server, signal);
  const marks = planes.rke.nodes.flatMap((node) => {
    const there = nodeOf(nodes, node, planes.rke.cloudProvider?.name);
    const changes = there && marksToSet(there, marksOf(node), formerMarks(planes, node));
    return changes === undefined
      ? []
      : describeMarks(changes, there ?? { taints: [] }).map((does) => ({ does: `${nameOf(node)}: ${does}` }));
  });
  const { plan } = await addonsPlanned(ask, server);
  return [...marks, ...plan.steps.map((step) => ({ does: lineOf(step) }))];
}

/** Of a cluster that is yet to be made, a line each. Throws UNSUPPORTED and as `readIncludes`. */
export async function objectsOfNew(ask: Pick<ObjectsAsk, 'config' | 'planes' | 'signal'>): Promise<string[]> {
  const { plan } = planned(ask, await addonsWanted(ask), nothingSeen);
  return plan.steps.map(lineOf);
}

/**
 * What kubelets need to register their nodes: RKE's certificates for them carry no node's name, so Kubernetes' own
 * rules give them nothing. Before any kubelet is made. Resolves to how much was changed.
 */
export async function grantNodes(ask: ObjectsAsk & { readonly report: Report }): Promise<number> {
  const server = await readyServer(ask);
  return server === undefined ? 0 : await applyAddons(ask, server, (name) => name === 'rbac');
}

/** Waits for the nodes that have just come, then marks them, then applies addons. Resolves to how much was changed. */
export async function addObjects(ask: ObjectsAsk & { readonly report: Report }): Promise<number> {
  const { report } = ask;
  const server = await readyServer(ask);
  if (server === undefined) {
    throw new TsrkeError('KUBE', 'no kube-apiserver is ready, so nothing can be said to Kubernetes', {
      next: 'see why (`tsrke encrypt status`), then run the same command again',
    });
  }
  const marked = await report.task('labels, annotations and taints', () => markNodes(ask, server));
  return marked + (await applyAddons(ask, server, () => true));
}

async function applyAddons(
  ask: ObjectsAsk & { readonly report: Report },
  server: Server,
  chosen: (name: AddonName) => boolean,
): Promise<number> {
  const { planes, report, signal } = ask;
  const { plan, seen } = await addonsPlanned(ask, server);
  const steps = plan.steps.filter(({ name }) => chosen(name));
  const notes = plan.steps.length === steps.length ? plan.notes : [];
  await carryOutAddons({
    ...{ server, plan: { steps, notes }, record: seen.record, report, signal },
    timeout: settingsOf(planes.rke).addonJobTimeout,
  });
  return steps.length;
}

/** Milliseconds in which a kubelet must have registered its node. */
const registerLimit = 60_000;

async function markNodes(ask: ObjectsAsk & { readonly report: Report }, server: Server): Promise<number> {
  const { planes, sight, links, report, signal } = ask;
  const end = links.clock.now().getTime() + registerLimit;
  let left = sight.nodes.filter(({ services }) => services.has('kubelet')).map(({ node }) => node);
  let marked = 0;
  for (;;) {
    const nodes = await listNodes(server, signal);
    const missing: RkeNode[] = [];
    for (const node of left) {
      const there = nodeOf(nodes, node, planes.rke.cloudProvider?.name);
      if (there === undefined) missing.push(node);
      else if (await setMarks(server, there.name, marksOf(node), formerMarks(planes, node), signal))
        marked += 1;
    }
    left = missing;
    if (left.length === 0) return marked;
    if (links.clock.now().getTime() >= end) break;
    await links.clock.sleep(500, signal);
  }
  for (const node of left) {
    report.note(
      'warning',
      `its kubelet has not registered with Kubernetes within ${registerLimit / 1000} s: see \`docker logs kubelet\` there; the next \`tsrke up\` marks the node`,
      nameOf(node),
    );
  }
  return marked;
}

/** What cluster.yml asked for this node last time. */
function formerMarks({ recorded }: Planes, { address }: RkeNode) {
  const former = recorded?.nodes.find((each) => each.address === address);
  return former === undefined ? undefined : marksOf(former);
}

async function addonsWanted({
  config,
  planes,
  signal,
}: Pick<ObjectsAsk, 'config' | 'planes' | 'signal'>): Promise<readonly Addon[]> {
  const { addonsInclude } = settingsOf(planes.rke);
  return wantedAddons(planes.rke, await readIncludes(config.path, addonsInclude, signal));
}

function planned(
  { config, planes }: Pick<ObjectsAsk, 'config' | 'planes'>,
  wanted: readonly Addon[],
  seen: SeenAddons,
): { readonly plan: AddonPlan } {
  return { plan: planAddons({ config, rke: planes.rke, wanted, seen, former: planes.recorded }) };
}

async function addonsPlanned(
  ask: ObjectsAsk,
  server: Server,
): Promise<{ readonly plan: AddonPlan; readonly seen: SeenAddons }> {
  const [wanted, seen] = await Promise.all([addonsWanted(ask), seeAddons(server, ask.signal)]);
  return { ...planned(ask, wanted, seen), seen };
}

/** The first controlplane node whose kube-apiserver is ready. */
async function readyServer({ planes, links, sight, signal }: ObjectsAsk): Promise<Server | undefined> {
  const there = sight.nodes.filter(({ services }) => services.has('kube-apiserver'));
  for (const { node } of there) {
    const name = nameOf(node);
    if (planes.rke.nodes.includes(node) && (await readiness(links.kube, name, signal)).ready) {
      return { kube: links.kube, node: name, clock: links.clock, random: Math.random };
    }
  }
  return undefined;
}

/** By way of whichever kube-apiserver is ready at that moment, but not that of the node itself. */
export function nodeObjects(ask: ObjectsAsk): NodeObjects {
  const { planes } = ask;
  const all = [...planes.rke.nodes, ...ask.sight.leaving.map(({ node }) => node), ...ask.sight.gone];
  const within = async (
    name: NodeName,
    signal: AbortSignal,
    work: (server: Server, object: string) => Promise<void>,
  ): Promise<void> => {
    const node = all.find((each) => nameOf(each) === name);
    const others = ask.sight.nodes.filter((each) => nameOf(each.node) !== name);
    const sight = {
      ...ask.sight,
      nodes: [...others, ...ask.sight.nodes.filter((each) => !others.includes(each))],
    };
    const server = await readyServer({ ...ask, sight, signal });
    if (node === undefined || server === undefined) return;
    const there = nodeOf(await listNodes(server, signal), node, planes.rke.cloudProvider?.name);
    if (there !== undefined) await work(server, there.name);
  };
  return {
    cordon: (node, signal) =>
      within(node, signal, (server, name) => setSchedulable(server, name, false, signal)),
    uncordon: (node, signal) =>
      within(node, signal, (server, name) => setSchedulable(server, name, true, signal)),
    drain: (node, signal) =>
      within(node, signal, (server, name) =>
        drain({ server, name, input: drainInputOf(planes.rke), signal }),
      ),
    forget: (node, signal) =>
      within(node, signal, async (server, name) => {
        await deleteNode(server, name, signal);
        const gone = all.find((each) => nameOf(each) === node);
        if (gone?.role.includes('controlplane') === true) await departed(gone, server, signal);
      }),
  };
}

/** Milliseconds in which other servers have noticed that one is gone: its entry in Endpoints has 15 s. */
const departLimit = 90_000;

/** Until nothing names its kube-apiserver any more: another run would take it for one that cluster.yml does not name. */
async function departed(
  node: RkeNode,
  { kube, node: asked, clock }: Server,
  signal: AbortSignal,
): Promise<void> {
  const end = clock.now().getTime() + departLimit;
  for (;;) {
    const addresses = await endpointAddresses(kube, asked, signal);
    // It would count for a minute after its server's end.
    const leases = await identityLeases(kube, asked, signal);
    const own = leases.filter(({ hostname }) => hostname === node.hostnameOverride);
    for (const { name } of own) {
      await kube.request(asked, { method: 'DELETE', path: `${kubeSystemLeases}/${name}` }, signal);
    }
    const isNamed =
      own.length > 0 || [node.address, node.internalAddress].some((each) => addresses.includes(each));
    if (!isNamed || clock.now().getTime() >= end) return;
    await clock.sleep(1_000, signal);
  }
}

function drainInputOf(rke: RkeConfig): DrainInput {
  const strategy = (rke['upgradeStrategy'] ?? {}) as { readonly nodeDrainInput?: DrainInput };
  return strategy.nodeDrainInput ?? {};
}
