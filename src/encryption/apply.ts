/**
 * The only interpreter of lines. Each line: state durable → node by node (file, load, shown as loaded and ready) →
 * look again. It holds no position of its own: whatever happened, the next pass starts from what it sees.
 */
import { messageOf, TsrkeError } from '../errors.ts';
import { discover } from '../kube/discover.ts';
import { readiness } from '../kube/ready.ts';
import { rewrite } from '../kube/rewrite.ts';
import type { NodeName, TaskReport } from '../ports.ts';
import { withKeys, type ClusterState, type LoadedRecord, type RkeHalf } from '../state/rkestate.ts';
import {
  film,
  localKeysOf,
  renderProviderFile,
  sameMeaning,
  writeKeyOf,
  type ProviderFile,
} from './configuration.ts';
import { keyId } from './key.ts';
import { lookAtMember, observe, type Look, type MemberLook } from './observe.ts';
import { nextLine, type Push } from './plan.ts';
import { providerFlag, type World } from './world.ts';

/** Milliseconds in which kube-apiserver must have become ready after a restart. */
const readyLimit = 120_000;

export interface Outcome {
  readonly state: ClusterState;
  /** How often a kube-apiserver was restarted or recreated. */
  readonly restarts: number;
  readonly rewritten: number;
  readonly last: Look;
}

/**
 * Carries the cluster to `target` (no entries: encryption off) and resolves once nothing is left to do. The target's
 * keys must be in the state's key ring. Rejects with TsrkeError; the same call again goes on from there.
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
  for (let pass = 1; pass <= 24; pass += 1) {
    stopHere(signal);
    const look = await observe(world, state, signal);
    const line = nextLine(target, look);
    switch (line.kind) {
      case 'done':
        return { state, restarts, rewritten, last: look };
      case 'rewrite': {
        state = await world.save(state, isCopyEncrypted(target, look), signal);
        rewritten += await rewriteAll(line.resources, look, world, signal);
        break;
      }
      case 'read':
      case 'write':
      case 'prune': {
        // The look that led here is the proof. Forgetting older revisions makes an old continue token or watch meet
        // 410, which clients know, and not a value whose key is gone (seen with 1.34.4 and etcd 3.5).
        if (line.kind === 'prune') await world.etcd.compact(look.census.revision, signal);
        const keepText = line.kind === 'prune' && line.state.entries.length === 0;
        state = await world.save(
          withLine(state, keepText ? undefined : line.state, look, world.clock.now()),
          isCopyEncrypted(target, look),
          signal,
        );
        const title = `${titles[line.kind]}: ${film(line.state)}`;
        await world.report.task(title, async (task) => {
          task.expects?.(line.pushes.map((push) => push.node));
          const records: Record<string, LoadedRecord> = {};
          for (const push of line.pushes) {
            stopHere(signal);
            await world.hold(signal);
            const record = await deploy(push, state, world, signal);
            if (record !== undefined) records[push.node] = record;
            restarts += 1;
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

const titles = {
  read: 'make every key readable on every node',
  write: 'write with the wanted key',
  prune: 'remove what is no longer needed',
} as const;

function stopHere(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new TsrkeError('INTERRUPTED', 'interrupted; the step in hand was finished and nothing is lost', {
    next: 'run the same command again; it continues from here',
  });
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

/** Puts one member on its file, or takes flag and file away; resolves once it is loaded and ready. */
async function deploy(
  push: Push,
  state: ClusterState,
  world: World,
  signal: AbortSignal,
): Promise<LoadedRecord | undefined> {
  // What was begun on a node is finished even when the user interrupts: half a step helps nobody.
  const steady = new AbortController().signal;
  signal.throwIfAborted();
  return await world.report.task(push.node, async (task) => {
    const container = await world.runtime.apiserver(push.node, steady);
    if (container?.interrupted === true) {
      task.progress('finishing a recreation that was cut off');
      await world.runtime.finishRecreation(push.node, steady);
    }
    const before = await lookAtMember(world, push.node, state.tsrke.loaded, steady);
    try {
      await moveTo(push.file, before, world, task, steady);
    } catch (error) {
      if (!(error instanceof TsrkeError) || error.code !== 'APISERVER_NOT_READY') throw error;
      await putBack(push, before, error, world, task, steady);
    }
    const after = await lookAtMember(world, push.node, state.tsrke.loaded, steady);
    task.done(`${push.node} is ready`);
    return after.onDisk === undefined
      ? undefined
      : { startedAt: after.container.startedAt, sha256: after.onDisk.sha256 };
  });
}

