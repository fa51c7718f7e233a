/** Reads the world: what each member has on disk and in memory, and what etcd holds under which key. */
import { census, type Census } from '../etcd/census.ts';
import { decryptable } from '../etcd/decrypt.ts';
import { TsrkeError } from '../errors.ts';
import { loadedHash, readiness, serverVersion } from '../kube/ready.ts';
import type { ApiserverContainer, NodeFile, NodeName } from '../ports.ts';
import type { ClusterState } from '../state/rkestate.ts';
import {
  keysOf,
  localKeysOf,
  localRef,
  noFile,
  parseProviderFile,
  resourcesOf,
  type KeyRef,
  type ProviderFile,
} from './configuration.ts';
import { keyId, type Key } from './key.ts';
import { effectiveFile, type MemberSeen, type Seen } from './plan.ts';
import { providerPath, providerPathOf, type World } from './world.ts';

/** A member with what is needed to act on it. */
export interface MemberLook extends MemberSeen {
  readonly container: ApiserverContainer;
  readonly path: string;
  readonly onDisk: NodeFile | undefined;
}

export interface Look extends Seen {
  readonly members: readonly MemberLook[];
  readonly census: Census;
  /** All local keys that anything known here holds: nodes, state, ring. */
  readonly keys: readonly Key[];
}

/** From this minor on kube-apiserver reports the hash of the file it has loaded (metric last_config_info). */
const reportsHash = 34;

export async function lookAtMember(
  world: Pick<World, 'files' | 'runtime' | 'kube'>,
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
  const { ready, serves } = await readiness(world.kube, node, signal);
  const look = { node, flag: flagPath !== undefined, file, ready, container, path, onDisk };
  const record = loaded[node];
  const recorded = record?.startedAt === container.startedAt && record.sha256 === onDisk?.sha256;
  if (!container.running) return { ...look, loaded: 'no' };
  if (flagPath === undefined) return { ...look, loaded: 'yes' };
  if (onDisk === undefined || !serves) return { ...look, loaded: 'no' };
  if ((await serverVersion(world.kube, node, signal)).minor >= reportsHash) {
    const hash = await loadedHash(world.kube, node, signal);
    return { ...look, loaded: hash?.replace(/^sha256:/, '') === onDisk.sha256 ? 'yes' : 'no' };
  }
  return { ...look, loaded: recorded ? 'yes' : 'unknown' };
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
export async function observe(world: World, state: ClusterState, signal: AbortSignal): Promise<Look> {
  const recorded = recordedFiles(state);
  for (let attempt = 1; ; attempt += 1) {
    const members = await lookAtAll(world, state, signal);
    const files = [...members.map((each) => effectiveFile(each, recorded)), ...recorded];
    const onDisk = members.flatMap((each) => (each.file === undefined ? [] : [each.file]));
    const keys = new Map<string, Key>();
    for (const key of [...state.tsrke.keyRing, ...[...files, ...onDisk].flatMap(localKeysOf)]) {
      keys.set(keyId(key), key);
    }
    const counted = await storedKeys(world, [...keys.values()], files, signal);
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
    members.map(({ node, flag, loaded, ready, onDisk, container }) => {
      return [node, flag, loaded, ready, onDisk?.sha256, container.startedAt];
    }),
  );
}

async function storedKeys(
  world: World,
  keys: readonly Key[],
  files: readonly ProviderFile[],
  signal: AbortSignal,
): Promise<{ census: Census; stored: Map<string, KeyRef[]> }> {
  const opened = new Map<string, Set<string>>();
  const byStored = new Map<string, Key[]>();
  for (const key of keys) {
    const id = `${key.provider}:${key.name}`;
    byStored.set(id, [...(byStored.get(id) ?? []), key]);
  }
  const counted = await census(world.etcd, {
    prefix: world.etcdPrefix,
    signal,
    tryRead(value, etcdKey, stored) {
      if (stored.provider === 'identity') return undefined;
      const resource = resourceOfKey(etcdKey, world.etcdPrefix);
      const found = (byStored.get(stored.id) ?? []).find(
        (key) =>
          decryptable(value, etcdKey, stored, [
            { provider: key.provider, name: key.name, secret: key.secret.bytes() },
          ]) !== false,
      );
      if (found === undefined) return byStored.has(stored.id) ? false : undefined;
      const ids = opened.get(resource) ?? new Set();
      opened.set(resource, ids.add(keyId(found)));
      return true;
    },
  });
  const refs = new Map(keys.map((key) => [keyId(key), localRef(key)]));
  const kms = new Map(
    files
      .flatMap((file) => resourcesOf(file).flatMap((each) => keysOf(file, each)))
      .map((ref) => [ref.stored, ref]),
  );
  const problems: string[] = [];
  const result = new Map<string, KeyRef[]>();
  for (const [path, tallies] of counted.groups) {
    const resource = resourceOf(path);
    const found: KeyRef[] = [...(opened.get(resource) ?? [])].flatMap((id) => refs.get(id) ?? []);
    for (const tally of tallies.values()) {
      const { id, provider } = tally.stored;
      const samples = `e.g. ${tally.refused.samples[0] ?? tally.samples[0] ?? ''}`;
      if (provider === 'identity') found.push(...keysOf(noFile, resource));
      else if (tally.refused.count > 0) {
        problems.push(
          `${tally.refused.count} of ${resource} under ${id} do not open with the key of that name (${samples})`,
        );
      } else if (byStored.has(id)) continue;
      else if (kms.has(id)) found.push(kms.get(id) as KeyRef);
      else
        problems.push(
          `${tally.count} of ${resource} under ${id}, a key that neither the state nor any node holds (${samples})`,
        );
    }
    result.set(resource, found);
  }
  if (problems.length > 0) {
    throw new TsrkeError('KEY_MISSING', 'etcd holds values that no known key can read', {
      details: problems,
      next: 'look for an older state file (its .backup, a snapshot, Secret kube-system/full-cluster-state) that holds the key; nothing was changed or restarted',
    });
  }
  return { census: counted, stored: encryptedOrCovered(result, files) };
}

/** Resources that nobody encrypts and nobody wants encrypted are none of our business. */
function encryptedOrCovered(
  stored: Map<string, KeyRef[]>,
  files: readonly ProviderFile[],
): Map<string, KeyRef[]> {
  const covered = new Set(['secrets', ...resourcesOf(...files)]);
  return new Map(
    [...stored].filter(
      ([resource, refs]) => covered.has(resource) || refs.some((ref) => ref.id !== 'identity'),
    ),
  );
}

/** `secrets` → `secrets`, `example.com/widgets` → `widgets.example.com`: a provider file's name for an etcd path. */
function resourceOf(path: string): string {
  const [head = '', tail] = path.split('/');
  return tail !== undefined && head.includes('.') ? `${tail}.${head}` : path;
}

function resourceOfKey(etcdKey: string, prefix: string): string {
  const [head = '', tail = ''] = etcdKey.slice(prefix.length).replace(/^\//, '').split('/');
  return head.includes('.') ? `${tail}.${head}` : head;
}
