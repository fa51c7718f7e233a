/** schemas/cluster.schema.json: what may stand in cluster.yml, and how its keys are called in rkestate. */
import { readFileSync } from 'node:fs';

export interface Schema {
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  /** Of texts with a pattern: what a right one looks like. */
  readonly examples?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
}

export const clusterSchema = JSON.parse(
  readFileSync(new URL('../../schemas/cluster.schema.json', import.meta.url), 'utf8'),
) as Schema & Record<string, unknown>;

/** The keys whose name in rkestate is not their lowerCamel form in RKE 1.6. */
const irregular: Readonly<Record<string, string>> = {
  'kube-api': 'kubeApi',
  'kube-controller': 'kubeController',
  calico_flexvol: 'calicoFlexVol',
  canal_flexvol: 'canalFlexVol',
  ignore_daemonsets: 'ignoreDaemonSets',
  aws_session_token: 'awsAccessToken',
  s3backupconfig: 's3BackupConfig',
  cloudprovider: 'cloudProvider',
  tolerationseconds: 'tolerationSeconds',
  cacertificates: 'caCertificates',
};

export function stateKey(key: string): string {
  return irregular[key] ?? key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** What the schema says of one key of a map: a key of a closed struct, or an entry of an open map. */
export function schemaOf(schema: Schema, key: string): Schema | undefined {
  const own = schema.properties;
  if (own !== undefined && Object.hasOwn(own, key)) return own[key];
  return typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined;
}

/** The first type is RKE's own: text there takes numbers, true and false as well, by their characters. */
export function takesText(schema: Schema): boolean {
  return [schema.type].flat()[0] === 'string';
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `services.kube-api` of a cluster.yml that may hold anything, and `secrets_encryption_config` in it. */
export function kubeApiIn(raw: Readonly<Record<string, unknown>>): {
  readonly api: Readonly<Record<string, unknown>>;
  readonly encryption: Readonly<Record<string, unknown>>;
} {
  const below = (parent: Readonly<Record<string, unknown>>, name: string) => {
    const child = parent[name];
    return isMap(child) ? child : {};
  };
  const api = below(below(raw, 'services'), 'kube-api');
  return { api, encryption: below(api, 'secrets_encryption_config') };
}
