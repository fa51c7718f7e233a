/** Objects that the cluster's own processes write, past all that a client's requests go through. */
import { createHash } from 'node:crypto';
import type { Loaded } from './apiserver.ts';
import type { EtcdStore } from './etcd-store.ts';
import {
  apiVersionOf,
  deserialise,
  etcdKeyOf,
  serialise,
  type Kind,
  type KubeObject,
  type Metadata,
} from './kinds.ts';

export interface OwnObject {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Writes it, whatever is there. */
export function putObject(etcd: EtcdStore, loaded: Loaded, object: OwnObject, now: Date): void {
  const { kind, namespace, name, labels = {}, annotations = {}, fields } = object;
  const key = etcdKeyOf(kind, namespace, name);
  const metadata: Metadata = {
    name,
    ...(namespace === '' ? {} : { namespace }),
    uid: uidOf(key),
    creationTimestamp: now.toISOString().replace(/\.\d+Z/, 'Z'),
    ...(Object.keys(labels).length === 0 ? {} : { labels: { ...labels } }),
    ...(Object.keys(annotations).length === 0 ? {} : { annotations: { ...annotations } }),
  };
  const made = { ...fields, apiVersion: apiVersionOf(kind), kind: kind.kind, metadata };
  etcd.put(key, loaded.write(kind, serialise(kind, made), key));
}

/** Undefined: there is none, or it cannot be read. */
export function readObject(
  etcd: EtcdStore,
  loaded: Loaded,
  kind: Kind,
  namespace: string,
  name: string,
): KubeObject | undefined {
  const stored = etcd.get(etcdKeyOf(kind, namespace, name));
  if (stored === undefined) return undefined;
  try {
    return deserialise(loaded.read(kind, stored).plain, stored.modRevision);
  } catch {
    return undefined;
  }
}

/** Writes an object that was read, changed. */
export function rewriteObject(etcd: EtcdStore, loaded: Loaded, kind: Kind, object: KubeObject): void {
  const { name, namespace = '' } = object.metadata;
  const key = etcdKeyOf(kind, namespace, name);
  etcd.put(key, loaded.write(kind, serialise(kind, object), key));
}

/** The same at each renewal. */
function uidOf(key: string): string {
  const hex = createHash('sha256').update(key).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}
