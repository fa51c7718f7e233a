/** The names of a resource's objects as etcd has them: no apiserver's list or cache stands in between. */
import type { Etcd } from '../ports.ts';
import { etcdPathOfKey } from './paths.ts';

export interface StoredName {
  readonly etcdKey: string;
  /** Empty where the resource is not namespaced. */
  readonly namespace: string;
  readonly name: string;
}

export interface Place {
  /** Below the prefix: `secrets`, `services/specs`, `example.com/widgets`. */
  readonly etcdPath: string;
  readonly namespaced: boolean;
}

const pageSize = 1_000;

/**
 * Page by page, each at the newest revision: what is there all the while comes exactly once, and no compaction can
 * take the revision away in the middle of long work. Throws ETCD.
 */
export async function* namesIn(
  etcd: Etcd,
  prefix: string,
  { etcdPath, namespaced }: Place,
  signal: AbortSignal,
): AsyncGenerator<StoredName> {
  const root = prefix.endsWith('/') ? prefix : `${prefix}/`;
  const start = `${root}${etcdPath}/`;
  const end = Buffer.from(start);
  end[end.length - 1] = '/'.charCodeAt(0) + 1;
  let from: Buffer = Buffer.from(start);
  while (true) {
    const page = await etcd.range({ from, end, limit: pageSize, revision: 0n, keysOnly: true }, signal);
    for (const { key } of page.kvs) {
      const etcdKey = key.toString();
      // A longer path may lie below: `services/endpoints/…` is no Service.
      if (etcdPathOfKey(etcdKey.slice(root.length)) !== etcdPath) continue;
      const rest = etcdKey.slice(start.length);
      const slash = namespaced ? rest.indexOf('/') : -1;
      yield { etcdKey, namespace: slash === -1 ? '' : rest.slice(0, slash), name: rest.slice(slash + 1) };
    }
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return;
    from = Buffer.concat([last.key, Buffer.alloc(1)]);
  }
}

/** Whether this very key is there now. Throws ETCD. */
export async function isStored(etcd: Etcd, etcdKey: string, signal: AbortSignal): Promise<boolean> {
  const from = Buffer.from(etcdKey);
  const end = Buffer.concat([from, Buffer.alloc(1)]);
  const { kvs } = await etcd.range({ from, end, limit: 1, revision: 0n, keysOnly: true }, signal);
  return kvs.length > 0;
}
