/** What cluster.yml asks for otherwise than the state has it, in cluster.yml's own keys: added, changed and removed. */
import { clusterSchema, isMap, schemaOf, stateKey } from './keys.ts';
import type { Schema } from './keys.ts';
import type { ClusterConfig } from './load.ts';
import { rkeConfigOf, secondPass } from './rke-config.ts';

export interface Difference {
  /** `services.kube-api.extra_args.v`, `nodes[198.51.100.11].role`. */
  readonly path: string;
  /** In the state; undefined: not there. Nothing secret. */
  readonly from: unknown;
  /** By cluster.yml, with RKE's defaults; undefined: not there. */
  readonly to: unknown;
}

/** How hosts are reached, what RKE overwrites (images of services), what it dropped, and what tsrke itself changes. */
const ignored =
  /(^|\.)ssh_\w+$|^(ignore_docker_version|bastion_host|rotate_encryption_key)$|^services\.([\w-]+\.image|kubelet\.infra_container_image|kube-api\.(secrets_encryption_config|extra_binds|pod_security_policy))$/;

/** In the state without ever having stood in cluster.yml: RKE's own webhook file, and traces of a command that ran. */
const ofRke = /^(authentication\.webhook\.config_file|rotate_certificates|restore)$/;

/** What is compared, side by side. */
interface Sides {
  /** In cluster.yml's keys: only what the file says. */
  readonly said: unknown;
  /** In the state's keys, with all defaults: the file's, and those that the file would have on this state's cluster. */
  readonly wanted: unknown;
  readonly usual: unknown;
  readonly stored: unknown;
}

/**
 * What the file says is compared as RKE would store it. What it does not say is a difference only where the state has
 * something else than the default: then it was taken out of the file.
 */
export function differences(config: ClusterConfig, state: Readonly<Record<string, unknown>>): Difference[] {
  const sides: Sides = {
    said: config.raw,
    wanted: secondPass(rkeConfigOf(config)),
    usual: secondPass(rkeConfigOf({ ...config, raw: onThisCluster(config.raw, state) })),
    stored: state,
  };
  const nodes = compareNodes(sides);
  return [...nodes, ...compare(sides, withoutNodes, '')];
}

/** One line for the user, e.g. `services.etcd.retention: 72h in the state, 24h in cluster.yml`. */
export function describe({ path, from, to }: Difference): string {
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  if (from === undefined) return `${path}: not in the state, ${text(to)} in cluster.yml`;
  return `${path}: ${text(from)} in the state, ${to === undefined ? 'not' : text(to)} in cluster.yml`;
}

const withoutNodes: Schema = {
  ...clusterSchema,
  properties: Object.fromEntries(
    Object.entries(clusterSchema.properties ?? {}).filter(([key]) => key !== 'nodes'),
  ),
};

/** Defaults depend on these keys: where they differ, that is the difference, not every default that follows. */
const decisive: readonly (readonly [section: string, key: string])[] = [
  ['network', 'plugin'],
  ['dns', 'provider'],
  ['authentication', 'strategy'],
];

function decides(path: string): boolean {
  return path === 'kubernetes_version' || decisive.some((names) => names.join('.') === path);
}

function onThisCluster(
  raw: Readonly<Record<string, unknown>>,
  state: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const version = state['kubernetesVersion'];
  const changed = decisive.flatMap(([section, key]) => {
    const stored = mapOf(state[section])[key];
    return isEmpty(stored) ? [] : [[section, { ...mapOf(raw[section]), [key]: stored }] as const];
  });
  return {
    ...raw,
    ...(isEmpty(version) ? {} : { kubernetes_version: version }),
    ...Object.fromEntries(changed),
  };
}

function compare(sides: Sides, schema: Schema | undefined, path: string): Difference[] {
  const { said, wanted, usual, stored } = sides;
  const isSaid = said !== undefined && said !== null;
  if (ignored.test(path) || (!isSaid && ofRke.test(path))) return [];
  if (schema?.properties !== undefined) {
    return Object.entries(schema.properties).flatMap(([key, child]) =>
      compare(below(sides, key, stateKey(key)), child, path === '' ? key : `${path}.${key}`),
    );
  }
  const target = isSaid || decides(path) ? wanted : usual;
  if (isMap(target) || isMap(stored)) {
    if ([target, stored].every((each) => isMap(each) || isEmpty(each))) {
      const keys = new Set([target, stored].flatMap((each) => Object.keys(mapOf(each))));
      return [...keys].flatMap((key) =>
        compare(below(sides, key, key), schema && schemaOf(schema, key), `${path}.${key}`),
      );
    }
  }
  if (Array.isArray(target) && Array.isArray(stored) && schema?.items?.properties !== undefined) {
    if (target.length === stored.length) {
      return target.flatMap((_, index) =>
        compare(below(sides, index, index), schema.items, `${path}[${index}]`),
      );
    }
  }
  if (sameText(target, stored)) return [];
  if (!isSaid && (isEmpty(stored) || isOtherRelease(path, usual, stored))) return [];
  return [difference(path, inFileKeys(stored, schema), inFileKeys(target, schema))];
}

