/** `tsrke remove`: everything of the cluster goes from its hosts, the data of etcd too. */
import { renameSync, rmSync } from 'node:fs';
import { setMaxListeners } from 'node:events';
import { kubeconfigPathOf, loadConfig, statePathOf, type LoadOptions } from '../config/load.ts';
import { allToTheirEnd, messageOf, TsrkeError } from '../errors.ts';
import { carryOut, sightsOf } from '../planes/carry-out.ts';
import { lookAtNodes } from '../planes/look.ts';
import type { Move, Stage } from '../planes/plan.ts';
import { nameOf, type NodeSight } from '../planes/sight.ts';
import type { Report } from '../ports.ts';
import { wishOf } from '../services/cluster.ts';
import type { ServiceName } from '../services/container.ts';
import { thisOwner } from '../state/lock.ts';
import type { ClusterState } from '../state/rkestate.ts';
import { fileStore, locked, type StateStore } from '../state/store.ts';
import { counted } from '../words.ts';
import { accessOf } from './cluster.ts';
import { expectAllReached, reachFirst } from './first-up.ts';
import { linkOverSsh, withLinks, type Link, type Links } from './links.ts';
import { ClusterLock } from './lock.ts';
import { everyNode } from './members.ts';
import { noObjects, recordedConfig } from './planes.ts';
import { bundleIn } from '../certificates/bundle.ts';

export interface RemoveOptions extends LoadOptions {
  readonly configPath: string;
  readonly report: Report;
  readonly signal: AbortSignal;
  /** Asked once it is known what goes; false: nothing is done. */
  readonly confirm: (what: string) => Promise<boolean>;
}

/** While these stages begin there are kube-apiservers, by which others see that a run is under way. */
const withServers = new Set(['worker plane', 'control plane']);

/** As RKE has it: what uses a plane goes before it. */
const planes: readonly (readonly [title: string, services: readonly ServiceName[]])[] = [
  ['worker plane', ['kube-proxy', 'kubelet', 'nginx-proxy']],
  ['control plane', ['kube-scheduler', 'kube-controller-manager', 'kube-apiserver', 'service-sidekick']],
  ['etcd', ['etcd-rolling-snapshots', 'etcd']],
];

/**
 * Resolves to the sentence for the user. Every host must be reached, so that none is left half removed: else
 * NODE_UNREACHABLE, and nothing was touched. The state file stays under another name: snapshots of etcd need its keys.
 */
export async function remove(
  options: RemoveOptions,
  { store, link }: { readonly store: StateStore; readonly link: Link } = {
    store: fileStore(statePathOf(options.configPath)),
    link: linkOverSsh,
  },
): Promise<string> {
  const { report, signal, confirm } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  return await locked(store, async () => {
    const found = store.read();
    const state = found ?? nothingKnown;
    const access =
      found === undefined ? { ca: '', admin: { cert: '', key: '' } } : accessOf(found, store.where);
    const nodes = everyNode(config, state);
    const { hostKeys } = state.tsrke;
    return await withLinks(link, { config, nodes, ...access, hostKeys, report }, async (links) => {
      const wish = wishOf(config, false);
      const sight = await report.task(`look at ${counted(nodes.length, 'host')}`, () =>
        lookAtNodes(wish.rke, recordedConfig(state), { ...links, membership: undefined }, signal),
      );
      expectAllReached(sight.unreached, reachFirst);
      const all = [...sight.nodes, ...sight.leaving];
      const { services, hostFiles, health, kube, clock } = links;
      const pods = await allToTheirEnd(all.map(({ node }) => services.leftovers(nameOf(node), signal)));
      const containers = all.reduce((sum, each) => sum + each.services.size, pods.flat().length);
      const what = `${counted(containers, 'container')} on ${counted(all.length, 'host')}, and all data of this cluster there`;
      if (!(await confirm(what))) return 'nothing was removed';
      const carried = {
        wish,
        bundle: bundleIn(state.document.currentState?.certificatesBundle ?? {}),
        sights: sightsOf(all),
        world: {
          ...{ services, hostFiles, health, kube, clock, report, objects: noObjects },
          hold: () => Promise.resolve(),
          etcd: undefined,
        },
      };
      const lock = await lockCluster(found === undefined ? [] : all, links, report, signal);
      try {
        for (const stage of stagesOfRemoval(all)) {
          if (withServers.has(stage.title)) await lock.hold(signal);
          await carryOut(stage, carried, signal);
        }
        await removePlugins(all, links, signal);
      } finally {
        await lock.release();
      }
      return `${what}: removed; images stay${found === undefined ? '' : `; ${putAside(options.configPath)}`}`;
    });
  });
}

