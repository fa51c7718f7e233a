/** Builds the world of one cluster: connections, certificates out of the state, etcd as kube-apiserver names it. */
import type { ClusterConfig, ConfigNode } from '../config/load.ts';
import { defaultVersion } from '../config/versions.ts';
import { providerPathOf, type World } from '../encryption/world.ts';
import { allToTheirEnd, TsrkeError } from '../errors.ts';
import { etcdArguments } from '../etcd/arguments.ts';
import { dockerProblem, unfit } from '../hosts/preflight.ts';
import { endpointAddresses } from '../kube/members.ts';
import { readiness } from '../kube/ready.ts';
import type { Etcd, NodeName, Report } from '../ports.ts';
import type { ClusterState, JsonObject } from '../state/rkestate.ts';
import { thisOwner } from '../state/lock.ts';
import { StateKeeper } from '../state/keeper.ts';
import { stateIn, type StateStore } from '../state/store.ts';
import { lent, linkOverSsh, withLinks, type Link, type LinkOptions, type Links } from './links.ts';
import { ClusterLock } from './lock.ts';
import { candidates, everyNode, members } from './members.ts';
import { recordedBinds } from './record.ts';
import { wantedReload } from './wanted.ts';

export interface ConnectOptions {
  readonly config: ClusterConfig;
  readonly state: ClusterState;
  readonly store: StateStore;
  readonly report: Report;
  readonly signal: AbortSignal;
  /** For a look ahead: takes no lock, and saves nothing. */
  readonly readOnly?: boolean;
}

export interface Cluster {
  /** The state given, with what the cluster's own copy knows beyond it. */
  readonly state: ClusterState;
  /** The cluster's own copy is this very state: nothing happened since that the state does not know. */
  readonly copyAgrees: boolean;
  readonly world: World;
  /** A host key was seen that the state does not hold yet. */
  metNewHost(): boolean;
  close(): Promise<void>;
}

/**
 * Reaches every controlplane node and checks what can be checked before anything changes. Throws NODE_UNREACHABLE,
 * SSH_KEY, HOST_KEY_CHANGED, UNSUPPORTED (Docker's version), STATE_INVALID, STATE_STALE, LOCKED, WRONG_CLUSTER.
 */
