/** The ways to a cluster's nodes, apiservers and etcd: over SSH, and directly where the network lets us. */
import type { ClusterConfig, ConfigNode } from '../config/load.ts';
import { imageSources } from '../config/private-registries.ts';
import { createEtcd } from '../etcd/client.ts';
import { createEtcdMembership } from '../etcd/membership.ts';
import { loadHostKeys } from '../hosts/host-keys.ts';
import { connectHosts } from '../hosts/ssh.ts';
import { createKubeApi } from '../kube/client.ts';
import type {
  Clock,
  ContainerRuntime,
  Etcd,
  EtcdMembership,
  Health,
  HostFiles,
  KmsContainers,
  KmsPlugins,
  KubeApi,
  Markers,
  NodeFiles,
  NodeName,
  Report,
  ServiceContainers,
} from '../ports.ts';
import type { TsrkeBlock } from '../state/rkestate.ts';

export interface LinkOptions {
  readonly config: ClusterConfig;
  readonly nodes: readonly ConfigNode[];
  /** PEM texts. */
  readonly ca: string;
  readonly admin: { readonly cert: string; readonly key: string };
  /** As recorded in the state. */
  readonly hostKeys: TsrkeBlock['hostKeys'];
  readonly report: Report;
}

export interface EtcdAsk {
  readonly endpoints: readonly string[];
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Through whose SSH connection it is reached where the network does not let us. */
  readonly node: NodeName;
}

export interface MembershipAsk extends Omit<EtcdAsk, 'endpoints' | 'node'> {
  /** Client URLs, each with the node through whose SSH connection it is reached where the network does not let us. */
  readonly endpoints: readonly { readonly url: string; readonly node: NodeName }[];
}

/** All that tsrke does to one cluster goes through these. */
export interface Links {
  readonly files: NodeFiles;
  readonly runtime: ContainerRuntime;
  readonly markers: Markers;
  readonly kube: KubeApi;
  readonly plugins: KmsPlugins;
  readonly kmsContainers: KmsContainers;
  readonly services: ServiceContainers;
  readonly hostFiles: HostFiles;
  readonly health: Health;
  readonly clock: Clock;
  /** Connects now rather than at first use. Throws NODE_UNREACHABLE, SSH_KEY or HOST_KEY_CHANGED. */
  connect(node: NodeName, signal: AbortSignal): Promise<void>;
  etcd(ask: EtcdAsk): Etcd;
  /** Who belongs to etcd, by way of these members. */
  membership(ask: MembershipAsk): EtcdMembership;
  /** Host keys met in this run, by host. */
  hostKeysSeen(): Record<string, string | readonly string[]>;
  close(): Promise<void>;
}

export type Link = (options: LinkOptions) => Links;

/** Opens them for `work`, and closes them whatever becomes of it. */
export async function withLinks<T>(
  link: Link,
  options: LinkOptions,
  work: (links: Links) => Promise<T>,
): Promise<T> {
  const links = link(options);
  try {
    return await work(links);
  } finally {
    await links.close();
  }
}

/** For somebody who would close them. */
export function lent(links: Links): Links {
  return { ...links, close: () => Promise.resolve() };
}

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

/** kube-apiserver's --secure-port as RKE 1.6 sets it. */
export const securePort = 6443;

export const linkOverSsh: Link = ({ config, nodes, ca, admin, hostKeys: recorded, report }) => {
  const hostKeys = loadHostKeys({ recorded });
  const hosts = connectHosts({
    nodes,
    bastion: config.bastion,
    hostKeys,
    report,
    imageSource: imageSources(config.raw),
  });
  const kube = createKubeApi({
    nodes: nodes.map((node) => ({
      name: node.name,
      addresses: [...new Set([node.address, node.internalAddress])],
      port: securePort,
    })),
    ca,
    ...admin,
    dial: hosts.dial,
    report,
  });
  return {
    files: hosts.files,
    runtime: hosts.runtime,
    markers: hosts.runtime,
    kube,
    plugins: hosts.plugins,
    kmsContainers: hosts.kmsContainers,
    services: hosts.services,
    hostFiles: hosts.hostFiles,
    health: hosts.health,
    clock: systemClock,
    connect: (node, signal) => hosts.connect(node, signal),
    etcd: (ask) => createEtcd({ ...ask, dial: hosts.dial, report }),
    membership: (ask) => createEtcdMembership({ ...ask, dial: hosts.dial, clock: systemClock, report }),
    hostKeysSeen: () => hostKeys.seen(),
    close: async () => {
      await kube.close();
      hosts.close();
    },
  };
};
