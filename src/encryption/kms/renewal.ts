/**
 * A rotation where no file changes: a KMS plugin has a new key encryption key behind the same name. What still lies
 * under an older one, and the wait until every kube-apiserver works with the new one (it asks its plugin once a minute).
 */
import { createHash } from 'node:crypto';
import { messageOf, TsrkeError } from '../../errors.ts';
import { metricsOf, seenKeyIds, type SeenKeyId } from '../../kube/metrics.ts';
import type { NodeName } from '../../ports.ts';
import type { KekRecord, TsrkeBlock } from '../../state/rkestate.ts';
import { resourcesOf, writeKeyOf, type ProviderFile } from '../configuration.ts';
import type { Look } from '../observe.ts';
import type { World } from '../world.ts';

/** What a run has found out and done so far; of a run that was cut off only etcd itself tells. */
export interface Renewal {
  /** Key ids (their hashes) that all members have from their plugins, by KMS provider; not asked yet: undefined. */
  readonly newest: ReadonlyMap<string, string> | undefined;
  /** Resources of which each object was stored again, where values do not tell what they lie under. */
  readonly renewed: ReadonlySet<string>;
}

export const notBegun: Renewal = { newest: undefined, renewed: new Set() };

/** Whether a key of the file can be changed without it. */
export function isRenewable(file: ProviderFile): boolean {
  return resourcesOf(file).some((each) => writeKeyOf(file, each).kek !== undefined);
}

/** Resources that lie, or may lie, under an older key encryption key than the one that they are written with. */
export function outdated(target: ProviderFile, look: Look, { newest, renewed }: Renewal): Set<string> {
  const found = [...look.stored.keys()].filter((resource) => {
    const { kek } = writeKeyOf(target, resource);
    if (kek === undefined || renewed.has(resource)) return false;
    if (kek === 'unnamed' || newest === undefined || look.census === undefined) return true;
    return isSeenUnderOlder(target, look, newest, resource);
  });
  return new Set(found);
}

/** Whether the census shows values of the resource under another key id than the newest of its write key. */
function isSeenUnderOlder(
  target: ProviderFile,
  { census }: Look,
  newest: ReadonlyMap<string, string>,
  resource: string,
): boolean {
  const { stored } = writeKeyOf(target, resource);
  const keks = (census?.keks ?? []).filter((each) => each.resource === resource && each.stored === stored);
  return keks.some(({ keyId }) => hashOf(keyId) !== newest.get(stored));
}

/** Since when each KMS provider that writes has the key which etcd shows. `renewed`: all was just stored again. */
export function keksInUse(
  target: ProviderFile,
  look: Look,
  before: TsrkeBlock['keks'],
  renewed: boolean,
  now: Date,
): TsrkeBlock['keks'] {
  const found = new Map<string, KekRecord>();
  for (const resource of resourcesOf(target)) {
    const { kek, stored } = writeKeyOf(target, resource);
    if (kek === undefined || found.has(stored)) continue;
    const known = before?.[stored];
    const ids = (look.census?.keks ?? []).filter((each) => each.stored === stored).map(({ keyId }) => keyId);
    const keyId = ids.find((each) => each !== known?.keyId) ?? known?.keyId;
    const stays = known !== undefined && known.keyId === keyId && !(kek === 'unnamed' && renewed);
    const since = stays ? known.since : now.toISOString();
    found.set(stored, { ...(keyId === undefined ? {} : { keyId }), since });
  }
  return found.size === 0 ? undefined : Object.fromEntries(found);
}

/** One line of the final report: `vault: kek-2 (412)`. */
export function keyIdsStored({ census }: Look): string[] {
  const counts = new Map<string, Map<string, number>>();
  for (const { stored, keyId, count } of census?.keks ?? []) {
    const ids = counts.get(stored) ?? new Map<string, number>();
    counts.set(stored, ids.set(keyId, (ids.get(keyId) ?? 0) + count));
  }
  return [...counts].map(([stored, ids]) => {
    const each = [...ids].map(([keyId, count]) => `${keyId} (${count})`);
    return `${nameOf(stored)}: ${each.join(', ')}`;
  });
}

/** kube-apiserver asks its plugin every 60 s; a plugin may itself take a while to hear of a new key. */
const limit = 5 * 60_000;
const lookEvery = 2_000;

/**
 * Resolves once every member has the same key id from its plugin, for each KMS provider that tells one. Where etcd does
 * not show values under an older one, only after each has asked its plugin anew: it may be about to hear of a new key.
 * Throws KMS_KEYS_DIFFER when they do not agree within five minutes, KMS_UNHEALTHY when one does not hear from its plugin.
 */