export async function connectCluster(options: ConnectOptions, link: Link = linkOverSsh): Promise<Cluster> {
  const { config, state, store, report, signal, readOnly = false } = options;
  const nodes = candidates(config, state);
  const links = link(linkOptions(options, nodes));
  const { kube, runtime, markers, clock } = links;
  const closing: (() => unknown)[] = [() => links.close()];
  const close = async () => {
    for (const each of closing.splice(0).reverse()) await each();
  };
  try {
    const gone = new Set<NodeName>();
    await report.task(`connect to ${nodes.length} controlplane node(s)`, () =>
      reachAll(nodes, config, links, gone, report, signal),
    );
    const sources = { nodes, runtime, kube, left: gone };
    const [first] = nodes.filter((node) => !gone.has(node.name));
    if (first === undefined) {
      throw new TsrkeError('APISERVER_MISSING', 'no controlplane node runs a kube-apiserver', {
        next: `run \`tsrke up\`: it makes the containers of ${store.where} again, with the keys and data that are there. Nothing was touched`,
      });
    }
    await refuseGoneThatServe(nodes, gone, kube, first.name, signal);
    const { etcds, prefix } = await etcdsOf(first.name, links, state, signal);
    closing.push(() => etcds.forEach((each) => each.close()));
    const reached = () =>
      nodes
        .filter((node) => !gone.has(node.name))
        .toSorted((a, b) => a.address.localeCompare(b.address, 'en', { numeric: true }))
        .map((node) => node.name);
    const owner = thisOwner(clock.now());
    const lock = new ClusterLock({ kube, markers, nodes: reached, owner, clock, report });
    if (!readOnly) {
      closing.push(() => lock.release());
      await lock.acquire(signal);
    }
    const keeper = new StateKeeper({
      store,
      kube,
      nodes: reached,
      hostKeys: () => links.hostKeysSeen(),
      report,
    });
    const met = await keeper.meetCopy(state, signal);
    return {
      state: met.state,
      copyAgrees: met.agrees,
      metNewHost: () =>
        Object.entries(links.hostKeysSeen()).some(
          ([host, key]) => JSON.stringify(state.tsrke.hostKeys[host]) !== JSON.stringify(key),
        ),
      world: {
        files: links.files,
        runtime,
        kube,
        etcds,
        etcdPrefix: prefix,
        plugins: links.plugins,
        kmsContainers: links.kmsContainers,
        binds: { wanted: config.extraBinds, former: recordedBinds(state) },
        reload: wantedReload(config, state),
        keysElsewhere: met.lacks,
        minor: Number(/^v?1\.(\d+)/.exec(config.kubernetesVersion ?? defaultVersion)?.[1]),
        clock,
        report,
        members: (each) => members(sources, each),
        hold: (each) => lock.hold(each),
        save: async (next, encrypted, each) => {
          if (readOnly) throw new Error('a look ahead saves nothing');
          await lock.hold(each);
          return await keeper.save(next, encrypted, each);
        },
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Over links that are open already; they stay open. Throws as `connectCluster`. */
export async function withCluster<T>(
  options: ConnectOptions,
  links: Links,
  work: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const cluster = await connectCluster(options, () => lent(links));
  try {
    return await work(cluster);
  } finally {
    await cluster.close();
  }
}

export interface StoredOptions extends Pick<ConnectOptions, 'config' | 'store' | 'report' | 'signal'> {
  readonly link: Link;
}

/** The cluster of the state file, over links to all of its nodes. Throws as `stateIn` and `connectCluster`. */
export async function withStoredCluster<T>(
  { config, store, report, signal, link }: StoredOptions,
  work: (cluster: Cluster, links: Links) => Promise<T>,
): Promise<T> {
  const state = stateIn(store);
  const { hostKeys } = state.tsrke;
  const to = { config, nodes: everyNode(config, state), ...accessOf(state, store.where), hostKeys, report };
  return await withLinks(link, to, async (links) =>
    withCluster({ config, state, store, report, signal }, links, (cluster) => work(cluster, links)),
  );
}

/** The etcd of kube-apiserver's own arguments, and those of its overrides: a key may stand in any of them. */
export async function etcdsOf(
  node: NodeName,
  links: Links,
  state: ClusterState,
  signal: AbortSignal,
): Promise<{ etcds: readonly Etcd[]; prefix: string }> {
  const container = await links.runtime.apiserver(node, signal);
  const says = etcdArguments(container?.args ?? []);
  const pem = async (path: string | undefined): Promise<string | undefined> =>
    path === undefined
      ? undefined
      : (bundled(state, path) ?? (await links.files.read(node, path, signal))?.text);
  const [ca, cert, key] = await Promise.all([says.caFile, says.certFile, says.keyFile].map(pem));
  const groups = [says.servers, ...says.overrides.map((each) => each.servers)];
  const distinct = [...new Map(groups.map((group) => [group.toSorted().join(), group])).values()];
  const etcds = distinct.map((endpoints) =>
    links.etcd({
      endpoints,
      node,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    }),
  );
  return { etcds, prefix: says.prefix };
}

async function reachAll(
  nodes: readonly ConfigNode[],
  config: ClusterConfig,
  links: Links,
  gone: Set<NodeName>,
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  const named = new Set(config.nodes.map((node) => node.address));
  await allToTheirEnd(
    nodes.map(async (node) => {
      try {
        await links.connect(node.name, signal);
      } catch (error) {
        // Taken out of cluster.yml and not there any more: no member, unless the cluster says otherwise.
        const isGone =
          error instanceof TsrkeError && error.code === 'NODE_UNREACHABLE' && !named.has(node.address);
        if (!isGone) throw error;
        gone.add(node.name);
        report.note('warning', 'is not in cluster.yml and cannot be reached: taken for gone', node.name);
        return;
      }
      const version = await links.runtime.version(node.name, signal);
      const problem = dockerProblem(node.name, version, config);
      if (problem !== undefined) throw unfit([problem]);
      const container = await links.runtime.apiserver(node.name, signal);
      if (container === undefined) {
        gone.add(node.name);
        report.note(
          'info',
          named.has(node.address)
            ? 'runs no kube-apiserver yet: `tsrke up` makes it one once encryption is as cluster.yml says'
            : 'is not in cluster.yml and runs no kube-apiserver any more',
          node.name,
        );
        return;
      }
      const path = providerPathOf(container.args);
      if (path !== undefined) await links.files.read(node.name, path, signal);
    }),
  );
}

/** A node that nobody can reach, but that the cluster still counts, is no gone node. */
async function refuseGoneThatServe(
  nodes: readonly ConfigNode[],
  gone: ReadonlySet<NodeName>,
  kube: World['kube'],
  asked: NodeName,
  signal: AbortSignal,
): Promise<void> {
  if (gone.size === 0 || !(await readiness(kube, asked, signal)).serves) return;
  const counted = new Set(await endpointAddresses(kube, asked, signal));
  for (const node of nodes) {
    if (!gone.has(node.name) || !(counted.has(node.address) || counted.has(node.internalAddress))) continue;
    throw new TsrkeError(
      'NODE_UNREACHABLE',
      'cannot be reached, and its kube-apiserver is still part of the cluster',
      {
        node: node.name,
        next: 'make it reachable, or stop it, and run the same command again a minute later; nothing was touched',
      },
    );
  }
}

/** Who is to be reached, and with what: the state has the certificates. Throws STATE_INVALID. */
export function linkOptions(
  { config, state, store, report }: Pick<ConnectOptions, 'config' | 'state' | 'store' | 'report'>,
  nodes: LinkOptions['nodes'],
): LinkOptions {
  return {
    config,
    nodes,
    ...accessOf(state, store.where),
    hostKeys: state.tsrke.hostKeys,
    report,
  };
}

/** PEM texts: how the cluster's apiservers are known, and who we are to them. Throws STATE_INVALID. */
export function accessOf(state: ClusterState, where: string): Pick<LinkOptions, 'ca' | 'admin'> {
  return {
    ca: certificateOf(state, 'kube-ca', where).cert,
    admin: certificateOf(state, 'kube-admin', where),
  };
}

/** Throws STATE_INVALID. */
function certificateOf(state: ClusterState, name: string, where: string): { cert: string; key: string } {
  const entry = (state.document.currentState?.certificatesBundle ??
    state.document.desiredState?.certificatesBundle)?.[name];
  const { certificatePEM, keyPEM } = entry ?? {};
  if (typeof certificatePEM === 'string' && typeof keyPEM === 'string')
    return { cert: certificatePEM, key: keyPEM };
  throw new TsrkeError('STATE_INVALID', `${where} holds no certificate ${name}`, {
    next: 'restore the state file of this cluster; certificates are never made anew for a cluster that exists',
  });
}

/** PEM of a certificate or key that RKE has put on the nodes under this path. */
function bundled(state: ClusterState, path: string): string | undefined {
  const bundle: Record<string, JsonObject> = state.document.currentState?.certificatesBundle ?? {};
  for (const entry of Object.values(bundle)) {
    if (entry['path'] === path) return entry['certificatePEM'] as string;
    if (entry['keyPath'] === path) return entry['keyPEM'] as string;
  }
  return undefined;
}
