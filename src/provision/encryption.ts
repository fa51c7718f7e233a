/** `tsrke up` and `tsrke encrypt rotate-key`: what both do, in the order in which it is said here. */
import { setMaxListeners } from 'node:events';
import { differences } from '../config/differences.ts';
import { loadConfig, statePathOf, type ClusterConfig, type LoadOptions } from '../config/load.ts';
import { carryOut, withFinished } from '../encryption/apply.ts';
import {
  film,
  localKeysOf,
  meaningHash,
  sameMeaning,
  writeKeyOf,
  type ProviderFile,
} from '../encryption/configuration.ts';
import { keyId, newKey } from '../encryption/key.ts';
import { observe, recordedFiles, type Look, type MemberLook } from '../encryption/observe.ts';
import { strip } from '../encryption/plan.ts';
import { chooseTarget, type Action } from '../encryption/target.ts';
import type { World } from '../encryption/world.ts';
import { TsrkeError } from '../errors.ts';
import type { Report } from '../ports.ts';
import {
  serialiseState,
  stale,
  type ClusterState,
  type JsonObject,
  type RkeHalf,
} from '../state/rkestate.ts';
import { fileStore, type StateStore } from '../state/store.ts';
import { connectCluster, type Cluster, type ConnectOptions } from './cluster.ts';

