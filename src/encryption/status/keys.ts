/** All keys that anything knows of, each as a row: where it is, what it is for, what still lies under it. Pure. */
import type { NodeName } from '../../ports.ts';
import type { ClusterState } from '../../state/rkestate.ts';
import { keysOf, localKeysOf, resourcesOf, writeKeyOf, type ProviderFile } from '../configuration.ts';
import type { Holding } from '../holdings.ts';
import { keyId, type KeyRecord } from '../key.ts';
import { recordedFiles } from '../observe.ts';

export interface KeyRow {
  readonly type: Holding['provider'];
  /** Of the key, or of the KMS provider; empty for identity. */
  readonly name: string;
  readonly fingerprint?: string;
  /**
   * `active`: some node writes with it. `read-only`: some node reads with it. `unused`: known, on no node that was
   * seen. `missing`: etcd holds values under it, and nothing here holds the key.
   */
  readonly state: 'active' | 'read-only' | 'unused' | 'missing' | 'retired';
  /** RFC 3339; left out for keys that RKE made. */
  readonly created?: string;
  readonly ageSeconds?: number;
  readonly retired?: string;
  /** Where it comes from: `enable`, `rotate`, `found in use`, … */
  readonly why?: string;
  readonly writesOn: readonly NodeName[];
  /** Also those that write with it. */
  readonly readsOn: readonly NodeName[];
  /** Objects under it; left out where etcd could not be read. */
  readonly stored?: number;
}

export interface KeysRequest {
  readonly state: ClusterState;
  /** What each node that was seen works with. */
  readonly files: readonly { readonly node: NodeName; readonly file: ProviderFile }[];
  /** Of the resources that are encrypted or should be; undefined: etcd could not be read. */
  readonly holdings: readonly Holding[] | undefined;
  readonly now: Date;
}

const order = ['active', 'read-only', 'unused', 'missing', 'retired'] as const;

export function keyRows({ state, files, holdings, now }: KeysRequest): KeyRow[] {
  const found = new Map<string, { id: string; writesOn: Set<NodeName>; readsOn: Set<NodeName> }>();
  const entry = (id: string) => {
    const known = found.get(id) ?? { id, writesOn: new Set<NodeName>(), readsOn: new Set<NodeName>() };
    found.set(id, known);
    return known;
  };
  const ring = new Map(state.tsrke.keyRing.map((key) => [keyId(key), key]));
  const known = new Set([...ring.keys(), ...recordedFiles(state).flatMap(localKeysOf).map(keyId)]);
  for (const id of known) entry(id);
  for (const { node, file } of files) {
    const resources = file.entries.length === 0 ? ['secrets'] : resourcesOf(file);
    for (const resource of resources) {
      entry(writeKeyOf(file, resource).id).writesOn.add(node);
      for (const { id } of keysOf(file, resource)) entry(id).readsOn.add(node);
    }
  }
  for (const { id } of holdings ?? []) entry(id);
  const rows = [...found.values()].map(({ id, writesOn, readsOn }): KeyRow => {
    const record = ring.get(id);
    const isKnown = known.has(id) || id === 'identity';
    return {
      ...nameOf(id),
      state:
        writesOn.size > 0
          ? 'active'
          : readsOn.size > 0
            ? 'read-only'
            : record?.retired !== undefined
              ? 'retired'
              : isKnown
                ? 'unused'
                : 'missing',
      ...timesOf(record, now),
      writesOn: [...writesOn],
      readsOn: [...readsOn],
      ...(holdings === undefined ? {} : { stored: storedUnder(id, holdings) }),
    };
  });
  return rows.toSorted(
    (a, b) =>
      order.indexOf(a.state) - order.indexOf(b.state) ||
      Number(a.type === 'identity') - Number(b.type === 'identity') ||
      (b.created ?? '').localeCompare(a.created ?? '') ||
      a.name.localeCompare(b.name),
  );
}

function storedUnder(id: string, holdings: readonly Holding[]): number {
  return holdings.reduce((sum, each) => (each.id === id ? sum + each.count : sum), 0);
}

function timesOf(record: KeyRecord | undefined, now: Date): Partial<KeyRow> {
  if (record === undefined) return {};
  const { created, retired, why } = record;
  // A key that was found in use is older than the time at which it was found.
  const isMade = created !== '' && why !== 'found in use';
  return {
    ...(isMade
      ? { created, ageSeconds: Math.max(0, Math.round((now.getTime() - Date.parse(created)) / 1000)) }
      : {}),
    ...(retired === undefined ? {} : { retired }),
    ...(why === '' ? {} : { why }),
  };
}

/** `aescbc:NAME#FINGERPRINT`, `kms2:NAME`, `identity`, `unknown:PREFIX`. */
function nameOf(id: string): Pick<KeyRow, 'type' | 'name' | 'fingerprint'> {
  const [type = '', ...rest] = id.split(':');
  const [name = '', fingerprint] = rest.join(':').split('#');
  return { type: type as KeyRow['type'], name, ...(fingerprint === undefined ? {} : { fingerprint }) };
}
