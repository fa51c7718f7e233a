/** `tsrke plan`, `up --dry-run`, `encrypt rotate-key --dry-run`: decides as a run would, and changes nothing. */
import { setMaxListeners } from 'node:events';
import { describe, differences } from '../config/differences.ts';
import { loadConfig, statePathOf, type ClusterConfig } from '../config/load.ts';
import { expectAcceptable } from '../encryption/acceptable.ts';
import {
  localKeysOf,
  noFile,
  resourcesOf,
  writeKeyOf,
  type ProviderFile,
} from '../encryption/configuration.ts';
import { countHoldings } from '../encryption/holdings.ts';
import { keyId } from '../encryption/key.ts';
import type { Look, MemberLook } from '../encryption/observe.ts';
import { observe, reportsReloads } from '../encryption/observe.ts';
import { effectiveFile, strip, type Line } from '../encryption/plan.ts';
import { expectSameWorld, worldOf, type PlanDocument } from '../encryption/plan-document.ts';
import { definitionOf } from '../encryption/kms/containers.ts';
import { isRewritten, newestOf, waitStepOf, type KekSight } from '../encryption/kms/foresight.ts';
import { kmsProvidersOf, preflightKms } from '../encryption/kms/preflight.ts';
import { expectPluginsStay, lookAtPlugins, pluginSteps } from '../encryption/kms/run.ts';
import {
  filmWithPrints,
  isPlanned,
  isWaitNeeded,
  loadsOf,
  objectsOf,
  plannedKey,
  restartsOf,
  stepsOf,
  type PlannedStep,
  type PluginStep,
  type Reloading,
} from '../encryption/preview.ts';
import { isRenewable, nameOf, outdated } from '../encryption/kms/renewal.ts';
import { isBeyond } from '../encryption/steps.ts';
import { TsrkeError } from '../errors.ts';
import { measureRewrites } from '../kube/measure.ts';
import type { ClusterState } from '../state/rkestate.ts';
import { fileStore, stateIn } from '../state/store.ts';
import { connectCluster } from './cluster.ts';
import type { CertificateOptions } from './planes.ts';
import { decide, lookAtKeks, type Decision, type Found, type Surroundings } from './encryption.ts';
import { dueNotes } from './due.ts';
import { quiet } from './quiet.ts';
import type { LookOptions } from './status.ts';
import { wantedOf } from './wanted.ts';

type Planned = Parameters<typeof plannedKey>[0];

export interface PlanOptions extends LookOptions, CertificateOptions {
  readonly action: 'up' | 'rotate';
}

/** Seconds; kube-apiserver's own stop and start, which cannot be measured without doing it. */
const perRestart = 10;
/** Seconds between looks at the provider file of a server that loads it by itself, and its `--request-timeout`. */
const perReload = 60;
/** Seconds between a kube-apiserver's questions to its KMS plugin. */
const perAsk = 60;
/** Objects a second, where nothing could be measured. */
const slowest = 100;

