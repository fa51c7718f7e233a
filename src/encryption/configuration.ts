/**
 * EncryptionConfiguration as data: parsed, rendered in RKE's own form, compared by meaning, composed.
 * Rules are those of kube-apiserver 1.24 to 1.37 (k8s.io/apiserver/pkg/server/options/encryptionconfig).
 */
import { createHash } from 'node:crypto';
import { CORE_SCHEMA, load } from 'js-yaml';
import { TsrkeError } from '../errors.ts';
import { keyId, Secret, type Key, type LocalProvider } from './key.ts';
import { namesFor } from './pattern.ts';

export interface KmsProvider {
  readonly kind: 'kms';
  readonly apiVersion: 'v1' | 'v2';
  readonly name: string;
  readonly endpoint: string;
  readonly timeout?: string;
  readonly cachesize?: number;
}

export type Provider =
  | { readonly kind: LocalProvider; readonly keys: readonly Key[] }
  | { readonly kind: 'identity' }
  | KmsProvider;

export interface Entry {
  readonly resources: readonly string[];
  readonly providers: readonly Provider[];
}

/** An empty one stands for a server without the flag: everything is `identity`. */
export interface ProviderFile {
  readonly entries: readonly Entry[];
}

export const noFile: ProviderFile = { entries: [] };

/** One key of a resource, in the order in which kube-apiserver tries them; the first one writes. */
export interface KeyRef {
  /** `identity`, `aescbc:NAME#FINGERPRINT`, `kms1:NAME`, `kms2:NAME`. */
  readonly id: string;
  /** As etcd shows it, without the fingerprint: `identity`, `aescbc:NAME`, `kms2:NAME`. */
  readonly stored: string;
  readonly provider: Provider;
  /**
   * A plugin's key encryption key stands behind it, which can change without any file: values tell its id (`named`) or
   * not (`unnamed`). undefined: the key in the file is all there is.
   */
  readonly kek?: 'named' | 'unnamed';
}

export const identity: KeyRef = { id: 'identity', stored: 'identity', provider: { kind: 'identity' } };
const kekOf = { v1: 'unnamed', v2: 'named' } as const;
const localProviders = ['aescbc', 'aesgcm', 'secretbox'] as const;

/**
 * The keys of a resource: the lists of all entries that speak of it by the same name, one after the other
 * (kube-apiserver concatenates them). A resource that no entry speaks of is `identity`.
 */
export function keysOf(file: ProviderFile, resource: string): readonly KeyRef[] {
  const found = entriesOf(file, resource).flatMap((entry) => entry.providers.flatMap(refsOf));
  return found.length === 0 ? [identity] : found;
}

export function entriesOf(file: ProviderFile, resource: string): readonly Entry[] {
  for (const name of namesFor(resource)) {
    const entries = file.entries.filter((entry) => entry.resources.includes(name));
    if (entries.length > 0) return entries;
  }
  return [];
}

/** Of all resources, in the file's order; one that stands in several entries as often. */
export function kmsProvidersIn(file: ProviderFile | undefined): KmsProvider[] {
  return (file?.entries ?? []).flatMap(({ providers }) => providers.filter((each) => each.kind === 'kms'));
}

export function writeKeyOf(file: ProviderFile, resource: string): KeyRef {
  return keysOf(file, resource)[0] ?? identity;
}

export function localRef(key: Key): KeyRef {
  return {
    id: keyId(key),
    stored: `${key.provider}:${key.name}`,
    provider: { kind: key.provider, keys: [key] },
  };
}

function refsOf(provider: Provider): KeyRef[] {
  switch (provider.kind) {
    case 'identity':
      return [identity];
    case 'kms': {
      const id = `${provider.apiVersion === 'v1' ? 'kms1' : 'kms2'}:${provider.name}`;
      return [{ id, stored: id, provider, kek: kekOf[provider.apiVersion] }];
    }
    case 'aescbc':
    case 'aesgcm':
    case 'secretbox':
      return provider.keys.map(localRef);
  }
}

