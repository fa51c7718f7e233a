/** One member onto its file: file, load, shown as loaded and ready; or, if it does not come up, back to the one before. */
import { createHash } from 'node:crypto';
import { messageOf, TsrkeError } from '../errors.ts';
import { loadedHashOf, metricsOf, reloadsIn, type Reloads } from '../kube/metrics.ts';
import { readiness } from '../kube/ready.ts';
import type { NodeName, TaskReport } from '../ports.ts';
import type { ClusterState, LoadedRecord } from '../state/rkestate.ts';
import { withReload } from './automatic-reload.ts';
import { lacking, spare } from './binds.ts';
import { isPluginCheck } from './kms/check.ts';
import { renderProviderFile, sameMeaning, type ProviderFile } from './configuration.ts';
import { lookAtMember, type MemberLook } from './observe.ts';
import type { Push } from './plan.ts';
import { reloadsOf as reloadsByItself } from './server-options.ts';
import { providerFlag, type World } from './world.ts';

/** Milliseconds in which kube-apiserver must have become ready after a restart. */
const readyLimit = 120_000;
/** Milliseconds after which a KMS plugin that it does not reach will not come any more; it asks every 10 s. */
const pluginLimit = 45_000;
/** Milliseconds in which it must have loaded a changed file by itself: a minute's poll, KMS health, and some more. */
const loadLimit = 180_000;

/** Whether this push needs no restart. A node that is not well is restarted in any case. */
export function isByReload({ file }: Push, { flag, reload, ready, binds, container }: MemberLook): boolean {
  const well = flag && ready && container.running && !container.interrupted;
  return file !== undefined && well && reload !== undefined && binds !== 'lacking';
}

/**
 * Puts one member on its file, or takes flag and file away; resolves once it is loaded and ready. `seen`: the sha256 of
 * the file from which the push was made. Throws FILE_CHANGED where another one lies there by now. `remake`: what
 * cluster.yml asks for no more goes from its container, too; what it asks for is there after any push.
 */
export async function deploy(
  push: Push,
  seen: string | undefined,
  remake: boolean,
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
    expectKnown(push.node, before, before.onDisk?.sha256, [seen]);
    const change = changeOf(before, remake, world);
    const byReload = !remake && isByReload(push, before);
    try {
      await moveTo(push.file, before, { ...change, byReload }, world, task, steady);
    } catch (error) {
      if (!(error instanceof TsrkeError)) throw error;
      const failed = error.code === 'APISERVER_NOT_READY' || error.code === 'RELOAD_FAILED';
      if (!failed) throw error;
      await putBack(push, before, change.isNeeded, error, world, task, steady);
    }
    const after = await lookAtMember(world, push.node, state.tsrke.loaded, steady);
    task.done(`${push.node} is ready`);
    return after.onDisk === undefined
      ? undefined
      : { startedAt: after.container.startedAt, sha256: after.onDisk.sha256 };
  });
}

/** A file that this run neither saw nor wrote may hold a key that is in use: it stays where it is. */
function expectKnown(
  node: NodeName,
  { path }: MemberLook,
  present: string | undefined,
  known: readonly (string | undefined)[],
): void {
  if (known.includes(present)) return;
  throw new TsrkeError('FILE_CHANGED', `${path} was changed by somebody else since it was looked at`, {
    node,
    next: 'see who else is at work on this node, then run the same command again',
  });
}

/** What its container is to be made anew with. */
interface ContainerChange {
  /** undefined: those that it has. */
  readonly binds?: readonly string[];
  /** It loads a changed file by itself, where it has one. */
  readonly reloads: boolean;
  /** Other binds, or another way to load a changed file, than it has. */
  readonly isNeeded: boolean;
}

function changeOf(
  { container: { args, binds: present }, binds, reloadFlag }: MemberLook,
  remake: boolean,
  { binds: wanted, reload }: World,
): ContainerChange {
  const added = lacking(present, wanted);
  const gone = remake ? spare(present, wanted) : [];
  const otherBinds = added.length > 0 || (remake && binds === 'spare');
  return {
    ...(otherBinds ? { binds: [...present.filter((each) => !gone.includes(each)), ...added] } : {}),
    reloads: reload === 'on' || (reloadsByItself(args) && !(remake && reload === 'off')),
    isNeeded: otherBinds || reloadFlag === 'lacking' || (remake && reloadFlag === 'spare'),
  };
}

function textOf(file: ProviderFile): string {
  return `${renderProviderFile(file)}\n`;
}

