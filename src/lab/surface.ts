/**
 * What a lab's cluster shows to the outside, free of any protocol: the model implements it, the servers of the memory
 * lab (SSH, HTTP, TLS, gRPC) are a thin layer over it, and tests call it straight.
 */
import type { Role } from '../config/load.ts';
import type { Etcd, EtcdMember, NodeName } from '../ports.ts';
import type { KmsPlugin } from './kms-plugin.ts';
import type { ServerCertificate } from './kube-server.ts';

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
  /** As in cluster.yml. Default controlplane and etcd. */
  readonly roles?: readonly Role[];
}

export function rolesOf({ roles = ['controlplane', 'etcd'] }: Pick<LabNode, 'roles'>): readonly Role[] {
  return roles;
}

/** What listens at a port of a host. */
export type Listening =
  | {
      readonly kind: 'kube';
      /** Whose it is: nginx-proxy leads to another node's. */ readonly node: NodeName;
      readonly tls: ServerCertificate;
    }
  | {
      readonly kind: 'etcd';
      readonly tls: ServerCertificate;
      /** Its /health. */ readonly isWell: () => boolean;
    }
  /** A service that the lab does not model, which is well; with `tls` behind a certificate of its own. */
  | { readonly kind: 'health'; readonly tls: boolean };

/** A member of etcd as its clients see it. All calls reject with TsrkeError ETCD, in etcd's words. */
export interface EtcdView {
  /** Why it does not answer a linearizable read; undefined: it does. */
  readonly trouble: string | undefined;
  list(): Promise<readonly EtcdMember[]>;
  /** As a learner. */
  addLearner(peerUrl: string): Promise<void>;
  promote(id: string): Promise<void>;
  remove(id: string): Promise<void>;
}

export interface LabSurface {
  readonly nodes: readonly LabNode[];
  /** Rejects with NoAnswer while the host is off. */
  docker(node: NodeName, ask: HttpAsk): Promise<HttpAnswer>;
  /** As system:masters. Rejects with NoAnswer while kube-apiserver does not listen. */
  kube(node: NodeName, ask: HttpAsk): Promise<HttpAnswer>;
  /** The KMS plugin that listens at this path of the host; undefined: nobody does. */
  plugin?(node: NodeName, path: string): KmsPlugin | undefined;
  /** What listens there; `local`: for the host itself. undefined: nothing does. */
  listening?(node: NodeName, port: number, local: boolean): Listening | undefined;
  /** The member of etcd whose host has this address; undefined: none runs there. */
  member?(address: string): EtcdView | undefined;
  /** The one etcd of the cluster; rejects with TsrkeError ETCD while no member answers. */
  readonly etcd: Omit<Etcd, 'close'>;
}