export async function agreedKeyIds(
  target: ProviderFile,
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const keys = new Set(
    resourcesOf(target)
      .map((each) => writeKeyOf(target, each))
      .flatMap(({ kek, stored }) => (kek === 'named' ? [stored] : [])),
  );
  if (keys.size === 0) return new Map();
  const isNews = (newest: ReadonlyMap<string, string>) =>
    [...look.stored.keys()].some(
      (each) => newest.has(writeKeyOf(target, each).stored) && isSeenUnderOlder(target, look, newest, each),
    );
  const nodes = look.members.map(({ node }) => node);
  const names = new Map((look.census?.keks ?? []).map(({ keyId }) => [hashOf(keyId), keyId]));
  return await world.report.task('wait until every kube-apiserver knows the key of the KMS', async (task) => {
    const first = new Map<string, number>();
    const end = world.clock.now().getTime() + limit;
    for (;;) {
      await world.hold(signal);
      const answers = await Promise.all(nodes.map((node) => toldTo(node, world, signal)));
      const seen = answers.flatMap((answer, at) =>
        [...keys].map((key) => ({ node: nodes[at] ?? '', key, id: answer.ids.get(nameOf(key)) })),
      );
      for (const { node, key, id } of seen) {
        if (id !== undefined && !first.has(`${node} ${key}`)) first.set(`${node} ${key}`, id.at);
      }
      const hasAsked = ({ node, key, id }: Seen) =>
        id !== undefined && id.at > (first.get(`${node} ${key}`) ?? 0);
      const newest = agreement(seen, keys);
      if (newest !== undefined && (isNews(newest) || seen.every(hasAsked))) {
        task.done(
          `every kube-apiserver knows the key of the KMS (${[...newest.values()].map((hash) => spoken(hash, names)).join(', ')})`,
        );
        return newest;
      }
      const late = newest === undefined ? lateOnes(seen, names) : seen.filter((each) => !hasAsked(each));
      const [example] = late;
      if (world.clock.now().getTime() >= end) {
        const details = seen.map(
          ({ node, key, id }) => `${node}: ${nameOf(key)} has ${spoken(id?.hash, names)}`,
        );
        details.push(...answers.flatMap(({ problem }) => (problem === undefined ? [] : [problem])));
        throw newest === undefined
          ? differ(details)
          : silent(
              late.map(({ node }) => node),
              details,
            );
      }
      task.progress(
        newest === undefined
          ? `${example?.node ?? ''} still has ${spoken(example?.id?.hash, names)}; it asks its plugin every 60 s`
          : `all have ${spoken(example?.id?.hash, names)}; ${example?.node ?? ''} has yet to ask its plugin anew`,
      );
      await world.clock.sleep(lookEvery, signal);
    }
  });
}

interface Seen {
  readonly node: NodeName;
  /** As etcd shows it: `kms2:NAME`. */
  readonly key: string;
  readonly id: SeenKeyId | undefined;
}

/** What kube-apiserver was told by its plugins; `problem`: why it does not say. */
export async function toldTo(
  node: NodeName,
  world: World,
  signal: AbortSignal,
): Promise<{ readonly ids: ReadonlyMap<string, SeenKeyId>; readonly problem?: string }> {
  try {
    return { ids: seenKeyIds((await metricsOf(world.kube, node, signal)).text) };
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
    return { ids: new Map(), problem: `${node}: ${messageOf(error)}` };
  }
}

/** undefined: not everyone says the same. */
function agreement(seen: readonly Seen[], keys: ReadonlySet<string>): Map<string, string> | undefined {
  const newest = new Map<string, string>();
  for (const key of keys) {
    const hashes = new Set(seen.filter((each) => each.key === key).map(({ id }) => id?.hash));
    const [hash] = hashes;
    if (hashes.size !== 1 || hash === undefined) return undefined;
    newest.set(key, hash);
  }
  return newest;
}

/** Those that have a key id which etcd knows already, while others have one that it does not. */
function lateOnes(seen: readonly Seen[], names: ReadonlyMap<string, string>): readonly Seen[] {
  const late = seen.filter(({ id }) => id === undefined || names.has(id.hash));
  return late.length === 0 ? seen : late;
}

function differ(details: readonly string[]): TsrkeError {
  return new TsrkeError(
    'KMS_KEYS_DIFFER',
    `the kube-apiservers do not agree on the key of the KMS after ${limit / 1000} s; nothing was rewritten`,
    {
      details,
      next: 'see that the plugin of every controlplane node uses the same key, then run the same command again',
    },
  );
}

function silent(nodes: readonly NodeName[], details: readonly string[]): TsrkeError {
  return new TsrkeError(
    'KMS_UNHEALTHY',
    `kube-apiserver has not heard from its KMS plugin for ${limit / 1000} s on ${nodes.join(', ')}; nothing was rewritten`,
    { details, next: 'bring the plugin back, then run the same command again' },
  );
}

function spoken(hash: string | undefined, names: ReadonlyMap<string, string>): string {
  if (hash === undefined) return 'no key id';
  const known = names.get(hash);
  return known === undefined ? `a key id that etcd has not seen (${hash.slice(0, 19)}…)` : `key id ${known}`;
}

/** Of a KMS provider, as it is called in files: `vault` of `kms2:vault`. */
export function nameOf(stored: string): string {
  return stored.slice(stored.indexOf(':') + 1);
}

export function hashOf(keyId: string): string {
  return `sha256:${createHash('sha256').update(keyId).digest('hex')}`;
}
