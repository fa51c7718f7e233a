/** What an operator of the lab's cluster has in her folder: cluster.yml, its state, the SSH key, the admin's kubeconfig. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bundle } from '../certificates/bundle.ts';
import { kubeconfigPathOf, loadConfig, statePathOf } from '../config/load.ts';
import { rkeConfigOf, secondPass, type RkeConfig } from '../config/rke-config.ts';
import type { Json, JsonObject, RkeHalf } from '../state/rkestate.ts';
import { rolesOf, type LabNode } from './surface.ts';

/** How a lab's cluster.yml begins: a file without it is somebody's own. */
export const labMark = '# A lab';

export interface ReachedHost extends LabNode {
  readonly port: number;
  /** As in known_hosts: `ssh-ed25519 AAAA…`. */
  readonly hostKey: string;
}

export interface ClusterFilesOptions {
  /** A folder that exists. */
  readonly dir: string;
  readonly clusterName: string;
  readonly kubernetesVersion: string;
  /** `network.plugin`. */
  readonly network: string;
  readonly nodes: readonly ReachedHost[];
  /** The host at 127.0.0.1 through which they are reached, if they are. */
  readonly bastion: ReachedHost | undefined;
  /** Private key of the user `lab`, OpenSSH's format. */
  readonly sshKey: string;
  /** Undefined: there is no cluster yet, so neither a state nor a kubeconfig. */
  readonly bundle: Bundle | undefined;
  /** The provider file's text; undefined: encryption is off. */
  readonly encryption: string | undefined;
  /** What cluster.yml asks for, when that is not what there is. */
  readonly wanted?: boolean;
  /** The state's own block of tsrke's; left out: as RKE wrote it. */
  readonly tsrke?: JsonObject;
}

export interface ClusterFiles {
  /** Path of cluster.yml. */
  readonly config: string;
  /** Path of cluster.rkestate. */
  readonly state: string;
  /** The state's text, as RKE also keeps it in the cluster; empty where there is none. */
  readonly stateText: string;
  /** cluster.yml as RKE keeps it. */
  readonly rke: RkeConfig;
}

/** Writes the files (those with keys in mode 0600), as after an `up` of RKE's that went well, or before the first. */
export function writeClusterFiles(options: ClusterFilesOptions): ClusterFiles {
  const key = join(options.dir, 'id_ed25519');
  writeFileSync(key, options.sshKey, { mode: 0o600 });
  writeSshFiles(options, key);
  const config = join(options.dir, 'cluster.yml');
  const enabled = options.encryption !== undefined;
  writeFileSync(config, clusterYml(options, key, enabled));

  // Through the reader that an operator's file goes through: what it would refuse, a lab must not write.
  const rke = rkeConfigOf(loadConfig(config));
  const rkeConfig = jsonOf(rke);
  const state = statePathOf(config);
  const wanted = () => writeFileSync(config, clusterYml(options, key, options.wanted ?? enabled));
  if (options.bundle === undefined) {
    wanted();
    return { config, state, stateText: '', rke };
  }
  const half = (each: JsonObject): RkeHalf => ({
    rkeConfig: each,
    certificatesBundle: jsonOf(options.bundle) as Record<string, JsonObject>,
    ...(options.encryption === undefined ? {} : { encryptionConfig: options.encryption }),
  });
  const document = {
    desiredState: half(rkeConfig),
    currentState: half(secondPass(rkeConfig)),
    ...(options.tsrke === undefined ? {} : { tsrke: options.tsrke }),
  };
  const stateText = JSON.stringify(document, null, 2);
  writeFileSync(state, stateText, { mode: 0o600 });
  wanted();
  writeFileSync(kubeconfigPathOf(config), options.bundle['kube-admin']?.config ?? '', { mode: 0o600 });
  return { config, state, stateText, rke };
}

function jsonOf(value: unknown): JsonObject {
  return JSON.parse(JSON.stringify(value)) as { [key: string]: Json };
}

/** `ssh -F ssh_config cp-1 …` in the folder, without a word to the user's own known_hosts. */
function writeSshFiles({ dir, nodes, bastion }: ClusterFilesOptions, key: string): void {
  const knownHosts = join(dir, 'known_hosts');
  const hosts = bastion === undefined ? nodes : [...nodes, bastion];
  const named = ({ address, port }: ReachedHost) => (port === 22 ? address : `[${address}]:${port}`);
  writeFileSync(knownHosts, hosts.map((host) => `${named(host)} ${host.hostKey}\n`).join(''));
  const lines = hosts.flatMap((host) => [
    `Host ${host.name}`,
    `  HostName ${host.address}`,
    `  Port ${host.port}`,
    ...(bastion === undefined || host === bastion ? [] : [`  ProxyJump ${bastion.name}`]),
  ]);
  const all = ['Host *', '  User lab', `  IdentityFile "${key}"`, '  IdentitiesOnly yes'];
  const config = [...lines, ...all, `  UserKnownHostsFile "${knownHosts}"`, ''];
  writeFileSync(join(dir, 'ssh_config'), config.join('\n'));
}

function clusterYml(options: ClusterFilesOptions, key: string, enabled: boolean): string {
  const nodes = options.nodes.flatMap((node) => [
    `  - address: ${node.address}`,
    ...(node.port === 22 ? [] : [`    port: ${node.port}`]),
    '    user: lab',
    `    role: [${rolesOf(node).join(', ')}]`,
    `    hostname_override: ${node.name}`,
  ]);
  const bastion =
    options.bastion === undefined
      ? []
      : ['bastion_host:', '  address: 127.0.0.1', `  port: ${options.bastion.port}`, '  user: lab'];
  return [
    `${labMark}: these nodes live in the memory of \`tsrke lab\`. Edit this file as you would edit your own.`,
    `cluster_name: ${options.clusterName}`,
    'nodes:',
    ...nodes,
    `ssh_key_path: ${JSON.stringify(key)}`,
    ...bastion,
    `kubernetes_version: ${options.kubernetesVersion}`,
    `network: {plugin: ${options.network}}`,
    'ingress: {provider: none}',
    ...(options.network === 'none' ? ['dns: {provider: none}', 'monitoring: {provider: none}'] : []),
    'services:',
    '  kube-api:',
    '    secrets_encryption_config:',
    `      enabled: ${enabled}`,
    '  etcd: {snapshot: false}',
    '',
  ].join('\n');
}