export function resourcesOf(...files: readonly ProviderFile[]): string[] {
  return [...new Set(files.flatMap((file) => file.entries.flatMap((entry) => entry.resources)))];
}

/** All local keys of a file, each once. */
export function localKeysOf(file: ProviderFile): Key[] {
  const keys = new Map<string, Key>();
  for (const entry of file.entries) {
    for (const provider of entry.providers) {
      if (provider.kind === 'identity' || provider.kind === 'kms') continue;
      for (const key of provider.keys) keys.set(keyId(key), key);
    }
  }
  return [...keys.values()];
}

/** Whether both mean the same to kube-apiserver; white space, quoting and comments do not count. */
export function sameMeaning(a: ProviderFile, b: ProviderFile): boolean {
  return a.entries.length === 0 || b.entries.length === 0
    ? a.entries.length === b.entries.length
    : renderProviderFile(a) === renderProviderFile(b);
}

/** Tells files apart by meaning, across runs: hex sha256 of the rendered text. Empty for no file. */
export function meaningHash(file: ProviderFile): string {
  return file.entries.length === 0 ? '' : createHash('sha256').update(renderProviderFile(file)).digest('hex');
}

/** A file on one line, the way OpenShift's tests print it: `aescbc:k-1,identity`; entries by `; `. No key material. */
export function film(file: ProviderFile): string {
  if (file.entries.length === 0) return 'identity (no file)';
  return file.entries
    .map((entry) => {
      const keys = entry.providers.flatMap(refsOf).map((ref) => ref.stored);
      return `${entry.resources.join('+')}: ${keys.join(',')}`;
    })
    .join('; ');
}

/** `aescbc` with this key first and `identity` to read what is still plain: what RKE writes for Secrets. */
export function managedFile(key: Key, resources: readonly string[] = ['secrets']): ProviderFile {
  return { entries: [{ resources, providers: [{ kind: key.provider, keys: [key] }, { kind: 'identity' }] }] };
}

/** In RKE 1.6's own form, key order and indentation; without a newline at the end, as RKE stores it. */
export function renderProviderFile(file: ProviderFile): string {
  const lines = ['apiVersion: apiserver.config.k8s.io/v1', 'kind: EncryptionConfiguration', 'resources:'];
  for (const entry of file.entries) {
    lines.push(
      '- resources:',
      ...entry.resources.map((resource) => `  - ${quoted(resource)}`),
      '  providers:',
    );
    for (const provider of entry.providers) lines.push(...providerLines(provider));
  }
  return lines.join('\n');
}

function providerLines(provider: Provider): string[] {
  switch (provider.kind) {
    case 'identity':
      return ['  - identity: {}'];
    case 'kms': {
      const { kind: _kind, ...fields } = provider;
      const lines = Object.entries(fields).map(
        // kube-apiserver does not take a cachesize in quotes.
        ([name, value]) => `      ${name}: ${typeof value === 'number' ? value : quoted(value)}`,
      );
      return ['  - kms:', ...lines];
    }
    case 'aescbc':
    case 'aesgcm':
    case 'secretbox':
      return [
        `  - ${provider.kind}:`,
        '      keys:',
        ...provider.keys.flatMap((key) => [
          `      - name: ${quoted(key.name)}`,
          `        secret: ${quoted(key.secret.reveal())}`,
        ]),
      ];
  }
}

/** Plain where YAML reads it back as this very string, else in JSON's quotes (which are YAML's). */
function quoted(text: string): string {
  return /^[A-Za-z][A-Za-z0-9._/-]*$/.test(text) && !/^(y|n|yes|no|on|off|true|false|null)$/i.test(text)
    ? text
    : /^[A-Za-z0-9+/]+={1,2}$/.test(text)
      ? text
      : JSON.stringify(text);
}

/**
 * Reads a provider file (YAML or JSON, also the legacy `v1` `EncryptionConfig`; RKE's doubled header too).
 * `where` names it in errors. Throws PROVIDER_FILE_INVALID; no message ever holds a value from the file.
 */
