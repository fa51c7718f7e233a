/**
 * All that tsrke does to the world, in its own words. Adapters live in hosts/, kube/, etcd/ and state/;
 * the encryption engine knows only these types. Every call takes an AbortSignal: aborting ends the wait
 * and rejects with the signal's reason; an effect that had begun may still happen, so callers look again.
 */
import type { Duplex } from 'node:stream';
import type { DockerInfo } from './services/cluster.ts';
import type { Container, HealthCheck, ServiceName } from './services/container.ts';
import type { SeenContainer } from './services/drift.ts';

/** The user's name of a node: `hostname_override`, else `address`. Unique within a cluster. */
export type NodeName = string;

/** A file on a node. `sha256` is the lower-case hex digest of exactly the bytes on disk. */
export interface NodeFile {
  readonly text: string;
  readonly sha256: string;
  /** Permission bits, e.g. 0o600. */
  readonly mode: number;
  readonly uid: number;
}

/** Files of a node, without root, shell or environment: through the kube-apiserver container's mounts. */
export interface NodeFiles {
  /** Resolves to undefined when there is no such file. `path` is as kube-apiserver sees it. */
  read(node: NodeName, path: string, signal: AbortSignal): Promise<NodeFile | undefined>;
  /**
   * Replaces the file atomically (owner root, mode 0600) and reads it back, or leaves the old one untouched.
   * `seen` is the sha256 of the file that was looked at before (undefined: there was none); another file there
   * now is FILE_CHANGED, and nothing is written.
   */
  replace(
    node: NodeName,
    path: string,
    text: string,
    seen: string | undefined,
    signal: AbortSignal,
  ): Promise<NodeFile>;
  /** Removes the file; no file is fine. `seen` as in `replace`. */
  remove(node: NodeName, path: string, seen: string | undefined, signal: AbortSignal): Promise<void>;
  /** Removes what a call that was cut off has left beside the file, which stays as it is. No other may be under way. */
  clear(node: NodeName, path: string, signal: AbortSignal): Promise<void>;
}

/** A node's kube-apiserver container as Docker shows it. */
export interface ApiserverContainer {
  readonly running: boolean;
  /** Docker's own StartedAt string (RFC 3339, nanoseconds, the node's clock): compared, never parsed. */
  readonly startedAt: string;
  /** kube-apiserver's arguments in their order, e.g. `--secure-port=6443` (the component's name left out). */
  readonly args: readonly string[];
  /** As Docker keeps them: `/host/folder:/folder`, with options as the third part. */
  readonly binds: readonly string[];
  readonly image: string;
  /** The host's own name, as kube-apiserver's identity Lease carries it. */
  readonly hostname: string;
  /** True when a recreation was cut off: two containers, or one under another name, or one without a restart policy. */
  readonly interrupted: boolean;
}

/** A node's Docker engine. */
export interface ContainerRuntime {
  /** Docker's version, e.g. `20.10.24`. Throws NODE_UNREACHABLE or DOCKER. */
  version(node: NodeName, signal: AbortSignal): Promise<string>;
  /** Resolves to undefined when no kube-apiserver was ever deployed here. */
  apiserver(node: NodeName, signal: AbortSignal): Promise<ApiserverContainer | undefined>;
  /** Stops and starts the container (or starts a stopped one); resolves once it runs, not once it is ready. */
  restartApiserver(node: NodeName, signal: AbortSignal): Promise<void>;
  /**
   * Makes the container anew with what is named changed, everything else as inspected, and starts it. The old one is
   * kept aside, stopped and without restart policy, until `settleApiserver`.
   */
  recreateApiserver(
    node: NodeName,
    change: { readonly args?: readonly string[]; readonly binds?: readonly string[] },
    signal: AbortSignal,
  ): Promise<void>;
  /** Ends a recreation: `keep` the new container and remove the old one, or put the old one `back` and start it. */
  settleApiserver(node: NodeName, which: 'keep' | 'back', signal: AbortSignal): Promise<void>;
  /** Finishes a recreation that was cut off, whichever container is left; the apiserver runs afterwards. */
  finishRecreation(node: NodeName, signal: AbortSignal): Promise<void>;
  /** The container's last log lines, oldest first. */
  logs(node: NodeName, lines: number, signal: AbortSignal): Promise<string[]>;
}

