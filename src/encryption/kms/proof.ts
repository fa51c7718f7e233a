/** Whether a KMS plugin that tsrke has started can take the place of the one before it: healthy, with the same keys. */
import { messageOf, TsrkeError } from '../../errors.ts';
import { readiness } from '../../kube/ready.ts';
import type { KmsDefinition, NodeName, TaskReport } from '../../ports.ts';
import { isPluginCheck } from './check.ts';
import { withoutCredentials } from './containers.ts';
import { tryAlone, tryTogether, type Wrapped } from './preflight.ts';
import type { MemberLook } from '../observe.ts';
import type { World } from '../world.ts';

/** Milliseconds in which a plugin must have become healthy after its start. */
const healthyLimit = 45_000;
/** Milliseconds in which kube-apiserver must have found it again; while one fails it asks every 10 s. */
const foundLimit = 45_000;

/** What one node's plugin does and is asked with. */
export interface Use {
  readonly definition: KmsDefinition;
  /** Versions of the KMS API that provider files on nodes use it with; none: nobody uses it yet. */
  readonly inUse: readonly ('v1' | 'v2')[];
  /** What its health is asked with. */
  readonly version: 'v1' | 'v2';
}

/** What plugins have encrypted, by the version of the KMS API. */
type Samples = ReadonlyMap<'v1' | 'v2', readonly Wrapped[]>;

/** What each node's plugin encrypts just now, as far as it works. */
export async function samplesOf(
  { definition, inUse }: Use,
  members: readonly Pick<MemberLook, 'node'>[],
  world: World,
  signal: AbortSignal,
): Promise<Samples> {
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
export async function prove(
  use: Use,
  { node, failing }: Pick<MemberLook, 'node' | 'failing'>,
  samples: Samples,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  await expectHealthy(use, node, world, task, signal);
  await expectSameKeys(use, node, use.definition.socket, samples, world, signal);
  // It may have failed before for another plugin's sake.
  if ((await isFound(use, node, world, task, signal)) || failing.some(isPluginCheck)) return;
  throw new TsrkeError('KMS_UNHEALTHY', 'kube-apiserver does not reach it', { node });
}

/** The same where no kube-apiserver sees it, with the former one stopped. */
export async function tryOut(
  use: Use,
  node: NodeName,
  samples: Samples,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { kmsContainers: containers } = world;
  const { definition } = use;
  const path = await containers.tryOut(node, definition, signal);
  const isOver = async () => !(await containers.isTried(node, definition.socket, signal));
  await untilHealthy(use, node, path, isOver, world, task, signal);
  await expectSameKeys(use, node, path, samples, world, signal);
  await containers.endTrial(node, definition.socket, signal);
}

async function expectSameKeys(
  { definition: { image: name, socket } }: Use,
  node: NodeName,
  path: string,
  samples: Samples,
  world: World,
  signal: AbortSignal,
): Promise<void> {
  for (const [apiVersion, wrapped] of samples) {
    const plugin = world.plugins.plugin(node, path, apiVersion);
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
}

/** Gives kube-apiserver time to ask it again: only once it is content the next node is touched. */
export async function isFound(
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

/** Throws KMS_UNHEALTHY. */
export async function expectHealthy(
  use: Use,
  node: NodeName,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { socket } = use.definition;
  const starts = new Set<string>();
  const isOver = async () => {
    const there = await world.kmsContainers.list(node, signal);
    starts.add(there.find((each) => each.socket === socket)?.startedAt ?? '');
    return starts.size > 3;
  };
  await untilHealthy(use, node, socket, isOver, world, task, signal);
}

async function untilHealthy(
  { version }: Use,
  node: NodeName,
  path: string,
  isOver: () => Promise<boolean>,
  world: World,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const begin = world.clock.now().getTime();
  for (;;) {
    const plugin = world.plugins.plugin(node, path, version);
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
    if (await isOver()) throw new TsrkeError('KMS_UNHEALTHY', 'it does not stay up', { node });
    if (world.clock.now().getTime() - begin >= healthyLimit) {
      const waited = `${healthyLimit / 1000} s`;
      throw new TsrkeError('KMS_UNHEALTHY', `it is not healthy after ${waited}: ${why}`, { node });
    }
    task.progress(`waiting for the plugin (${why})`);
    await world.clock.sleep(500, signal);
  }
}

/** Undoes it, and ends the run with the plugin's own last words. */
export function stopped(
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
