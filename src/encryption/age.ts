/** How old the write keys are, and how often they were used: when a rotation is due. Pure. */
import type { TsrkeBlock } from '../state/rkestate.ts';
import { resourcesOf, writeKeyOf, type ProviderFile } from './configuration.ts';
import { keyId } from './key.ts';

export interface KeyAge {
  /** As etcd shows it: `aescbc:NAME`, `kms2:NAME`. */
  readonly stored: string;
  /** RFC 3339: made then, or, of a key found in use, first met then; undefined: no run of tsrke has recorded it. */
  readonly since: string | undefined;
  /** Milliseconds. */
  readonly age: number | undefined;
  /** It is `max_key_age` old or older, or nobody knows how old it is. Never where there is no limit. */
  readonly due: boolean;
}

/** Of each key that the file writes with, `identity` left out. `maxAge`: milliseconds; undefined or 0: no limit. */
export function writeKeyAges(
  file: ProviderFile,
  { keyRing, keks }: Pick<TsrkeBlock, 'keyRing' | 'keks'>,
  now: Date,
  maxAge = 0,
): KeyAge[] {
  const created = new Map(keyRing.map((key) => [keyId(key), key.created]));
  const keys = new Map(
    resourcesOf(file).map((resource) => {
      const ref = writeKeyOf(file, resource);
      return [ref.id, ref] as const;
    }),
  );
  keys.delete('identity');
  return [...keys.values()].map(({ id, stored, kek }): KeyAge => {
    const told = kek === undefined ? created.get(id) : keks?.[stored]?.since;
    const time = Date.parse(told ?? '');
    const age = Number.isNaN(time) ? undefined : Math.max(0, now.getTime() - time);
    const since = age === undefined ? undefined : told;
    return { stored, since, age, due: maxAge > 0 && (age === undefined || age >= maxAge) };
  });
}

/** What one kube-apiserver has written under a key since its start. */
export interface Writes {
  readonly count: number;
  /** Milliseconds that it has run. */
  readonly over: number;
}

/**
 * Values that may be written under one key: with AES-GCM's random nonces Kubernetes' documents ask for a new key before
 * 200,000. Others have no such limit.
 */
const writeLimits: Readonly<Record<string, number>> = { aesgcm: 200_000 };
/** Share of the limit from which on it is told: the other half is the time to act. */
const tellFrom = 0.5;

/**
 * A sentence where a key (as etcd shows it) comes near its limit; undefined: all is well. Servers count from their own
 * start, so each is taken to have written as fast before; `objects`, stored under the key, were written at least once.
 */
export function writesWarning(
  key: Pick<KeyAge, 'stored' | 'age'>,
  servers: readonly Writes[],
  objects: number,
): string | undefined {
  const limit = writeLimits[key.stored.slice(0, key.stored.indexOf(':'))];
  if (limit === undefined) return undefined;
  const counted = servers.reduce((sum, { count, over }) => {
    const earlier = key.age === undefined || over <= 0 ? 1 : Math.max(1, key.age / over);
    return sum + count * earlier;
  }, 0);
  const writes = Math.round(Math.max(counted, objects));
  if (writes < limit * tellFrom) return undefined;
  return `about ${writes} values were written under ${key.stored}; AES-GCM needs a new key before ${limit}: run \`tsrke encrypt rotate-key\``;
}
