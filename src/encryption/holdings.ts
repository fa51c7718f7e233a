/** What etcd holds under which key, each value told apart by the key that opens it: what a person is shown. */
import { census } from '../etcd/census.ts';
import { decryptable } from '../etcd/decrypt.ts';
import { etcdPathOfKey, resourceOfPath } from '../etcd/paths.ts';
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

type Counting = { -readonly [field in keyof Holding]: Holding[field] } & { samples: string[] };

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
  const counts = new Map<string, Counting>();
  const opens = openerOf(keys);
  const at: { clusterId: string; revision: bigint }[] = [];
  let total = 0;
  for (const etcd of etcds) {
    const before = total;
    // An etcd that had compacted the revision away is counted from its beginning again.
    let own = new Map<string, Counting>();
    const {
      clusterId,
      revision,
      total: seen,
    } = await census(etcd, {
      prefix,
      signal,
      onBegin: () => (own = new Map()),
      onPage: (count) => onPage(before + count),
      tryRead(value, etcdKey, stored) {
        note(own, etcdKey.slice(prefix.length).replace(/^\//, ''), stored, opens(value, etcdKey, stored));
        return undefined;
      },
    });
    total += seen;
    at.push({ clusterId, revision });
    for (const [id, counted] of own) counts.set(id, merged(counts.get(id), counted));
  }
  const holdings = [...counts.values()].toSorted(
    (a, b) => a.resource.localeCompare(b.resource) || b.count - a.count || a.id.localeCompare(b.id),
  );
  return { total, at, holdings };
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

function note(
  counts: Map<string, Counting>,
  rest: string,
  stored: StoredKey,
  opened: ReturnType<Opener>,
): void {
  const path = etcdPathOfKey(rest);
  const resource = resourceOfPath(path);
  if (resource === undefined) return;
  const id = opened === undefined || opened === false ? stored.id : opened;
  const group = [resource, id, stored.keyId ?? ''].join(' ');
  let found = counts.get(group);
  if (found === undefined) {
    const { provider, name, keyId: kmsKeyId } = stored;
    found = { resource, provider, name, id, kmsKeyId, count: 0, refused: 0, samples: [] };
    counts.set(group, found);
  }
  found.count += 1;
  if (opened === false) found.refused += 1;
  if (found.samples.length < sampleSize) found.samples.push(rest.slice(path.length + 1));
}

function merged(a: Counting | undefined, b: Counting): Counting {
  if (a === undefined) return b;
  const samples = [...a.samples, ...b.samples].slice(0, sampleSize);
  return { ...a, count: a.count + b.count, refused: a.refused + b.refused, samples };
}
