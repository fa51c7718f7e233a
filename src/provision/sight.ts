/** Looks at a whole cluster without a lock and without changing anything: for `tsrke encrypt status` and `verify`. */
import { setMaxListeners } from 'node:events';
import { kubeApiIn } from '../config/keys.ts';
import type { ClusterConfig, ConfigNode } from '../config/load.ts';
import { reloadFitOf, type WantedReload } from '../encryption/automatic-reload.ts';
import type { WantedBinds } from '../encryption/binds.ts';
import { localKeysOf, parseProviderFile } from '../encryption/configuration.ts';
import { countHoldings } from '../encryption/holdings.ts';
import { keyId } from '../encryption/key.ts';
import { definitionOf, pluginsOn } from '../encryption/kms/containers.ts';
import { bindsOf, loadedBy, recordedFiles } from '../encryption/observe.ts';
import type { NodeSight, Sight } from '../encryption/status/sight.ts';
import { providerPath, providerPathOf } from '../encryption/world.ts';
import { messageOf, TsrkeError } from '../errors.ts';
import { leaseHolder } from '../kube/lease.ts';
import { loadedHashOf, metricsOf } from '../kube/metrics.ts';
import { readiness, serverVersion } from '../kube/ready.ts';
import type { KmsDefinition, NodeName, Report, TaskReport } from '../ports.ts';
import { StateKeeper } from '../state/keeper.ts';
import type { ClusterState } from '../state/rkestate.ts';
import type { StateStore } from '../state/store.ts';
import { etcdsOf, linkOptions } from './cluster.ts';
import { recordedBinds } from './record.ts';
import { wantedReload } from './wanted.ts';
import { linkOverSsh, type Link, type Links } from './links.ts';
import { candidates, recordedNodes, strangersTo } from './members.ts';
import { quiet } from './quiet.ts';
import { counted } from '../words.ts';

export interface SightOptions {
  readonly config: ClusterConfig;
  readonly state: ClusterState;
  readonly store: StateStore;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** Milliseconds in which a node must let us in; a run that is to change something waits longer. */
const patience = 15_000;

/** One look; see `whileLooking`. */
export async function sightCluster(options: SightOptions, link: Link = linkOverSsh): Promise<Sight> {
  return await whileLooking(options, link, (look) => look());
}

/**
 * As many looks as `work` takes over one connection per node, nodes side by side. What cannot be seen is said in the
 * answer. Throws STATE_INVALID, and WRONG_CLUSTER where an apiserver's certificate is of another CA.
 */
export async function whileLooking<T>(
  options: SightOptions,
  link: Link,
  work: (look: () => Promise<Sight>, links: Links) => Promise<T>,
): Promise<T> {
  const { config, state, store, report, signal } = options;
  setMaxListeners(0, signal);
  const nodes = candidates(config, state);
  const links = link(linkOptions({ config, state, store, report: quiet(report) }, nodes));
  try {
    return await work(() => look(options, nodes, links), links);
  } finally {
    await links.close();
  }
}

async function look(
  { config, state, store, report, signal }: SightOptions,
  nodes: readonly ConfigNode[],
  links: Links,
): Promise<Sight> {
  const title = `look at ${counted(nodes.length, 'controlplane node')} and at etcd`;
  return await report.task(title, async (task) => {
    const named = new Set(config.nodes.map(({ address }) => address));
    const binds = { wanted: config.extraBinds, former: recordedBinds(state) };
    const reload = wantedReload(config, state);
    const hadPlugin = kubeApiIn(state.tsrke.config ?? {}).encryption['kms_plugin'] !== undefined;
    const definitions = config.kmsPlugins.map(definitionOf);
    const plugins = hadPlugin || definitions.length > 0 ? definitions : undefined;
    const recorded = new Set(recordedNodes(state).map(({ address }) => address));
    const seen = await Promise.all(
      nodes.map((node) => {
        const known = { named: named.has(node.address), recorded: recorded.has(node.address) };
        return sightOf(node, links, { state, binds, reload, plugins, known }, signal);
      }),
    );
    const [asked] = seen.filter((each) => each.readiness?.ready === true).map((each) => each.node);
    const [stored, strangers, stale, holder] = await Promise.all([
      holdingsOf(seen, links, state, signal, task),
      asked === undefined ? [] : strangersAmong(nodes, seen, links, asked, signal),
      asked === undefined ? undefined : staleBy(asked, links, state, store, report, signal),
      asked === undefined ? undefined : leaseHolder(links.kube, asked, signal),
    ]);
    return {
      time: links.clock.now(),
      nodes: seen,
      stored,
      strangers,
      stale,
      atWork: store.holder() ?? holder,
    };
  });
}

interface Known {
  readonly state: ClusterState;
  readonly binds: WantedBinds;
  readonly reload: WantedReload;
  /** KMS plugins that tsrke is to run; undefined: it never ran one. */
  readonly plugins: readonly KmsDefinition[] | undefined;
  readonly known: Pick<NodeSight, 'named' | 'recorded'>;
}

/** All that one node shows. A part that cannot be seen leaves the others as they are. */
async function sightOf(
  { name: node, address }: ConfigNode,
  links: Links,
  { state, binds, reload, plugins, known }: Known,
  signal: AbortSignal,
): Promise<NodeSight> {
  const nothing: NodeSight = {
    ...{ node, address, ...known, reachable: false, failure: undefined, container: undefined, flag: false },
    ...{ path: providerPath, onDisk: undefined, file: undefined, fileProblem: undefined },
    ...{ readiness: undefined, minor: undefined, version: undefined, reported: undefined, loaded: 'no' },
    ...{ metrics: undefined, binds: 'as wanted', reloadFlag: 'as wanted', plugins: [] },
  };
  let seen = nothing;
  try {
    await connected(links, node, signal);
    const container = await links.runtime.apiserver(node, signal);
    seen = { ...seen, reachable: true, container };
    if (container === undefined) return seen;
    const named = providerPathOf(container.args);
    const path = named ?? providerPath;
    const flag = named !== undefined;
    const reloadFlag = reloadFitOf(container, flag, reload);
    seen = { ...seen, flag, path, binds: bindsOf(container, binds), reloadFlag };
    const [found, api, there] = await Promise.all([
      links.files.read(node, path, signal),
      sightOfServer(links, node, flag, signal),
      plugins === undefined ? [] : links.kmsContainers.list(node, signal),
    ]);
    const onDisk =
      found === undefined ? undefined : { sha256: found.sha256, mode: found.mode, uid: found.uid };
    seen = {
      ...seen,
      ...api,
      onDisk,
      ...fileIn(found?.text, path),
      plugins: pluginsOn(plugins ?? [], there),
    };
    const record = state.tsrke.loaded[node];
    return { ...seen, loaded: loadedBy({ ...seen, container, onDisk: found, record }) };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof TsrkeError) || error.code === 'WRONG_CLUSTER') throw error;
    return { ...seen, failure: messageOf(error) };
  }
}

