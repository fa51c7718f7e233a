/**
 * What cluster.yml says otherwise than the state. Only what the file names is compared: the state also holds
 * every default, so a key that was taken out of the file cannot be told from one that never stood there.
 */
import type { ClusterConfig } from './load.ts';
import { clusterSchema, isMap, schemaOf, stateKey } from './keys.ts';
import type { Schema } from './keys.ts';

export interface Difference {
  /** In the state's keys: `services.kubeApi.extraArgs.v`, `nodes[198.51.100.11].role`. */
  path: string;
  from: unknown;
  to: unknown;
}

/** How hosts are reached and what tsrke itself changes; RKE never compares these either. */
const ignored =
  /(^|\.)ssh[A-Z]\w*$|^(ignoreDockerVersion|bastionHost|rotateEncryptionKey)$|^services\.kubeApi\.secretsEncryptionConfig$/;

/** Overwritten from `systemImages`, so that the file's word never reaches the state. */
const overwritten = /^services\.\w+\.image$|^services\.kubelet\.infraContainerImage$/;

/** RKE takes 0 for "not set" here and stores its default. */
const defaultedNumbers =
  /(^|\.)(addonJobTimeout|httpPort|httpsPort|backupConfig\.(intervalHours|retention|timeout))$/;

export function differences(config: ClusterConfig, stateRkeConfig: Record<string, unknown>): Difference[] {
  const found: Difference[] = [];
  const registry = defaultRegistry(config.raw);
  compareNodes(config, stateRkeConfig, found);

  function compare(said: unknown, stored: unknown, schema: Schema | undefined, path: string): void {
    if (ignored.test(path) || overwritten.test(path)) return;
    if (isMap(said) && (isMap(stored) || isEmpty(stored))) {
      for (const [key, value] of Object.entries(said)) {
        const closed = schema?.properties !== undefined;
        const child = schema && schemaOf(schema, key);
        if (closed && child === undefined) continue;
        const name = closed ? stateKey(key) : key;
        if (path === '' && name === 'nodes') continue;
        compare(
          value,
          isMap(stored) ? stored[name] : undefined,
          child,
          path === '' ? name : `${path}.${name}`,
        );
      }
      return;
    }
    if (Array.isArray(said)) {
      const before = Array.isArray(stored) ? (stored as unknown[]) : [];
      if (said.length === before.length && said.some(isMap)) {
        said.forEach((item, index) => compare(item, before[index], schema?.items, `${path}[${index}]`));
      } else if (!sameText(said, isEmpty(stored) ? [] : stored)) {
        add(found, path, stored, said);
      }
      return;
    }
    if (isEmpty(said) || (said === 0 && defaultedNumbers.test(path))) return;
    // Go leaves false and 0 out of the state.
    if ((said === false || said === 0) && isEmpty(stored)) return;
    if (sameText(said, stored)) return;
    if (path.startsWith('systemImages.') && sameText(`${registry}/${String(said)}`, stored)) return;
    add(found, path, stored, said);
  }

  function compareNodes(now: ClusterConfig, state: Record<string, unknown>, into: Difference[]): void {
    const before = new Map(
      (Array.isArray(state['nodes']) ? (state['nodes'] as unknown[]) : [])
        .filter(isMap)
        .map((node) => [String(node['address']), node]),
    );
    const said = (now.raw['nodes'] as Record<string, unknown>[] | undefined) ?? [];
    now.nodes.forEach((node, index) => {
      const path = `nodes[${node.address}]`;
      const old = before.get(node.address);
      if (old === undefined) {
        into.push({ path, from: undefined, to: `${node.name} (${node.roles.join(', ')})` });
        return;
      }
      const { role, hostname_override: override, ...rest } = said[index] ?? {};
      const hadRoles = Array.isArray(old['role']) ? (old['role'] as unknown[]).map(String) : [];
      if (Array.isArray(role) && !sameText(role.map(String).sort(), hadRoles.sort())) {
        add(into, `${path}.role`, old['role'], role);
      }
      if (!isEmpty(override) && !sameText(node.name, old['hostnameOverride'] ?? old['address'])) {
        add(into, `${path}.hostnameOverride`, old['hostnameOverride'], node.name);
      }
      compare(rest, old, clusterSchema.properties?.['nodes']?.items, path);
    });
    for (const [address, node] of before) {
      if (now.nodes.some((one) => one.address === address)) continue;
      const name = isEmpty(node['hostnameOverride']) ? address : String(node['hostnameOverride']);
      into.push({ path: `nodes[${address}]`, from: name, to: undefined });
    }
  }

  compare(config.raw, stateRkeConfig, clusterSchema, '');
  return found;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return true;
  return Array.isArray(value) ? value.length === 0 : isMap(value) && Object.keys(value).length === 0;
}

function sameText(a: unknown, b: unknown): boolean {
  return plain(a) === plain(b);
}

function plain(value: unknown): string {
  if (Array.isArray(value)) return JSON.stringify(value.map(plain));
  if (isMap(value)) {
    const entries = Object.entries(value).filter(([, item]) => !isEmpty(item));
    return JSON.stringify(entries.map(([key, item]) => [key, plain(item)]).sort());
  }
  return isEmpty(value) ? '' : `${value as string | number | boolean}`;
}

function defaultRegistry(raw: Record<string, unknown>): string {
  const registries = Array.isArray(raw['private_registries']) ? (raw['private_registries'] as unknown[]) : [];
  const chosen = registries.filter(isMap).find((registry) => registry['is_default'] === true);
  return typeof chosen?.['url'] === 'string' ? chosen['url'] : '';
}

function add(into: Difference[], path: string, from: unknown, to: unknown): void {
  const key = path.slice(path.lastIndexOf('.') + 1);
  into.push({ path, from: shown(key, from), to: shown(key, to) });
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
