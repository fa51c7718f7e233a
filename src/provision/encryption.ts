/** `tsrke up` and `tsrke encrypt rotate-key`, `resume`, `abort`: what they all do, in the order in which it is said here. */
import { setMaxListeners } from 'node:events';
import { ownFieldsOf } from '../config/own-fields.ts';
import { loadConfig, statePathOf, type ClusterConfig, type LoadOptions } from '../config/load.ts';
import { carryOut, requestsEndIn, withFinished, type Outcome } from '../encryption/apply.ts';
import { expectReloadKnown } from '../encryption/automatic-reload.ts';
import { film, noFile, writeKeyOf } from '../encryption/configuration.ts';
import { namedKey, newKey } from '../encryption/key.ts';
import { definitionOf } from '../encryption/kms/containers.ts';
import { keksInSight, type KekSight } from '../encryption/kms/foresight.ts';
import {
  bringUpPlugins,
  expectPluginsStay,
  lookAtPlugins,
  removePlugins,
  type KmsRun,
} from '../encryption/kms/run.ts';
import { observe, type Look } from '../encryption/observe.ts';
import type { Asked } from '../encryption/plan-document.ts';
import { strip } from '../encryption/plan.ts';
import { isRenewable, keksInUse, keyIdsStored } from '../encryption/kms/renewal.ts';
import { heldAt, nextStep } from '../encryption/steps.ts';
import { chooseTarget, type Action, type Target, type TargetRequest } from '../encryption/target.ts';
import { answers, type Wanted } from '../encryption/wanted.ts';
import type { World } from '../encryption/world.ts';
import type { Report } from '../ports.ts';
import { serialiseState, stale, type ClusterState, type Held, type JsonObject } from '../state/rkestate.ts';
import { fileStore, stateIn, type StateStore } from '../state/store.ts';
import { connectCluster, type Cluster, type ConnectOptions } from './cluster.ts';
import { dueNotes, notYetDue } from './due.ts';
import {
  isOn,
  isRecorded,
  sameOwnFields,
  withBinds,
  withEnabled,
  withKeks,
  withLoaded,
  withOwnFields,
  withProof,
} from './record.ts';
import { wantedOf } from './wanted.ts';

