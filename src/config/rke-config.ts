/**
 * cluster.yml in the form that RKE keeps in the state file (`desiredState.rkeConfig`): JSON keys, all defaults filled
 * in, in the order and with the omissions of Go's encoder.
 */
import { drainDefaults, fillDefaults } from './defaults.ts';
import { clusterSchema, isMap, schemaOf, stateKey } from './keys.ts';
import type { Schema } from './keys.ts';
import type { ClusterConfig } from './load.ts';
import { withoutOwnFields } from './own-fields.ts';
import { defaultVersion, kubernetesVersion } from './versions.ts';

/** A node of rkeConfig. `hostnameOverride` is set (else the address) and in lower case, as in Kubernetes. */
export interface RkeNode {
  readonly address: string;
  readonly port: string;
  readonly internalAddress: string;
  readonly role: readonly string[];
  readonly hostnameOverride: string;
  readonly user: string;
  readonly [key: string]: unknown;
}

export interface RkeService {
  /** Missing only for a version that is not in the catalogue. */
  readonly image?: string;
  readonly extraArgs?: Readonly<Record<string, string>>;
  readonly extraArgsArray?: Readonly<Record<string, readonly string[]>>;
  readonly extraBinds?: readonly string[];
  readonly extraEnv?: readonly string[];
  readonly [key: string]: unknown;
}

export interface RkeEtcd extends RkeService {
  /** Of an etcd outside the cluster; `path` is its prefix. */
  readonly externalUrls?: readonly string[];
  readonly path?: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly snapshot?: boolean;
  readonly retention?: string;
  readonly creation?: string;
  readonly backupConfig?: RkeBackups;
}

export interface RkeBackups {
  readonly intervalHours?: number;
  /** How many snapshots are kept. */
  readonly retention?: number;
  readonly s3BackupConfig?: Readonly<Record<string, string>> | null;
}

export interface RkeKubeApi extends RkeService {
  readonly serviceClusterIpRange?: string;
  readonly serviceNodePortRange?: string;
  readonly podSecurityConfiguration?: string;
  readonly alwaysPullImages?: boolean;
  readonly auditLog?: {
    readonly enabled?: boolean;
    readonly configuration?: {
      readonly maxAge?: number;
      readonly maxBackup?: number;
      readonly maxSize?: number;
      readonly path?: string;
      readonly format?: string;
      readonly policy?: Readonly<Record<string, unknown>>;
    };
  };
  readonly admissionConfiguration?: { readonly plugins?: readonly Readonly<Record<string, unknown>>[] };
  readonly eventRateLimit?: {
    readonly enabled?: boolean;
    readonly configuration?: Readonly<Record<string, unknown>>;
  };
}

export interface RkeKubelet extends RkeService {
  readonly clusterDomain?: string;
  readonly clusterDnsServer?: string;
  readonly infraContainerImage?: string;
  readonly failSwapOn?: boolean;
  readonly generateServingCertificate?: boolean;
}

export interface RkeServices {
  readonly etcd: RkeEtcd;
  readonly kubeApi: RkeKubeApi;
  readonly kubeController: RkeService & {
    readonly clusterCidr?: string;
    readonly serviceClusterIpRange?: string;
  };
  readonly scheduler: RkeService;
  readonly kubelet: RkeKubelet;
  readonly kubeproxy: RkeService;
}

export interface RkeRegistry {
  readonly url?: string;
  readonly user?: string;
  readonly password?: string;
  readonly ecrCredentialPlugin?: unknown;
}

/** The keys that tsrke reads have types; all others of RKE are there too. */
export interface RkeConfig {
  readonly nodes: readonly RkeNode[];
  readonly services: RkeServices;
  /** By RKE's JSON keys (`podInfraContainer`). For a version not in the catalogue only what cluster.yml says. */
  readonly systemImages: Readonly<Record<string, string>>;
  readonly sshAgentAuth: boolean;
  readonly ignoreDockerVersion: boolean;
  readonly kubernetesVersion: string;
  readonly clusterName: string;
  readonly prefixPath: string;
  /** Null before Kubernetes 1.24 where nothing was said. */
  readonly enableCriDockerd?: boolean | null;
  readonly criDockerdStreamServerAddress?: string;
  readonly criDockerdStreamServerPort?: string;
  readonly authorization?: { readonly mode?: string };
  readonly authentication?: {
    readonly sans?: readonly string[];
    readonly webhook?: { readonly configFile?: string; readonly cacheTimeout?: string };
  };
  readonly cloudProvider?: {
    readonly name?: string;
    readonly useInstanceMetadataHostname?: boolean;
    readonly customCloudProvider?: string;
  };
  readonly dns?: { readonly nodelocal?: { readonly ipAddress?: string } };
  readonly privateRegistries?: readonly RkeRegistry[];
  readonly [key: string]: unknown;
}

