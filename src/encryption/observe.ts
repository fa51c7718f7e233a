/** Reads the world: what each member has on disk and in memory, and what etcd holds under which key. */
import { messageOf, TsrkeError } from '../errors.ts';
import { loadedHashOf, metricsOf, reloadsIn, type Reloads } from '../kube/metrics.ts';
import { readiness, serverVersion } from '../kube/ready.ts';
import type { ApiserverContainer, NodeFile, NodeName } from '../ports.ts';
import { stale, type ClusterState, type LoadedRecord, type ProofRecord } from '../state/rkestate.ts';
import { reloadFitOf } from './automatic-reload.ts';
import { lacking, spare } from './binds.ts';
import {
  keysOf,
  localKeysOf,
  localRef,
  meaningHash,
  noFile,
  parseProviderFile,
  resourcesOf,
  writeKeyOf,
  type KeyRef,
  type ProviderFile,
} from './configuration.ts';
import { countHoldings, type Holdings } from './holdings.ts';
import { keyId, type Key } from './key.ts';
import { effectiveFile, type Fit, type MemberSeen, type Seen } from './plan.ts';
import { reloadsOf } from './server-options.ts';
import { providerPath, providerPathOf, type World } from './world.ts';

/** A member with what is needed to act on it. */
export interface MemberLook extends MemberSeen {
  readonly container: ApiserverContainer;
  readonly path: string;
  readonly onDisk: NodeFile | undefined;
  /** Of the Kubernetes version it says; undefined while it does not serve. */
  readonly minor: number | undefined;
  /** It loads a changed file by itself; undefined: it does not, or it cannot be told when it has (before 1.28). */
  readonly reload: Reloads | undefined;
  /** What keeps it from being ready, as its /readyz names it. */
  readonly failing: readonly string[];
}

export interface Look extends Seen {
  readonly members: readonly MemberLook[];
  /** undefined where no etcd was read: none can be reached, or a proof of before still holds. */
  readonly census: Count | undefined;
  /** All local keys that anything known here holds: nodes, state, ring. */
  readonly keys: readonly Key[];
}

/** What lies in all etcds of the cluster. */
export interface Count extends Holdings {
  readonly keks: readonly StoredKek[];
}

/** Values that tell the key encryption key which they lie under. */
export interface StoredKek {
  readonly resource: string;
  /** As KeyRef has it: `kms2:NAME`. */
  readonly stored: string;
  readonly keyId: string;
  readonly count: number;
}

/** What stands in for a census. */
export interface Known {
  /** The proof that the state holds, where the cluster's own copy of the state agrees with it. */
  readonly proof?: ProofRecord | undefined;
  /** Shown by passes through every apiserver: all objects of these resources lie under this key. For one run only. */
  readonly standIn?: ReadonlyMap<string, KeyRef> | undefined;
  /** What it covers counts as well, before any node or the state has it: for a look ahead. */
  readonly target?: ProviderFile | undefined;
}

/** From this minor on kube-apiserver reports the hash of the file it has loaded (metric last_config_info). */
const reportsHash = 34;
/** Whether a server of this minor reports what became of a reload; before, only a restart shows that a file is loaded. */
export function reportsReloads(minor: number | undefined): boolean {
  return (minor ?? 0) >= 28;
}

export async function lookAtMember(
  world: Pick<World, 'files' | 'runtime' | 'kube' | 'binds' | 'reload'>,
  node: NodeName,
  loaded: ClusterState['tsrke']['loaded'],
  signal: AbortSignal,
): Promise<MemberLook> {
  const container = await world.runtime.apiserver(node, signal);
  if (container === undefined) {
    throw new TsrkeError('APISERVER_MISSING', 'there is no kube-apiserver container', { node });
  }
  const flagPath = providerPathOf(container.args);
  const path = flagPath ?? providerPath;
  const onDisk = await world.files.read(node, path, signal);
  const file = onDisk === undefined ? undefined : parseProviderFile(onDisk.text, `${node}: ${path}`);
  const { ready, serves, failing } = await readiness(world.kube, node, signal);
  const minor = serves ? (await serverVersion(world.kube, node, signal)).minor : undefined;
  const binds = bindsOf(container, world.binds);
  const flag = flagPath !== undefined;
  const reloadFlag = reloadFitOf(container, flag, world.reload);
  const reloads = flag && reportsReloads(minor) && reloadsOf(container.args);
  const asks = reloads || (flag && (minor ?? 0) >= reportsHash);
  const metrics = asks ? await metricsOf(world.kube, node, signal) : undefined;
  const reload = reloads && metrics !== undefined ? reloadsIn(metrics.text, metrics.date) : undefined;
  const reported = metrics === undefined ? undefined : loadedHashOf(metrics.text);
  const look = { node, flag, file, ready, failing, container, path, onDisk, minor, reload };
  return { ...look, binds, reloadFlag, loaded: loadedBy({ ...look, reported, record: loaded[node] }) };
}

