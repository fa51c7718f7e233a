/** The servers of a lab over a surface that a test makes up, and tsrke's own clients in front of them. */
import { setMaxListeners } from 'node:events';
import { imageSources } from '../../src/config/private-registries.ts';
import { createEtcd } from '../../src/etcd/client.ts';
import { loadHostKeys } from '../../src/hosts/host-keys.ts';
import type { SshTarget } from '../../src/hosts/ssh-auth.ts';
import { connectHosts, type Hosts } from '../../src/hosts/ssh.ts';
import { createKubeApi, type ClosableKubeApi } from '../../src/kube/client.ts';
import { addressesFor } from '../../src/lab/addresses.ts';
import type { Bundle } from '../../src/certificates/bundle.ts';
import { createBundle, etcdCertificateName } from '../../src/lab/certificates.ts';
import { startServers, type Servers } from '../../src/lab/servers.ts';
import { createSshKey } from '../../src/lab/ssh-keys.ts';
import type { HttpAnswer, LabNode, LabSurface, Listening } from '../../src/lab/surface.ts';
import type { Etcd } from '../../src/ports.ts';
import { Notes } from '../hosts/notes.ts';

/** Never aborted; a hundred calls may wait for it at once. */
export const { signal } = new AbortController();
setMaxListeners(0, signal);

export function json(body: unknown, status = 200): HttpAnswer {
  const headers = { 'content-type': 'application/json' };
  return { status, headers, body: Buffer.from(JSON.stringify(body)) };
}

export interface Wired {
  readonly nodes: readonly LabNode[];
  readonly servers: Servers;
  readonly bundle: Bundle;
  /** Private key of the user who is let in. */
  readonly sshKey: string;
  readonly hosts: (more?: Partial<Pick<SshTarget, 'user' | 'sshKey' | 'sshCert'>>) => Hosts;
  readonly kube: (hosts: Hosts, certificate?: string) => ClosableKubeApi;
  readonly etcd: (hosts: Hosts, certificate?: string) => Etcd;
  close(): Promise<void>;
}

/** The kube API and etcd of every node, as on one that RKE has made. */
function listeningOf(
  bundle: Bundle,
  nodes: readonly LabNode[],
  node: string,
  port: number,
): Listening | undefined {
  const address = nodes.find(({ name }) => name === node)?.address ?? '';
  const tls = (name: string) => ({
    ca: bundle['kube-ca']?.certificatePEM ?? '',
    cert: bundle[name]?.certificatePEM ?? '',
    key: bundle[name]?.keyPEM ?? '',
  });
  if (port === 6443) return { kind: 'kube', node, tls: tls('kube-apiserver') };
  if (port === 2379) return { kind: 'etcd', tls: tls(etcdCertificateName(address)), isWell: () => true };
  return undefined;
}

/** Bundles take a second to make, and two labs may well have the same. */
const bundles = new Map<string, Promise<Bundle>>();

export async function wire(
  surface: Omit<LabSurface, 'nodes'>,
  options: {
    readonly count?: number;
    readonly bastion?: boolean;
    readonly listens?: (node: string, port: number) => boolean;
    readonly userCa?: string;
    readonly outsiders?: readonly string[];
  } = {},
): Promise<Wired> {
  const { nodes: addresses, behindBastion } = await addressesFor(options.count ?? 1, options.bastion);
  const nodes = addresses.map((address, index) => ({ name: `cp-${index + 1}`, address }));
  const id = JSON.stringify(nodes);
  const making = bundles.get(id) ?? createBundle({ nodes, clusterName: 'lab' });
  bundles.set(id, making);
  const bundle = await making;
  const user = createSshKey();
  const servers = await startServers({
    surface: { ...surface, nodes },
    listening: (node, port) => listeningOf(bundle, nodes, node, port),
    authorized: user.public,
    userCa: options.userCa,
    outsiders: options.outsiders,
    hostKey: () => createSshKey().private,
    behindBastion,
    listens: options.listens ?? (() => true),
    run: (command) => (command === 'hostname' ? Promise.resolve(Buffer.from('cp-1\n')) : undefined),
  });
  const closing: (() => unknown)[] = [];
  const pem = (name: string) => ({
    cert: bundle[name]?.certificatePEM ?? '',
    key: bundle[name]?.keyPEM ?? '',
  });
  const ca = pem('kube-ca').cert;
  const report = new Notes();
  return {
    nodes,
    servers,
    bundle,
    sshKey: user.private,
    hosts(more = {}) {
      const login = { user: 'lab', sshKey: user.private, sshAgentAuth: false, ...more };
      const hosts = connectHosts({
        nodes: nodes.map((node) => ({
          ...{ ...node, ...login, port: servers.ports.get(node.name) ?? 0 },
          dockerSocket: '/var/run/docker.sock',
        })),
        ...(servers.bastion === undefined
          ? {}
          : { bastion: { name: 'bastion', address: '127.0.0.1', port: servers.bastion, ...login } }),
        imageSource: imageSources({}),
        hostKeys: loadHostKeys({ recorded: {}, files: [] }),
        report,
        dialTimeout: 5_000,
      });
      closing.push(() => hosts.close());
      return hosts;
    },
    kube(hosts, certificate = 'kube-admin') {
      const kube = createKubeApi({
        nodes: nodes.map(({ name, address }) => ({ name, addresses: [address], port: 6443 })),
        ...{ ca, ...pem(certificate), dial: hosts.dial, report },
      });
      closing.push(() => kube.close());
      return kube;
    },
    etcd(hosts, certificate) {
      const [first] = nodes;
      const etcd = createEtcd({
        endpoints: nodes.map(({ address }) => `https://${address}:2379`),
        ...{ ca, ...pem(certificate ?? etcdCertificateName(first?.address ?? '')), dial: hosts.dial },
        ...{ node: first?.name ?? '', report },
      });
      closing.push(() => etcd.close());
      return etcd;
    },
    async close() {
      for (const close of closing) await close();
      servers.close();
    },
  };
}
