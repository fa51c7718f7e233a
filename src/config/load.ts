/** cluster.yml: read, checked, and told in tsrke's words. */
import { readFileSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { TsrkeError } from '../errors.ts';
import type { SshTarget } from '../hosts/ssh-auth.ts';
import { check } from './check.ts';
import { durationOf } from './duration.ts';
import { escapePointer, parseDocument } from './document.ts';
import type { Document } from './document.ts';
import { clusterSchema, isMap, schemaOf, takesText } from './keys.ts';
import type { Schema } from './keys.ts';
import { kmsPluginsOf, socketBinds, type KmsPluginWish } from './kms-plugins.ts';

export interface LoadOptions {
  /** Leave keys that nobody knows alone, as RKE does. */
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
  /** `cluster_name`, default `local`. */
  name: string;
  /** What the file says, in its own keys; text fields are text, as written. */
  raw: Record<string, unknown>;
  nodes: readonly ConfigNode[];
  bastion?: SshTarget;
  kubernetesVersion: string | undefined;
  ignoreDockerVersion: boolean;
  prefixPath: string;
  encryption: EncryptionWish;
  /** `services.kube-api.extra_binds`, and the folders of the sockets of `kmsPlugins`. */
  extraBinds: readonly string[];
  /** Those that tsrke runs itself. */
  kmsPlugins: readonly KmsPluginWish[];
}

/** `services.kube-api.secrets_encryption_config`. */
export interface EncryptionWish {
  enabled: boolean;
  customConfig?: unknown;
  /** Of the key that tsrke makes; default aescbc, as RKE's. */
  provider: 'aescbc' | 'aesgcm' | 'secretbox';
  /** What is encrypted with it; default secrets, as RKE has it. */
  resources: readonly string[];
  /** Milliseconds that a write key may be old; 0: no limit; undefined: nothing was said. */
  maxKeyAge: number | undefined;
  /** How kube-apiserver comes to a changed provider file; undefined: nothing was said, which is a restart. */
  reload: 'automatic' | 'restart' | undefined;
}

/** Throws CONFIG_UNREADABLE, CONFIG_SYNTAX, CONFIG_INVALID (with every mistake in its details) or UNSUPPORTED. */
export function loadConfig(path: string, options: LoadOptions = {}): ClusterConfig {
  return configOf(read(path), path, options);
}

/** What `loadConfig` makes of a file with this text. */
export function configOf(source: string, path: string, options: LoadOptions = {}): ClusterConfig {
  const file = basename(path);
  const document = parseDocument(source, file);
  if (!isMap(document.value)) {
    throw new TsrkeError('CONFIG_INVALID', `${file}: not a map of keys such as \`nodes\` and \`services\``);
  }
  const raw = asWritten(document.value, clusterSchema, '', document) as Record<string, unknown>;

  const problems = check(raw, document, options.ignoreUnknownKeys === true);
  const [first] = problems;
  if (first !== undefined) {
    throw new TsrkeError(
      'CONFIG_INVALID',
      problems.length === 1 ? first : `${file} has ${problems.length} mistakes`,
      {
        details: problems,
        next: 'correct the file and run the same command again',
      },
    );
  }
  if (raw['rotate_encryption_key'] === true) {
    throw new TsrkeError(
      'UNSUPPORTED',
      `${document.place('/rotate_encryption_key')}: \`rotate_encryption_key\` would rotate the key again on every run`,
      { next: 'remove it, and run `tsrke encrypt rotate-key`' },
    );
  }

  const agent = options.sshAgentAuth ?? raw['ssh_agent_auth'] === true;
  const keyPath = text(raw['ssh_key_path']) ?? '~/.ssh/id_rsa';
  const kubeApi = map(map(raw['services'])['kube-api']);
  const encryption = map(kubeApi['secrets_encryption_config']);
  const customConfig = encryption['custom_config'] ?? undefined;
  const extraBinds = list(kubeApi['extra_binds']).map(String);
  const kmsPlugins = kmsPluginsOf(encryption['kms_plugin']);
  const bastion = map(raw['bastion_host']);
  const bastionAddress = text(bastion['address']);
  return {
    path,
    name: text(raw['cluster_name']) ?? 'local',
    raw,
    nodes: list(raw['nodes']).map((node) => nodeOf(map(node), keyPath, agent)),
    ...(bastionAddress !== undefined && {
      bastion: { name: bastionAddress, ...target(bastion, keyPath, agent) },
    }),
    kubernetesVersion: text(raw['kubernetes_version']),
    ignoreDockerVersion: options.ignoreDockerVersion ?? raw['ignore_docker_version'] === true,
    prefixPath: text(raw['prefix_path']) ?? '/',
    encryption: {
      enabled: encryption['enabled'] === true,
      ...(customConfig !== undefined && { customConfig }),
      provider: (text(encryption['provider']) ?? 'aescbc') as EncryptionWish['provider'],
      resources:
        encryption['resources'] === undefined ? ['secrets'] : list(encryption['resources']).map(String),
      maxKeyAge: durationOf(text(encryption['max_key_age']) ?? ''),
      reload: text(encryption['reload']) as EncryptionWish['reload'],
    },
    extraBinds: [...extraBinds, ...socketBinds(kmsPlugins, extraBinds)],
    kmsPlugins,
  };
}

/** `DIR/NAME.rkestate`, beside the file. */
export function statePathOf(configPath: string): string {
  return join(dirname(configPath), `${basename(configPath, extname(configPath))}.rkestate`);
}

/** `DIR/kube_config_NAME.EXT`, beside the file. */
export function kubeconfigPathOf(configPath: string): string {
  return join(dirname(configPath), `kube_config_${basename(configPath)}`);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TsrkeError('CONFIG_UNREADABLE', `${path} cannot be read`, {
      cause,
      next: 'give the path of your cluster.yml with --config',
    });
  }
}