export function parseProviderFile(text: string, where: string): ProviderFile {
  const invalid = (what: string, cause?: unknown): TsrkeError =>
    new TsrkeError('PROVIDER_FILE_INVALID', `${where} is not a usable EncryptionConfiguration: ${what}`, {
      cause,
    });
  let document: unknown;
  try {
    document = load(text, { schema: CORE_SCHEMA, json: true });
  } catch {
    // The parser's own message can quote the line, and the line can be a key.
    throw invalid('it is not valid YAML');
  }
  const list = (value: unknown, path: string): unknown[] => {
    if (Array.isArray(value) && value.length > 0) return value as unknown[];
    throw invalid(`${path} must be a list that is not empty`);
  };
  const map = (value: unknown, path: string): Record<string, unknown> => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
    throw invalid(`${path} must be a mapping`);
  };
  const string = (value: unknown, path: string): string => {
    if (typeof value === 'string' && value !== '') return value;
    throw invalid(`${path} is a mandatory field`);
  };
  const top = map(document, 'the file');
  const kind = string(top['kind'], 'kind');
  if (kind !== 'EncryptionConfiguration' && kind !== 'EncryptionConfig') throw invalid('kind is another one');
  const entries = list(top['resources'], 'resources').map((entryValue, i): Entry => {
    const at = `resources[${i}]`;
    const entry = map(entryValue, at);
    const providers = list(entry['providers'], `${at}.providers`).map((value, j): Provider => {
      const path = `${at}.providers[${j}]`;
      const element = map(value, path);
      const kinds = Object.keys(element);
      const [name] = kinds;
      if (name === undefined || kinds.length !== 1) throw invalid(`${path} must hold exactly one provider`);
      if (name === 'identity') return { kind: 'identity' };
      const body = map(element[name], `${path}.${name}`);
      if (name === 'kms') return kmsOf(body, `${path}.kms`, string, invalid);
      const local = localProviders.find((each) => each === name);
      if (local === undefined) throw invalid(`${path} names no provider that kube-apiserver knows`);
      const keys = list(body['keys'], `${path}.${name}.keys`).map((keyValue, k): Key => {
        const keyPath = `${path}.${name}.keys[${k}]`;
        const key = map(keyValue, keyPath);
        const secret = new Secret(string(key['secret'], `${keyPath}.secret`));
        const lengths = local === 'secretbox' ? [32] : [16, 24, 32];
        if (!lengths.includes(secret.bytes().length)) {
          throw invalid(
            `${keyPath}.secret is not of the expected length, expected one of [${lengths.join(' ')}]`,
          );
        }
        const keyName = string(key['name'], `${keyPath}.name`);
        // kube-apiserver allows it, but what etcd then holds cannot be told apart by its prefix.
        if (keyName.includes(':')) throw invalid(`${keyPath}.name must not contain ':'`);
        return { provider: local, name: keyName, secret };
      });
      return { kind: local, keys };
    });
    const resources = list(entry['resources'], `${at}.resources`).map((name) =>
      string(name, `${at}.resources`),
    );
    return { resources, providers };
  });
  return { entries };
}

function kmsOf(
  body: Record<string, unknown>,
  path: string,
  string: (value: unknown, path: string) => string,
  invalid: (what: string) => TsrkeError,
): KmsProvider {
  // kube-apiserver takes an empty one as none.
  const apiVersion = body['apiVersion'] === '' ? 'v1' : (body['apiVersion'] ?? 'v1');
  if (apiVersion !== 'v1' && apiVersion !== 'v2') throw invalid(`${path}.apiVersion must be v1 or v2`);
  const { timeout, cachesize } = body;
  return {
    kind: 'kms',
    apiVersion,
    name: string(body['name'], `${path}.name`),
    endpoint: string(body['endpoint'], `${path}.endpoint`),
    ...(typeof timeout === 'string' ? { timeout } : {}),
    ...(typeof cachesize === 'number' ? { cachesize } : {}),
  };
}
