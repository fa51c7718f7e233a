/**
 * `docker exec etcd etcdctl get …` on a lab's node, the command with which an operator looks into a real etcd: what is
 * stored can so be seen with tools that are none of tsrke's.
 */
import type { LabSurface } from './surface.ts';

const wanted =
  /^(?:sudo )?docker exec etcd etcdctl get (\/[\w./-]*)((?: --(?:prefix|keys-only|print-value-only))*)$/;

/** Keys and values, each with a newline behind it, as etcdctl prints them; undefined for any other command. */
export function etcdctl(etcd: LabSurface['etcd'], command: string): Promise<Buffer> | undefined {
  const [, key, flags = ''] = wanted.exec(command.trim().replace(/["']/g, '')) ?? [];
  return key === undefined ? undefined : get(etcd, key, flags);
}

async function get(etcd: LabSurface['etcd'], key: string, flags: string): Promise<Buffer> {
  const from = Buffer.from(key);
  const end = Buffer.from(`${key}${flags.includes('--prefix') ? '\uffff' : '\0'}`);
  const range = { from, end, limit: Number.MAX_SAFE_INTEGER, revision: 0n };
  const { kvs } = await etcd.range(range, new AbortController().signal);
  const newline = Buffer.from('\n');
  return Buffer.concat(
    kvs.flatMap((found) => [
      ...(flags.includes('--print-value-only') ? [] : [found.key, newline]),
      ...(flags.includes('--keys-only') ? [] : [found.value, newline]),
    ]),
  );
}
