/** What the engine is given: the ports, and a state that is durable once `save` has resolved. */
import type {
  Clock,
  ContainerRuntime,
  Etcd,
  KmsContainers,
  KmsPlugins,
  KubeApi,
  NodeFiles,
  NodeName,
  Report,
} from '../ports.ts';
import type { ClusterState } from '../state/rkestate.ts';
import type { WantedReload } from './automatic-reload.ts';
import type { WantedBinds } from './binds.ts';

export interface World {
  readonly files: NodeFiles;
  readonly runtime: ContainerRuntime;
  readonly kube: KubeApi;
  /** kube-apiserver's etcd, and those of --etcd-servers-overrides. */
  readonly etcds: readonly Etcd[];
  /** kube-apiserver's --etcd-prefix. */
  readonly etcdPrefix: string;
  readonly plugins: KmsPlugins;
  readonly kmsContainers: KmsContainers;
  readonly binds: WantedBinds;
  readonly reload: WantedReload;
  /** Names of keys that the state here lacks and the cluster's own copy of it has. */
  readonly keysElsewhere: readonly string[];
  /** Minor version of cluster.yml's Kubernetes, where no apiserver tells its own. */
  readonly minor: number;
  readonly clock: Clock;
  readonly report: Report;
  /**
   * Everyone who runs a kube-apiserver of this cluster, looked up anew. Throws MEMBER_UNKNOWN for one that no
   * file names, NODE_UNREACHABLE for one that cannot be reached.
   */
  members(signal: AbortSignal): Promise<readonly NodeName[]>;
  /** Before each node: throws LOCK_LOST once another run has taken the cluster's lock. */
  hold(signal: AbortSignal): Promise<void>;
  /**
   * Makes the state durable here, then in the cluster (as far as an apiserver serves). `encrypted`: the copy in
   * the cluster is itself stored encrypted, so that it may hold keys. Throws STATE_WRITE, STATE_STALE or LOCK_LOST.
   */
  save(state: ClusterState, encrypted: boolean, signal: AbortSignal): Promise<ClusterState>;
}

/** kube-apiserver's flag for the provider file, and where RKE 1.6 puts the file. */
export const providerFlag = '--encryption-provider-config';
export const providerPath = '/etc/kubernetes/ssl/encryption.yaml';

/** The file that the arguments name; undefined without the flag. */
export function providerPathOf(args: readonly string[]): string | undefined {
  return args.findLast((each) => each.startsWith(`${providerFlag}=`))?.slice(providerFlag.length + 1);
}