/** Rejects with whatever would stop the run before it touches anything. */
export async function planChange(
  options: PlanOptions,
  { store, connect }: Surroundings = {
    store: fileStore(statePathOf(options.configPath)),
    connect: connectCluster,
  },
): Promise<PlanDocument> {
  const { report, signal, action } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  const wanted = wantedOf(config);
  const state = stateIn(store);
  const cluster = await connect({ config, state, store, report: quiet(report), signal, readOnly: true });
  try {
    const makes = { newKey: (provider: Planned) => plannedKey(provider), namedKey: plannedKey };
    const decision = await decide(wanted, cluster, makes, options);
    const { world, chosen } = decision;
    const renews = chosen.state.tsrke.transition?.kind === 'rotate' && isRenewable(chosen.file);
    const ahead = await lookAhead(decision, cluster.state, signal);
    const { seen: looked, keks } = renews
      ? await lookAtKeks({ ...decision, seen: ahead }, cluster.state, signal)
      : { seen: ahead, keks: [] };
    const seen = renews ? toRenew(chosen.file, looked, keks) : looked;
    const lines = linesOf(decision, seen);
    expectAcceptable(lines, seen.members, world);
    const run = {
      wanted: config.kmsPlugins.map(definitionOf),
      target: chosen.file,
      upgrades: action === 'up',
    };
    const plugins = await lookAtPlugins(run, seen, world, signal);
    expectPluginsStay(plugins);
    const containers = pluginSteps(plugins, seen);
    // Those that only the run itself will make, or make anew, cannot be tried now.
    const made = new Set(containers.plugins.map(({ socket }) => `unix://${socket}`));
    const there = kmsProvidersOf(lines).filter(({ endpoint }) => !made.has(endpoint));
    await preflightKms(there, seen, world, signal);
    const objects = await toBeRewritten(
      lines,
      { ...decision, seen },
      renews ? newestOf(keks) : undefined,
      signal,
    );
    const steps: PlannedStep[] = [
      ...stepOf('plugins', containers.plugins),
      ...withWait(
        stepsOf(lines, chosen.file, seen, objects, reloadingOf(seen, world.reload === 'on')),
        keks.length === 0 ? [] : [waitStepOf(keks, seen)],
      ),
      ...stepOf('unplug', containers.unplug),
    ];
    const changes = lines.length > 0;
    const note = chosen.note ?? (changes ? undefined : asTheKmsHas(keks));
    const spared =
      config.encryption.reload === undefined ? sparedByReload(lines, { ...decision, seen: ahead }) : 0;
    return {
      type: 'plan',
      formatVersion: 1,
      time: world.clock.now().toISOString(),
      cluster: config.name,
      action,
      somethingToDo: steps.length > 0,
      ...(note === undefined ? {} : { note }),
      ...(changes ? { change: changeOf(decision) } : {}),
      keys: changes ? keysOf(decision, cluster.state) : [],
      due: action === 'up' ? dueNotes(chosen.file, chosen.state, config, world.clock.now()) : [],
      differences: action === 'up' ? differencesIn(config, cluster.state) : [],
      steps,
      restarts: restartsOf(steps),
      objects: objectsOf(steps),
      ...(spared > 0 ? { sparedByReload: spared } : {}),
      ...(changes ? { estimate: await estimate(steps, decision, signal) } : {}),
      world: worldOf(decision.seen, cluster.state, {
        ...{ wanted, plugins: run.wanted, reload: cluster.world.reload, keks },
      }),
    };
  } finally {
    await cluster.close();
  }
}

/** For a run of this plan: throws PLAN_STALE where the world has moved since. */
export function approvedBy(plan: PlanDocument): (found: Found) => void {
  return ({ seen, state, ...asked }) => expectSameWorld(plan, worldOf(seen, state, asked));
}

/** As far as this command may go. */
function linesOf({ chosen }: Decision, seen: Look): Line[] {
  const all = strip(chosen.file, seen);
  const end = all.findIndex(({ kind }) => isBeyond(kind, chosen.state.tsrke.transition?.held));
  return end < 0 ? all : all.slice(0, end);
}

function reloadingOf({ members }: Look, isWanted: boolean): Reloading {
  const now = members.filter(({ reload }) => reload !== undefined);
  const then = members.filter(({ minor }) => reportsReloads(minor));
  const names = (nodes: readonly MemberLook[]) => new Set(nodes.map(({ node }) => node));
  return { now: names(now), then: names(then), isWanted };
}

/** How many restarts it would be less if cluster.yml asked for automatic reload. */
function sparedByReload(lines: readonly Line[], decision: Decision): number {
  const { seen, chosen, world } = decision;
  if (world.reload === 'on' || chosen.file.entries.length === 0) return 0;
  const members = seen.members.map((each): MemberLook => ({
    ...each,
    reloadFlag: each.flag && each.reload === undefined ? 'lacking' : each.reloadFlag,
  }));
  const asked = { ...seen, members };
  const restarts = (some: readonly Line[], look: Look, isWanted: boolean) =>
    restartsOf(stepsOf(some, chosen.file, look, () => 0, reloadingOf(look, isWanted)));
  return restarts(lines, seen, false) - restarts(linesOf(decision, asked), asked, true);
}

function stepOf(line: PluginStep['line'], nodes: PluginStep['nodes']): PluginStep[] {
  return nodes.length === 0 ? [] : [{ line, nodes }];
}

/** Nobody has counted what a resource holds that only the target encrypts. */
async function lookAhead(
  { world, seen, chosen: { file } }: Decision,
  state: ClusterState,
  signal: AbortSignal,
) {
  const known = new Set(resourcesOf(...seen.members.map((each) => effectiveFile(each, seen.recorded))));
  if (resourcesOf(file).every((each) => each === 'secrets' || known.has(each))) return seen;
  return await world.report.task('count what is to be encrypted for the first time', () =>
    observe(world, state, signal, { target: file }),
  );
}

/** With what a rotation has to store again. */
function toRenew(file: ProviderFile, seen: Look, keks: readonly KekSight[]): Look {
  const renewal = { newest: newestOf(keks), renewed: new Set<string>() };
  return { ...seen, outdated: outdated(file, seen, renewal) };
}

