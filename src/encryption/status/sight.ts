/** What was seen of a cluster without touching it, gaps and all: an unreachable node is a finding, not a failure. */
import type { Readiness } from '../../kube/ready.ts';
import type { ApiserverContainer, NodeFile, NodeName } from '../../ports.ts';
import type { ProviderFile } from '../configuration.ts';
import type { Holdings } from '../holdings.ts';
import type { PluginSight } from '../kms/containers.ts';
import type { MemberSeen } from '../plan.ts';

export interface NodeSight {
  readonly node: NodeName;
  readonly address: string;
  /** cluster.yml has it as a controlplane node; others are only in the state. */
  readonly named: boolean;
  /** The state's currentState has it as a controlplane node. */
  readonly recorded: boolean;
  /** SSH and Docker answered. */
  readonly reachable: boolean;
  /** Why it was not seen, or not to the end. */
  readonly failure: string | undefined;
  /** undefined: no kube-apiserver was ever deployed here, or the node was not seen. */
  readonly container: ApiserverContainer | undefined;
  readonly flag: boolean;
  readonly path: string;
  readonly onDisk: Pick<NodeFile, 'sha256' | 'mode' | 'uid'> | undefined;
  readonly file: ProviderFile | undefined;
  /** What is wrong with the file, where kube-apiserver could not use it. */
  readonly fileProblem: string | undefined;
  readonly readiness: Readiness | undefined;
  /** Of the Kubernetes version that the server says, with the whole of it; undefined while it does not serve. */
  readonly minor: number | undefined;
  readonly version: string | undefined;
  /** sha256 of the file that kube-apiserver says it has loaded (from 1.34). */
  readonly reported: string | undefined;
  /** The server's /metrics, where it has a provider file. */
  readonly metrics: string | undefined;
  readonly loaded: MemberSeen['loaded'];
  readonly binds: MemberSeen['binds'];
  readonly reloadFlag: MemberSeen['reloadFlag'];
  /** KMS plugins that tsrke runs, or ran; none where neither cluster.yml nor the state has one. */
  readonly plugins: readonly PluginSight[];
}

export interface Sight {
  readonly time: Date;
  readonly nodes: readonly NodeSight[];
  /** Apiservers that the cluster names and no file does: addresses or host names. */
  readonly strangers: readonly string[];
  /** What etcd holds, or why that could not be read. */
  readonly stored: Holdings | { readonly unavailable: string };
  /** Set when the cluster's own copy of the state is newer than the file. */
  readonly stale: string | undefined;
  /** The run that has the cluster's lock just now, as messages name it. */
  readonly atWork: string | undefined;
}