/** A container that is never started and carries nothing but labels. */
export interface Marker {
  readonly labels: Readonly<Record<string, string>>;
  /** Grows while its owner lives. */
  readonly beats: number;
}

/** How runs see each other on a node while no apiserver serves. */
export interface Markers {
  marker(node: NodeName, name: string, signal: AbortSignal): Promise<Marker | undefined>;
  /**
   * Resolves to false when a container of this name exists. Throws APISERVER_MISSING: kube-apiserver's image is used.
   */
  createMarker(
    node: NodeName,
    name: string,
    labels: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<boolean>;
  /** Sets the marker's beats (1 or more). Throws DOCKER where there is none. */
  beatMarker(node: NodeName, name: string, beats: number, signal: AbortSignal): Promise<void>;
  /**
   * Removes the marker if it still carries exactly these values for these labels. Resolves to false when another is
   * there; none there is fine.
   */
  removeMarker(
    node: NodeName,
    name: string,
    labels: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<boolean>;
}

export interface KubeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path and query, e.g. `/api/v1/secrets?limit=500`. */
  readonly path: string;
  readonly accept?: string;
  /** Sent as JSON; `contentType` defaults to application/json. */
  readonly body?: unknown;
  readonly contentType?: string;
  /** Milliseconds until the request is given up; default 30 000. */
  readonly timeout?: number;
}

export interface KubeResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** The kube API of each controlplane node by itself, as system:masters (kube-admin). */
export interface KubeApi {
  /** Any HTTP status resolves; not reaching the server rejects with TsrkeError KUBE (cause kept). No retries. */
  request(node: NodeName, request: KubeRequest, signal: AbortSignal): Promise<KubeResponse>;
}

export interface EtcdKeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly modRevision: bigint;
}

export interface EtcdRange {
  readonly kvs: readonly EtcdKeyValue[];
  readonly more: boolean;
  /** Revision and id of the cluster, from the answer's header. */
  readonly revision: bigint;
  readonly clusterId: string;
}

/** The cluster's etcd, at the endpoints of kube-apiserver's own arguments, with its client certificate. */
export interface Etcd {
  /**
   * [from, end) ; `revision` 0n reads linearizably at the newest one. `keysOnly`: values need not come along, and are
   * not to be read. Throws ETCD.
   */
  range(
    request: {
      readonly from: Buffer;
      readonly end: Buffer;
      readonly limit: number;
      readonly revision: bigint;
      readonly keysOnly?: boolean;
    },
    signal: AbortSignal,
  ): Promise<EtcdRange>;
  /** Forgets all revisions before this one; already compacted is fine. */
  compact(revision: bigint, signal: AbortSignal): Promise<void>;
  /** Database size and quota in bytes (quota undefined where etcd does not say), largest member. */
  size(signal: AbortSignal): Promise<{ readonly used: number; readonly quota: number | undefined }>;
  close(): void;
}

/** Opens a byte stream to a port as seen from a node (through its SSH connection). */
export type Dial = (node: NodeName, host: string, port: number) => Promise<Duplex>;

/** What a KMS plugin makes of a data key; for KMS v1 `keyId` and `annotations` are empty. */
export interface WrappedKey {
  readonly ciphertext: Buffer;
  readonly keyId: string;
  readonly annotations: Readonly<Record<string, Buffer>>;
}

/** A KMS plugin on a node. All calls throw KMS_UNHEALTHY where it cannot be reached, does not answer or refuses. */
export interface KmsPlugin {
  /** `healthz` is `ok`, or what is wrong; a v1 plugin that answers is healthy, and has no key id. */
  status(signal: AbortSignal): Promise<{
    readonly version: string;
    readonly healthz: string;
    readonly keyId: string;
  }>;
  encrypt(plain: Buffer, signal: AbortSignal): Promise<WrappedKey>;
  decrypt(wrapped: WrappedKey, signal: AbortSignal): Promise<Buffer>;
  close(): void;
}

