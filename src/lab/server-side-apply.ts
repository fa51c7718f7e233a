/**
 * Server-side apply as far as its users see it: what a manager applies is there, what it has applied before and does not
 * any more goes, everything else stays. Lists are whole values here, where a real server merges some by their keys.
 */
import { isDeepStrictEqual } from 'node:util';
import type { KubeObject } from './kinds.ts';

/** As in managedFields: `{"f:data": {"f:a": {}}}`. */
interface Fields {
  readonly [field: `f:${string}`]: Fields;
}

interface ManagedFields {
  readonly manager: string;
  readonly operation: string;
  readonly apiVersion: string;
  readonly time: string;
  readonly fieldsType: string;
  readonly fieldsV1: Fields;
}

type Tree = Readonly<Record<string, unknown>>;

const isTree = (value: unknown): value is Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export interface Application {
  readonly manager: string;
  /** The body of the request. */
  readonly object: Tree;
  readonly now: Date;
}

/** `found` undefined: there is none yet. The same object again, where nothing changes by it. */
export function applied(found: KubeObject | undefined, { manager, object, now }: Application): Tree {
  const { apiVersion, kind, metadata, ...rest } = object;
  const { name: _name, namespace: _namespace, ...meta } = (metadata ?? {}) as Tree;
  const asked: Tree = { ...rest, ...(Object.keys(meta).length > 0 && { metadata: meta }) };
  const fields = fieldsOf(asked);
  const managed = (found?.metadata as { managedFields?: ManagedFields[] } | undefined)?.managedFields ?? [];
  const isOurs = (each: ManagedFields) => each.manager === manager && each.operation === 'Apply';
  const former = managed.find(isOurs);
  const others = managed.filter((each) => !isOurs(each)).map(({ fieldsV1 }) => fieldsV1);
  const kept = former === undefined ? found : without(found, former.fieldsV1, [fields, ...others]);
  const merged = overlaid(kept ?? {}, asked) as { metadata?: Tree };
  if (
    former !== undefined &&
    isDeepStrictEqual(fields, former.fieldsV1) &&
    isDeepStrictEqual(merged, found)
  ) {
    return merged;
  }
  const entry: ManagedFields = {
    ...{ manager, operation: 'Apply', apiVersion: String(apiVersion) },
    ...{ time: now.toISOString().replace(/\.\d+Z/, 'Z'), fieldsType: 'FieldsV1', fieldsV1: fields },
  };
  const managedFields = [...managed.filter((each) => !isOurs(each)), entry];
  return {
    ...{ apiVersion, kind },
    ...merged,
    metadata: { ...(metadata as Tree | undefined), ...merged.metadata, managedFields },
  };
}

function fieldsOf(tree: Tree): Fields {
  return Object.fromEntries(
    Object.entries(tree).map(([name, value]) => [`f:${name}`, isTree(value) ? fieldsOf(value) : {}]),
  );
}

/** The tree without those of `gone` that nobody else has applied. */
function without(tree: unknown, gone: Fields, others: readonly Fields[]): unknown {
  if (!isTree(tree)) return tree;
  const entries = Object.entries(tree).flatMap(([name, value]): [string, unknown][] => {
    const field = `f:${name}` as const;
    const own = gone[field];
    if (own === undefined) return [[name, value]];
    const theirs = others.flatMap((each) => each[field] ?? []);
    const isLeaf = !isTree(value) || Object.keys(own).length === 0;
    if (isLeaf) return theirs.length === 0 ? [] : [[name, value]];
    const left = without(value, own, theirs) as Tree;
    return theirs.length === 0 && Object.keys(left).length === 0 ? [] : [[name, left]];
  });
  return Object.fromEntries(entries);
}

function overlaid(tree: unknown, over: Tree): Tree {
  const result: Record<string, unknown> = isTree(tree) ? { ...tree } : {};
  for (const [name, value] of Object.entries(over)) {
    result[name] = isTree(value) ? overlaid(result[name], value) : value;
  }
  return result;
}

/** RFC 6902's add, replace and remove, on maps. */
export function jsonPatched(object: KubeObject, operations: readonly Tree[]): unknown {
  const result = structuredClone(object) as unknown;
  for (const { op, path, value } of operations) {
    const keys = String(path)
      .split('/')
      .slice(1)
      .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = keys.pop() ?? '';
    const at = keys.reduce<unknown>((tree, key) => (isTree(tree) ? tree[key] : undefined), result);
    if (!isTree(at)) continue;
    if (op === 'remove') Reflect.deleteProperty(at, last);
    else Reflect.set(at, last, value);
  }
  return result;
}
