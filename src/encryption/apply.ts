/**
 * The only interpreter of lines. Each line: state durable → node by node (file, load, shown as loaded and ready) →
 * look again. It holds no position of its own: whatever happened, the next pass starts from what it sees.
 */
import { allToTheirEnd, TsrkeError } from '../errors.ts';
import {
  withKeys,
  type ClusterState,
  type Held,
  type LoadedRecord,
  type RkeHalf,
} from '../state/rkestate.ts';
import { expectAcceptable } from './acceptable.ts';
import {
  film,
  localKeysOf,
  renderProviderFile,
  writeKeyOf,
  type KeyRef,
  type ProviderFile,
} from './configuration.ts';
import { deploy, isByReload } from './deploy.ts';
import { stopHere } from './interruption.ts';
import { expectPlugins, expectSharedKeks } from './kms/check.ts';
import { keyId } from './key.ts';
import { observe, type Look, type MemberLook } from './observe.ts';
import { done, lineTitles, strip, type Line, type Push } from './plan.ts';
import { isBeyond } from './steps.ts';
import { expectAnswering, kmsProvidersOf, preflightKms } from './kms/preflight.ts';
import { agreedKeyIds, isRenewable, notBegun, outdated } from './kms/renewal.ts';
import { passThroughEach, rewriteAll } from './rewrite-all.ts';
import { compactionIntervalOf, requestTimeoutOf } from './server-options.ts';
import type { World } from './world.ts';

/** For the user, once interrupted. */
const goesOn =
  'run the same command again, or `tsrke encrypt resume`: it continues from here; `tsrke encrypt abort` goes back';

export interface Outcome {
  readonly state: ClusterState;
  /** How often a kube-apiserver was restarted or recreated. */
  readonly restarts: number;
  readonly rewritten: number;
  readonly last: Look;
  /** It was told to stop there, with more to do. */
  readonly held?: Held;
}

type PushLine = Extract<Line, { pushes: unknown }>;

/**
 * Carries the cluster to `target` (no entries: encryption off) and resolves once nothing is left to do, or nothing that
 * the open transition may do before it is told to. The target's keys must be in the state's key ring. Rejects with TsrkeError; the same call again goes on from there.
 */
