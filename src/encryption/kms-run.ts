/**
 * KMS plugins that tsrke runs itself: there and healthy before a provider file needs them, upgraded one node at a time,
 * gone once no provider file names them. Each step is taken from what the node shows; nothing else is remembered.
 */
import { messageOf, TsrkeError } from '../errors.ts';
import { readiness } from '../kube/ready.ts';
import type { KmsContainer, KmsDefinition, NodeName, TaskReport } from '../ports.ts';
import type { ProviderFile } from './configuration.ts';
import { isPluginCheck } from './kms-check.ts';
import { nextKmsMove, providersAt, spareContainers, withoutCredentials } from './kms-containers.ts';
import { tryAlone, tryTogether, type Wrapped } from './kms-preflight.ts';
import type { Look, MemberLook } from './observe.ts';
import type { PluginStep } from './preview.ts';
import type { World } from './world.ts';

/** Milliseconds in which a plugin must have become healthy after its start. */
const healthyLimit = 45_000;
/** Milliseconds in which kube-apiserver must have found it again; while one fails it asks every 10 s. */
const foundLimit = 45_000;

export interface KmsRun {
  readonly wanted: readonly KmsDefinition[];
  /** What the provider files are on their way to. */
  readonly target: ProviderFile;
  /** Others of before are upgraded, and those that cluster.yml has no more removed: what `up` alone does. */
  readonly upgrades: boolean;
}

/** What one node's plugin does and is asked with. */
interface Use {
  readonly definition: KmsDefinition;
  /** Versions of the KMS API that provider files on nodes use it with; none: nobody uses it yet. */
  readonly inUse: readonly ('v1' | 'v2')[];
  /** What its health is asked with. */
  readonly version: 'v1' | 'v2';
}

/** By node, what tsrke runs there. */
async function kmsContainersOn(
  { members }: Pick<Look, 'members'>,
  { kmsContainers }: Pick<World, 'kmsContainers'>,
  signal: AbortSignal,
): Promise<ReadonlyMap<NodeName, readonly KmsContainer[]>> {
  const found = members.map(
    async ({ node }) => [node, await kmsContainers.list(node, signal)] as [NodeName, KmsContainer[]],
  );
  return new Map(await Promise.all(found));
}

/** What `bringUpPlugins` and `removePlugins` would do. */
export async function pluginSteps(
  { wanted, target, upgrades }: KmsRun,
  look: Look,
  world: Pick<World, 'kmsContainers'>,
  signal: AbortSignal,
): Promise<{ readonly plugins: PluginStep['nodes']; readonly unplug: PluginStep['nodes'] }> {
  const there = await kmsContainersOn(look, world, signal);
  const becomes = { create: 'created', exchange: 'recreated', back: 'recreated', finish: 'started' } as const;
  const plugins = wanted.flatMap((definition) =>
    inOrder(look).flatMap(({ node }) => {
      const move = moveFor(definition, there.get(node) ?? [], upgrades);
      return move === undefined ? [] : [{ node, socket: definition.socket, container: becomes[move] }];
    }),
  );
  const unplug = [...(upgrades ? there : [])].flatMap(([node, seen]) =>
    spareContainers(wanted, seen)
      .filter(({ socket }) => providersAt(socket, target).length === 0)
      .map(({ socket }) => ({ node, socket, container: 'removed' as const })),
  );
  return { plugins, unplug };
}

/** Nodes that do not serve anyway come first: until they do, no other is touched. */
function inOrder({ members }: Look): MemberLook[] {
  return members.toSorted((a, b) => Number(a.ready) - Number(b.ready));
}