async function moveTo(
  file: ProviderFile | undefined,
  before: MemberLook,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { node, path, container } = before;
  if (file === undefined) {
    if (before.flag) {
      task.progress('recreating kube-apiserver without the provider file');
      await world.runtime.recreateApiserver(node, withoutFlag(container.args), signal);
      await shownReady(node, undefined, world, task, signal);
      await world.runtime.settleApiserver(node, 'keep', signal);
    }
    await world.files.remove(node, path, before.onDisk?.sha256, signal);
    if (!before.flag && !before.ready) {
      await world.runtime.restartApiserver(node, signal);
      await shownReady(node, undefined, world, task, signal);
    }
    return;
  }
  let sha256 = before.onDisk?.sha256;
  if (before.file === undefined || !sameMeaning(before.file, file)) {
    task.progress('writing the provider file');
    const written = await world.files.replace(node, path, `${renderProviderFile(file)}\n`, sha256, signal);
    sha256 = written.sha256;
  }
  if (before.flag) {
    task.progress('restarting kube-apiserver');
    await world.runtime.restartApiserver(node, signal);
    await shownReady(node, sha256, world, task, signal);
  } else {
    task.progress('recreating kube-apiserver with the provider file');
    await world.runtime.recreateApiserver(
      node,
      [...withoutFlag(container.args), `${providerFlag}=${path}`],
      signal,
    );
    await shownReady(node, sha256, world, task, signal);
    await world.runtime.settleApiserver(node, 'keep', signal);
  }
}

/** Also the flag for automatic reload: kube-apiserver refuses it alone. */
function withoutFlag(args: readonly string[]): string[] {
  return args.filter((each) => !each.startsWith(providerFlag));
}

/** Waits for /readyz and, where the server tells, for the hash of the file. Throws APISERVER_NOT_READY. */
async function shownReady(
  node: NodeName,
  sha256: string | undefined,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const begin = world.clock.now().getTime();
  const starts = new Set<string>();
  let inspected = -Infinity;
  let failing: readonly string[] = [];
  while (world.clock.now().getTime() - begin < readyLimit) {
    const seen = await readiness(world.kube, node, signal);
    failing = seen.failing;
    if (seen.ready) {
      const look = await lookAtMember(world, node, {}, signal);
      if (look.onDisk?.sha256 === sha256 || sha256 === undefined) {
        if (look.loaded !== 'no' || sha256 === undefined) return;
      }
      failing = ['the file it has loaded is not the one on its disk'];
    }
    const now = world.clock.now().getTime();
    if (now - inspected > 1_500) {
      inspected = now;
      const container = await world.runtime.apiserver(node, signal);
      if (container !== undefined) starts.add(container.startedAt);
      // Docker starts it again and again: it will not come up with this file.
      if (starts.size > 3) break;
    }
    task.progress(`waiting for kube-apiserver (${failing.slice(0, 2).join(', ')})`);
    await world.clock.sleep(100, signal);
  }
  throw new TsrkeError('APISERVER_NOT_READY', `kube-apiserver did not become ready: ${failing.join(', ')}`, {
    node,
  });
}