export interface EncryptionOptions extends LoadOptions {
  readonly configPath: string;
  readonly action: Action;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** What a run needs besides its options; tests plug a lab's model in here. */
export interface Surroundings {
  readonly store: StateStore;
  readonly connect: (options: ConnectOptions) => Promise<Cluster>;
}

/** Resolves to the sentence for the user. Rejects with TsrkeError. */
export async function changeEncryption(
  options: EncryptionOptions,
  { store, connect }: Surroundings = {
    store: fileStore(statePathOf(options.configPath)),
    connect: connectCluster,
  },
): Promise<string> {
  const { report, signal } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  if (config.encryption.customConfig !== undefined) {
    throw new TsrkeError(
      'UNSUPPORTED',
      'services.kube-api.secrets_encryption_config.custom_config is not supported yet',
      {
        next: 'this version manages aescbc keys for Secrets; nothing was touched',
      },
    );
  }
  const initial = store.read();
  if (initial === undefined) {
    throw new TsrkeError('STATE_MISSING', `there is no state file ${store.where}`, {
      next: 'bring the cluster.rkestate of this cluster here (RKE: `rke util get-state-file`); it holds the keys and certificates, and none is ever made anew for a cluster that exists',
    });
  }
  const unlock = store.lock(new Date());
  try {
    // Read again under the lock: another run may have just finished.
    const state = store.read() ?? initial;
    const cluster = await connect({ config, state, store, report, signal });
    try {
      return await change(config, cluster, options);
    } finally {
      await cluster.close();
    }
  } finally {
    unlock();
  }
}

async function change(
  config: ClusterConfig,
  cluster: Cluster,
  { action, report, signal }: EncryptionOptions,
): Promise<string> {
  const { world, state: before, copyAgrees } = cluster;
  const proof = copyAgrees && before.tsrke.transition === undefined ? before.tsrke.proof : undefined;
  const seen = await report.task('look at the nodes and at etcd', () =>
    observe(world, before, signal, { proof }),
  );
  refuseOlderState(world, seen);
  const now = world.clock.now();
  const chosen = chooseTarget({
    action,
    enabled: config.encryption.enabled,
    state: before,
    onNodes: seen.members.flatMap((each) => (each.file === undefined ? [] : [each.file])),
    now,
    newKey: (taken) => newKey('aescbc', taken),
  });
  if (chosen.note !== undefined) report.note('info', chosen.note);
  if (action === 'up') noteDifferences(config, before, report);
  const target = chosen.file;
  if (isOn(target) !== config.encryption.enabled) {
    const asks = config.encryption.enabled ? 'on' : 'off';
    report.note('warning', `cluster.yml still asks for encryption ${asks}: the next \`tsrke up\` goes there`);
  }

  const finished = (state: ClusterState) =>
    withEnabled(withFinished(target, state, world.clock.now()), target);
  if (strip(target, seen).length === 0 && !chosen.minted) {
    const unsaved = { ...before, document: finished(before).document };
    if (
      cluster.metNewHost() ||
      !isRecorded(target, before) ||
      serialiseState(unsaved) !== serialiseState(before)
    ) {
      const met = withProof(withLoaded(finished(chosen.state), seen.members), seen, target, now);
      await world.save(met, isOn(target), signal);
    }
    return `nothing to do: ${isOn(target) ? `secrets are encrypted (${film(target)}) on ${seen.members.length} node(s)` : 'encryption of secrets is off'}`;
  }
  const begun = isOn(target) ? withEnabled(chosen.state, target) : chosen.state;
  const { state, restarts, rewritten, last } = await carryOut(target, begun, world, signal);
  await world.save(withProof(finished(state), last, target, world.clock.now()), isOn(target), signal);
  const is = isOn(target) ? `secrets are encrypted (${film(target)})` : 'encryption of secrets is off';
  return `${is}: ${rewritten} rewritten, ${restarts} restarts on ${last.members.length} node(s), ${provedBy(last)}`;
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

/** Whether nothing is left to be written down: no open transition, both halves as the target, its keys in the ring. */
function isRecorded(target: ProviderFile, state: ClusterState): boolean {
  const recorded = recordedFiles(state);
  const ring = new Set(state.tsrke.keyRing.map(keyId));
  if (state.tsrke.transition !== undefined) return false;
  if (!isOn(target)) return recorded.length === 0;
  const isTarget = (file: ProviderFile) => sameMeaning(file, target);
  // An untouched cluster of RKE has no ring yet, and is left as it is.
  const ringed = state.tsrke.serial === 0 || localKeysOf(target).every((key) => ring.has(keyId(key)));
  return ringed && recorded.length === 2 && recorded.every(isTarget);
}

function provedBy({ census }: Look): string {
  if (census === undefined) return 'shown by passes through every apiserver (no etcd could be read)';
  const revisions = census.at.map(({ revision }) => String(revision)).join(', ');
  return `proved by ${census.total} values in etcd at revision ${revisions}`;
}

const isOn = (target: ProviderFile): boolean => target.entries.length > 0;

/** Only a census is worth keeping: passes through the apiservers say nothing about the next run. */
function withProof(state: ClusterState, { census }: Look, target: ProviderFile, now: Date): ClusterState {
  const { proof: _old, ...tsrke } = state.tsrke;
  if (census === undefined) return { ...state, tsrke };
  const proof = {
    taken: now.toISOString(),
    at: census.at.map(({ clusterId, revision }) => ({ clusterId, revision: String(revision) })),
    objects: census.total,
    target: meaningHash(target),
  };
  return { ...state, tsrke: { ...tsrke, proof } };
}

/** From the first save on, a start of kube-apiserver that is not recorded here is one in doubt (before 1.34). */
function withLoaded(state: ClusterState, seen: readonly MemberLook[]): ClusterState {
  const loaded = seen.flatMap(({ node, onDisk, container }) =>
    onDisk === undefined ? [] : [[node, { startedAt: container.startedAt, sha256: onDisk.sha256 }] as const],
  );
  return {
    ...state,
    tsrke: { ...state.tsrke, loaded: { ...state.tsrke.loaded, ...Object.fromEntries(loaded) } },
  };
}

/** Only this of the stored rkeConfig changes: whatever else differs in cluster.yml was not acted on. */
function withEnabled(state: ClusterState, target: ProviderFile): ClusterState {
  const half = (part: RkeHalf | undefined): RkeHalf => {
    const services = part?.rkeConfig?.['services'] as JsonObject | undefined;
    const kubeApi = services?.['kubeApi'] as JsonObject | undefined;
    if (part?.rkeConfig === undefined || services === undefined || kubeApi === undefined) return part ?? {};
    const present = kubeApi['secretsEncryptionConfig'] as JsonObject | undefined;
    const on = isOn(target);
    if ((present?.['enabled'] === true) === on) return part;
    const config = on ? { ...present, enabled: true } : {};
    const next = { ...kubeApi, secretsEncryptionConfig: config };
    if (!on) delete (next as { secretsEncryptionConfig?: unknown }).secretsEncryptionConfig;
    return { ...part, rkeConfig: { ...part.rkeConfig, services: { ...services, kubeApi: next } } };
  };
  const { document } = state;
  return {
    ...state,
    document: {
      ...document,
      desiredState: half(document.desiredState),
      currentState: half(document.currentState),
    },
  };
}

function noteDifferences(config: ClusterConfig, state: ClusterState, report: Report): void {
  const recorded = state.document.currentState?.rkeConfig;
  if (recorded === undefined) return;
  for (const { path } of differences(config, recorded)) {
    report.note('warning', `cluster.yml differs from the state in ${path}; this is not acted on yet`);
  }
}