/** Whether the container's binds are those that are wanted. */
export function bindsOf(container: ApiserverContainer, wanted: World['binds']): Fit {
  if (spare(container.binds, wanted).length > 0) return 'spare';
  return lacking(container.binds, wanted).length > 0 ? 'lacking' : 'as wanted';
}

/** Whether what is on a node's disk is what its kube-apiserver has loaded, by all that can be known of it. */
export function loadedBy({
  container,
  flag,
  onDisk,
  minor,
  reported,
  record,
}: {
  readonly container: ApiserverContainer;
  readonly flag: boolean;
  readonly onDisk: NodeFile | undefined;
  readonly minor: number | undefined;
  /** The hash that the server reports (from 1.34). */
  readonly reported: string | undefined;
  readonly record: LoadedRecord | undefined;
}): MemberSeen['loaded'] {
  if (!container.running) return 'no';
  if (!flag) return 'yes';
  if (onDisk === undefined || minor === undefined) return 'no';
  if (minor >= reportsHash) return reported === onDisk.sha256 ? 'yes' : 'no';
  return record?.startedAt === container.startedAt && record.sha256 === onDisk.sha256 ? 'yes' : 'unknown';
}

/** The files that members may hold by what the state says, the likeliest first. */
export function recordedFiles(state: ClusterState): ProviderFile[] {
  const { currentState, desiredState } = state.document;
  return [
    [currentState?.encryptionConfig, 'currentState.encryptionConfig'],
    [desiredState?.encryptionConfig, 'desiredState.encryptionConfig'],
  ]
    .filter((each): each is [string, string] => each[0] !== undefined && each[0] !== '')
    .map(([text, where]) => parseProviderFile(text, `the state's ${where}`));
}

/**
 * Members, census, members again: only a census between two equal looks says anything about the members. Throws
 * KEY_MISSING when something is stored under a key that nothing here holds, or that does not open with it.
 */
export async function observe(
  world: World,
  state: ClusterState,
  signal: AbortSignal,
  known: Known = {},
): Promise<Look> {
  const recorded = recordedFiles(state);
  for (let attempt = 1; ; attempt += 1) {
    const members = await lookAtAll(world, state, signal);
    const files = [...members.map((each) => effectiveFile(each, recorded)), ...recorded];
    const onDisk = members.flatMap((each) => (each.file === undefined ? [] : [each.file]));
    const keys = new Map<string, Key>();
    for (const key of [...state.tsrke.keyRing, ...[...files, ...onDisk].flatMap(localKeysOf)]) {
      keys.set(keyId(key), key);
    }
    const counted =
      (await trusted(known.proof, world, members, signal)) ??
      (await unlessUnreachable(world, storedKeys(world, [...keys.values()], files, known.target, signal))) ??
      withoutCensus([...files, ...onDisk], known.standIn);
    const again = await lookAtAll(world, state, signal);
    if (essence(members) === essence(again)) {
      return { members: again, recorded, keys: [...keys.values()], ...counted };
    }
    if (attempt === 5) {
      throw new TsrkeError('NOT_PROVED', 'the controlplane nodes keep changing while they are looked at', {
        next: 'find out what restarts kube-apiserver or writes its provider file, then run the same command again',
      });
    }
  }
}

/** Nothing is counted while everything is still as it was when the state's proof was taken (design: etcd's cluster id and revision, the files' hash). */
async function trusted(
  proof: ProofRecord | undefined,
  world: World,
  members: readonly MemberLook[],
  signal: AbortSignal,
): Promise<Pick<Look, 'census' | 'stored'> | undefined> {
  if (proof?.target === undefined) return undefined;
  const asProved = members.every(({ flag, file, loaded, ready }) => {
    return ready && loaded !== 'no' && meaningHash(flag ? (file ?? noFile) : noFile) === proof.target;
  });
  if (!asProved || proof.at.length !== world.etcds.length) return undefined;
  for (const [i, etcd] of world.etcds.entries()) {
    const from = Buffer.from(`${world.etcdPrefix}/`);
    const end = Buffer.concat([from, Buffer.alloc(1)]);
    const ask = { from, end, limit: 1, revision: 0n };
    const now = await unlessUnreachable(world, etcd.range(ask, signal));
    const then = proof.at[i];
    if (now === undefined || now.clusterId !== then?.clusterId || now.revision < BigInt(then.revision)) {
      return undefined;
    }
  }
  const [first] = members;
  const file = first?.flag === true ? (first.file ?? noFile) : noFile;
  const resources = new Set(['secrets', ...resourcesOf(file)]);
  return {
    census: undefined,
    stored: new Map([...resources].map((resource) => [resource, [writeKeyOf(file, resource)]])),
  };
}

