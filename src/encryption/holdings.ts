/** What etcd holds under which key, each value told apart by the key that opens it: what a person is shown. */
import { census, type Census, type Tally } from '../etcd/census.ts';
import { decryptable } from '../etcd/decrypt.ts';
import { resourceOfPath } from '../etcd/paths.ts';
import type { StoredKey, StoredProvider } from '../etcd/stored.ts';
import type { Etcd } from '../ports.ts';
import { keyId, type Key } from './key.ts';

/** Objects of one resource under one key. */
export interface Holding {
  /** A provider file's name for it: `secrets`, `widgets.example.com`. */
  readonly resource: string;
  readonly provider: StoredProvider;
  /** Of the key, or of the KMS provider; empty for identity. */
  readonly name: string;
  /** As KeyRef's: `aescbc:NAME#FINGERPRINT`; without the fingerprint where no known key has this name. */
  readonly id: string;
  /** KMS v2: the id of the key in the KMS. */
  readonly kmsKeyId: string | undefined;
  readonly count: number;
  /** How many of these do not open with any known key of that name. */
  readonly refused: number;
  /** Up to five names, `namespace/name` or `name`, in etcd's order. */
  readonly samples: readonly string[];
}

export interface Holdings {
  readonly total: number;
  /** Where and when each etcd was read. */
  readonly at: readonly { readonly clusterId: string; readonly revision: bigint }[];
  readonly holdings: readonly Holding[];
}

const sampleSize = 5;

/**
 * One pass over all etcds, memory for counts only. `keys`: every local key that is known, to open values with.
 * `onPage` is told how many values have been seen. Throws ETCD.
 */
export async function countHoldings(
  etcds: readonly Etcd[],
  prefix: string,
  keys: readonly Key[],
  signal: AbortSignal,
  onPage: (seen: number) => void = () => undefined,
): Promise<Holdings> {
  const root = prefix.endsWith('/') ? prefix : `${prefix}/`;
  const opens = openerOf(keys);
  const counts: Census[] = [];
  for (const etcd of etcds) {
    const before = sumOf(counts);
    const onCount = (seen: number) => onPage(before + seen);
    counts.push(await census(etcd, { prefix, signal, onPage: onCount, tryRead: opens }));
  }
  const found = new Map<string, Holding>();
  for (const [path, tallies] of counts.flatMap(({ groups }) => [...groups])) {
    const resource = resourceOfPath(path);
    if (resource === undefined) continue;
    for (const tally of tallies.values()) {
      const holding = holdingOf(resource, tally, `${root}${path}/`.length);
      const group = [resource, holding.id, holding.kmsKeyId ?? ''].join(' ');
      found.set(group, merged(found.get(group), holding));
    }
  }
  const holdings = [...found.values()].toSorted(
    (a, b) => a.resource.localeCompare(b.resource) || b.count - a.count || a.id.localeCompare(b.id),
  );
  const at = counts.map(({ clusterId, revision }) => ({ clusterId, revision }));
  return { total: sumOf(counts), at, holdings };
}

function sumOf(counts: readonly Census[]): number {
  return counts.reduce((sum, { total }) => sum + total, 0);
}

/** `start`: where names begin in etcd's keys. */
function holdingOf(
  resource: string,
  { stored, openedBy, count, samples, refused }: Tally,
  start: number,
): Holding {
  const { provider, name, id, keyId: kmsKeyId } = stored;
  return {
    ...{ resource, provider, name, id: openedBy ?? id, kmsKeyId, count, refused: refused.count },
    samples: samples.map((key) => key.slice(start)),
  };
}

/** What opens a value: a key's id, `false` where no key of its name does, undefined where none of that name is known. */
type Opener = (value: Buffer, etcdKey: string, stored: StoredKey) => string | false | undefined;

function openerOf(keys: readonly Key[]): Opener {
  const named = new Map<string, { id: string; bytes: Buffer; key: Key }[]>();
  for (const key of keys) {
    const name = `${key.provider}:${key.name}`;
    named.set(name, [...(named.get(name) ?? []), { id: keyId(key), bytes: key.secret.bytes(), key }]);
  }
  return (value, etcdKey, stored) => {
    const known = named.get(stored.id);
    if (known === undefined) return undefined;
    const found = known.find(({ bytes, key: { provider, name } }) => {
      // undefined: nothing here can try it (secretbox).
      return decryptable(value, etcdKey, stored, [{ provider, name, secret: bytes }]) !== false;
    });
    return found?.id ?? false;
  };
}

/** The same resource in more than one etcd. */
function merged(a: Holding | undefined, b: Holding): Holding {
  if (a === undefined) return b;
  const samples = [...a.samples, ...b.samples].slice(0, sampleSize);
  return { ...a, count: a.count + b.count, refused: a.refused + b.refused, samples };
}