export interface KmsPlugins {
  /** The one behind this socket of the node; nothing is reached before its first call. */
  plugin(node: NodeName, path: string, version: 'v1' | 'v2'): KmsPlugin;
}

/** The container of a KMS plugin as it is wanted: `env` may be credentials, and is never shown. */
export interface KmsDefinition {
  readonly image: string;
  /** Words for the image's entrypoint. */
  readonly command: readonly string[];
  /** `NAME=value`. */
  readonly env: readonly string[];
  readonly binds: readonly string[];
  /** Path on the node and in the container; its folder is bound by itself. */
  readonly socket: string;
  /** Of all the above; what is there carries it as a label. */
  readonly hash: string;
}

/** A KMS plugin's container that tsrke has made. */
export interface KmsContainer {
  readonly name: string;
  readonly socket: string;
  /** Of the definition that it was made from. */
  readonly hash: string;
  /** Docker keeps it up: it may just be starting again. */
  readonly running: boolean;
  /** As ApiserverContainer's. */
  readonly startedAt: string;
  /** The one that it takes the place of is still kept aside. */
  readonly hasFormer: boolean;
  /** As ApiserverContainer's, or a trial was. */
  readonly interrupted: boolean;
}

/** KMS plugins that tsrke runs as containers, one for each socket of a node. */
export interface KmsContainers {
  list(node: NodeName, signal: AbortSignal): Promise<readonly KmsContainer[]>;
  /** Pulls it where the node does not have it. Throws DOCKER. */
  needImage(node: NodeName, image: string, signal: AbortSignal): Promise<void>;
  /** Makes and starts the first one of its socket. It comes back with the node. */
  create(node: NodeName, definition: KmsDefinition, signal: AbortSignal): Promise<void>;
  /**
   * Stops the one in use and starts a new one beside it, whose socket no kube-apiserver sees: it lies at the path that
   * this resolves to. Until `endTrial`; `finish` ends it too, and starts the one in use again.
   */
  tryOut(node: NodeName, definition: KmsDefinition, signal: AbortSignal): Promise<string>;
  /** Whether the one that is tried out still runs. */
  isTried(node: NodeName, socket: string, signal: AbortSignal): Promise<boolean>;
  /** Removes it; the one in use stays stopped. */
  endTrial(node: NodeName, socket: string, signal: AbortSignal): Promise<void>;
  /** Puts a new one in the place of the one that is there, which is kept aside until `settle`. */
  exchange(node: NodeName, definition: KmsDefinition, signal: AbortSignal): Promise<void>;
  /** Ends an exchange: `keep` the new one, or put the former one `back` and start it. */
  settle(node: NodeName, socket: string, which: 'keep' | 'back', signal: AbortSignal): Promise<void>;
  /** Starts it, or finishes what was cut off; a former one stays aside. */
  finish(node: NodeName, socket: string, signal: AbortSignal): Promise<void>;
  /** Removes whatever there is of it; nothing is fine. */
  remove(node: NodeName, socket: string, signal: AbortSignal): Promise<void>;
  /** Its last log lines, oldest first, as the plugin wrote them. */
  logs(node: NodeName, socket: string, lines: number, signal: AbortSignal): Promise<string[]>;
}

/** A host as Docker tells of it. */
export interface HostInfo extends DockerInfo {
  /** Docker's own, e.g. `20.10.24`. */
  readonly ServerVersion: string;
  /** The host's clock, RFC 3339. */
  readonly SystemTime?: string;
}

/** A container of one of RKE's services as Docker shows it. */
export interface SeenService extends SeenContainer {
  /** As ApiserverContainer's. */
  readonly startedAt: string;
  /** An exchange was cut off here. */
  readonly interrupted: boolean;
}