async function unlessUnreachable<T>(world: World, asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'ETCD') throw error;
    world.report.note(
      'warning',
      `${messageOf(error)}: passes through every apiserver stand in for a census of etcd`,
    );
    return undefined;
  }
}

/** Where etcd cannot be read, a resource may lie under any key that any file has, until passes have shown otherwise. */
function withoutCensus(
  files: readonly ProviderFile[],
  standIn: Known['standIn'],
): Pick<Look, 'census' | 'stored'> {
  const stored = new Map<string, readonly KeyRef[]>();
  for (const resource of new Set(['secrets', ...resourcesOf(...files)])) {
    const shown = standIn?.get(resource);
    const possible = [noFile, ...files].flatMap((file) => keysOf(file, resource));
    stored.set(
      resource,
      shown === undefined ? [...new Map(possible.map((ref) => [ref.id, ref])).values()] : [shown],
    );
  }
  return { census: undefined, stored };
}

async function lookAtAll(world: World, state: ClusterState, signal: AbortSignal): Promise<MemberLook[]> {
  const nodes = await world.members(signal);
  return await Promise.all(
    nodes.map(async (node): Promise<MemberLook> => {
      const look = await lookAtMember(world, node, state.tsrke.loaded, signal);
      // A recreation that was cut off has to be finished, whatever its half runs with.
      if (look.container.interrupted) return { ...look, loaded: 'no' };
      // On a cluster that tsrke never touched, RKE has restarted what it deployed. Later, a file may have been put
      // by a run that was cut off before the restart: in doubt restart.
      return look.loaded === 'unknown' && state.tsrke.serial > 0 ? { ...look, loaded: 'no' } : look;
    }),
  );
}

function essence(members: readonly MemberLook[]): string {
  return JSON.stringify(
    members.map(({ node, flag, loaded, ready, binds, reloadFlag, onDisk, container }) => {
      return [node, flag, loaded, ready, binds, reloadFlag, onDisk?.sha256, container.startedAt];
    }),
  );
}

async function storedKeys(
  world: World,
  keys: readonly Key[],
  files: readonly ProviderFile[],
  target: ProviderFile | undefined,
  signal: AbortSignal,
): Promise<{ census: Count; stored: Map<string, KeyRef[]> }> {
  const counted = await countHoldings(world.etcds, world.etcdPrefix, keys, signal);
  const refs = new Map(keys.map((key) => [keyId(key), localRef(key)]));
  const kms = new Map(
    files
      .flatMap((file) => resourcesOf(file).flatMap((each) => keysOf(file, each)))
      .map((ref) => [ref.stored, ref]),
  );
  const problems: string[] = [];
  const result = new Map<string, KeyRef[]>();
  const lacking = new Set<string>();
  // In an order that does not depend on how many there are just now: read keys are put into files in it.
  const holdings = counted.holdings.toSorted((a, b) => a.id.localeCompare(b.id));
  for (const { resource, provider, id, name, count, refused, samples } of holdings) {
    const example = `e.g. ${samples[0] ?? ''}`;
    const [ref] = provider === 'identity' ? keysOf(noFile, resource) : [refs.get(id) ?? kms.get(id)];
    if (ref !== undefined) result.set(resource, [...(result.get(resource) ?? []), ref]);
    else if (refused > 0) {
      problems.push(
        `${refused} of ${resource} under ${id} do not open with the key of that name (${example})`,
      );
    } else {
      lacking.add(name);
      problems.push(
        `${count} of ${resource} under ${id}, a key that neither the state nor any node holds (${example})`,
      );
    }
  }
  if (problems.length > 0) {
    if (world.keysElsewhere.some((name) => lacking.has(name))) throw stale();
    throw new TsrkeError('KEY_MISSING', 'etcd holds values that no known key can read', {
      details: problems,
      next: 'look for an older state file (its .backup, a snapshot, Secret kube-system/full-cluster-state) that holds the key; nothing was changed or restarted',
    });
  }
  return {
    census: {
      ...counted,
      keks: holdings.flatMap(({ resource, id, kmsKeyId: keyId, count }) =>
        keyId === undefined ? [] : [{ resource, stored: id, keyId, count }],
      ),
    },
    stored: encryptedOrCovered(result, target === undefined ? files : [...files, target]),
  };
}

/** Resources that nobody encrypts and nobody wants encrypted are none of our business. */
function encryptedOrCovered(
  stored: Map<string, KeyRef[]>,
  files: readonly ProviderFile[],
): Map<string, KeyRef[]> {
  const isCovered = (resource: string) =>
    resource === 'secrets' ||
    files.some((file) => keysOf(file, resource).some((ref) => ref.id !== 'identity'));
  return new Map(
    [...stored].filter(
      ([resource, refs]) => isCovered(resource) || refs.some((ref) => ref.id !== 'identity'),
    ),
  );
}
