/**
 * What a lab's cluster shows to the outside, free of any protocol: the model implements it, the servers of the memory
 * lab (SSH, HTTP, TLS, gRPC) are a thin layer over it, and tests call it straight.
 */
import type { Etcd, NodeName } from '../ports.ts';
import type { KmsPlugin } from './kms-plugin.ts';

export interface HttpAsk {
  readonly method: string;
  /** Path and query as on the wire, e.g. `/v1.41/containers/kube-apiserver/json`. */
  readonly path: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface HttpAnswer {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** There was no answer: refused, reset, or lost after the effect. A server breaks the connection off. */
export class NoAnswer extends Error {
  /** As Node's sockets say it. */
  readonly code: 'ECONNREFUSED' | 'ECONNRESET';

  constructor(code: NoAnswer['code'], message: string) {
    super(message);
    this.name = 'NoAnswer';
    this.code = code;
  }
}

export interface LabNode {
  readonly name: NodeName;
  readonly address: string;
  /** false: no member of etcd. Default true. */
  readonly etcd?: boolean;
}

export function isEtcdMember({ etcd }: Pick<LabNode, 'etcd'>): boolean {
  return etcd !== false;
}

export interface LabSurface {
  readonly nodes: readonly LabNode[];
  /** Rejects with NoAnswer while the host is off. */
  docker(node: NodeName, ask: HttpAsk): Promise<HttpAnswer>;
  /** As system:masters. Rejects with NoAnswer while kube-apiserver does not listen. */
  kube(node: NodeName, ask: HttpAsk): Promise<HttpAnswer>;
  /** The KMS plugin that listens at this path of the host; undefined: nobody does. */
  plugin?(node: NodeName, path: string): KmsPlugin | undefined;
  /** The one etcd of the cluster; rejects with TsrkeError ETCD while no member answers. */
  readonly etcd: Omit<Etcd, 'close'>;
}