function below(sides: Sides, saidKey: string | number, key: string | number): Sides {
  return {
    said: child(sides.said, saidKey),
    wanted: child(sides.wanted, key),
    usual: child(sides.usual, key),
    stored: child(sides.stored, key),
  };
}

function child(value: unknown, key: string | number): unknown {
  if (Array.isArray(value)) return (value as unknown[])[Number(key)];
  return isMap(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

/** The same image in another version or from another registry came with another release of RKE, not from the file. */
function isOtherRelease(path: string, usual: unknown, stored: unknown): boolean {
  if (!path.startsWith('system_images.')) return false;
  if (typeof usual !== 'string' || typeof stored !== 'string') return true;
  const [ours, theirs] = [usual, stored].map((image) => image.replace(/:[^:/]+$/, ''));
  return `/${theirs ?? ''}`.endsWith(`/${ours ?? ''}`) || `/${ours ?? ''}`.endsWith(`/${theirs ?? ''}`);
}

/** Nodes belong together by their addresses. */
function compareNodes({ said, wanted, stored }: Sides): Difference[] {
  const named = new Map(nodesOf(said).map((node) => [String(node['address']), node]));
  const now = new Map(nodesOf(wanted).map((node) => [String(node['address']), node]));
  const before = new Map(nodesOf(stored).map((node) => [String(node['address']), node]));
  return [...new Set([...now.keys(), ...before.keys()])].flatMap((address) => {
    const [node, old] = [now.get(address), before.get(address)];
    const path = `nodes[${address}]`;
    if (node === undefined || old === undefined) {
      return [{ path, from: old && nodeText(old), to: node && nodeText(node) }];
    }
    const sides = {
      said: named.get(address),
      wanted: sorted(node),
      usual: sorted(node),
      stored: sorted(old),
    };
    return compare(sides, clusterSchema.properties?.['nodes']?.items, path);
  });
}

function nodesOf(rke: unknown): Record<string, unknown>[] {
  const nodes = mapOf(rke)['nodes'];
  return Array.isArray(nodes) ? nodes.filter(isMap) : [];
}

/** Of roles the order means nothing, and old states have names that were not lower-cased. */
function sorted(node: Record<string, unknown>): Record<string, unknown> {
  const override = node['hostnameOverride'];
  return {
    ...node,
    role: rolesOf(node).sort(),
    ...(isEmpty(override) ? {} : { hostnameOverride: String(override).toLowerCase() }),
  };
}

function rolesOf(node: Record<string, unknown>): string[] {
  return Array.isArray(node['role']) ? node['role'].map(String) : [];
}

function nodeText(node: Record<string, unknown>): string {
  const name = isEmpty(node['hostnameOverride']) ? node['address'] : node['hostnameOverride'];
  return `${String(name)} (${rolesOf(node).join(', ')})`;
}

function mapOf(value: unknown): Record<string, unknown> {
  return isMap(value) ? value : {};
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return true;
  if (Array.isArray(value)) return value.length === 0;
  return isMap(value) && Object.values(value).every(isEmpty);
}

function sameText(a: unknown, b: unknown): boolean {
  return plain(a) === plain(b);
}

/** RKE does not tell numbers from texts, nor absent from empty. */
function plain(value: unknown): string {
  if (isEmpty(value) || value === false || value === 0) return '';
  if (Array.isArray(value)) return JSON.stringify(value.map(plain));
  if (isMap(value)) {
    const entries = Object.entries(value).filter(([, item]) => !isEmpty(item));
    return JSON.stringify(entries.map(([key, item]) => [key, plain(item)]).sort());
  }
  return `${value as string | number | boolean}`;
}

function difference(path: string, from: unknown, to: unknown): Difference {
  const key = path.slice(path.lastIndexOf('.') + 1);
  return { path, from: shown(key, from), to: shown(key, to) };
}

/** A value of the state in cluster.yml's keys. */
function inFileKeys(value: unknown, schema: Schema | undefined): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => inFileKeys(item, schema?.items));
  if (!isMap(value)) return value;
  const keys = new Map(Object.keys(schema?.properties ?? {}).map((key) => [stateKey(key), key]));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => {
      const key = keys.get(name) ?? name;
      return [key, inFileKeys(item, schema && schemaOf(schema, key))];
    }),
  );
}

const secret =
  /pass(word|phrase|wd)?|secret|token|credential|access-?_?key|user-?_?key|client-?_?key|^key$|private/i;

/** Texts of several lines are manifests, certificates or cloud configs: told by their length only. */
function shown(key: string, value: unknown): unknown {
  if (isEmpty(value)) return undefined;
  if (Array.isArray(value)) return value.map((item: unknown) => shown(key, item));
  if (isMap(value))
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shown(name, item)]));
  if (secret.test(key)) return '[redacted]';
  if (typeof value !== 'string') return value;
  if (value.trim().includes('\n')) return `[${value.trim().split('\n').length} lines]`;
  const name = /^([\w.-]+)=/.exec(value)?.[1];
  return name !== undefined && secret.test(name) ? `${name}=[redacted]` : value;
}
