/** Who runs a kube-apiserver of this cluster: by the files, by the nodes themselves, and by the cluster's own word. */
import type { ClusterConfig, ConfigNode } from '../config/load.ts';
import { TsrkeError } from '../errors.ts';
import { endpointAddresses, identityLeases } from '../kube/members.ts';
import { readiness, serverVersion } from '../kube/ready.ts';
import type { ContainerRuntime, KubeApi, NodeName } from '../ports.ts';
import type { ClusterState } from '../state/rkestate.ts';

/** Controlplane nodes of cluster.yml and of currentState; where both have one (same address), cluster.yml's way to it. */
export function candidates(config: ClusterConfig, state: ClusterState): ConfigNode[] {
  const recorded = new Set(recordedNodes(state).map(({ address }) => address));
  return everyNode(config, state)
    .filter(({ address, roles }) => roles.includes('controlplane') || recorded.has(address))
    .map((node) => ({ ...node, roles: ['controlplane'] }));
}

/** All nodes of cluster.yml and of currentState, in this order, with cluster.yml's way to those that both have. */
export function everyNode(config: ClusterConfig, state: ClusterState): ConfigNode[] {
  const known = new Set(config.nodes.map(({ address }) => address));
  const [fallback] = config.nodes;
  return [
    ...config.nodes,
    ...allRecorded(state)
      .filter(({ address }) => !known.has(address))
      .map((node): ConfigNode => {
        const sshKeyPath = node.sshKeyPath ?? fallback?.sshKeyPath;
        return {
          name: (node.hostnameOverride ?? node.address).toLowerCase(),
          address: node.address,
          internalAddress: node.internalAddress ?? node.address,
          port: Number(node.port ?? 22),
          user: node.user ?? 'root',
          roles: (node.role ?? []) as ConfigNode['roles'],
          sshAgentAuth: fallback?.sshAgentAuth ?? false,
          dockerSocket: node.dockerSocket ?? '/var/run/docker.sock',
          ...(sshKeyPath === undefined ? {} : { sshKeyPath }),
        };
      }),
  ];
}

/** Controlplane nodes of currentState. */
export function recordedNodes(state: ClusterState): RecordedNode[] {
  return allRecorded(state).filter((node) => node.role?.includes('controlplane') === true);
}

function allRecorded(state: ClusterState): RecordedNode[] {
  const recorded = state.document.currentState?.rkeConfig?.['nodes'];
  return Array.isArray(recorded) ? (recorded as unknown as RecordedNode[]) : [];
}

export interface RecordedNode {
  readonly address: string;
  readonly role?: readonly string[];
  readonly hostnameOverride?: string;
  readonly internalAddress?: string;
  readonly port?: string;
  readonly user?: string;
  readonly sshKeyPath?: string;
  readonly dockerSocket?: string;
}

export interface MemberSources {
  readonly nodes: readonly ConfigNode[];
  readonly runtime: ContainerRuntime;
  readonly kube: KubeApi;
  /** Nodes that were found to run no kube-apiserver, or to be gone for good. */
  readonly left: ReadonlySet<NodeName>;
}

/**
 * The members, each reached through Docker. Throws NODE_UNREACHABLE for one that cannot be, and MEMBER_UNKNOWN for an
 * apiserver that the cluster names (Endpoints default/kubernetes, from 1.26 identity Leases) and no file does.
 */
export async function members(sources: MemberSources, signal: AbortSignal): Promise<NodeName[]> {
  const { nodes, runtime, kube, left } = sources;
  const found = nodes.filter((node) => !left.has(node.name));
  const containers = await Promise.all(found.map((node) => runtime.apiserver(node.name, signal)));
  const seen = await Promise.all(
    found.map(async (node) => ({ node, ...(await readiness(kube, node.name, signal)) })),
  );
  const asked = seen.find(({ serves }) => serves)?.node;
  if (asked !== undefined) {
    const hostnames = containers.flatMap((container) => container?.hostname ?? []);
    const strangers = await strangersTo(found, hostnames, kube, asked.name, signal);
    if (strangers.length > 0) {
      throw new TsrkeError(
        'MEMBER_UNKNOWN',
        `the cluster has a kube-apiserver that cluster.yml does not name: ${strangers.join(', ')}`,
        { next: 'add it to `nodes:`, or stop it and run the same command again a minute later' },
      );
    }
  }
  return found.map((node) => node.name);
}

/**
 * Apiservers that the cluster names (Endpoints default/kubernetes, from 1.26 identity Leases) and that are none of
 * `nodes`: their addresses or host names. `hostnames`: those of the nodes; undefined: not all known, so that Leases
 * say nothing. Throws KUBE.
 */
export async function strangersTo(
  nodes: readonly ConfigNode[],
  hostnames: readonly string[] | undefined,
  kube: KubeApi,
  asked: NodeName,
  signal: AbortSignal,
): Promise<string[]> {
  const known = new Set(nodes.flatMap((node) => [node.address, node.internalAddress]));
  const strangers = (await endpointAddresses(kube, asked, signal)).filter((address) => !known.has(address));
  if (hostnames !== undefined && (await serverVersion(kube, asked, signal)).minor >= 26) {
    for (const { hostname, name } of await identityLeases(kube, asked, signal)) {
      if (!hostnames.includes(hostname)) strangers.push(hostname === '' ? name : hostname);
    }
  }
  return [...new Set(strangers)];
}
