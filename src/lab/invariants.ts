/** What must hold after every single effect, whatever else happens: no object is ever unreadable, no key ever lost. */
import {
  keysOf,
  localKeysOf,
  noFile,
  parseProviderFile,
  resourcesOf,
  writeKeyOf,
  type ProviderFile,
} from '../encryption/configuration.ts';
import { keyId } from '../encryption/key.ts';
import { providerPath } from '../encryption/world.ts';
import { messageOf } from '../errors.ts';
import { storedKeyOf } from '../etcd/stored.ts';
import type { ClusterState } from '../state/rkestate.ts';
import type { StoredValue } from './etcd-store.ts';
import { etcdPrefix, kindOfKey } from './kinds.ts';
import type { LabModel, Running } from './model.ts';

/**
 * Sentences on what does not hold; none: all is well. `state`: as it lies on disk at this moment, if it does.
 * `neverPlain`: of a cluster whose Secrets are encrypted from the first one on.
 */
export function checkInvariants(
  model: LabModel,
  state: ClusterState | undefined,
  { neverPlain = false }: { readonly neverPlain?: boolean } = {},
): string[] {
  const running = model.running();
  return [
    ...unreadable(model, running),
    ...unreadableSoon(running),
    ...lostKeys(model, state),
    ...quorumLost(model),
    ...(neverPlain ? plainSecrets(model) : []),
  ];
}

/** Of three votes or more never so many are stopped that the quorum is gone; while a host has no power nobody can say. */
export function quorumLost(model: LabModel): string[] {
  const { all, running, withoutPower } = model.votes() ?? { all: 0, running: 0, withoutPower: 0 };
  if (all < 3 || running > all / 2 || withoutPower > 0) return [];
  return [`of ${all} votes of etcd ${running} run: the others were stopped`];
}

/** Secrets that were ever written without encryption, also those that are compacted. */
export function plainSecrets(model: LabModel): string[] {
  const written = model.store.everPlain(`${etcdPrefix}/secrets/`);
  return written.map(({ key, revision }) => `${key} was written in plain form at revision ${revision}`);
}

/**
 * Every local key on a disk, in memory or in front of a stored value is in the state file, which can be read; `state`
 * undefined: there is none.
 */
export function lostKeys(model: LabModel, state: ClusterState | undefined): string[] {
  const problems: string[] = [];
  let kept: ReadonlySet<string>;
  try {
    kept = state === undefined ? new Set() : keysOfState(state);
  } catch (error) {
    return [`the next run cannot read the state file: ${messageOf(error)}`];
  }
  for (const [where, key] of keysInUse(model, model.running())) {
    if (!kept.has(key)) problems.push(`${key} ${where} is not in the state file`);
  }
  const names = new Set([...kept].map((id) => id.replace(/#.*/, '')));
  for (const { key, value } of allStored(model)) {
    const { id, provider } = storedKeyOf(value);
    if (provider === 'identity' || provider === 'kms1' || provider === 'kms2' || names.has(id)) continue;
    problems.push(`${key} lies under ${id}, which is not in the state file`);
  }
  return problems;
}

function allStored(model: LabModel): readonly StoredValue[] {
  return model.store.range(etcdPrefix, `${etcdPrefix}\uffff`).values;
}

const keysOfStates = new WeakMap<ClusterState, ReadonlySet<string>>();

/** All ids of local keys that a state file holds, ring and provider files. Throws where it cannot be read. */
export function keysOfState(state: ClusterState): ReadonlySet<string> {
  const known = keysOfStates.get(state);
  if (known !== undefined) return known;
  const { document, tsrke } = state;
  const texts = [
    document.currentState?.encryptionConfig,
    document.desiredState?.encryptionConfig,
    tsrke.transition?.target,
  ].filter((text) => text !== undefined && text !== '');
  const files = texts.map((text) => parseProviderFile(text as string, 'the state'));
  const ids = new Set([...tsrke.keyRing, ...files.flatMap(localKeysOf)].map(keyId));
  keysOfStates.set(state, ids);
  return ids;
}

/** Every stored object can be read through every apiserver that serves; one that is only starting does not. */
export function unreadable(model: LabModel, running: readonly Running[]): string[] {
  const serving = running.filter(({ listens }) => listens);
  const problems: string[] = [];
  for (const stored of allStored(model)) {
    const kind = kindOfKey(stored.key);
    if (kind === undefined) continue;
    for (const { node, server } of serving) {
      if (server.loaded.reads(kind, stored)) continue;
      problems.push(`${node} cannot read ${stored.key}, which lies under ${storedKeyOf(stored.value).id}`);
    }
  }
  return problems;
}

/** No running apiserver, serving or starting, writes with a key that another one cannot read. */
function unreadableSoon(running: readonly Running[]): string[] {
  const resources = ['secrets', ...resourcesOf(...running.map(({ server }) => server.loaded.file))];
  const problems: string[] = [];
  for (const resource of new Set(resources)) {
    for (const writer of running) {
      const { id } = writeKeyOf(writer.server.loaded.file, resource);
      for (const reader of running) {
        if (keysOf(reader.server.loaded.file, resource).some((key) => key.id === id)) continue;
        problems.push(`${writer.node} writes ${resource} with ${id}, which ${reader.node} cannot read`);
      }
    }
  }
  return problems;
}

/** Local keys on disks and in memory. */
function* keysInUse(model: LabModel, running: readonly Running[]): Generator<readonly [string, string]> {
  for (const { name } of model.nodes) {
    const bytes = model.host(name).read(providerPath)?.bytes;
    if (bytes === undefined) continue;
    for (const key of localKeysOf(parsedFile(bytes))) yield [`on the disk of ${name}`, keyId(key)];
  }
  for (const { node, server } of running) {
    for (const key of localKeysOf(server.loaded.file)) yield [`loaded by ${node}`, keyId(key)];
  }
}

const parsed = new WeakMap<Buffer, ProviderFile>();

function parsedFile(bytes: Buffer): ProviderFile {
  const known = parsed.get(bytes);
  if (known !== undefined) return known;
  let file: ProviderFile;
  try {
    file = parseProviderFile(bytes.toString(), providerPath);
  } catch {
    // No apiserver comes up with it, so none uses its keys.
    file = noFile;
  }
  parsed.set(bytes, file);
  return file;
}
