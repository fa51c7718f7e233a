/** What an operator of the lab's cluster has in her folder: cluster.yml, its state, the SSH key, the admin's kubeconfig. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kubeconfigPathOf, loadConfig, statePathOf } from '../config/load.ts';
import { rkeConfigOf } from '../config/rke-config.ts';
import type { Json, JsonObject, RkeHalf } from '../state/rkestate.ts';
import type { Bundle } from './certificates.ts';

export interface ClusterFilesOptions {
  /** A folder that exists. */
  readonly dir: string;
  readonly clusterName: string;
  readonly kubernetesVersion: string;
  readonly nodes: readonly { readonly name: string; readonly address: string; readonly port: number }[];
  /** The bastion's port at 127.0.0.1, where the nodes are behind one. */
  readonly bastion: number | undefined;
  /** Private key of the user `lab`, OpenSSH's format. */
  readonly sshKey: string;
  readonly bundle: Bundle;
  /** The provider file's text; undefined: encryption is off. */
  readonly encryption: string | undefined;
}

export interface ClusterFiles {
  /** Path of cluster.yml. */
  readonly config: string;
  /** Path of cluster.rkestate. */
  readonly state: string;
  /** The state's text, as RKE also keeps it in the cluster. */
  readonly stateText: string;
}

/** Writes the files (those with keys in mode 0600), as after an `up` of RKE's that went well. */
export function writeClusterFiles(options: ClusterFilesOptions): ClusterFiles {
  const key = join(options.dir, 'id_ed25519');
  writeFileSync(key, options.sshKey, { mode: 0o600 });
  const config = join(options.dir, 'cluster.yml');
  writeFileSync(config, clusterYml(options, key));

  // Through the reader that an operator's file goes through: what it would refuse, a lab must not write.
  const rkeConfig = jsonOf(rkeConfigOf(loadConfig(config)));
  const half = (more: JsonObject): RkeHalf => ({
    rkeConfig: { ...rkeConfig, ...more },
    certificatesBundle: jsonOf(options.bundle) as Record<string, JsonObject>,
    ...(options.encryption === undefined ? {} : { encryptionConfig: options.encryption }),
  });
  // RKE's second pass fills in one thing more.
  const nodeDrainInput = { ignoreDaemonSets: true, gracePeriod: -1, timeout: 120 };
  const upgradeStrategy = { ...(rkeConfig['upgradeStrategy'] as JsonObject), nodeDrainInput };
  const stateText = JSON.stringify(
    { desiredState: half({}), currentState: half({ upgradeStrategy }) },
    null,
    2,
  );
  const state = statePathOf(config);
  writeFileSync(state, stateText, { mode: 0o600 });
  writeFileSync(kubeconfigPathOf(config), options.bundle['kube-admin']?.config ?? '', { mode: 0o600 });
  return { config, state, stateText };
}

function jsonOf(value: unknown): JsonObject {
  return JSON.parse(JSON.stringify(value)) as { [key: string]: Json };
}

function clusterYml(options: ClusterFilesOptions, key: string): string {
  const nodes = options.nodes.flatMap(({ name, address, port }) => [
    `  - address: ${address}`,
    ...(port === 22 ? [] : [`    port: ${port}`]),
    '    user: lab',
    '    role: [controlplane, etcd]',
    `    hostname_override: ${name}`,
  ]);
  const bastion =
    options.bastion === undefined
      ? []
      : ['bastion_host:', '  address: 127.0.0.1', `  port: ${options.bastion}`, '  user: lab'];
  return [
    '# A lab: these nodes live in the memory of `tsrke lab`. Edit this file as you would edit your own.',
    `cluster_name: ${options.clusterName}`,
    'nodes:',
    ...nodes,
    `ssh_key_path: ${JSON.stringify(key)}`,
    ...bastion,
    `kubernetes_version: ${options.kubernetesVersion}`,
    'network: {plugin: none}',
    'ingress: {provider: none}',
    'dns: {provider: none}',
    'monitoring: {provider: none}',
    'services:',
    '  kube-api:',
    '    secrets_encryption_config:',
    `      enabled: ${options.encryption !== undefined}`,
    '  etcd: {snapshot: false}',
    '',
  ].join('\n');
}
