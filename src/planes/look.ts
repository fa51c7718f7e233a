/** Looks at every node of a cluster through Docker, and at its etcd; changes nothing. */
import type { RkeConfig, RkeNode } from '../config/rke-config.ts';
import { allToTheirEnd, messageOf, TsrkeError } from '../errors.ts';
import type { EtcdMembership, HostFiles, NodeName, ServiceContainers } from '../ports.ts';
import { healthyMembers } from '../etcd/membership.ts';
import { nameOf, takenOut, type ClusterSight, type EtcdSight, type NodeSight } from './sight.ts';

export interface LookSources {
  readonly services: Pick<ServiceContainers, 'info' | 'list'>;
  readonly hostFiles: Pick<HostFiles, 'list'>;
  /** Throws NODE_UNREACHABLE. */
  connect(node: NodeName, signal: AbortSignal): Promise<void>;
  /** By way of the members on these nodes; undefined where this cluster's etcd is none of ours. */
  readonly membership: ((nodes: readonly RkeNode[]) => EtcdMembership) | undefined;
}

/**
 * `recorded`: what was carried out last. A node that cannot be reached is told as such, never taken for one that is
 * gone while cluster.yml names it. Throws whatever else goes wrong: SSH_KEY, HOST_KEY_CHANGED, DOCKER.
 */
export async function lookAtNodes(
  wanted: RkeConfig,
  recorded: RkeConfig | undefined,
  sources: LookSources,
  signal: AbortSignal,
): Promise<ClusterSight> {
  const unreached = new Map<NodeName, string>();
  const gone: RkeNode[] = [];
  const look = async (node: RkeNode): Promise<NodeSight[]> => {
    const name = nameOf(node);
    try {
      await sources.connect(name, signal);
      const [info, services, files] = await Promise.all([
        sources.services.info(name, signal),
        sources.services.list(name, signal),
        sources.hostFiles.list(name, signal),
      ]);
      return [{ node, info, services, files }];
    } catch (error) {
      if (!(error instanceof TsrkeError) || error.code !== 'NODE_UNREACHABLE') throw error;
      unreached.set(name, messageOf(error));
      return [];
    }
  };
  const left = takenOut(wanted, recorded);
  const seen = await allToTheirEnd([...wanted.nodes, ...left].map(look));
  const nodes = seen.slice(0, wanted.nodes.length).flat();
  for (const node of left) {
    if (!unreached.delete(nameOf(node))) continue;
    gone.push(node);
  }
  const sight = { nodes, unreached, gone, leaving: seen.slice(wanted.nodes.length).flat() };
  return { ...sight, etcd: await lookAtEtcd(sight, recorded, sources, signal) };
}

/** undefined where no node has etcd yet, or where it has lost its quorum: then containers have to come back first. */
async function lookAtEtcd(
  { nodes, leaving }: Omit<ClusterSight, 'etcd'>,
  recorded: RkeConfig | undefined,
  { membership }: LookSources,
  signal: AbortSignal,
): Promise<EtcdSight | undefined> {
  const running = [...nodes, ...leaving].filter(
    ({ services }) => services.get('etcd')?.inspect.State.Running === true,
  );
  if (membership === undefined || recorded === undefined || running.length === 0) return undefined;
  const asked = membership(running.map(({ node }) => node));
  try {
    const members = await asked.list(signal);
    return { members, healthy: await healthyMembers(asked, members, signal) };
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'ETCD') throw error;
    return undefined;
  } finally {
    asked.close();
  }
}
