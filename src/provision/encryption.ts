/** `tsrke up` and `tsrke encrypt rotate-key`: what both do, in the order in which it is said here. */
import { setMaxListeners } from 'node:events';
import { describe, differences } from '../config/differences.ts';
import { loadConfig, statePathOf, type ClusterConfig, type LoadOptions } from '../config/load.ts';
import { carryOut, withFinished } from '../encryption/apply.ts';
import { film, noFile, sameMeaning, type ProviderFile } from '../encryption/configuration.ts';
import { newKey } from '../encryption/key.ts';
import { observe, recordedFiles, type MemberLook } from '../encryption/observe.ts';
import { nextLine } from '../encryption/plan.ts';
import { chooseTarget } from '../encryption/target.ts';
import { TsrkeError } from '../errors.ts';
import type { Report } from '../ports.ts';
import { readState } from '../state/file.ts';
import { lockState } from '../state/lock.ts';
import { serialiseState, type ClusterState, type JsonObject, type RkeHalf } from '../state/rkestate.ts';
import { connectCluster } from './cluster.ts';

export interface EncryptionOptions extends LoadOptions {
  readonly configPath: string;
  readonly rotate: boolean;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** Resolves to the sentence for the user. Rejects with TsrkeError. */
export async function changeEncryption(options: EncryptionOptions): Promise<string> {
  const { report, signal, rotate } = options;
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
  const statePath = statePathOf(options.configPath);
  const initial = readState(statePath);
  if (initial === undefined) {
    throw new TsrkeError('STATE_MISSING', `there is no state file ${statePath}`, {
      next: 'bring the cluster.rkestate of this cluster here (RKE: `rke util get-state-file`); it holds the keys and certificates, and none is ever made anew for a cluster that exists',
    });
  }
  const unlock = lockState(statePath, new Date());
  try {
    // Read again under the lock: another run may have just finished.
    const state = readState(statePath) ?? initial;
    const cluster = await connectCluster({ config, state, statePath, report, signal });
    try {
      return await change(config, state, cluster, { rotate, report, signal });
    } finally {
      await cluster.close();
    }
  } finally {
    unlock();
  }
}

async function change(
  config: ClusterConfig,
  before: ClusterState,
  cluster: Awaited<ReturnType<typeof connectCluster>>,
  { rotate, report, signal }: { rotate: boolean; report: Report; signal: AbortSignal },
): Promise<string> {
  const { world } = cluster;
  const seen = await report.task('look at the nodes and at etcd', () => observe(world, before, signal));
  const now = world.clock.now();
  const chosen = chooseTarget({
    enabled: config.encryption.enabled,
    rotate,
    state: before,
    onNodes: seen.members.flatMap((each) => (each.file === undefined ? [] : [each.file])),
    now,
    newKey: (taken) => newKey('aescbc', taken),
  });
  if (chosen.note !== undefined) report.note('info', chosen.note);
  if (!rotate) noteDifferences(config, before, report);
  const target = chosen.file;

  const work = nextLine(target, seen).kind !== 'done';
  const finished = (state: ClusterState) =>
    withEnabled(withFinished(target, state, world.clock.now()), target);
  if (!work && !chosen.minted) {
    const recorded = recordedFiles(before);
    const asRecorded =
      before.tsrke.transition === undefined &&
      (target.entries.length === 0
        ? recorded.length === 0
        : recorded.length === 2 && recorded.every((file) => sameMeaning(file, target)));
    const unsaved = { ...before, document: finished(before).document };
    if (cluster.metNewHost() || !asRecorded || serialiseState(unsaved) !== serialiseState(before)) {
      await world.save(withLoaded(finished(chosen.state), seen.members), isOn(target), signal);
    }
    return `nothing to do: ${isOn(target) ? `secrets are encrypted (${film(target)}) on ${seen.members.length} node(s)` : 'encryption of secrets is off'}`;
  }
  const begun = isOn(target) ? withEnabled(chosen.state, target) : chosen.state;
  const { state, restarts, rewritten, last } = await carryOut(target, begun, world, signal);
  await world.save(withProof(finished(state), last, target, world.clock.now()), isOn(target), signal);
  return `${isOn(target) ? `secrets are encrypted (${film(target)})` : 'encryption of secrets is off'}: ${rewritten} rewritten, ${restarts} restarts on ${last.members.length} node(s), proved by ${last.census.total} values in etcd at revision ${last.census.revision}`;
}

const isOn = (target: ProviderFile): boolean => target.entries.length > 0;

function withProof(
  state: ClusterState,
  last: Awaited<ReturnType<typeof carryOut>>['last'],
  target: ProviderFile,
  now: Date,
): ClusterState {
  const { census } = last;
  return {
    ...state,
    tsrke: {
      ...state.tsrke,
      proof: {
        at: now.toISOString(),
        clusterId: census.clusterId,
        revision: String(census.revision),
        objects: census.total,
        writeKey: film(target === noFile ? noFile : target),
      },
    },
  };
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
  for (const difference of differences(config, recorded)) {
    report.note('warning', `not acted on yet: ${describe(difference)}`);
  }
}
