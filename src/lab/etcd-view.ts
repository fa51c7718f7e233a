/** What lies in a lab's etcd, in words for people: how many Secrets under which key, and what a value begins with. */
import type { LabSurface } from './surface.ts';

const never = new AbortController().signal;
const secrets = '/registry/secrets/';

/** Counts by the provider's prefix (`k8s:enc:aescbc:v1:NAME:`), '' for values in the clear. */
export async function storedSecrets(etcd: LabSurface['etcd']): Promise<ReadonlyMap<string, number>> {
  const range = {
    from: Buffer.from(secrets),
    end: Buffer.from(`${secrets}\uffff`),
    limit: Number.MAX_SAFE_INTEGER,
  };
  const { kvs } = await etcd.range({ ...range, revision: 0n }, never);
  const counts = new Map<string, number>();
  for (const { value } of kvs) {
    const head = value.subarray(0, 300).toString('latin1');
    const prefix = /^k8s:enc:[^:]+:v\d+:[^:]*:/.exec(head)?.[0] ?? '';
    counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
  }
  return counts;
}

/** `201 Secrets in the clear`, `201 Secrets encrypted with aescbc key k-7mrb6`. */
export function describeStored(counts: ReadonlyMap<string, number>): string[] {
  return [...counts].map(([prefix, count]) => {
    const [, , provider = '', , key = ''] = prefix.split(':');
    const how = prefix === '' ? 'in the clear' : `encrypted with ${provider} key ${key}`;
    return `${count} ${count === 1 ? 'Secret' : 'Secrets'} ${how}`;
  });
}

/**
 * Some of a value as `strings` would show it, one dot for each run of other bytes: from its first bytes on, or, where
 * `text` stands in it, the end of what is around that. undefined when there is no such Secret.
 */
export async function excerptOf(
  etcd: LabSurface['etcd'],
  { namespace, name }: { readonly namespace: string; readonly name: string },
  text: string,
  length: number,
): Promise<string | undefined> {
  const key = `${secrets}${namespace}/${name}`;
  const range = { from: Buffer.from(key), end: Buffer.from(`${key}\0`), limit: 1, revision: 0n };
  const [found] = (await etcd.range(range, never)).kvs;
  if (found === undefined) return undefined;
  const shown = found.value.toString('latin1').replace(/[^\x20-\x7e]+/g, '·');
  const at = shown.indexOf(text);
  if (at === -1) return shown.slice(0, length);
  const from = Math.max(0, at + text.length + 2 - length);
  return `${from === 0 ? '' : '…'}${shown.slice(from, from + length)}`;
}