/**
 * What RKE's first pass over cluster.yml writes to desiredState. Its second pass, which leads to currentState, differs
 * in one thing: `upgradeStrategy.nodeDrainInput` is filled in.
 */
export function rkeConfigOf(config: Pick<ClusterConfig, 'raw' | 'nodes' | 'ignoreDockerVersion'>): RkeConfig {
  const rke = inStateKeys(withoutOwnFields(config.raw), clusterSchema) as Record<string, unknown>;
  rke['sshAgentAuth'] = config.nodes[0]?.sshAgentAuth ?? rke['sshAgentAuth'] === true;
  rke['ignoreDockerVersion'] = config.ignoreDockerVersion;
  const version = typeof rke['kubernetesVersion'] === 'string' ? rke['kubernetesVersion'] : '';
  fillDefaults(rke, kubernetesVersion(version === '' ? defaultVersion : version), version);
  return arrange(rke, clusterSchema, '') as RkeConfig;
}

/** As RKE's second pass leaves it in currentState (1.6.3). */
export function secondPass<T extends Readonly<Record<string, unknown>>>(rke: T): T {
  const strategy = isMap(rke['upgradeStrategy']) ? rke['upgradeStrategy'] : {};
  return {
    ...rke,
    upgradeStrategy: { ...strategy, nodeDrainInput: strategy['nodeDrainInput'] ?? drainDefaults },
  };
}

/** Null is the same as absent in RKE; keys that it does not know never reach its state. */
function inStateKeys(value: unknown, schema: Schema | undefined): unknown {
  if (Array.isArray(value)) return value.map((item) => inStateKeys(item, schema?.items));
  if (!isMap(value)) return value;
  const struct = isStruct(schema);
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value)) {
    const child = schema && schemaOf(schema, key);
    if (struct && ((child === undefined && schema.additionalProperties === false) || item === null)) continue;
    // RKE 1.6 dropped pod_security_policy; files that older versions wrote still have it.
    if (key === 'pod_security_policy') continue;
    entries.push([struct ? stateKey(key) : key, inStateKeys(item, child)]);
  }
  return Object.fromEntries(entries);
}

function isStruct(schema: Schema | undefined): schema is Schema & { properties: Record<string, Schema> } {
  return schema?.properties !== undefined;
}

/** Emitted whatever they hold: pointers in RKE's structs, and fields without `omitempty`. */
const kept =
  /^(sshAgentAuth|ignoreDockerVersion|enableCriDockerd|rotateEncryptionKey)$|^services\.etcd\.snapshot$|\.backupConfig\.(enabled|s3BackupConfig(\.endpoint)?)$|^upgradeStrategy\.(drain|nodeDrainInput\.(ignoreDaemonSets|timeout))$|^ingress\.default(Backend|IngressClass)$|^monitoring\.replicas$|NetworkProvider\.(iface|cloudProvider)$|^cloudProvider\.(useInstanceMetadataHostname|(azure|openstack|aws|harvester)CloudProvider\.)/;

/** In the order of RKE's structs (the schema's), maps sorted by key, without what Go's `omitempty` leaves out. */
function arrange(value: unknown, schema: Schema | undefined, path: string): unknown {
  if (Array.isArray(value)) return value.map((item) => arrange(item, schema?.items, path));
  if (!isMap(value)) return value;
  if (!isStruct(schema)) {
    if (typeof schema?.additionalProperties !== 'object') return value;
    const inner = schema.additionalProperties;
    return Object.fromEntries(
      Object.entries(value)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, item]) => [key, arrange(item, inner, `${path}.${key}`)]),
    );
  }
  const entries: [string, unknown][] = [];
  const left = new Map(Object.entries(value));
  for (const [key, child] of Object.entries(schema.properties)) {
    const name = stateKey(key);
    if (!left.has(name)) continue;
    const below = path === '' ? name : `${path}.${name}`;
    const item = arrange(left.get(name), child, below);
    left.delete(name);
    if (kept.test(below) || !omitted(item, child)) entries.push([name, item]);
  }
  return Object.fromEntries([...entries, ...left]);
}

function omitted(value: unknown, schema: Schema): boolean {
  if (value === undefined || value === null || value === '') return true;
  if (Array.isArray(value)) return value.length === 0;
  // Structs are written even when they are empty, maps are not.
  if (isMap(value)) return !isStruct(schema) && Object.keys(value).length === 0;
  // A number or text of Kubernetes (maxSurge: 0) is a pointer.
  const numberOrText = Array.isArray(schema.type) && schema.type[0] === 'integer';
  return (value === false || value === 0) && !numberOrText;
}
