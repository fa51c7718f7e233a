/** The memory lab: a cluster of the model behind real protocols, and the folder that its operator would have. */
import type { Bundle } from '../certificates/bundle.ts';
import { defaultVersion, kubernetesVersion } from '../config/versions.ts';
import { managedFile, renderProviderFile } from '../encryption/configuration.ts';
import { newKey } from '../encryption/key.ts';
import { systemClock } from '../provision/links.ts';
import type { JsonObject } from '../state/rkestate.ts';
import { addressesFor } from './addresses.ts';
import type { Host } from './host.ts';
import { createBundle } from './certificates.ts';
import { writeClusterFiles } from './cluster-files.ts';
import { etcdctl } from './etcdctl.ts';
import { LabModel, type ModelOptions } from './model.ts';
import { fillCluster } from './seed.ts';
import { startServers, type Servers } from './servers.ts';
import { createSshKey } from './ssh-keys.ts';
import type { LabSurface } from './surface.ts';

export interface LabOptions {
  /** A folder that exists; cluster.yml and what belongs to it are written there. */
  readonly dir: string;
  /** How many controlplane nodes, or their names; default 3. The first one, three or five are etcd's members. */
  readonly controlplane?: number | readonly string[];
  /** How many Secrets to begin with; default 0. */
  readonly secrets?: number;
  /** `on`: with a key of the lab's own; or a whole provider file's text. Default `off`. */
  readonly encryption?: 'off' | 'on' | { readonly providerFile: string };
  /** What cluster.yml asks for, when that is not what there is. */
  readonly wanted?: boolean;
  /** The `tsrke` block of the state; left out: as RKE wrote it. */
  readonly tsrke?: JsonObject;
  /** In RKE's form; default RKE's default. */
  readonly kubernetesVersion?: string;
  /** What kube-apiserver says it is, 1.N; default that of `kubernetesVersion`. */
  readonly minor?: number;
  readonly clusterName?: string;
  /** Milliseconds that kube-apiserver takes to start; default 300. */
  readonly startTime?: number;
  /** Milliseconds between its looks at the provider file, with automatic reload; default its own 60 000. */
  readonly pollEvery?: number;
  /** The KMS plugin of a node behind a socket; default none. */
  readonly plugins?: ModelOptions['plugins'] | undefined;
  /** What the servers are put in front of instead of the bare model: one that breaks off, delays, counts. */
  readonly through?: (model: LabModel) => LabSurface;
  /** Lets a user in over SSH who proved the key, or breaks off by rejecting; default: lets in. */
  readonly login?: ((node: string, accept: () => void) => Promise<void>) | undefined;
  /** false: a firewall lets nobody through to this port of the node now. */
  readonly listens?: (node: string, port: number) => boolean;
  /** Users who are let in over SSH, but may not use Docker; default none. */
  readonly outsiders?: readonly string[];
  /** true: nodes behind a bastion even where the machine has addresses for them. */
  readonly bastion?: boolean;
}

export interface Lab {
  readonly dir: string;
  /** Path of cluster.yml. */
  readonly config: string;
  /** Path of cluster.rkestate. */
  readonly state: string;
  readonly bundle: Bundle;
  /** Private key of the user, as in `dir`. */
  readonly sshKey: string;
  /** Private key of the CA whose user certificates all hosts take. */
  readonly userCa: string;
  readonly model: LabModel;
  readonly servers: Servers;
  /** Breaks off every connection and ends all servers; the folder stays. */
  close(): void;
}

/** Resolves once a client can use the cluster, after about a second. */
export async function startLab(options: LabOptions): Promise<Lab> {
  const { controlplane = 3, encryption = 'off', clusterName = 'lab' } = options;
  const names =
    typeof controlplane === 'number'
      ? Array.from({ length: controlplane }, (_, index) => `cp-${index + 1}`)
      : controlplane;
  const { nodes: addresses, behindBastion } = await addressesFor(names.length, options.bastion);
  const members = names.length < 3 ? 1 : names.length < 5 ? 3 : 5;
  const nodes = names.map((name, index) => ({
    ...{ name, address: addresses[index] ?? '' },
    etcd: index < members,
  }));
  const version = options.kubernetesVersion ?? defaultVersion;
  const providerFile =
    encryption === 'off'
      ? undefined
      : encryption === 'on'
        ? renderProviderFile(managedFile(newKey('aescbc', new Set())))
        : encryption.providerFile;

  const bundle = await createBundle({ nodes, clusterName });
  const model = new LabModel({
    nodes,
    clock: systemClock,
    minor: options.minor ?? kubernetesVersion(version)?.minor ?? 30,
    startTime: options.startTime ?? 300,
    ...(options.pollEvery === undefined ? {} : { pollEvery: options.pollEvery }),
    ...(providerFile === undefined ? {} : { providerFile }),
    ...(options.plugins === undefined ? {} : { plugins: options.plugins }),
  });
  for (const { name } of nodes) deployCertificates(model.host(name), bundle);
  const user = createSshKey();
  const userCa = createSshKey();
  const hostKeys = new Map([...names, 'bastion'].map((name) => [name, createSshKey()]));
  const servers = await startServers({
    surface: options.through?.(model) ?? model,
    bundle,
    authorized: user.public,
    userCa: userCa.public,
    outsiders: options.outsiders,
    hostKey: (host) => hostKeys.get(host)?.private ?? '',
    behindBastion,
    login: options.login,
    listens: (node, port) =>
      (options.listens?.(node, port) ?? true) &&
      (port !== 6443 || model.running().some((each) => each.node === node && each.listens)),
    run: (command) => etcdctl(model.etcd, command),
  });
  const files = writeClusterFiles({
    dir: options.dir,
    clusterName,
    kubernetesVersion: version,
    nodes: nodes.map((node) => ({
      ...{ ...node, port: servers.ports.get(node.name) ?? 22 },
      hostKey: hostKeys.get(node.name)?.public ?? '',
    })),
    bastion:
      servers.bastion === undefined
        ? undefined
        : {
            ...{ name: 'bastion', address: '127.0.0.1', port: servers.bastion },
            hostKey: hostKeys.get('bastion')?.public ?? '',
          },
    sshKey: user.private,
    bundle,
    encryption: providerFile,
    ...(options.wanted === undefined ? {} : { wanted: options.wanted }),
    ...(options.tsrke === undefined ? {} : { tsrke: options.tsrke }),
  });
  await fillCluster(model, files.stateText, options.secrets ?? 0);
  return {
    dir: options.dir,
    config: files.config,
    state: files.state,
    bundle,
    sshKey: user.private,
    userCa: userCa.private,
    model,
    servers,
    close: () => servers.close(),
  };
}

/** As on nodes that are controlplane and etcd; the admin's certificate is on none. */
function deployCertificates(host: Host, bundle: Bundle): void {
  for (const [name, element] of Object.entries(bundle)) {
    if (name === 'kube-admin') continue;
    host.write(element.path, Buffer.from(element.certificatePEM));
    host.write(element.keyPath, Buffer.from(element.keyPEM));
    if (element.configPath !== '') host.write(element.configPath, Buffer.from(element.config));
  }
}
