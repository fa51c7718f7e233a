/** Builds the world of one cluster: connections, certificates out of the state, etcd as kube-apiserver names it. */
import type { ClusterConfig, ConfigNode } from '../config/load.ts';
import { providerPathOf, type World } from '../encryption/world.ts';
import { TsrkeError } from '../errors.ts';
import { etcdArguments } from '../etcd/arguments.ts';
import { createEtcd } from '../etcd/client.ts';
import { loadHostKeys } from '../hosts/host-keys.ts';
import { connectHosts, type Hosts } from '../hosts/ssh.ts';
import { createKubeApi } from '../kube/client.ts';
import { ClusterLock } from '../kube/lease.ts';
import { endpointAddresses } from '../kube/members.ts';
import { readiness } from '../kube/ready.ts';
import type { Clock, NodeName, Report } from '../ports.ts';
import type { ClusterState, JsonObject } from '../state/rkestate.ts';
import { thisOwner } from '../state/lock.ts';
import { StateKeeper } from '../state/keeper.ts';
import type { StateStore } from '../state/store.ts';
import { candidates, members } from './members.ts';

export interface ConnectOptions {
  readonly config: ClusterConfig;
  readonly state: ClusterState;
  readonly store: StateStore;
  readonly report: Report;
  readonly signal: AbortSignal;
}

export interface Cluster {
  readonly world: World;
  /** A host key was seen that the state does not hold yet. */
  metNewHost(): boolean;
  close(): Promise<void>;
}

/** Docker versions that RKE 1.6.3 accepts for Kubernetes 1.30. */
const dockerVersions =
  /^(1\.13|17\.0[369]|18\.0[69]|19\.03|20\.10|23\.0|24\.0|25\.0|26\.[01]|27\.[0-2])(\.|$)/;

export const systemClock: Clock = {
  now: () => new Date(),
  sleep: (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const stop = () => {
        clearTimeout(timer);
        reject(signal.reason as Error);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', stop);
        resolve();
      }, milliseconds);
      signal.addEventListener('abort', stop, { once: true });
    }),
};

/**
 * Reaches every controlplane node and checks what can be checked before anything changes. Throws NODE_UNREACHABLE,
 * SSH_KEY, HOST_KEY_CHANGED, UNSUPPORTED (Docker's version), STATE_INVALID, WRONG_CLUSTER.
 */
export async function connectCluster(options: ConnectOptions): Promise<Cluster> {
  const { config, state, store, report, signal } = options;
  const nodes = candidates(config, state);
  const hostKeys = loadHostKeys({ recorded: state.tsrke.hostKeys });
  const hosts = connectHosts({ nodes, bastion: config.bastion, hostKeys, report });
  const admin = certificate(state, 'kube-admin', store.where);
  const kube = createKubeApi({
    nodes: nodes.map((node) => ({
      name: node.name,
      addresses: [...new Set([node.address, node.internalAddress])],
      port: 6443,
    })),
    ca: certificate(state, 'kube-ca', store.where).cert,
    cert: admin.cert,
    key: admin.key,
    dial: hosts.dial,
    report,
  });
  const close = async () => {
    await kube.close();
    hosts.close();
  };
  try {
    const gone = new Set<NodeName>();
    await report.task(`connect to ${nodes.length} controlplane node(s)`, () =>
      reachAll(nodes, config, hosts, gone, report, signal),
    );
    const sources = { nodes, runtime: hosts.runtime, kube, left: gone };
    const [first] = nodes.filter((node) => !gone.has(node.name));
    if (first === undefined) {
      throw new TsrkeError('APISERVER_MISSING', 'no controlplane node runs a kube-apiserver yet', {
        next: 'deploy the cluster first; this version takes over clusters that exist',
      });
    }
    await refuseGoneThatServe(nodes, gone, kube, first.name, signal);
    const container = await hosts.runtime.apiserver(first.name, signal);
    const etcdSays = etcdArguments(container?.args ?? []);
    const pem = async (path: string | undefined): Promise<string | undefined> =>
      path === undefined
        ? undefined
        : (bundled(state, path) ?? (await hosts.files.read(first.name, path, signal))?.text);
    const [ca, cert, key] = await Promise.all(
      [etcdSays.caFile, etcdSays.certFile, etcdSays.keyFile].map(pem),
    );
    if (etcdSays.overrides.length > 0) {
      throw new TsrkeError(
        'UNSUPPORTED',
        'kube-apiserver keeps some resources in another etcd (--etcd-servers-overrides)',
        {
          node: first.name,
          next: 'this version proves one etcd only; nothing was touched',
        },
      );
    }
    const etcd = createEtcd({
      endpoints: etcdSays.servers,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      dial: hosts.dial,
      node: first.name,
      report,
    });
    const reached = () => nodes.filter((node) => !gone.has(node.name)).map((node) => node.name);
    const lock = new ClusterLock({
      kube,
      nodes: reached,
      owner: thisOwner(new Date()),
      clock: systemClock,
      report,
    });
    await lock.acquire(signal);
    const keeper = new StateKeeper({
      store,
      kube,
      nodes: reached,
      hostKeys: () => hostKeys.seen(),
      report,
    });
    try {
      await keeper.refuseStale(state, signal);
    } catch (error) {
      await lock.release();
      etcd.close();
      throw error;
    }
    return {
      metNewHost: () =>
        Object.entries(hostKeys.seen()).some(
          ([host, key]) => JSON.stringify(state.tsrke.hostKeys[host]) !== JSON.stringify(key),
        ),
      world: {
        files: hosts.files,
        runtime: hosts.runtime,
        kube,
        etcd,
        etcdPrefix: etcdSays.prefix,
        clock: systemClock,
        report,
        members: (each) => members(sources, each),
        hold: (each) => lock.hold(each),
        save: async (next, encrypted, each) => {
          await lock.hold(each);
          return await keeper.save(next, encrypted, each);
        },
      },
      close: async () => {
        await lock.release();
        etcd.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function reachAll(
  nodes: readonly ConfigNode[],
  config: ClusterConfig,
  hosts: Hosts,
  gone: Set<NodeName>,
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  const named = new Set(config.nodes.map((node) => node.address));
  const results = await Promise.allSettled(
    nodes.map(async (node) => {
      try {
        await hosts.connect(node.name, signal);
      } catch (error) {
        // Taken out of cluster.yml and not there any more: no member, unless the cluster says otherwise.
        const isGone =
          error instanceof TsrkeError && error.code === 'NODE_UNREACHABLE' && !named.has(node.address);
        if (!isGone) throw error;
        gone.add(node.name);
        report.note('warning', 'is not in cluster.yml and cannot be reached: taken for gone', node.name);
        return;
      }
      const version = await hosts.runtime.version(node.name, signal);
      if (!config.ignoreDockerVersion && !dockerVersions.test(version)) {
        throw new TsrkeError('UNSUPPORTED', `Docker ${version} is not one that RKE supports`, {
          node: node.name,
          next: 'install a supported version, or give --ignore-docker-version',
        });
      }
      const container = await hosts.runtime.apiserver(node.name, signal);
      if (container === undefined) {
        gone.add(node.name);
        report.note('warning', 'runs no kube-apiserver yet; it is left alone', node.name);
        return;
      }
      const path = providerPathOf(container.args);
      if (path !== undefined) await hosts.files.read(node.name, path, signal);
    }),
  );
  const errors = results.flatMap((each) => (each.status === 'rejected' ? [each.reason as unknown] : []));
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors);
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

function certificate(state: ClusterState, name: string, where: string): { cert: string; key: string } {
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