/** Resolves to whether anything was done. Throws KMS_UNHEALTHY, KMS_KEYS_DIFFER, DOCKER or INTERRUPTED. */
export async function bringUpPlugins(
  run: KmsRun,
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<boolean> {
  const there = await kmsContainersOn(look, world, signal);
  const isToDo = (node: NodeName, definition: KmsDefinition) =>
    moveFor(definition, there.get(node) ?? [], run.upgrades) !== undefined;
  let changed = false;
  for (const definition of run.wanted) {
    const members = inOrder(look).filter(({ node }) => isToDo(node, definition));
    if (members.length === 0) continue;
    changed = true;
    const use = useOf(definition, run.target, look);
    await world.report.task(
      `run the KMS plugin ${definition.image} at ${definition.socket}`,
      async (task) => {
        task.expects?.(members.map(({ node }) => node));
        for (const member of members) {
          stopHere(signal, member.node);
          await world.hold(signal);
          await world.report.task(member.node, (sub) => bringUp(use, member, look, run.upgrades, world, sub));
        }
      },
    );
  }
  return changed;
}

/** Before anything is touched: throws KMS_UNMOUNTED where a plugin was taken out that is still to be used. */
export async function expectPluginsStay(
  { wanted, target, upgrades }: KmsRun,
  look: Look,
  world: Pick<World, 'kmsContainers'>,
  signal: AbortSignal,
): Promise<void> {
  if (!upgrades) return;
  for (const [node, seen] of await kmsContainersOn(look, world, signal)) {
    for (const { socket } of spareContainers(wanted, seen)) {
      const [provider] = providersAt(socket, target);
      if (provider === undefined) continue;
      throw new TsrkeError(
        'KMS_UNMOUNTED',
        `kms_plugin has no plugin at ${socket} any more, but the KMS provider ${provider.name} uses it`,
        {
          node,
          next: 'put it back into kms_plugin, move to another provider with `tsrke up`, and take it out then; nothing was touched',
        },
      );
    }
  }
}

/** Those that cluster.yml names no more and no provider file either. Resolves to whether any was removed. */
export async function removePlugins(
  { wanted, target, upgrades }: KmsRun,
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<boolean> {
  if (!upgrades) return false;
  const files = [target, ...look.members.map(({ file }) => file), ...look.recorded];
  let removed = false;
  for (const [node, seen] of await kmsContainersOn(look, world, signal)) {
    for (const { name, socket } of spareContainers(wanted, seen)) {
      if (files.some((file) => providersAt(socket, file).length > 0)) continue;
      await world.hold(signal);
      await world.report.task(`remove ${name} from ${node}`, () =>
        world.kmsContainers.remove(node, socket, signal),
      );
      removed = true;
    }
  }
  return removed;
}

function moveFor(
  definition: KmsDefinition,
  there: readonly KmsContainer[],
  upgrades: boolean,
): ReturnType<typeof nextKmsMove> {
  const seen = there.find(({ socket }) => socket === definition.socket);
  const move = nextKmsMove(definition, seen);
  if (move !== 'exchange' || upgrades) return move;
  return seen?.running === true ? undefined : 'finish';
}

function useOf(definition: KmsDefinition, target: ProviderFile, { members }: Look): Use {
  const used = members.flatMap(({ file }) => providersAt(definition.socket, file));
  const inUse = [...new Set(used.map(({ apiVersion }) => apiVersion))];
  const [first] = [...used, ...providersAt(definition.socket, target)];
  return { definition, inUse, version: first?.apiVersion ?? 'v2' };
}

async function bringUp(
  use: Use,
  member: MemberLook,
  look: Look,
  upgrades: boolean,
  world: World,
  task: TaskReport,
): Promise<void> {
  // What was begun on a node is finished even when the user interrupts: half a step helps nobody.
  const signal = new AbortController().signal;
  const { definition } = use;
  const { node } = member;
  const { kmsContainers: containers } = world;
  for (let moves = 0; moves < 6; moves += 1) {
    const move = moveFor(definition, await containers.list(node, signal), upgrades);
    if (move === undefined) return;
    await world.hold(signal);
    if (move === 'create' || move === 'exchange') {
      task.progress('seeing that the image is there');
      await containers.needImage(node, definition.image, signal);
    }
    switch (move) {
      case 'back':
        task.progress('putting the former plugin back after an exchange that was cut off');
        await containers.settle(node, definition.socket, 'back', signal);
        break;
      case 'finish':
        task.progress('starting the plugin');
        await containers.finish(node, definition.socket, signal);
        await expectHealthy(use, node, world, task, signal).catch(stopped(use, node, 'left as it is', world));
        await isFound(use, node, world, task, signal);
        break;
      case 'create':
        task.progress('creating the plugin’s container');
        await containers.create(node, definition, signal);
        await expectHealthy(use, node, world, task, signal).catch(
          stopped(use, node, 'removed again', world, () =>
            containers.remove(node, definition.socket, signal),
          ),
        );
        await isFound(use, node, world, task, signal);
        break;
      case 'exchange': {
        const samples = await samplesOf(use, look, world, signal);
        task.progress('recreating the plugin’s container');
        await containers.exchange(node, definition, signal);
        await prove(use, member, samples, world, task, signal).catch(
          stopped(use, node, 'taken back; the former plugin runs again', world, () =>
            containers.settle(node, definition.socket, 'back', signal),
          ),
        );
        await containers.settle(node, definition.socket, 'keep', signal);
        break;
      }
    }
  }
  throw new TsrkeError('DOCKER', `the container of the KMS plugin at ${definition.socket} keeps changing`, {
    node,
    next: 'see with `docker ps -a` who else is at work on this node, then run the same command again',
  });
}

/** What each node's plugin encrypts just now, as far as it works. */
async function samplesOf(
  { definition, inUse }: Use,
  { members }: Look,
  world: World,
  signal: AbortSignal,
): Promise<ReadonlyMap<'v1' | 'v2', readonly Wrapped[]>> {
  const all = new Map<'v1' | 'v2', readonly Wrapped[]>();
  for (const apiVersion of inUse) {
    const samples = members.map(async ({ node }): Promise<Wrapped[]> => {
      const plugin = world.plugins.plugin(node, definition.socket, apiVersion);
      try {
        return [await tryAlone({ node, plugin }, { name: definition.image, apiVersion }, signal)];
      } catch (error) {
        if (!(error instanceof TsrkeError)) throw error;
        // That may be why it is to be upgraded; once it works it is asked for what the others encrypt.
        world.report.note('warning', `before the upgrade: ${error.message}`, node);
        return [];
      } finally {
        plugin.close();
      }
    });
    all.set(apiVersion, (await Promise.all(samples)).flat());
  }
  return all;
}

/** It is healthy, it and those of all other nodes decrypt what the other encrypts, and its kube-apiserver is content. */
async function prove(
  use: Use,
  { node, failing }: MemberLook,
  samples: ReadonlyMap<'v1' | 'v2', readonly Wrapped[]>,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  await expectHealthy(use, node, world, task, signal);
  const { image: name, socket } = use.definition;
  for (const [apiVersion, wrapped] of samples) {
    const plugin = world.plugins.plugin(node, socket, apiVersion);
    try {
      const own = await tryAlone({ node, plugin }, { name, apiVersion }, signal);
      const former = wrapped.map((each) => (each.by === node ? { ...each, by: `${node} before it` } : each));
      await tryTogether({ node, plugin }, [own, ...former], { name }, signal);
      for (const other of wrapped.map(({ by }) => by).filter((by) => by !== node)) {
        const reader = world.plugins.plugin(other, socket, apiVersion);
        await tryTogether({ node: other, plugin: reader }, [own], { name }, signal).finally(() =>
          reader.close(),
        );
      }
    } finally {
      plugin.close();
    }
  }
  // It may have failed before for another plugin's sake.
  if ((await isFound(use, node, world, task, signal)) || failing.some(isPluginCheck)) return;
  throw new TsrkeError('KMS_UNHEALTHY', 'kube-apiserver does not reach it', { node });
}

/** Gives kube-apiserver time to ask it again: only once it is content the next node is touched. */
async function isFound(
  { inUse }: Use,
  node: NodeName,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<boolean> {
  if (inUse.length === 0) return true;
  const begin = world.clock.now().getTime();
  while (world.clock.now().getTime() - begin < foundLimit) {
    const { failing } = await readiness(world.kube, node, signal);
    if (!failing.some(isPluginCheck)) return true;
    task.progress('waiting until kube-apiserver has found the plugin again');
    await world.clock.sleep(500, signal);
  }
  return false;
}

async function expectHealthy(
  { definition, version }: Use,
  node: NodeName,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const begin = world.clock.now().getTime();
  const starts = new Set<string>();
  for (;;) {
    const plugin = world.plugins.plugin(node, definition.socket, version);
    let why: string;
    try {
      const { healthz } = await plugin.status(signal);
      if (healthz === 'ok') return;
      why = `it says ${healthz}`;
    } catch (error) {
      if (!(error instanceof TsrkeError) || error.code !== 'KMS_UNHEALTHY') throw error;
      why = error.message;
    } finally {
      plugin.close();
    }
    const there = await world.kmsContainers.list(node, signal);
    starts.add(there.find(({ socket }) => socket === definition.socket)?.startedAt ?? '');
    if (starts.size > 3) {
      throw new TsrkeError('KMS_UNHEALTHY', 'it ends again and again', { node });
    }
    if (world.clock.now().getTime() - begin >= healthyLimit) {
      const waited = `${healthyLimit / 1000} s`;
      throw new TsrkeError('KMS_UNHEALTHY', `it is not healthy after ${waited}: ${why}`, { node });
    }
    task.progress(`waiting for the plugin (${why})`);
    await world.clock.sleep(500, signal);
  }
}

/** Undoes it, and ends the run with the plugin's own last words. */
function stopped(
  { definition }: Use,
  node: NodeName,
  outcome: string,
  world: World,
  undo: () => Promise<void> = () => Promise.resolve(),
): (error: unknown) => Promise<never> {
  return async (error) => {
    if (!(error instanceof TsrkeError)) throw error;
    const signal = new AbortController().signal;
    const { env, image, socket } = definition;
    const logs = await world.kmsContainers
      .logs(node, socket, 12, signal)
      .catch((cause: unknown) => [messageOf(cause)]);
    let now = outcome;
    try {
      await undo();
    } catch (cause) {
      now = `and could not be taken back (${messageOf(cause)})`;
    }
    const [message = ''] = withoutCredentials([error.message], env);
    throw new TsrkeError(
      error.code,
      `the KMS plugin ${image} at ${socket} cannot be used: ${message}; it was ${now}`,
      {
        // Without the cause, whose words may be the plugin's.
        node,
        details: withoutCredentials(logs, env).map((line) => `  ${line}`),
        next: 'nodes after it were not touched; correct kms_plugin in cluster.yml, then run the same command again',
      },
    );
  };
}

function stopHere(signal: AbortSignal, node: NodeName): void {
  if (!signal.aborted) return;
  throw new TsrkeError(
    'INTERRUPTED',
    `interrupted before the KMS plugin on ${node}: the step in hand was finished and nothing is lost`,
    { next: 'run the same command again: it continues from here' },
  );
}
