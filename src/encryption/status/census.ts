/** What etcd holds, set against what it should hold. Pure. */
import { keysOf, noFile, resourcesOf, writeKeyOf, type KeyRef, type ProviderFile } from '../configuration.ts';
import type { Holding } from '../holdings.ts';
import type { Seen } from '../plan.ts';
import type { Sight } from './sight.ts';

/** Objects of one resource under one key. */
export interface CensusRow extends Omit<Holding, 'id' | 'kmsKeyId'> {
  readonly fingerprint?: string;
  readonly kmsKeyId?: string;
  /** It is where it should be: under the write key of what is wanted. */
  readonly asWanted: boolean;
}

/** Or why etcd could not be read. */
export type StatusCensus = Counted | { readonly unavailable: string };

export interface Counted {
  readonly total: number;
  readonly at: readonly { readonly clusterId: string; readonly revision: string }[];
  /** What is encrypted or should be; Secrets in any case. */
  readonly resources: readonly CensusRow[];
  /** All else, which nobody encrypts. */
  readonly others: { readonly resources: number; readonly objects: number };
}

/** Keys by resource as the planner has them; without a census a resource may lie under any key of any file. */
export function storedIn({ stored }: Sight, files: readonly ProviderFile[]): Seen['stored'] {
  const refs = (resource: string) => files.flatMap((file) => keysOf(file, resource));
  const byId = (found: readonly KeyRef[]) => [...new Map(found.map((ref) => [ref.id, ref])).values()];
  if ('unavailable' in stored) {
    const resources = new Set(['secrets', ...resourcesOf(...files)]);
    return new Map([...resources].map((each) => [each, byId(refs(each))]));
  }
  const result = new Map<string, KeyRef[]>();
  for (const { resource, id } of stored.holdings) {
    if (!isOurs(resource, id, files)) continue;
    const found = [...refs(resource), ...keysOf(noFile, resource)].find((ref) => ref.id === id);
    if (found !== undefined) result.set(resource, [...(result.get(resource) ?? []), found]);
  }
  return result;
}

/** Resources that nobody encrypts and nobody wants encrypted are none of our business. */
function isOurs(resource: string, id: string, files: readonly ProviderFile[]): boolean {
  const covered = files.some((file) => keysOf(file, resource).some((ref) => ref.id !== 'identity'));
  return resource === 'secrets' || id !== 'identity' || covered;
}

/** Of resources that are encrypted or should be; undefined: etcd could not be read. */
export function ourHoldings(stored: Sight['stored'], files: readonly ProviderFile[]): Holding[] | undefined {
  if ('unavailable' in stored) return undefined;
  const { holdings } = stored;
  const named = new Set(
    holdings.flatMap(({ resource, id }) => (isOurs(resource, id, files) ? [resource] : [])),
  );
  return holdings.filter(({ resource }) => named.has(resource));
}

export function censusOf(
  stored: Sight['stored'],
  ours: readonly Holding[] | undefined,
  goal: ProviderFile,
): StatusCensus {
  if ('unavailable' in stored) return stored;
  const others = stored.holdings.filter((each) => ours?.includes(each) !== true);
  return {
    total: stored.total,
    at: stored.at.map(({ clusterId, revision }) => ({ clusterId, revision: String(revision) })),
    resources: (ours ?? []).map(({ id, kmsKeyId, ...row }) => {
      const fingerprint = id.split('#')[1];
      return {
        ...row,
        ...(fingerprint === undefined ? {} : { fingerprint }),
        ...(kmsKeyId === undefined ? {} : { kmsKeyId }),
        asWanted: row.refused === 0 && id === writeKeyOf(goal, row.resource).id,
      };
    }),
    others: {
      resources: new Set(others.map(({ resource }) => resource)).size,
      objects: others.reduce((sum, { count }) => sum + count, 0),
    },
  };
}
