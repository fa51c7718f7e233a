/**
 * Objects in etcd as one kube-apiserver sees them: encrypted and decrypted by the file it has loaded, written again
 * when unchanged only where the stored bytes are stale.
 */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Loaded } from './apiserver.ts';
import { EtcdRefusal, type EtcdStore, type StoredValue } from './etcd-store.ts';
import { apiVersionOf, deserialise, etcdKeyOf, serialise, type Kind, type KubeObject } from './kinds.ts';
import { alreadyExists, conflict, expired, internal, notFound } from './kube-status.ts';

export interface Found {
  readonly object: KubeObject;
  readonly stored: StoredValue;
  readonly stale: boolean;
}

export interface ListPage {
  readonly items: readonly KubeObject[];
  readonly revision: number;
  readonly token: string | undefined;
  readonly remaining: number;
}

interface Token {
  /** -1: whatever is newest; the rest of a list whose revision is compacted. */
  readonly rv: number;
  /** The first key that comes, without the prefix of the list. */
  readonly start: string;
}

export class Objects {
  readonly #etcd: EtcdStore;
  readonly #loaded: Loaded;
  readonly #now: () => Date;

  constructor(etcd: EtcdStore, loaded: Loaded, now: () => Date) {
    this.#etcd = etcd;
    this.#loaded = loaded;
    this.#now = now;
  }

  /** Throws KubeRefusal 404, or 500 where the value cannot be read. */
  get(kind: Kind, namespace: string, name: string): Found {
    const found = this.find(kind, namespace, name);
    if (found === undefined) throw notFound(kind, name);
    return found;
  }

  /** undefined: not there. Throws KubeRefusal 500 where the value cannot be read. */
  find(kind: Kind, namespace: string, name: string): Found | undefined {
    const stored = this.#etcd.get(etcdKeyOf(kind, namespace, name));
    return stored === undefined ? undefined : this.#open(kind, stored, (reason) => reason);
  }

  create(kind: Kind, namespace: string, object: KubeObject): KubeObject {
    const { name } = object.metadata;
    const made: KubeObject = {
      ...object,
      apiVersion: apiVersionOf(kind),
      kind: kind.kind,
      metadata: {
        ...object.metadata,
        ...(kind.namespaced ? { namespace } : {}),
        uid: randomUUID(),
        creationTimestamp: this.#now()
          .toISOString()
          .replace(/\.\d+Z/, 'Z'),
      },
    };
    const revision = this.#put(kind, namespace, made, 0);
    if (revision === undefined) throw alreadyExists(kind, name);
    return withRevision(made, revision);
  }

  /** Unchanged and not stale: nothing is written, and the revision stays. */
  update(kind: Kind, namespace: string, found: Found, object: KubeObject): KubeObject {
    const same = isDeepStrictEqual(
      { ...object, metadata: { ...object.metadata, resourceVersion: '' } },
      { ...found.object, metadata: { ...found.object.metadata, resourceVersion: '' } },
    );
    if (same && !found.stale) return found.object;
    const revision = this.#put(kind, namespace, object, found.stored.modRevision);
    if (revision === undefined) throw conflict(kind, object.metadata.name);
    return withRevision(object, revision);
  }

  delete(found: Found): void {
    this.#etcd.delete(found.stored.key);
  }

  /** Throws KubeRefusal 410 with the token to go on with, or 500 at the first value that cannot be read. */
  list(kind: Kind, namespace: string, limit: number, token: string | undefined): ListPage {
    const prefix = etcdKeyOf(kind, namespace, '');
    const from: Token = token === undefined ? { rv: 0, start: '' } : parseToken(token);
    const at = from.rv > 0 ? from.rv : 0;
    let range: ReturnType<EtcdStore['range']>;
    try {
      range = this.#etcd.range(
        `${prefix}${from.start}`,
        `${prefix}\uffff`,
        limit === 0 ? Infinity : limit,
        at,
      );
    } catch (error) {
      if (!(error instanceof EtcdRefusal)) throw error;
      throw expired(makeToken({ rv: -1, start: from.start }));
    }
    const revision = at === 0 ? this.#etcd.revision : at;
    const items = range.values.map((stored) => {
      return this.#open(kind, stored, (reason) => `unable to transform key "${stored.key}": ${reason}`)
        .object;
    });
    const last = range.values.at(-1);
    if (!range.more || last === undefined) return { items, revision, token: undefined, remaining: 0 };
    return {
      items,
      revision,
      token: makeToken({ rv: revision, start: `${last.key.slice(prefix.length)}\0` }),
      remaining: range.count - range.values.length,
    };
  }

  #open(kind: Kind, stored: StoredValue, inWords: (reason: string) => string): Found {
    try {
      const { plain, stale } = this.#loaded.read(kind, stored);
      return { object: deserialise(plain, stored.modRevision), stored, stale };
    } catch (error) {
      throw internal(inWords((error as Error).message));
    }
  }

  #put(kind: Kind, namespace: string, object: KubeObject, expected: number): number | undefined {
    const key = etcdKeyOf(kind, kind.namespaced ? namespace : '', object.metadata.name);
    let value: Buffer;
    try {
      value = this.#loaded.write(kind, serialise(kind, object), key);
    } catch (error) {
      throw internal((error as Error).message);
    }
    return this.#etcd.put(key, value, expected);
  }
}

function withRevision(object: KubeObject, revision: number): KubeObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
}

function makeToken({ rv, start }: Token): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv, start })).toString('base64url');
}

function parseToken(token: string): Token {
  return JSON.parse(Buffer.from(token, 'base64url').toString()) as Token;
}