async function connected(links: Links, node: NodeName, signal: AbortSignal): Promise<void> {
  const limit = AbortSignal.timeout(patience);
  try {
    await links.connect(node, AbortSignal.any([signal, limit]));
  } catch (error) {
    signal.throwIfAborted();
    if (!limit.aborted) throw error;
    throw new TsrkeError('NODE_UNREACHABLE', `no SSH connection within ${patience / 1000} s`, { node });
  }
}

async function sightOfServer(
  links: Links,
  node: NodeName,
  flag: boolean,
  signal: AbortSignal,
): Promise<Pick<NodeSight, 'readiness' | 'minor' | 'version' | 'reported' | 'metrics'>> {
  const seen = await readiness(links.kube, node, signal);
  const nothing = { minor: undefined, version: undefined, reported: undefined, metrics: undefined };
  const silent = { readiness: seen, ...nothing };
  if (!seen.serves) return silent;
  try {
    const { minor, gitVersion: version } = await serverVersion(links.kube, node, signal);
    const metrics = flag ? (await metricsOf(links.kube, node, signal)).text : undefined;
    const reported = metrics !== undefined && minor >= 34 ? loadedHashOf(metrics) : undefined;
    return { readiness: seen, minor, version, reported, metrics };
  } catch (error) {
    // It went away, or is not up to it yet.
    if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
    return silent;
  }
}

function fileIn(text: string | undefined, path: string): Pick<NodeSight, 'file' | 'fileProblem'> {
  if (text === undefined) return { file: undefined, fileProblem: undefined };
  try {
    return { file: parseProviderFile(text, path), fileProblem: undefined };
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    return { file: undefined, fileProblem: error.message };
  }
}

/** From any node that shows where etcd is, all keys in hand that anything knows. */
async function holdingsOf(
  seen: readonly NodeSight[],
  links: Links,
  state: ClusterState,
  signal: AbortSignal,
  task: TaskReport,
): Promise<Sight['stored']> {
  const [from] = seen.filter(({ container, failure }) => container !== undefined && failure === undefined);
  if (from === undefined) return { unavailable: 'no node could be asked where etcd is' };
  const files = [...seen.flatMap(({ file }) => file ?? []), ...recordedFiles(state)];
  const all = [...state.tsrke.keyRing, ...files.flatMap(localKeysOf)].filter(({ secret }) => secret.isKey);
  const keys = [...new Map(all.map((key) => [keyId(key), key])).values()];
  const { etcds, prefix } = await etcdsOf(from.node, links, state, signal);
  try {
    return await countHoldings(etcds, prefix, keys, signal, (count) =>
      task.progress(`${count} values in etcd`),
    );
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof TsrkeError)) throw error;
    return { unavailable: messageOf(error) };
  } finally {
    for (const etcd of etcds) etcd.close();
  }
}

async function strangersAmong(
  nodes: readonly ConfigNode[],
  seen: readonly NodeSight[],
  links: Links,
  asked: NodeName,
  signal: AbortSignal,
): Promise<readonly string[]> {
  // The Leases name host names, which only the nodes themselves tell: with one of them unseen they say nothing.
  const all = seen.every(({ container }) => container !== undefined);
  const hostnames = seen.flatMap(({ container }) => container?.hostname ?? []);
  try {
    return await strangersTo(nodes, all ? hostnames : undefined, links.kube, asked, signal);
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
    return [];
  }
}

async function staleBy(
  asked: NodeName,
  links: Links,
  state: ClusterState,
  store: StateStore,
  report: Report,
  signal: AbortSignal,
): Promise<string | undefined> {
  const keeper = new StateKeeper({
    store,
    kube: links.kube,
    nodes: () => [asked],
    hostKeys: () => ({}),
    report,
  });
  try {
    await keeper.meetCopy(state, signal);
    return undefined;
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    return error.code === 'STATE_STALE' ? error.message : undefined;
  }
}
