/** What is on the nodes of a cluster: what planning looks at. */
import type { RkeConfig, RkeNode } from '../config/rke-config.ts';
import type { EtcdMember, HostInfo, NodeName, SeenService } from '../ports.ts';
import type { ServiceName } from '../services/container.ts';

export interface NodeSight {
  readonly node: RkeNode;
  readonly info: HostInfo;
  readonly services: ReadonlyMap<ServiceName, SeenService>;
  /** sha256 by path; undefined: no container there mounts the folder, so there is nothing of a cluster's. */
  readonly files: ReadonlyMap<string, string> | undefined;
}

export interface EtcdSight {
  readonly members: readonly EtcdMember[];
  /** Ids of members with a vote that answer. */
  readonly healthy: ReadonlySet<string>;
}

export interface ClusterSight {
  /** Those of cluster.yml that can be reached. */
  readonly nodes: readonly NodeSight[];
  /** Of cluster.yml, with the reason. */
  readonly unreached: ReadonlyMap<NodeName, string>;
  /** Taken out of cluster.yml since the last run, and still reached. */
  readonly leaving: readonly NodeSight[];
  /** Taken out of cluster.yml since the last run, and not reached. */
  readonly gone: readonly RkeNode[];
  /** undefined: there is none, it is an external one, or it does not answer. */
  readonly etcd: EtcdSight | undefined;
}

/** The user's word for a node, which all ports take. */
export const nameOf = (node: Pick<RkeNode, 'hostnameOverride'>): NodeName => node.hostnameOverride;

/** Nodes of the recorded configuration that the wanted one has no more: told by address, as RKE does. */
export function takenOut(wanted: RkeConfig, recorded: RkeConfig | undefined): RkeNode[] {
  const kept = new Set(wanted.nodes.map(({ address }) => address));
  return (recorded?.nodes ?? []).filter(({ address }) => !kept.has(address));
}