/** The containers of RKE's services (`src/services`) on a node. All calls throw DOCKER or NODE_UNREACHABLE. */
export interface ServiceContainers {
  info(node: NodeName, signal: AbortSignal): Promise<HostInfo>;
  /** Those that are there, in any state; of one whose exchange was cut off, the container that will have its name. */
  list(node: NodeName, signal: AbortSignal): Promise<ReadonlyMap<ServiceName, SeenService>>;
  /** Pulls it, with the credentials of cluster.yml, where the node does not have it. */
  needImage(node: NodeName, image: string, signal: AbortSignal): Promise<void>;
  /** Makes it, and starts it where it has a restart policy. Throws DOCKER where there is one already. */
  create(node: NodeName, container: Container, signal: AbortSignal): Promise<void>;
  /**
   * Puts a container of this definition in the place of the one that is there, which is kept aside, stopped and
   * without restart policy, until `settle`. One that is never started (service-sidekick) has nothing to keep aside.
   */
  exchange(node: NodeName, container: Container, signal: AbortSignal): Promise<void>;
  /** Ends an exchange: `keep` the new one, or put the old one `back` and start it. */
  settle(node: NodeName, name: ServiceName, which: 'keep' | 'back', signal: AbortSignal): Promise<void>;
  /** Starts a stopped one; finishes an exchange that was cut off, whichever container is left. */
  finish(node: NodeName, name: ServiceName, signal: AbortSignal): Promise<void>;
  /** Stops and starts it; resolves once it runs. */
  restart(node: NodeName, name: ServiceName, signal: AbortSignal): Promise<void>;
  /** Removes whatever there is of it, with its anonymous volumes; nothing is fine. */
  remove(node: NodeName, name: ServiceName, signal: AbortSignal): Promise<void>;
  /** Its last log lines, oldest first. */
  logs(node: NodeName, name: ServiceName, lines: number, signal: AbortSignal): Promise<string[]>;
  /** Names of what no service is and goes with them: containers of pods that kubelet has made, helpers that were left. */
  leftovers(node: NodeName, signal: AbortSignal): Promise<readonly string[]>;
  /** Removes them all, with their anonymous volumes; nothing is fine. */
  removeLeftovers(node: NodeName, signal: AbortSignal): Promise<void>;
}

/** A file for a node; `path` as the containers see it, e.g. `/etc/kubernetes/ssl/kube-ca.pem`. Mode 0600, root. */
export interface Delivered {
  readonly path: string;
  readonly text: string;
  /** Default 0o600. */
  readonly mode?: number;
  /** Default 0. */
  readonly uid?: number;
}

