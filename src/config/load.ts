/** cluster.yml: read, checked, and told in tsrke's words. */
import { basename, dirname, extname, join } from 'node:path';
import type { SshTarget } from '../hosts/ssh-auth.ts';

export interface LoadOptions {
  ignoreUnknownKeys?: boolean;
  sshAgentAuth?: true;
  ignoreDockerVersion?: boolean;
}

export type Role = 'controlplane' | 'etcd' | 'worker';

export interface ConfigNode {
  /** `hostname_override`, else `address`; lower-cased. */
  name: string;
  address: string;
  internalAddress: string;
  port: number;
  user: string;
  roles: readonly Role[];
  sshKey?: string;
  sshKeyPath?: string;
  sshCert?: string;
  sshCertPath?: string;
  sshAgentAuth: boolean;
  dockerSocket: string;
}

export interface ClusterConfig {
  path: string;
  name: string;
  /** What the file says, in its own keys. */
  raw: Record<string, unknown>;
  nodes: readonly ConfigNode[];
  bastion?: SshTarget;
  kubernetesVersion: string | undefined;
  ignoreDockerVersion: boolean;
  prefixPath: string;
  encryption: { enabled: boolean; customConfig?: unknown };
}

export function loadConfig(path: string, options: LoadOptions = {}): ClusterConfig {
  throw new Error(`not yet written: ${path} ${String(options.sshAgentAuth)}`);
}

/** `DIR/NAME.rkestate`, beside the file. */
export function statePathOf(configPath: string): string {
  return join(dirname(configPath), `${basename(configPath, extname(configPath))}.rkestate`);
}

/** `DIR/kube_config_NAME.EXT`, beside the file. */
export function kubeconfigPathOf(configPath: string): string {
  return join(dirname(configPath), `kube_config_${basename(configPath)}`);
}
