/** Counts what etcd holds under which key: the proof that a key is no longer needed. */
import type { Etcd, EtcdKeyValue } from '../ports.ts';
import { isCompacted } from './client.ts';
import { etcdPathOfKey } from './paths.ts';
import { storedKeyOf, type StoredKey } from './stored.ts';

export interface CensusOptions {
  /** What is counted: kube-apiserver's --etcd-prefix, or a part such as `/registry/secrets`. */
  readonly prefix: string;
  /**
   * The part of the keys in front of the resource's path, where `prefix` is longer than that; default: `prefix`.
   */
  readonly root?: string;
  readonly signal: AbortSignal;
  /** Told after each page how many values have been seen. */
  readonly onPage?: (seen: number) => void;
  /**
   * A trial read of each value: the id of the key that opened it, by which values are then told apart; false is counted
   * as refused, undefined as not tried. Must keep no buffer.
   */
  readonly tryRead?: (value: Buffer, etcdKey: string, stored: StoredKey) => string | boolean | undefined;
}

export interface Tally {
  readonly stored: StoredKey;
  /** What the trial read said that opened them. */
  readonly openedBy?: string;
  readonly count: number;
  /** Up to five etcd keys, in their order. */
  readonly samples: readonly string[];
  /** Values that the trial read could not read, with up to five etcd keys. */
  readonly refused: { readonly count: number; readonly samples: readonly string[] };
}

export interface Census {
  /** All was read at this revision, which is newer than anything that was acknowledged before the call. */
  readonly revision: bigint;
  readonly clusterId: string;
  readonly total: number;
  /**
   * By etcd path (`secrets`, `example.com/widgets`), then by what opened the value, else by what it says wrote it:
   * StoredKey's id, for KMS v2 with the key id behind a further colon.
   */
  readonly groups: ReadonlyMap<string, ReadonlyMap<string, Tally>>;
}

interface Counting {
  readonly stored: StoredKey;
  readonly openedBy?: string;
  count: number;
  readonly samples: string[];
  readonly refused: { count: number; readonly samples: string[] };
}

const pageBytes = 6 * 1024 * 1024;
const firstLimit = 200;
const mostLimit = 10_000;
const sampleSize = 5;

/**
 * Streams all values below the prefix by and keeps only what stands in front of them. The first page is read
 * linearizably, that is, later than every write that was acknowledged before; all others at its revision. Pages
 * hold about 6 MiB whatever the size of the values. When that revision is compacted away meanwhile it starts
 * over, three times at most. Throws ETCD.
 */
export async function census(etcd: Etcd, options: CensusOptions): Promise<Census> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await count(etcd, options);
    } catch (error) {
      if (!isCompacted(error) || attempt === 4) throw error;
    }
  }
}

async function count(etcd: Etcd, options: CensusOptions): Promise<Census> {
  const prefix = options.prefix.endsWith('/') ? options.prefix : `${options.prefix}/`;
  const root = options.root === undefined || options.root.endsWith('/') ? options.root : `${options.root}/`;
  const end = afterPrefix(prefix);
  const groups = new Map<string, Map<string, Counting>>();
  let from: Buffer = Buffer.from(prefix);
  let revision = 0n;
  let clusterId = '';
  let total = 0;
  let limit = firstLimit;
  while (true) {
    const page = await etcd.range({ from, end, limit, revision }, options.signal);
    if (revision === 0n) ({ revision, clusterId } = page);
    let bytes = 0;
    for (const each of page.kvs) {
      bytes += each.value.length;
      note(groups, each, (root ?? prefix).length, options.tryRead);
    }
    total += page.kvs.length;
    options.onPage?.(total);
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return { revision, clusterId, total, groups };
    from = Buffer.concat([last.key, Buffer.alloc(1)]);
    limit = nextLimit(page.kvs.length, bytes);
  }
}

function note(
  groups: Map<string, Map<string, Counting>>,
  { key, value }: EtcdKeyValue,
  rootLength: number,
  tryRead: CensusOptions['tryRead'],
): void {
  const etcdKey = key.toString();
  const path = etcdPathOfKey(etcdKey.slice(rootLength));
  const stored = storedKeyOf(value);
  const read = tryRead?.(value, etcdKey, stored);
  const openedBy = typeof read === 'string' ? { openedBy: read } : {};
  const id = openedBy.openedBy ?? (stored.keyId === undefined ? stored.id : `${stored.id}:${stored.keyId}`);
  let group = groups.get(path);
  if (group === undefined) groups.set(path, (group = new Map<string, Counting>()));
  let tally = group.get(id);
  if (tally === undefined) {
    const refused = { count: 0, samples: [] };
    group.set(id, (tally = { stored, ...openedBy, count: 0, samples: [], refused }));
  }
  tally.count += 1;
  if (tally.samples.length < sampleSize) tally.samples.push(etcdKey);
  if (read === false) {
    tally.refused.count += 1;
    if (tally.refused.samples.length < sampleSize) tally.refused.samples.push(etcdKey);
  }
}

/** So many that the next page holds about 6 MiB if its values are like this one's; at most fourfold at a time. */
function nextLimit(seen: number, bytes: number): number {
  const fitting = Math.floor((pageBytes * seen) / Math.max(1, bytes));
  return Math.max(1, Math.min(fitting, seen * 4, mostLimit));
}

/** The first key behind all that begin with the prefix. A prefix ends in a slash, so there is always one. */
function afterPrefix(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1] = '/'.charCodeAt(0) + 1;
  return end;
}