/**
 * Another tsrke may be at work on the cluster. One whose lock cannot be reached is removed all the same. Throws LOCKED,
 * and WRONG_CLUSTER where another cluster than the state's runs there.
 */
async function lockCluster(
  sights: readonly NodeSight[],
  { kube, markers, clock }: Links,
  report: Report,
  signal: AbortSignal,
): Promise<Pick<ClusterLock, 'hold' | 'release'>> {
  const none = { hold: () => Promise.resolve(), release: () => Promise.resolve() };
  const servers = sights
    .filter(({ services }) => services.has('kube-apiserver'))
    .toSorted((a, b) => a.node.address.localeCompare(b.node.address, 'en', { numeric: true }))
    .map(({ node }) => nameOf(node));
  if (servers.length === 0) return none;
  const owner = thisOwner(clock.now());
  const lock = new ClusterLock({ kube, markers, nodes: () => servers, owner, clock, report });
  try {
    await lock.acquire(signal);
    return lock;
  } catch (error) {
    await lock.release();
    const isFinal = !(error instanceof TsrkeError) || ['LOCKED', 'WRONG_CLUSTER'].includes(error.code);
    if (isFinal) throw error;
    report.note(
      'warning',
      `the cluster could not be locked, and is removed all the same: ${messageOf(error)}`,
    );
    return none;
  }
}

const nothingKnown: ClusterState = {
  document: {},
  tsrke: { formatVersion: 1, serial: 0, lineage: '', keyRing: [], loaded: {}, hostKeys: {} },
};

function stagesOfRemoval(sights: readonly NodeSight[]): Stage[] {
  const width = Number.POSITIVE_INFINITY;
  const lane = ({ node, services }: NodeSight, names: readonly ServiceName[]): Move[] =>
    names
      .filter((name) => services.has(name))
      .map((name) => ({ kind: 'remove', node: nameOf(node), name, why: ['the cluster is removed'] }));
  return [
    ...planes.map(([title, names]): Stage => ({
      title,
      plane: 'all',
      width,
      lanes: sights.map((each) => lane(each, names)),
    })),
    {
      ...{ title: 'folders', plane: 'all' as const, width },
      lanes: sights.map(({ node }): Move[] => [{ kind: 'leave', node: nameOf(node), services: [] }]),
    },
  ].filter(({ lanes }) => lanes.some((each) => each.length > 0));
}

async function removePlugins(
  sights: readonly NodeSight[],
  { kmsContainers }: ReturnType<Link>,
  signal: AbortSignal,
): Promise<void> {
  await Promise.all(
    sights.map(async ({ node }) => {
      const name = nameOf(node);
      for (const { socket } of await kmsContainers.list(name, signal))
        await kmsContainers.remove(name, socket, signal);
    }),
  );
}

/** RKE deletes both files. */
function putAside(configPath: string): string {
  const path = statePathOf(configPath);
  const kept = `${path}.removed`;
  renameSync(path, kept);
  rmSync(kubeconfigPathOf(configPath), { force: true });
  return `the state is kept as ${kept}: snapshots of this cluster's etcd need its keys`;
}