/** RKE takes the characters, not the number: `port: 022` is the text 022, `kubernetes_version: 1.30` is 1.30. */
function asWritten(value: unknown, schema: Schema | undefined, pointer: string, document: Document): unknown {
  if (Array.isArray(value)) {
    return value.map((item, index) => asWritten(item, schema?.items, `${pointer}/${index}`, document));
  }
  if (isMap(value)) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [
        key,
        asWritten(item, schema && schemaOf(schema, key), `${pointer}/${escapePointer(key)}`, document),
      ]),
    );
  }
  if (
    (typeof value === 'number' || typeof value === 'boolean') &&
    schema !== undefined &&
    takesText(schema)
  ) {
    return document.written(pointer) ?? String(value);
  }
  return value;
}

function nodeOf(node: Record<string, unknown>, keyPath: string, agent: boolean): ConfigNode {
  const ssh = target(node, keyPath, agent);
  return {
    name: (text(node['hostname_override']) ?? ssh.address).toLowerCase(),
    ...ssh,
    internalAddress: text(node['internal_address']) ?? ssh.address,
    roles: list(node['role']) as Role[],
    dockerSocket: text(node['docker_socket']) ?? '/var/run/docker.sock',
  };
}

function target(host: Record<string, unknown>, keyPath: string, agent: boolean) {
  const sshKey = text(host['ssh_key']);
  const sshCert = text(host['ssh_cert']);
  const sshCertPath = text(host['ssh_cert_path']);
  return {
    address: text(host['address']) ?? '',
    port: Number(text(host['port']) ?? '22'),
    user: text(host['user']) ?? '',
    ...(sshKey !== undefined && { sshKey }),
    sshKeyPath: text(host['ssh_key_path']) ?? keyPath,
    ...(sshCert !== undefined && { sshCert }),
    ...(sshCertPath !== undefined && { sshCertPath }),
    sshAgentAuth: agent,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function map(value: unknown): Record<string, unknown> {
  return isMap(value) ? value : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