async function moveTo(
  file: ProviderFile | undefined,
  before: MemberLook,
  { binds, reloads, isNeeded, byReload }: ContainerChange & { readonly byReload: boolean },
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { node, path, container } = before;
  const recreate = async (args: readonly string[], sha256: string | undefined) => {
    await world.runtime.recreateApiserver(node, { args, ...(binds === undefined ? {} : { binds }) }, signal);
    await shownReady(node, sha256, world, task, signal);
    await world.runtime.settleApiserver(node, 'keep', signal);
  };
  if (file === undefined) {
    if (before.flag || isNeeded) {
      task.progress(
        `recreating kube-apiserver ${before.flag ? 'without the provider file' : 'as cluster.yml asks'}`,
      );
      await recreate(withoutFlag(container.args), undefined);
    }
    await world.files.remove(node, path, before.onDisk?.sha256, signal);
    if (!before.flag && !isNeeded && !before.ready) {
      await world.runtime.restartApiserver(node, signal);
      await shownReady(node, undefined, world, task, signal);
    }
    return;
  }
  let sha256 = before.onDisk?.sha256;
  if (before.file === undefined || !sameMeaning(before.file, file)) {
    task.progress('writing the provider file');
    const written = await world.files.replace(node, path, textOf(file), sha256, signal);
    sha256 = written.sha256;
  }
  if (!before.flag) {
    task.progress('recreating kube-apiserver with the provider file');
    await recreate(withReload([...withoutFlag(container.args), `${providerFlag}=${path}`], reloads), sha256);
  } else if (isNeeded) {
    task.progress('recreating kube-apiserver as cluster.yml asks');
    await recreate(withReload(container.args, reloads), sha256);
  } else if (byReload) {
    task.progress('waiting until kube-apiserver has loaded the file');
    await shownLoaded(before, sha256, world, task, signal);
  } else {
    task.progress('restarting kube-apiserver');
    await world.runtime.restartApiserver(node, signal);
    await shownReady(node, sha256, world, task, signal);
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
  let withPlugin = begin;
  while (world.clock.now().getTime() - begin < readyLimit) {
    const seen = await readiness(world.kube, node, signal);
    failing = seen.failing;
    if (!failing.some(isPluginCheck)) withPlugin = world.clock.now().getTime();
    else if (world.clock.now().getTime() - withPlugin > pluginLimit) break;
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
  const silent = failing.some(isPluginCheck) ? '; its KMS plugin does not answer' : '';
  throw new TsrkeError(
    'APISERVER_NOT_READY',
    `kube-apiserver did not become ready: ${failing.join(', ')}${silent}`,
    { node },
  );
}

/**
 * Waits until a server with automatic reload has loaded the file: by its hash, or, before 1.34, by one more success.
 * `/readyz` stays green whatever becomes of it. Throws RELOAD_FAILED.
 */
async function shownLoaded(
  before: MemberLook,
  sha256: string | undefined,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { node } = before;
  const begin = world.clock.now().getTime();
  const then = { success: before.reload?.success ?? 0, failure: before.reload?.failure ?? 0 };
  let looked = begin;
  while (world.clock.now().getTime() - begin < loadLimit) {
    const waited = Math.round((world.clock.now().getTime() - begin) / 1000);
    task.progress(`waiting until kube-apiserver has loaded the file (it looks every 60 s; ${waited} s)`);
    await world.clock.sleep(1_000, signal);
    // One request tells whether anything has happened; all else only now and then.
    const told = await reloadsOf(node, world, signal);
    const news = told?.success !== then.success || told.failure !== then.failure || told.hash === sha256;
    if (!news && world.clock.now().getTime() - looked < 15_000) continue;
    looked = world.clock.now().getTime();
    const look = await lookAtMember(world, node, {}, signal);
    // Started anew meanwhile, by whomever: then it has read the file at its start.
    if (look.container.startedAt !== before.container.startedAt) {
      await shownReady(node, sha256, world, task, signal);
      return;
    }
    const { reload } = look;
    if (reload !== undefined && look.onDisk?.sha256 === sha256) {
      const isLoaded = look.loaded === 'unknown' ? reload.success > then.success : look.loaded === 'yes';
      if (isLoaded && look.ready) return;
      if (!isLoaded && reload.failure > then.failure) {
        throw new TsrkeError('RELOAD_FAILED', 'kube-apiserver could not load the provider file', { node });
      }
    }
  }
  throw new TsrkeError(
    'RELOAD_FAILED',
    `kube-apiserver has not loaded the provider file within ${loadLimit / 1000} s`,
    { node },
  );
}

/** undefined: it does not answer just now. */
async function reloadsOf(
  node: NodeName,
  { kube }: World,
  signal: AbortSignal,
): Promise<(Reloads & { readonly hash: string | undefined }) | undefined> {
  try {
    const { text, date } = await metricsOf(kube, node, signal);
    return { ...reloadsIn(text, date), hash: loadedHashOf(text) };
  } catch (error) {
    if (error instanceof TsrkeError && error.code === 'KUBE') return undefined;
    throw error;
  }
}

/** The file of the line before; then this run ends, with the node's own last words. */
async function putBack(
  push: Push,
  before: MemberLook,
  otherContainer: boolean,
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
    const put = push.file === undefined ? undefined : createHash('sha256').update(textOf(push.file));
    expectKnown(node, before, present, [before.onDisk?.sha256, put?.digest('hex')]);
    if (error.code === 'RELOAD_FAILED' && push.fallback !== undefined) {
      // At once: it goes on with what it has in memory, but its next start would fail with what lies there.
      const { file, onDisk } = before;
      const same = file !== undefined && onDisk !== undefined && sameMeaning(file, push.fallback);
      await world.files.replace(node, path, same ? onDisk.text : textOf(push.fallback), present, signal);
      back = 'it goes on with the file it had before, which lies on its disk again';
    } else if (push.fallback === undefined) {
      await world.runtime.settleApiserver(node, 'back', signal);
      await shownReady(node, undefined, world, task, signal);
      await world.files.remove(node, path, present, signal);
    } else if (push.file === undefined || (otherContainer && before.flag)) {
      // The container of before, and the file that it had.
      if (push.file !== undefined) {
        await world.files.replace(node, path, textOf(push.fallback), present, signal);
      }
      await world.runtime.settleApiserver(node, 'back', signal);
      await shownReady(node, undefined, world, task, signal);
    } else {
      await fallBack(push.fallback, before, present, world, task, signal);
    }
  } catch (cause) {
    back = `and did not come up with the file before it either (${messageOf(cause)})`;
  }
  throw new TsrkeError(
    error.code,
    error.code === 'RELOAD_FAILED'
      ? `${error.message}; ${back}`
      : `kube-apiserver did not come up with its new provider file; ${back}`,
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
  await world.files.replace(node, path, textOf(file), present, signal);
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
