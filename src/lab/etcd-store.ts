/**
 * etcd's key space (3.5): every change is a revision, old ones can be read until they are compacted. One for the whole
 * cluster; members, elections and watches are not modelled.
 */
import { randomBytes } from 'node:crypto';

export interface Version {
  readonly revision: number;
  /** undefined: deleted at this revision. */
  readonly value: Buffer | undefined;
}

export interface StoredValue {
  readonly key: string;
  readonly value: Buffer;
  readonly modRevision: number;
}

export interface EtcdSnapshot {
  readonly revision: number;
  readonly values: readonly StoredValue[];
}

const encrypted = Buffer.from('k8s:enc:');

/** In etcd's own words. */
export class EtcdRefusal extends Error {}

export class EtcdStore {
  clusterId = newId();
  #revision = 1;
  #compacted = 0;
  #versions = new Map<string, Version[]>();
  /** Keys of values that begin with none of kube-apiserver's prefixes, by the revision at which they were written. */
  readonly #plain: { readonly key: string; readonly revision: number }[] = [];
  /** Keys in their order; undefined once one was added. */
  #order: string[] | undefined;

  get revision(): number {
    return this.#revision;
  }

  /** Of all values that were ever written below a path, compacted or not, those that were not encrypted. */
  everPlain(path: string): { readonly key: string; readonly revision: number }[] {
    return this.#plain.filter(({ key }) => key.startsWith(path));
  }

  get(key: string): StoredValue | undefined {
    return this.#at(key, this.#revision);
  }

  /** Writes when the key is still at `expected` (0: is not there); undefined when it is not. */
  put(key: string, value: Buffer, expected?: number): number | undefined {
    if (expected !== undefined && (this.get(key)?.modRevision ?? 0) !== expected) return undefined;
    this.#revision += 1;
    this.#add(key, { revision: this.#revision, value });
    return this.#revision;
  }

  delete(key: string): void {
    if (this.get(key) === undefined) return;
    this.#revision += 1;
    this.#add(key, { revision: this.#revision, value: undefined });
  }

  /** [from, end) at a revision (0: the newest). Throws EtcdRefusal for one that is compacted or yet to come. */
  range(
    from: string,
    end: string,
    limit = Infinity,
    revision = 0,
  ): { readonly values: StoredValue[]; readonly more: boolean; readonly count: number } {
    const at = revision === 0 ? this.#revision : revision;
    if (at < this.#compacted) {
      throw new EtcdRefusal('etcdserver: mvcc: required revision has been compacted');
    }
    if (at > this.#revision) {
      throw new EtcdRefusal('etcdserver: mvcc: required revision is a future revision');
    }
    const values: StoredValue[] = [];
    let count = 0;
    for (const key of this.#sorted()) {
      if (key < from) continue;
      if (key >= end) break;
      const found = this.#at(key, at);
      if (found === undefined) continue;
      count += 1;
      if (values.length < limit) values.push(found);
    }
    return { values, more: count > values.length, count };
  }

  /** Forgets what was replaced or deleted before this revision. Throws EtcdRefusal when that is done already. */
  compact(revision: number): void {
    if (revision <= this.#compacted) {
      throw new EtcdRefusal('etcdserver: mvcc: required revision has been compacted');
    }
    if (revision > this.#revision) {
      throw new EtcdRefusal('etcdserver: mvcc: required revision is a future revision');
    }
    this.#compacted = revision;
    for (const [key, versions] of this.#versions) {
      const last = versions.findLastIndex((version) => version.revision <= revision);
      const kept = last > 0 ? versions.slice(last) : versions;
      if (kept.length === 1 && kept[0]?.value === undefined) {
        this.#versions.delete(key);
        this.#order = undefined;
      } else this.#versions.set(key, kept);
    }
  }

  /** Bytes of all versions that are kept. */
  get used(): number {
    let used = 0;
    for (const [key, versions] of this.#versions) {
      for (const { value } of versions) used += key.length + (value?.length ?? 0);
    }
    return used;
  }

  snapshot(): EtcdSnapshot {
    return { revision: this.#revision, values: this.range('', '\uffff').values };
  }

  /** As `etcdctl snapshot restore`: another cluster with the values and revisions of then. */
  restore(snapshot: EtcdSnapshot): void {
    this.clusterId = newId();
    this.#revision = snapshot.revision;
    this.#compacted = snapshot.revision;
    this.#versions = new Map(
      snapshot.values.map(({ key, value, modRevision }) => [key, [{ revision: modRevision, value }]]),
    );
    this.#order = undefined;
  }

  #at(key: string, revision: number): StoredValue | undefined {
    const found = this.#versions.get(key)?.findLast((version) => version.revision <= revision);
    if (found?.value === undefined) return undefined;
    return { key, value: found.value, modRevision: found.revision };
  }

  #add(key: string, version: Version): void {
    const { value, revision } = version;
    if (value !== undefined && !value.subarray(0, encrypted.length).equals(encrypted)) {
      this.#plain.push({ key, revision });
    }
    const versions = this.#versions.get(key);
    if (versions !== undefined) {
      versions.push(version);
      return;
    }
    this.#versions.set(key, [version]);
    this.#order = undefined;
  }

  #sorted(): readonly string[] {
    return (this.#order ??= [...this.#versions.keys()].sort());
  }
}

function newId(): string {
  return randomBytes(8).readBigUInt64BE().toString();
}
