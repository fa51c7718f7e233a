/** The memory lab: a cluster of the model behind real protocols, and the folder that its operator would have. */
import type { Bundle } from '../certificates/bundle.ts';
import type { Role } from '../config/load.ts';
import { defaultVersion, kubernetesVersion } from '../config/versions.ts';
import { managedFile, renderProviderFile } from '../encryption/configuration.ts';
import { newKey } from '../encryption/key.ts';
import { systemClock } from '../provision/links.ts';
import type { JsonObject } from '../state/rkestate.ts';
import { addressesFor } from './addresses.ts';
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
  /** true: nothing but SSH and Docker on the hosts, cluster.yml without a state: `tsrke up` makes the cluster. */
  readonly bare?: boolean;
  /** How many controlplane nodes, or their names; default 3. The first one, three or five are etcd's members. */
  readonly controlplane?: number | readonly string[];
  /** How many nodes that are workers and nothing else, or their names; default 0. */
  readonly workers?: number | readonly string[];
  /** What each node is, in order, instead of that. */
  readonly roles?: readonly (readonly Role[])[];
  /** How many Secrets to begin with; default 0. */
  readonly secrets?: number;
  /** `on`: with a key of the lab's own; or a whole provider file's text. Default `off`. Of bare hosts: see `wanted`. */
  readonly encryption?: 'off' | 'on' | { readonly providerFile: string };
  /** What cluster.yml asks for, when that is not what there is. */
  readonly wanted?: boolean;
  /** The `tsrke` block of the state; left out: as RKE wrote it. */
  readonly tsrke?: JsonObject;
  /** In RKE's form; default RKE's default. */
  readonly kubernetesVersion?: string;
  /** `network.plugin`, with CoreDNS and metrics-server; default `none` of them, with a CNI of the hosts' own. */
  readonly network?: string;
  /** What kube-apiserver says it is, 1.N; default that of its image. */
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
  /** Empty where the hosts were bare. */
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
  const { bare = false, network = 'none' } = options;
  const servers = namesOf(controlplane, 'cp');
  const names = [...servers, ...namesOf(options.workers ?? 0, 'worker')];
  const { nodes: addresses, behindBastion } = await addressesFor(names.length, options.bastion);
  const members = servers.length < 3 ? 1 : servers.length < 5 ? 3 : 5;
  const roleOf = (index: number): readonly Role[] =>
    index < members ? both : index < servers.length ? both.slice(0, 1) : ['worker'];
  const nodes = names.map((name, index) => ({
    ...{ name, address: addresses[index] ?? '' },
    roles: options.roles?.[index] ?? roleOf(index),
  }));
  const version = options.kubernetesVersion ?? defaultVersion;
  const providerFile =
    encryption === 'off'
      ? undefined
      : encryption === 'on'
        ? renderProviderFile(managedFile(newKey('aescbc', new Set())))
        : encryption.providerFile;

  const bundle = bare ? {} : await createBundle({ nodes, clusterName });
  const found = kubernetesVersion(version);
  const minor = options.minor ?? (found?.known === true ? undefined : found?.minor);
  const model = new LabModel({
    ...{ nodes, clock: systemClock, bare: true, hasNetwork: network === 'none' },
    ...{ startTime: options.startTime ?? 300, etcdSettledAfter: 500 },
    ...(minor === undefined ? {} : { minor }),
    ...(options.pollEvery === undefined ? {} : { pollEvery: options.pollEvery }),
    ...(options.plugins === undefined ? {} : { plugins: options.plugins }),
  });
  const user = createSshKey();
  const userCa = createSshKey();
  const hostKeys = new Map([...names, 'bastion'].map((name) => [name, createSshKey()]));
  const served = await startServers({
    surface: options.through?.(model) ?? model,
    listening: (...asked) => model.listening(...asked),
    authorized: user.public,
    userCa: userCa.public,
    outsiders: options.outsiders,
    hostKey: (host) => hostKeys.get(host)?.private ?? '',
    behindBastion,
    login: options.login,
    listens: (node, port) => options.listens?.(node, port) ?? true,
    run: (command) => etcdctl(model.etcd, command),
  });
  const files = writeClusterFiles({
    dir: options.dir,
    clusterName,
    ...{ kubernetesVersion: version, network },
    nodes: nodes.map((node) => ({
      ...{ ...node, port: served.ports.get(node.name) ?? 22 },
      hostKey: hostKeys.get(node.name)?.public ?? '',
    })),
    bastion:
      served.bastion === undefined
        ? undefined
        : {
            ...{ name: 'bastion', address: '127.0.0.1', port: served.bastion },
            hostKey: hostKeys.get('bastion')?.public ?? '',
          },
    sshKey: user.private,
    bundle: bare ? undefined : bundle,
    encryption: providerFile,
    ...(options.wanted === undefined ? {} : { wanted: options.wanted }),
    ...(options.tsrke === undefined ? {} : { tsrke: options.tsrke }),
  });
  if (!bare) {
    const encrypted = providerFile === undefined ? {} : { providerFile };
    model.deploy({ config: files.rke, bundle, ...encrypted });
    await fillCluster(model, files.stateText, options.secrets ?? 0);
  }
  return {
    dir: options.dir,
    config: files.config,
    state: files.state,
    bundle,
    sshKey: user.private,
    userCa: userCa.private,
    model,
    servers: served,
    close: () => served.close(),
  };
}

const both = ['controlplane', 'etcd'] as const;

/** `cp-1`, `cp-2`, …, unless they have names. */
function namesOf(nodes: number | readonly string[], prefix: string): readonly string[] {
  if (typeof nodes !== 'number') return nodes;
  return Array.from({ length: nodes }, (_, index) => `${prefix}-${index + 1}`);
}