/** Why a rotation in a KMS has nothing to do. */
function asTheKmsHas(keks: readonly KekSight[]): string | undefined {
  const keys = keks.map(({ stored, keyId = '' }) => `${nameOf(stored)}: ${keyId}`);
  return keys.length === 0
    ? undefined
    : `all that is encrypted lies under the key that the KMS plugin has (${keys.join('; ')})`;
}

/** The wait comes before whatever is rewritten. */
function withWait(steps: readonly PlannedStep[], wait: readonly PlannedStep[]): PlannedStep[] {
  return steps.flatMap((step) => (step.line === 'rewrite' ? [...wait, step] : [step]));
}

/** By resource, how many objects lie elsewhere than under the wanted key; undefined where etcd cannot be read. */
async function toBeRewritten(
  lines: readonly Line[],
  { world, seen, chosen }: Decision,
  newest: ReadonlyMap<string, string> | undefined,
  signal: AbortSignal,
): Promise<(resource: string) => number | undefined> {
  if (lines.every(({ kind }) => kind !== 'rewrite')) return () => 0;
  try {
    const counted =
      seen.census ??
      (await world.report.task('count what is to be rewritten', (task) =>
        countHoldings(world.etcds, world.etcdPrefix, seen.keys, signal, (count) =>
          task.progress(`${count} values in etcd`),
        ),
      ));
    return (resource) => {
      const write = writeKeyOf(chosen.file, resource);
      const own = counted.holdings.filter((each) => each.resource === resource);
      const again = own.map((each) =>
        newest === undefined ? each.id !== write.id : isRewritten(each, write, newest),
      );
      if (again.includes(undefined)) return undefined;
      return own.reduce((sum, { count }, at) => sum + (again[at] === true ? count : 0), 0);
    };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof TsrkeError) || error.code !== 'ETCD') throw error;
    return () => undefined;
  }
}

function changeOf({ chosen, seen }: Decision): { kind: string; from: string; to: string } {
  const [recorded = noFile] = seen.recorded;
  const kind = chosen.state.tsrke.transition?.kind ?? 'change';
  return { kind, from: filmWithPrints(recorded), to: filmWithPrints(chosen.file) };
}

/** What becomes of each key that is not yet retired. */
function keysOf({ chosen, seen }: Decision, before: ClusterState): PlanDocument['keys'] {
  const target = new Set(localKeysOf(chosen.file).map(keyId));
  const ring = new Map(before.tsrke.keyRing.map((key) => [keyId(key), key]));
  const all = new Map([...seen.keys, ...localKeysOf(chosen.file)].map((key) => [keyId(key), key]));
  return [...all].flatMap(([id, key]): PlanDocument['keys'] => {
    if (isPlanned(key)) return [{ key: `${key.provider}:${key.name}`, becomes: 'made' }];
    const known = ring.get(id);
    if (target.has(id)) return [{ key: id, becomes: known === undefined ? 'adopted' : 'in use' }];
    return known?.retired === undefined ? [{ key: id, becomes: 'retired' }] : [];
  });
}

function differencesIn(config: ClusterConfig, { document }: ClusterState): string[] {
  const recorded = document.currentState?.rkeConfig;
  return recorded === undefined ? [] : differences(config, recorded).map(describe);
}

async function estimate(
  steps: PlanDocument['steps'],
  { world, seen }: Decision,
  signal: AbortSignal,
): Promise<NonNullable<PlanDocument['estimate']>> {
  const nodes = seen.members.filter(({ ready }) => ready).map(({ node }) => node);
  const [restarts, objects] = [restartsOf(steps), objectsOf(steps)];
  const measured = objects === 0 ? undefined : await measureRewrites(world.kube, nodes, world.clock, signal);
  const rate = Math.max(1, Math.round(measured ?? slowest));
  const loads = loadsOf(steps);
  // Requests that began under the file of before are waited for, once.
  const waits = loads === 0 ? 0 : (loads + 1) * perReload;
  const asks = isWaitNeeded(steps) ? perAsk : 0;
  return {
    seconds: Math.ceil(restarts * perRestart + waits + asks + objects / rate),
    perRestart,
    ...(loads === 0 ? {} : { perReload }),
    rewrites: rate,
    basis: [
      ...(restarts > 0 || loads + asks === 0 ? [`${perRestart} s are taken for a restart`] : []),
      ...(asks === 0 ? [] : [`${perAsk} s until every kube-apiserver has asked its KMS plugin`]),
      ...(loads === 0 ? [] : [`${perReload} s until nodes have loaded a file by themselves`]),
      ...(objects === 0
        ? []
        : [
            `the speed of rewriting ${measured === undefined ? 'could not be measured' : 'was measured by reading'}`,
          ]),
    ].join('; '),
  };
}