export interface EncryptionOptions extends LoadOptions {
  readonly configPath: string;
  readonly action: Action;
  /** `reencrypt` leaves the old key readable. */
  readonly keepsOldKey?: boolean;
  /** Do nothing before the write key has reached `max_key_age`. */
  readonly ifDue?: boolean;
  /** Sees what was seen before anything is done about it, and may throw. */
  readonly approve?: (found: Found) => void;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** All that a decision rests on. */
export interface Found extends Asked {
  readonly seen: Look;
  readonly state: ClusterState;
}

/** What a run needs besides its options; tests plug a lab's model in here. */
export interface Surroundings {
  readonly store: StateStore;
  readonly connect: (options: ConnectOptions) => Promise<Cluster>;
  /** Default: this machine's clock. */
  readonly now?: () => Date;
}

/** Resolves to the sentence for the user. Rejects with TsrkeError. */
export async function changeEncryption(
  options: EncryptionOptions,
  { store, connect, now = () => new Date() }: Surroundings = {
    store: fileStore(statePathOf(options.configPath)),
    connect: connectCluster,
  },
): Promise<string> {
  const { report, signal } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  const wanted = wantedOf(config);
  const initial = stateIn(store);
  const early = options.ifDue === true ? notYetDue(config, initial, now()) : undefined;
  if (early !== undefined) return early;
  const unlock = store.lock(new Date());
  try {
    // Read again under the lock: another run may have just finished.
    const state = store.read() ?? initial;
    const cluster = await connect({ config, state, store, report, signal });
    try {
      return await change(config, wanted, cluster, options);
    } finally {
      await cluster.close();
    }
  } finally {
    unlock();
  }
}

/** Within a cluster that is connected and locked. Resolves to the sentence for the user. */
export async function change(
  config: ClusterConfig,
  wanted: Wanted,
  cluster: Cluster,
  options: EncryptionOptions,
): Promise<string> {
  const { action, report, signal } = options;
  const { state: before, copyAgrees } = cluster;
  const decided = await decide(wanted, cluster, { newKey, namedKey }, options);
  const { world, binds, now, chosen } = decided;
  const definitions = config.kmsPlugins.map(definitionOf);
  const renews = chosen.state.tsrke.transition?.kind === 'rotate' && isRenewable(chosen.file);
  if (options.approve !== undefined) {
    const { keks } = renews ? await lookAtKeks(decided, before, signal) : { keks: [] };
    const { reload } = cluster.world;
    options.approve({ seen: decided.seen, state: before, wanted, plugins: definitions, reload, keks });
  }
  if (chosen.note !== undefined) report.note('info', chosen.note);
  const target = chosen.file;
  const asked = { wanted: definitions, target, upgrades: action === 'up' };
  if (action === 'up') {
    for (const text of dueNotes(target, chosen.state, config, now)) report.note('warning', text);
  }
  if (!answers(target, wanted)) {
    const asks =
      wanted.kind === 'off' ? 'encryption off' : isOn(target) ? 'another encryption' : 'encryption on';
    report.note('warning', `cluster.yml still asks for ${asks}: the next \`tsrke up\` goes there`);
  }

  const plugins = await lookAtPlugins(asked, decided.seen, world, signal);
  const seen = await withPlugins(plugins, decided, before, signal);

  const own = answers(target, wanted)
    ? (ownFieldsOf(config.raw) as JsonObject | undefined)
    : before.tsrke.config;
  if (before.tsrke.transition !== undefined || !copyAgrees) await clearLeftovers(world, seen, signal);
  const finished = (state: ClusterState) =>
    withOwnFields(withBinds(withEnabled(withFinished(target, state, world.clock.now()), target), binds), own);
  /** With what a look has shown. */
  const shown = (state: ClusterState, look: Look) => {
    // Without a census it was the proof of before that showed it, or passes.
    if (look.census === undefined && look === seen) return state;
    const time = world.clock.now();
    return withKeks(
      withProof(state, look, target, time),
      keksInUse(target, look, before.tsrke.keks, look !== seen && renews, time),
    );
  };
  // A run that was cut off may have left requests under way that began before its last file was loaded.
  const quiet = before.tsrke.transition === undefined || requestsEndIn(seen) === 0;
  if (strip(target, seen).length === 0 && !chosen.minted && !renews && quiet) {
    const unsaved = { ...before, document: finished(before).document };
    if (
      cluster.metNewHost() ||
      !isRecorded(target, before) ||
      // What passes had shown without etcd is proved now.
      (before.tsrke.proof === undefined && seen.census !== undefined) ||
      !sameOwnFields(before, own) ||
      serialiseState(unsaved) !== serialiseState(before)
    ) {
      const met = withLoaded(finished(chosen.state), seen.members);
      await world.save(shown(met, seen), isOn(target), signal);
    }
    const touched = (await removePlugins(plugins, seen, world, signal)) || seen !== decided.seen;
    const is = isOn(target)
      ? `secrets are encrypted (${film(target)}) on ${seen.members.length} node(s)`
      : 'encryption of secrets is off';
    return `${touched ? 'the KMS plugins are as cluster.yml has them, nothing else to do' : 'nothing to do'}: ${is}`;
  }
  const begun = isOn(target) ? withEnabled(chosen.state, target) : chosen.state;
  const { state, restarts, rewritten, last, held } = await carryOut(target, begun, world, signal);
  if (held !== undefined) {
    const isSame = state.tsrke.transition?.held === before.tsrke.transition?.held;
    if (restarts + rewritten > 0 || !isSame) await world.save(state, isOn(target), signal);
    return heldSentence(held, { restarts, rewritten, last });
  }
  const kms = keyIdsStored(last);
  if (restarts + rewritten === 0 && isRecorded(target, before)) {
    return `nothing to do: all that is encrypted lies under the key that the KMS plugin still has (${kms.join('; ')}); rotate the key there first`;
  }
  await world.save(shown(finished(state), last), isOn(target), signal);
  await removePlugins(plugins, last, world, signal);
  const is = isOn(target) ? `secrets are encrypted (${film(target)})` : 'encryption of secrets is off';
  return `${is}: ${rewritten} rewritten, ${restarts} restarts on ${last.members.length} node(s), ${provedBy(last)}${stillStored(kms)}`;
}

/** What a rotation in steps has come to. */
function heldSentence(held: Held, { restarts, rewritten, last }: Omit<Outcome, 'state'>): string {
  const [file = noFile] = last.members.flatMap((each) => each.file ?? []);
  const did =
    restarts + rewritten === 0
      ? 'nothing to do'
      : `${rewritten} rewritten, ${restarts} restarts on ${last.members.length} node(s)`;
  return `${did}: ${heldAt[held]} (${film(file)}); ${nextStep(held)} goes on`;
}

/** Looks again once the KMS plugins that tsrke runs are as they should be: a kube-apiserver may have waited for one. */
async function withPlugins(
  plugins: KmsRun,
  { world, seen }: Decision,
  state: ClusterState,
  signal: AbortSignal,
): Promise<Look> {
  expectPluginsStay(plugins);
  if (!(await bringUpPlugins(plugins, seen, world, signal))) return seen;
  return world.report.task('look again at the nodes and at etcd', () => observe(world, state, signal));
}

/** When an old key of a KMS may be destroyed: once no snapshot that may be restored needs it either. */
function stillStored(kms: readonly string[]): string {
  return kms.length === 0 ? '' : `; of the keys of the KMS etcd needs ${kms.join('; ')} and no other`;
}

/**
 * A run that was cut off may have left a file with keys beside a provider file, on a node where nothing more is to be
 * written. Its transition is still open, unless RKE has dropped the record of it; any other state needs no look.
 */
async function clearLeftovers(world: World, { members }: Look, signal: AbortSignal): Promise<void> {
  // Only the owner of the lock knows that nobody is writing there just now.
  await world.hold(signal);
  await Promise.all(members.map(({ node, path }) => world.files.clear(node, path, signal)));
}

export interface Decision {
  readonly world: World;
  /** cluster.yml's extra_binds, and those that this command leaves where they are. */
  readonly binds: readonly string[];
  readonly seen: Look;
  readonly now: Date;
  readonly chosen: Target;
}

/** Keys of the KMS, and the look that they were told by: etcd is counted for it, as a proof does not tell key ids. */
export async function lookAtKeks(
  { world, seen: before, chosen }: Decision,
  state: ClusterState,
  signal: AbortSignal,
): Promise<{ readonly seen: Look; readonly keks: readonly KekSight[] }> {
  const seen =
    before.census === undefined
      ? await world.report.task('count key ids of the KMS in etcd', () => observe(world, state, signal))
      : before;
  return { seen, keks: await keksInSight(chosen.file, seen, world, signal) };
}

/** Looks, then decides on where to go: what a run and a look ahead have in common. */
export async function decide(
  wanted: Wanted,
  cluster: Cluster,
  makes: Pick<TargetRequest, 'newKey' | 'namedKey'>,
  {
    action,
    keepsOldKey,
    report,
    signal,
  }: Pick<EncryptionOptions, 'action' | 'keepsOldKey' | 'report' | 'signal'>,
): Promise<Decision> {
  const { state: before, copyAgrees } = cluster;
  // Only `up` takes anything away that cluster.yml asks for no more; what it does ask for every command brings along.
  const { wanted: wantedBinds, former } = cluster.world.binds;
  const kept = action === 'up' ? [] : former.filter((each) => !wantedBinds.includes(each));
  const binds = [...wantedBinds, ...kept];
  const reload = cluster.world.reload === 'off' && action !== 'up' ? 'as it is' : cluster.world.reload;
  const world: World = { ...cluster.world, binds: { wanted: binds, former }, reload };
  const proof = copyAgrees && before.tsrke.transition === undefined ? before.tsrke.proof : undefined;
  const seen = await report.task('look at the nodes and at etcd', () =>
    observe(world, before, signal, { proof }),
  );
  refuseOlderState(world, seen);
  const now = world.clock.now();
  const chosen = chooseTarget({
    action,
    wanted,
    state: before,
    onNodes: seen.members.flatMap((each) => (each.file === undefined ? [] : [each.file])),
    now,
    ...(keepsOldKey === undefined ? {} : { keepsOldKey }),
    ...makes,
  });
  if (isOn(chosen.file)) expectReloadKnown(seen.members, world.minor, reload);
  return { world, binds, seen, now, chosen };
}

/** Where serials cannot tell (RKE drops them): a key that is in use, and that only the cluster's own copy has. */
function refuseOlderState({ keysElsewhere }: World, seen: Look): void {
  const used = [
    ...seen.members.flatMap((each) => (each.file === undefined ? [] : [writeKeyOf(each.file, 'secrets')])),
    ...[...seen.stored.values()].flat(),
  ];
  const names = used.map(({ stored }) => stored.replace(/^[^:]*:/, ''));
  if (names.some((name) => keysElsewhere.includes(name))) throw stale();
}

function provedBy({ census }: Look): string {
  if (census === undefined) return 'shown by passes through every apiserver (no etcd could be read)';
  const revisions = census.at.map(({ revision }) => String(revision)).join(', ');
  return `proved by ${census.total} values in etcd at revision ${revisions}`;
}