export async function carryOut(
  target: ProviderFile,
  start: ClusterState,
  world: World,
  signal: AbortSignal,
): Promise<Outcome> {
  let state = start;
  let restarts = 0;
  let rewritten = 0;
  let standIn: ReadonlyMap<string, KeyRef> | undefined;
  const renews = start.tsrke.transition?.kind === 'rotate' && isRenewable(target);
  let renewal = notBegun;
  // Asked again before each rewrite: by then the plugins may have yet another key.
  let asked = !renews;
  let pluginsTried = false;
  const held = start.tsrke.transition?.held;
  for (let pass = 1; pass <= 24; pass += 1) {
    signal.throwIfAborted();
    const seen = await observe(world, state, signal, { standIn });
    const look: Look = {
      ...seen,
      ...(renews ? { outdated: outdated(target, seen, renewal) } : {}),
      isPrepared: held === 'read',
    };
    // All lines to come, not just the next one, must be files that can exist: nothing is pushed on a way to nowhere.
    const lines = strip(target, look);
    expectAcceptable(lines, look.members, world);
    if (!pluginsTried) await preflightKms(kmsProvidersOf(lines), look, world, signal);
    pluginsTried = true;
    const [line = done] = lines;
    if (held !== undefined && isBeyond(line.kind, held)) {
      return { state, restarts, rewritten, last: look, held };
    }
    switch (line.kind) {
      case 'done':
        if (await waitForRequests(look, world, signal)) break;
        return { state, restarts, rewritten, last: look };
      case 'rewrite': {
        stopHere(signal, 'before the rewrite', goesOn);
        if (!asked) {
          renewal = { ...renewal, newest: await agreedKeyIds(target, look, world, signal) };
          asked = true;
          break;
        }
        await expectSharedKeks(target, look, world, signal);
        state = await world.save(state, isCopyEncrypted(target, look), signal);
        const touch = (resource: string) => renews && writeKeyOf(target, resource).kek === 'unnamed';
        rewritten += await rewriteAll(line.resources, look, world, signal, touch);
        asked = !renews;
        const shown = line.resources.filter((each) => look.census === undefined || touch(each));
        renewal = { ...renewal, renewed: new Set([...renewal.renewed, ...shown]) };
        if (look.census !== undefined) break;
        await waitForRequests(look, world, signal);
        await passThroughEach(line.resources, look, world, signal);
        standIn = new Map(line.resources.map((each) => [each, writeKeyOf(target, each)]));
        break;
      }
      case 'read':
      case 'write':
      case 'prune':
      case 'remake': {
        const isRemake = line.kind === 'remake';
        // Other binds may be what brings a plugin back.
        if (!isRemake) expectPlugins(look);
        if (line.kind === 'prune' && (await waitForRequests(look, world, signal))) break;
        // The look that led here is the proof.
        if (line.kind === 'prune') await forgetOlder(look, world, signal);
        // Without a file to name, what the nodes may hold stays recorded until all is done.
        const keepText = line.state.entries.length === 0;
        state = await world.save(
          withLine(state, keepText ? undefined : line.state, look, world.clock.now()),
          isCopyEncrypted(target, look),
          signal,
        );
        const title = isRemake ? lineTitles.remake : `${lineTitles[line.kind]}: ${film(line.state)}`;
        await world.report.task(title, async (task) => {
          task.expects?.(line.pushes.map((push) => push.node));
          const records: Record<string, LoadedRecord> = {};
          for (const round of roundsOf(line, look)) {
            const names = round.map(({ push }) => push.node).join(', ');
            stopHere(signal, `before ${names}, in the line “${title}”`, goesOn);
            await world.hold(signal);
            if (!isRemake) await expectAnswering(kmsProvidersOf([line]), look.members, world, signal);
            const before = state;
            await allToTheirEnd(
              round.map(async ({ push, member, byReload }) => {
                const record = await deploy(push, member?.onDisk?.sha256, isRemake, before, world, signal);
                if (record !== undefined) records[push.node] = record;
                if (!byReload) restarts += 1;
              }),
            );
            state = { ...state, tsrke: { ...state.tsrke, loaded: { ...state.tsrke.loaded, ...records } } };
          }
        });
        break;
      }
    }
  }
  throw new TsrkeError('NOT_PROVED', 'the cluster did not settle', {
    next: 'find out who else changes provider files or restarts kube-apiserver, then run the same command again',
  });
}

interface Turn {
  readonly push: Push;
  readonly member: MemberLook | undefined;
  readonly byReload: boolean;
}

/**
 * Node by node, in the planner's order. Where no restart is needed the first goes alone, to show that the file is good,
 * then the rest together; but not one that would begin to write with what already lies on its disk: all before it have
 * to read that first.
 */
function roundsOf({ kind, pushes }: PushLine, look: Look): Turn[][] {
  const turns = pushes.map((push): Turn => {
    const member = look.members.find((each) => each.node === push.node);
    const byReload = kind !== 'remake' && member !== undefined && isByReload(push, member);
    return { push, member, byReload };
  });
  const joins = ({ byReload, member }: Turn) => byReload && member?.loaded === 'yes';
  const first = turns.find(joins);
  const rounds: Turn[][] = [];
  for (const turn of turns) {
    const last = rounds.at(-1);
    const [before] = last ?? [];
    const together = before !== undefined && before !== first && joins(before) && joins(turn);
    if (together) last?.push(turn);
    else rounds.push([turn]);
  }
  return rounds;
}

/**
 * Milliseconds until no request is under way any more that began before the last change of file without a restart: it
 * may still write with the key of before.
 */
