/** `tsrke remove`: everything of the cluster goes from its hosts, the data of etcd too. */
import { renameSync, rmSync } from 'node:fs';
import { setMaxListeners } from 'node:events';
import { kubeconfigPathOf, loadConfig, statePathOf, type LoadOptions } from '../config/load.ts';
import { carryOut, sightsOf } from '../planes/carry-out.ts';
import { lookAtNodes } from '../planes/look.ts';
import type { Move, Stage } from '../planes/plan.ts';
import { nameOf, type NodeSight } from '../planes/sight.ts';
import type { Report } from '../ports.ts';
import { wishOf } from '../services/cluster.ts';
import type { ServiceName } from '../services/container.ts';
import type { ClusterState } from '../state/rkestate.ts';
import { fileStore, locked, type StateStore } from '../state/store.ts';
import { counted } from '../words.ts';
import { accessOf } from './cluster.ts';
import { expectAllReached, reachFirst } from './first-up.ts';
import { linkOverSsh, withLinks, type Link } from './links.ts';
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
      const containers = all.reduce((sum, { services }) => sum + services.size, 0);
      const what = `${counted(containers, 'container')} on ${counted(all.length, 'host')}, and all data of this cluster there`;
      if (!(await confirm(what))) return 'nothing was removed';
      const { services, hostFiles, health, kube, clock } = links;
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
      for (const stage of stagesOfRemoval(all)) await carryOut(stage, carried, signal);
      await removePlugins(all, links, signal);
      return `${what}: removed${found === undefined ? '' : `; ${putAside(options.configPath)}`}`;
    });
  });
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
