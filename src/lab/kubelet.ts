/** One run of kubelet: it registers its node as soon as a kube-apiserver answers, and says that it is ready. */
import type { Taint } from '../services/node.ts';
import type { Loaded } from './apiserver.ts';
import { filesNamed, flagsOf, WillNotStart } from './command-line.ts';
import type { Process } from './docker-engine.ts';
import type { EtcdStore } from './etcd-store.ts';
import { nodes, roleBindings, type KubeObject } from './kinds.ts';
import { putObject, readObject, rewriteObject } from './own-objects.ts';

/** Through whom a client on a node reaches the cluster. */
export interface Way {
  readonly etcd: EtcdStore;
  readonly loaded: Loaded;
}

/** PEM texts: what a client trusts, and what it shows. */
export interface KubeClient {
  readonly ca: string;
  readonly cert: string;
}

export interface KubeletHost {
  readonly name: string;
  readonly address: string;
  /** e.g. `v1.30.5`. */
  readonly version: string;
  readonly readFile: (path: string) => Buffer | undefined;
  /** By `https://127.0.0.1:6443` of its host; undefined: nobody answers, or they do not trust each other. */
  readonly way: (client: KubeClient) => Way | undefined;
  /** Pods get addresses. */
  readonly hasNetwork: (way: Way) => boolean;
  readonly log: (line: string) => void;
}

/** From its start to its exit with what is missing. */
const failsAfter = 300;

export class Kubelet implements Process {
  readonly ends: { readonly at: number; readonly code: number } | undefined;
  readonly name: string;
  readonly #host: KubeletHost;
  readonly #flags: ReadonlyMap<string, string>;
  readonly #client: KubeClient = { ca: '', cert: '' };
  #registered = false;
  #ready = false;

  constructor(words: readonly string[], host: KubeletHost, now: number) {
    this.#host = host;
    this.#flags = flagsOf(words);
    this.name = this.#flags.get('hostname-override') ?? host.name;
    try {
      const { kubeconfig } = filesNamed(this.#flags, ['kubeconfig', 'client-ca-file'], host.readFile);
      const path = (field: string) => new RegExp(`${field}: "?([^"\\n]+)`).exec(kubeconfig)?.[1] ?? '';
      const named = new Map([
        ['ca', path('certificate-authority')],
        ['cert', path('client-certificate')],
        ['key', path('client-key')],
      ]);
      this.#client = filesNamed(named, ['ca', 'cert', 'key'], host.readFile);
    } catch (error) {
      if (!(error instanceof WillNotStart)) throw error;
      host.log(`"command failed" err="failed to run Kubelet: ${error.message}"`);
      this.ends = { at: now + failsAfter, code: 1 };
    }
  }

  advance(now: number): void {
    if (this.ends !== undefined || (this.#registered && this.#ready)) return;
    const way = this.#host.way(this.#client);
    if (way === undefined || !mayRegister(way)) return;
    const { name } = this;
    const found = readObject(way.etcd, way.loaded, nodes, '', name);
    const ready = this.#host.hasNetwork(way);
    const date = new Date(now);
    if (found !== undefined) {
      if (isReady(found) !== ready) setReady(way, found, ready, 'KubeletReady', date);
    } else if (!this.#registered) {
      const { address, version } = this.#host;
      const taints = taintsIn(this.#flags.get('register-with-taints') ?? '');
      const own = this.#flags.get('node-ip') ?? address;
      const { metadata, spec, status } = nodeObject({
        name,
        address: own,
        version,
        ready,
        now: date,
        taints,
      });
      const { labels = {}, annotations = {} } = metadata;
      putObject(
        way.etcd,
        way.loaded,
        { kind: nodes, namespace: '', name, labels, annotations, fields: { spec, status } },
        date,
      );
    }
    this.#registered = true;
    this.#ready = ready;
  }
}

/** RKE's certificate for kubelets names a group, no node: without the binding Kubernetes gives it nothing. */
function mayRegister({ etcd, loaded }: Way): boolean {
  const binding = readObject(etcd, loaded, roleBindings, '', 'system:node');
  const { subjects = [] } = (binding ?? {}) as { readonly subjects?: readonly { readonly name?: string }[] };
  return subjects.some(({ name }) => name === 'system:nodes');
}

/** By its condition. */
export function isReady(node: KubeObject): boolean {
  return conditionsOf(node).some(({ type, status }) => type === 'Ready' && status === 'True');
}

/** `false` is False where the node itself says so (KubeletReady), else Unknown. */
export function setReady(way: Way, node: KubeObject, ready: boolean, reason: string, now: Date): void {
  const status = { ...(node['status'] as object), conditions: [readyCondition(ready, reason, now)] };
  rewriteObject(way.etcd, way.loaded, nodes, { ...node, status });
}

interface Condition {
  readonly type: string;
  readonly status: string;
}

function conditionsOf(node: KubeObject): readonly Condition[] {
  const { conditions = [] } = (node['status'] ?? {}) as { readonly conditions?: readonly Condition[] };
  return conditions;
}

function readyCondition(ready: boolean, reason: string, now: Date): Condition & Record<string, string> {
  const time = now.toISOString().replace(/\.\d+Z/, 'Z');
  const unknown = reason === 'NodeStatusUnknown';
  return {
    type: 'Ready',
    status: ready ? 'True' : unknown ? 'Unknown' : 'False',
    reason: ready || unknown ? reason : 'KubeletNotReady',
    message: ready
      ? 'kubelet is posting ready status'
      : unknown
        ? 'Kubelet stopped posting node status.'
        : 'container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized',
    lastHeartbeatTime: time,
    lastTransitionTime: time,
  };
}

export interface NodeFacts {
  readonly name: string;
  readonly address: string;
  readonly version: string;
  readonly ready: boolean;
  readonly taints: readonly Taint[];
  readonly now: Date;
}

/** A Node as kubelet registers it. */
export function nodeObject({ name, address, version, ready, taints, now }: NodeFacts): {
  readonly metadata: Pick<KubeObject['metadata'], 'name' | 'labels' | 'annotations'>;
  readonly spec: object;
  readonly status: object;
} {
  return {
    metadata: {
      name,
      labels: {
        'beta.kubernetes.io/arch': 'amd64',
        'beta.kubernetes.io/os': 'linux',
        'kubernetes.io/arch': 'amd64',
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': 'linux',
      },
      annotations: { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' },
    },
    spec: taints.length === 0 ? {} : { taints },
    status: {
      addresses: [
        { type: 'InternalIP', address },
        { type: 'Hostname', address: name },
      ],
      conditions: [readyCondition(ready, 'KubeletReady', now)],
      nodeInfo: { architecture: 'amd64', kubeletVersion: version, operatingSystem: 'linux' },
    },
  };
}

/** As `register-with-taints` has them. */
function taintsIn(text: string): Taint[] {
  return text.split(',').flatMap((each) => {
    const [, key, value = '', effect] = /^([^=:]+)(?:=([^:]*))?:(.+)$/.exec(each) ?? [];
    return key === undefined || effect === undefined ? [] : [{ key, value, effect }];
  });
}