export function requestsEndIn({ members }: Look): number {
  const left = members.map(({ reload, container }) =>
    reload === undefined ? 0 : requestTimeoutOf(container.args) - reload.since,
  );
  return Math.max(0, ...left);
}

/** true: it waited, so what was seen before says nothing any more. */
async function waitForRequests(look: Look, world: World, signal: AbortSignal): Promise<boolean> {
  const wait = requestsEndIn(look);
  if (wait === 0) return false;
  await waitOut('wait for requests that began under the file of before', wait, world, signal);
  return true;
}

/** Waits so many milliseconds, and keeps the lock meanwhile. */
async function waitOut(title: string, wait: number, world: World, signal: AbortSignal): Promise<void> {
  await world.report.task(title, async (task) => {
    const end = world.clock.now().getTime() + wait;
    for (let left = wait; left > 0; left = end - world.clock.now().getTime()) {
      task.progress(`${Math.ceil(left / 1000)} s left`);
      await world.clock.sleep(Math.min(left, 5_000), signal);
      await world.hold(signal);
    }
  });
}

/** No continue token or watch of before the proof may meet a value whose key is gone: with older revisions forgotten
 * it meets 410, which clients know (seen with 1.34.4 and etcd 3.5). */
async function forgetOlder(look: Look, world: World, signal: AbortSignal): Promise<void> {
  if (look.census !== undefined) {
    for (const [i, { revision }] of look.census.at.entries()) await world.etcds[i]?.compact(revision, signal);
    return;
  }
  // What is one interval old at a compaction goes with it.
  const wait = 2 * Math.max(...look.members.map(({ container }) => compactionIntervalOf(container.args)));
  await waitOut('wait until kube-apiserver has compacted etcd', wait, world, signal);
}

/** The copy in the cluster may hold keys once all write with one, and no more once a disable starts. */
function isCopyEncrypted(target: ProviderFile, look: Look): boolean {
  const encrypts = (file: ProviderFile) => writeKeyOf(file, 'secrets').id !== 'identity';
  return (
    encrypts(target) &&
    look.members.every(
      (each) => each.flag && each.file !== undefined && encrypts(each.file) && each.loaded === 'yes',
    )
  );
}

/** What the nodes may hold from now on, and every key that was seen, go into the state before any node is touched. */
function withLine(state: ClusterState, file: ProviderFile | undefined, look: Look, now: Date): ClusterState {
  const { document } = state;
  const text = file === undefined ? undefined : renderProviderFile(file);
  const half = (part: RkeHalf | undefined): RkeHalf => ({
    ...part,
    ...(text === undefined ? {} : { encryptionConfig: text }),
  });
  return {
    document: {
      ...document,
      desiredState: half(document.desiredState),
      currentState: half(document.currentState),
    },
    tsrke: {
      ...state.tsrke,
      keyRing: withKeys(state.tsrke.keyRing, look.keys, now.toISOString(), 'found in use'),
    },
  };
}

/** Retires the keys that the target does not have; `target` is what all members run. */
export function withFinished(target: ProviderFile, state: ClusterState, now: Date): ClusterState {
  const kept = new Set(localKeysOf(target).map(keyId));
  const { transition: _open, ...tsrke } = state.tsrke;
  const half = (part: RkeHalf | undefined): RkeHalf => {
    const { encryptionConfig: _text, ...rest } = part ?? {};
    return target.entries.length === 0 ? rest : { ...rest, encryptionConfig: renderProviderFile(target) };
  };
  const { document } = state;
  return {
    document: {
      ...document,
      desiredState: half(document.desiredState),
      currentState: half(document.currentState),
    },
    tsrke: {
      ...tsrke,
      keyRing: tsrke.keyRing.map((key) => {
        const { retired, ...inUse } = key;
        return kept.has(keyId(key)) ? inUse : { ...key, retired: retired ?? now.toISOString() };
      }),
    },
  };
}
