/** From what cluster.yml asks, the state remembers and the nodes hold to the wanted provider file. Pure. */
import { TsrkeError } from '../errors.ts';
import { withKeys, type ClusterState, type TransitionKind } from '../state/rkestate.ts';
import {
  localKeysOf,
  managedFile,
  noFile,
  parseProviderFile,
  renderProviderFile,
  writeKeyOf,
  type ProviderFile,
} from './configuration.ts';
import type { Key } from './key.ts';

export interface TargetRequest {
  readonly enabled: boolean;
  readonly rotate: boolean;
  readonly state: ClusterState;
  /** Provider files found on the members' disks. */
  readonly onNodes: readonly ProviderFile[];
  readonly now: Date;
  /** Makes a key under a name that is not in `taken`. */
  readonly newKey: (taken: ReadonlySet<string>) => Key;
}

export interface Target {
  readonly file: ProviderFile;
  /** With the target's key in its ring and the open transition, to be saved before anything is pushed. */
  readonly state: ClusterState;
  /** What was recognised, in one sentence for the operator; undefined when there is nothing to say. */
  readonly note: string | undefined;
  readonly minted: boolean;
}

/**
 * A key of the open transition is taken up again before one is made, and one that is in use before that; only a
 * retired key is never used again. Throws NOT_ENABLED (rotation without encryption) or UNSUPPORTED (a custom
 * configuration is in force).
 */
export function chooseTarget(request: TargetRequest): Target {
  const { enabled, rotate, state, onNodes, now } = request;
  const text = state.document.currentState?.encryptionConfig ?? '';
  const current = fileOf(text, 'currentState');
  const desired = fileOf(state.document.desiredState?.encryptionConfig ?? '', 'desiredState');
  for (const file of [current, desired, ...onNodes]) refuseCustom(file);
  const open = state.tsrke.transition;

  const choose = (file: ProviderFile, kind: TransitionKind, note?: string, minted = false): Target => {
    const target = file.entries.length === 0 ? '' : renderProviderFile(file);
    const why = minted ? kind : 'found in use';
    const keyRing = withKeys(state.tsrke.keyRing, localKeysOf(file), now.toISOString(), why);
    const same = open?.target === target;
    const transition = same ? open : { kind, target, started: now.toISOString() };
    return { file, state: { ...state, tsrke: { ...state.tsrke, keyRing, transition } }, note, minted };
  };

  if (!enabled) {
    if (rotate) {
      throw new TsrkeError(
        'NOT_ENABLED',
        'encryption of secrets is not enabled in cluster.yml, so there is no key to rotate',
        {
          next: 'set services.kube-api.secrets_encryption_config.enabled to true and run `tsrke up` first',
        },
      );
    }
    const note =
      text === '' && localKeysOf(desired).length > 0
        ? 'an enable that was not finished is taken back'
        : open?.kind === 'disable'
          ? 'continuing the disable that was cut off'
          : undefined;
    return choose(noFile, 'disable', note);
  }

  if (open !== undefined && open.target !== '') {
    const file = parseProviderFile(open.target, "the state's open transition");
    const note = `continuing the ${open.kind} of ${open.started} that was cut off${rotate ? '; no further key is made' : ''}`;
    return choose(file, open.kind, note);
  }

  const [first] = localKeysOf(current);
  if (first !== undefined) {
    const keys = localKeysOf(current);
    const file = managedFile(first);
    if (open?.kind === 'disable')
      return choose(file, 'enable', `the disable is taken back; key ${first.name} goes on`);
    if (keys.length > 1) {
      return choose(
        file,
        'rotate',
        `a rotation to key ${first.name} was interrupted (the state holds ${keys.length} keys); it is finished, and no further key is made`,
      );
    }
    const writes = writeKeyOf(current, 'secrets').id !== 'identity';
    if (!writes) return choose(file, 'enable', `a disable was interrupted; key ${first.name} goes on`);
    const [old] = localKeysOf(desired);
    if (old !== undefined && writeKeyOf(desired, 'secrets').id !== writeKeyOf(current, 'secrets').id) {
      return choose(
        file,
        'rotate',
        `a rotation to key ${first.name} had reached the nodes but not desiredState; it is finished`,
      );
    }
    if (!rotate) return choose(file, 'adopt');
    const key = request.newKey(takenNames(state, onNodes));
    return choose(managedFile(key), 'rotate', undefined, true);
  }

  const retired = new Set(
    state.tsrke.keyRing.filter((key) => key.retired !== undefined).map((key) => key.name),
  );
  const [left] = [desired, ...onNodes].flatMap(localKeysOf).filter((key) => !retired.has(key.name));
  if (left !== undefined) {
    return choose(
      managedFile(left),
      'enable',
      `an enable with key ${left.name} was interrupted; it is finished with that key`,
    );
  }
  if (rotate) {
    throw new TsrkeError('NOT_ENABLED', 'encryption of secrets was not enabled on this cluster yet', {
      next: 'run `tsrke up` first',
    });
  }
  return choose(managedFile(request.newKey(takenNames(state, onNodes))), 'enable', undefined, true);
}

function fileOf(text: string, half: string): ProviderFile {
  return text === '' ? noFile : parseProviderFile(text, `the state's ${half}.encryptionConfig`);
}

function takenNames(state: ClusterState, files: readonly ProviderFile[]): Set<string> {
  return new Set([...state.tsrke.keyRing, ...files.flatMap(localKeysOf)].map((key) => key.name));
}

/** What RKE's managed mode and tsrke write: Secrets only, aescbc keys and identity. */
function refuseCustom(file: ProviderFile): void {
  const managed = file.entries.every(
    ({ resources, providers }) =>
      resources.every((each) => each === 'secrets') &&
      providers.every(({ kind }) => kind === 'aescbc' || kind === 'identity'),
  );
  if (managed) return;
  throw new TsrkeError('UNSUPPORTED', 'a custom encryption configuration is in force on this cluster', {
    next: 'this version manages aescbc keys for Secrets only; nothing was changed',
  });
}