/** The file of the line before; then this run ends, with the node's own last words. */
async function putBack(
  push: Push,
  before: MemberLook,
  error: TsrkeError,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<never> {
  const { node, path } = before;
  const logs = await world.runtime.logs(node, 12, signal).catch((cause: unknown) => [messageOf(cause)]);
  task.progress('did not come up; putting the file before it back');
  let back = 'it runs again with the file it had before';
  try {
    const present = (await world.files.read(node, path, signal))?.sha256;
    if (push.fallback === undefined) {
      await world.runtime.settleApiserver(node, 'back', signal);
      await shownReady(node, undefined, world, task, signal);
      await world.files.remove(node, path, present, signal);
    } else if (push.file === undefined) {
      await world.runtime.settleApiserver(node, 'back', signal);
      await shownReady(node, undefined, world, task, signal);
    } else {
      await fallBack(push.fallback, before, present, world, task, signal);
    }
  } catch (cause) {
    back = `and did not come up with the file before it either (${messageOf(cause)})`;
  }
  throw new TsrkeError(
    'APISERVER_NOT_READY',
    `kube-apiserver did not come up with its new provider file; ${back}`,
    {
      node,
      cause: error,
      details: logs.map((line) => `  ${line}`),
      next: 'nodes before it stay on the new file, nodes after it were not touched, all keys stay readable; remove the cause, then run the same command again',
    },
  );
}

/** The file before it, also where there was no flag: with one node it may have written with the new key already. */
async function fallBack(
  file: ProviderFile,
  before: MemberLook,
  present: string | undefined,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { node, path, flag } = before;
  await world.files.replace(node, path, `${renderProviderFile(file)}\n`, present, signal);
  await world.runtime.restartApiserver(node, signal);
  try {
    await shownReady(node, undefined, world, task, signal);
  } catch (error) {
    // It comes up with no provider file at all, then: it has never been ready with one, and the key is in the state.
    if (flag) throw error;
    await world.runtime.settleApiserver(node, 'back', signal);
    await shownReady(node, undefined, world, task, signal);
    return;
  }
  if (!flag) await world.runtime.settleApiserver(node, 'keep', signal);
}

async function rewriteAll(
  resources: readonly string[],
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<number> {
  const nodes = look.members.map((each) => each.node);
  const [first] = nodes;
  if (first === undefined) throw new Error('a rewrite needs a member');
  let rewritten = 0;
  const problems: string[] = [];
  for (const found of await discover(world.kube, first, resources, signal)) {
    for (const { name, why } of found.leftOut) {
      if (why === 'unknown') problems.push(`${name}: no API serves this resource any more`);
    }
    for (const resource of found.resources) {
      await world.report.task(`rewrite ${found.pattern}`, async (task) => {
        const result = await rewrite({
          kube: world.kube,
          nodes,
          resource,
          clock: world.clock,
          signal,
          etcdSize: (each) => world.etcd.size(each),
          onProgress: ({ done, total, rate, eta, paused }) =>
            task.progress(
              `${done}/${total}, ${Math.round(rate)}/s${eta === undefined ? '' : `, ${Math.ceil(eta)} s left`}${paused === undefined ? '' : ` (${paused})`}`,
              { done, total, rate, eta },
            ),
        });
        rewritten += result.rewritten;
        problems.push(
          ...result.failed.map((each) => `${found.pattern} ${each.namespace}/${each.name}: ${each.reason}`),
        );
        if (result.unlisted !== undefined) problems.push(`${found.pattern}: ${result.unlisted}`);
        task.done(`rewrote ${result.rewritten} of ${result.total} ${found.pattern}`);
      });
    }
  }
  if (problems.length > 0) {
    throw new TsrkeError(
      'REWRITE_INCOMPLETE',
      `${problems.length} could not be rewritten; no key was removed`,
      {
        details: problems.slice(0, 50),
        next: 'remove the cause or the objects, then run the same command again',
      },
    );
  }
  return rewritten;
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
        return kept.has(keyId(key)) || key.retired !== undefined
          ? key
          : { ...key, retired: now.toISOString() };
      }),
    },
  };
}