/** Files of a host that needs no service yet; `image` is one that the node has, with a shell (RKE's rke-tools). */
export interface HostFiles {
  /**
   * sha256 (lower-case hex) by path of the plain files in /etc/kubernetes and /etc/kubernetes/ssl, as a container there
   * sees them; undefined: no container on the node mounts that folder, so nobody knows. Makes nothing.
   */
  list(node: NodeName, signal: AbortSignal): Promise<ReadonlyMap<string, string> | undefined>;
  /**
   * Each lands atomically (written beside its place, then renamed) and is read back. `folder` is where the host has
   * /etc/kubernetes (see `prefix_path`). Throws DOCKER.
   */
  deliver(
    node: NodeName,
    delivery: { readonly image: string; readonly folder: string; readonly files: readonly Delivered[] },
    signal: AbortSignal,
  ): Promise<void>;
  /** Makes the host's folder with mode 0700 and this owner (`etcd`'s data), as RKE does before each start of etcd. */
  own(
    node: NodeName,
    folder: { readonly image: string; readonly path: string; readonly uid: number },
    signal: AbortSignal,
  ): Promise<void>;
  /** Whether this folder of the host has something in it (etcd's data). False where it is not there. */
  holdsAnything(
    node: NodeName,
    folder: { readonly image: string; readonly path: string },
    signal: AbortSignal,
  ): Promise<boolean>;
  /** Empties these folders of the host; folders that are not there are fine. */
  empty(
    node: NodeName,
    folders: { readonly image: string; readonly paths: readonly string[] },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Unmounts on the host whatever is mounted below these folders, which may be mounted themselves and stay so. Folders
   * that are not there are fine. Throws DOCKER where the host keeps its mounts to itself.
   */
  unmount(
    node: NodeName,
    folders: { readonly image: string; readonly paths: readonly string[] },
    signal: AbortSignal,
  ): Promise<void>;
  /** Removes these folders, in this order, where nothing is in them; one that is mounted or a link stays. */
  discard(
    node: NodeName,
    folders: { readonly image: string; readonly paths: readonly string[] },
    signal: AbortSignal,
  ): Promise<void>;
  /** Free bytes on the file system that holds this folder of the host. */
  free(
    node: NodeName,
    folder: { readonly image: string; readonly path: string },
    signal: AbortSignal,
  ): Promise<number>;
  /** Why a container with this security option cannot run here, in Docker's words; undefined: it can. */
  refuses(
    node: NodeName,
    trial: { readonly image: string; readonly securityOption: string },
    signal: AbortSignal,
  ): Promise<string | undefined>;
}

/** PEM texts of a client. */
export interface ClientCertificate {
  readonly cert: string;
  readonly key: string;
}

/** What became of a connection. */
export interface Knock {
  /** `silent`: no answer in time; `forbidden`: the node's sshd lets nobody ask; `failed`: e.g. no route. */
  readonly kind: 'accepted' | 'refused' | 'silent' | 'forbidden' | 'failed';
  /** In a few words; empty for one that was accepted. */
  readonly why: string;
}

/** Whether a service answers its health check, asked on the node itself (the server's certificate is not looked at). */
export interface Health {
  /** undefined: it is well; else why not, in a few words. Rejects only with the signal's reason. */
  ask(
    node: NodeName,
    check: HealthCheck,
    client: ClientCertificate | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined>;
  /** Connects from the node to some port and hangs up. Rejects only with the signal's reason. */
  knock(
    node: NodeName,
    at: { readonly host: string; readonly port: number },
    signal: AbortSignal,
  ): Promise<Knock>;
}

/** A member of the cluster's etcd as etcd knows it. */
export interface EtcdMember {
  /** Hex, as `etcdctl member list` prints it. */
  readonly id: string;
  /** Empty: it was added and has never started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

/** Membership of etcd, at whichever of the endpoints answers. All calls throw ETCD. */
export interface EtcdMembership {
  list(signal: AbortSignal): Promise<readonly EtcdMember[]>;
  /** As a learner: it has no vote, so quorum is as before, until it is promoted. */
  addLearner(peerUrl: string, signal: AbortSignal): Promise<void>;
  /** Resolves to false while it has not caught up yet. */
  promote(id: string, signal: AbortSignal): Promise<boolean>;
  remove(id: string, signal: AbortSignal): Promise<void>;
  /** Names an endpoint's own trouble, `undefined` for one that answers a linearizable read. */
  health(endpoint: string, signal: AbortSignal): Promise<string | undefined>;
  close(): void;
}

export interface Clock {
  now(): Date;
  /** Rejects with the signal's reason when aborted. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}

/** The only way to the user. Texts are safe: no key material ever reaches a Report. */
export interface Report {
  /** A line the user should see in any case. */
  note(level: 'info' | 'warning', text: string, node?: NodeName): void;
  /** Shown with --debug only: one SSH, Docker, kube or etcd call with its duration. */
  debug(text: string, node?: NodeName): void;
  /** Runs `work` as a titled task; nested calls show as sub-tasks. */
  task<T>(title: string, work: (task: TaskReport) => Promise<T>): Promise<T>;
}

/** How far a task is. */
export interface WorkCount {
  readonly done: number;
  readonly total: number;
  /** Per second. */
  readonly rate: number;
  /** Seconds; undefined while nobody can tell. */
  readonly eta: number | undefined;
}

export interface TaskReport {
  /** Titles of the sub-tasks to come, in order, so that those never begun can be named. A report may not care. */
  expects?(titles: readonly string[]): void;
  /** What is happening now; replaces the text before on a terminal, is thinned out elsewhere. */
  progress(text: string, count?: WorkCount): void;
  /** The task's title once it is done, when the result is worth a word. */
  done(text: string): void;
}
