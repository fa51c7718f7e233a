/** Encryption as cluster.yml may ask for it, and what then lies in etcd: for tests that go from each to each. */
import { createHash } from 'node:crypto';
import { etcdPathOfKey, resourceOfPath } from '../../src/etcd/paths.ts';
import { kmsFolder } from './lab.ts';

export interface Wanted {
  /** `secrets_encryption_config` in cluster.yml. */
  readonly block: object;
  /** With what its values in etcd begin, as far into the key's name as it is known; '' for the clear. */
  readonly under: (resource: string) => string;
}

/** A key that tsrke chooses: where it was already there, it goes on. */
const managed = (provider: string) => `k8s:enc:${provider}:v1:`;
const kmsNamed = (name: string) => `k8s:enc:kms:v2:${name}:`;

const only = (prefixes: Readonly<Record<string, string>>) => (resource: string) => prefixes[resource] ?? '';
const isCore = (resource: string) => !resource.includes('.');

const secret = (seed: string) => createHash('sha256').update(seed).digest('base64');
const spelled = (name: string) => ({ name, secret: secret(name) });
const entry = (resources: readonly string[], ...providers: object[]) => ({
  resources,
  providers: [...providers, { identity: {} }],
});
const custom = (...resources: object[]) => ({ enabled: true, custom_config: { resources } });

/** A KMS v2 provider; `socket`: the name of its file in kmsFolder. */
const kms = (name: string, socket = 'socket') => ({
  kms: { apiVersion: 'v2', name, endpoint: `unix://${kmsFolder}/${socket}.sock`, timeout: '3s' },
});

/** The eight of which each can follow each. */
export const eight = {
  off: { block: { enabled: false }, under: only({}) },
  aescbc: { block: { enabled: true }, under: only({ secrets: managed('aescbc') }) },
  'KMS v2': {
    block: custom(entry(['secrets'], kms('vault'))),
    under: only({ secrets: kmsNamed('vault') }),
  },
  'two resources': {
    block: { enabled: true, resources: ['secrets', 'configmaps'] },
    under: only({ secrets: managed('aescbc'), configmaps: managed('aescbc') }),
  },
  secretbox: {
    block: { enabled: true, provider: 'secretbox' },
    under: only({ secrets: managed('secretbox') }),
  },
  /** The core group without ConfigMaps, with a key that tsrke makes. */
  wildcard: {
    block: custom(
      { resources: ['configmaps'], providers: [{ identity: {} }] },
      entry(['*.'], { secretbox: { keys: [{ name: 'core' }] } }),
    ),
    under: (resource) => (isCore(resource) && resource !== 'configmaps' ? 'k8s:enc:secretbox:v1:core' : ''),
  },
  aesgcm: { block: { enabled: true, provider: 'aesgcm' }, under: only({ secrets: managed('aesgcm') }) },
  'two keys': {
    block: custom(entry(['secrets'], { aescbc: { keys: [spelled('one'), spelled('two')] } })),
    under: only({ secrets: 'k8s:enc:aescbc:v1:one:' }),
  },
} as const satisfies Readonly<Record<string, Wanted>>;

/** Beyond the eight: what is peculiar to KMS names, of which a file can hold each once, and to wildcards. */
export const special = {
  'KMS v2 for two resources': {
    block: custom(entry(['secrets', 'configmaps'], kms('vault'))),
    under: only({ secrets: kmsNamed('vault'), configmaps: kmsNamed('vault') }),
  },
  'a KMS name for each': {
    block: custom(entry(['secrets'], kms('vault')), entry(['configmaps'], kms('vault-2'))),
    under: only({ secrets: kmsNamed('vault'), configmaps: kmsNamed('vault-2') }),
  },
  /** As `KMS v2`, at another socket. */
  'KMS v2 elsewhere': {
    block: custom(entry(['secrets'], kms('vault', 'moved'))),
    under: only({ secrets: kmsNamed('vault') }),
  },
  everything: {
    block: custom(entry(['*.*'], { aesgcm: { keys: [{ name: 'all' }] } })),
    under: () => 'k8s:enc:aesgcm:v1:all',
  },
} as const satisfies Readonly<Record<string, Wanted>>;

export const wanted: Readonly<Record<string, Wanted>> = { ...eight, ...special };

/** A walk that takes every way from one to another once, and ends where it began, with the first. */
export function everyWay(names: readonly string[]): string[] {
  const [first, next, ...others] = names;
  if (first === undefined) return [];
  if (next === undefined) return [first];
  return [first, ...others.flatMap((each) => [each, first]), ...everyWay(names.slice(1)), first];
}

/**
 * Sentences on values below `/registry` (etcd key and provider prefix of each) that do not lie where this wants them, or
 * not all of a resource under one key.
 */
export function astray(prefixes: Iterable<readonly [string, string]>, { under }: Wanted): string[] {
  const found = new Map<string, string>();
  const problems: string[] = [];
  for (const [key, prefix] of prefixes) {
    const resource = resourceOfPath(etcdPathOfKey(key.slice('/registry/'.length)));
    if (resource === undefined) continue;
    const should = found.get(resource) ?? under(resource);
    const fits = should === '' ? prefix === '' : prefix.startsWith(should);
    if (fits) found.set(resource, prefix);
    else problems.push(`${key} lies under '${prefix}', not under '${should}'`);
  }
  return problems;
}
