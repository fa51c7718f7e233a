/**
 * KMS plugins that tsrke runs itself: there and healthy before a provider file needs them, upgraded one node at a time,
 * gone once no provider file names them. Each step is taken from what the node shows; nothing else is remembered.
 */
import { TsrkeError } from '../../errors.ts';
import type { KmsContainer, KmsDefinition, NodeName, TaskReport } from '../../ports.ts';
import type { ProviderFile } from '../configuration.ts';
import { nextKmsMove, providersAt, spareContainers } from './containers.ts';
import { expectHealthy, isFound, prove, samplesOf, stopped, tryOut, type Use } from './proof.ts';
import { stopHere } from '../interruption.ts';
import type { Look, MemberLook } from '../observe.ts';
import type { PluginStep } from '../preview.ts';
import type { World } from '../world.ts';

export interface KmsRun {
  readonly wanted: readonly KmsDefinition[];
  /** What the provider files are on their way to. */
  readonly target: ProviderFile;
  /** Others of before are upgraded, and those that cluster.yml has no more removed: what `up` alone does. */
  readonly upgrades: boolean;
  /** By node, what tsrke ran there when it began. */
  readonly there: ReadonlyMap<NodeName, readonly KmsContainer[]>;
}

/** The one look at the containers of all nodes: none where nothing would be done about them. */
export async function lookAtPlugins(
  run: Omit<KmsRun, 'there'>,
  { members }: Pick<Look, 'members'>,
  { kmsContainers }: Pick<World, 'kmsContainers'>,
  signal: AbortSignal,
): Promise<KmsRun> {
  if (!run.upgrades && run.wanted.length === 0) return { ...run, there: new Map() };
  const found = members.map(
    async ({ node }) => [node, await kmsContainers.list(node, signal)] as [NodeName, KmsContainer[]],
  );
  return { ...run, there: new Map(await Promise.all(found)) };
}

/** What `bringUpPlugins` and `removePlugins` would do. */
export function pluginSteps(
  { wanted, target, upgrades, there }: KmsRun,
  look: Look,
): {
  readonly plugins: PluginStep['nodes'];
  readonly unplug: PluginStep['nodes'];
} {
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
  const isToDo = (node: NodeName, definition: KmsDefinition) =>
    moveFor(definition, run.there.get(node) ?? [], run.upgrades) !== undefined;
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
          stopHere(
            signal,
            `before the KMS plugin on ${member.node}`,
            'run the same command again: it continues from here',
          );
          await world.hold(signal);
          await world.report.task(member.node, (sub) => bringUp(use, member, look, run.upgrades, world, sub));
        }
      },
    );
  }
  return changed;
}

/** Before anything is touched: throws KMS_UNMOUNTED where a plugin was taken out that is still to be used. */
export function expectPluginsStay({ wanted, target, upgrades, there }: KmsRun): void {
  if (!upgrades) return;
  for (const [node, seen] of there) {
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
  { wanted, target, upgrades, there }: KmsRun,
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<boolean> {
  if (!upgrades) return false;
  const files = [target, ...look.members.map(({ file }) => file), ...look.recorded];
  let removed = false;
  for (const [node, seen] of there) {
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
  const others = look.members.filter((each) => each.node !== node);
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
      case 'create': {
        const samples = await samplesOf(use, others, world, signal);
        task.progress('creating the plugin’s container');
        await containers.create(node, definition, signal);
        await prove(use, member, samples, world, task, signal).catch(
          stopped(use, node, 'removed again', world, () =>
            containers.remove(node, definition.socket, signal),
          ),
        );
        break;
      }
      case 'exchange': {
        const samples = await samplesOf(use, look.members, world, signal);
        const back = (undo: () => Promise<void>) =>
          stopped(use, node, 'taken back; the former plugin runs again', world, undo);
        // Where a kube-apiserver uses it, none may see it before it has shown that it has the keys of the former one.
        if (use.inUse.length > 0) {
          task.progress('trying the new plugin out beside the former one');
          await tryOut(use, node, samples, world, task, signal).catch(
            back(() => containers.finish(node, definition.socket, signal)),
          );
        }
        task.progress('recreating the plugin’s container');
        await containers.exchange(node, definition, signal);
        await prove(use, member, samples, world, task, signal).catch(
          back(() => containers.settle(node, definition.socket, 'back', signal)),
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
