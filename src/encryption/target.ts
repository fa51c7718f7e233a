/** From what cluster.yml asks, the state remembers and the nodes hold to the wanted provider file. Pure. */
import { TsrkeError } from '../errors.ts';
import { withKeys, type ClusterState, type Transition, type TransitionKind } from '../state/rkestate.ts';
import {
  localKeysOf,
  managedFile,
  noFile,
  parseProviderFile,
  renderProviderFile,
  writeKeyOf,
  type ProviderFile,
} from './configuration.ts';
import { keyId, type Key } from './key.ts';

/** `up` follows cluster.yml, `resume` the open transition, `abort` goes back to what was in force before it. */
export type Action = 'up' | 'rotate' | 'resume' | 'abort';

export interface TargetRequest {
  readonly action: Action;
  /** What cluster.yml asks. */
  readonly enabled: boolean;
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
 * retired key is never used again. Throws NOT_ENABLED (rotation without encryption), NOTHING_OPEN (resume or abort
 * without a transition) or UNSUPPORTED (a custom configuration is in force).
 */
export function chooseTarget(request: TargetRequest): Target {
  const { action, enabled, state, onNodes, now } = request;
  const rotate = action === 'rotate';
  const text = state.document.currentState?.encryptionConfig ?? '';
  const current = fileOf(text, 'currentState.encryptionConfig');
  const desired = fileOf(
    state.document.desiredState?.encryptionConfig ?? '',
    'desiredState.encryptionConfig',
  );
  for (const file of [current, desired, ...onNodes]) refuseCustom(file);
  const open = state.tsrke.transition;

  const choose = (file: ProviderFile, kind: TransitionKind, note?: string, minted = false): Target => {
    const target = file.entries.length === 0 ? '' : renderProviderFile(file);
    const created = now.toISOString();
    const known = [current, desired, ...onNodes].flatMap(localKeysOf);
    const found = withKeys(state.tsrke.keyRing, known, created, 'found in use');
    const keyRing = withKeys(found, localKeysOf(file), created, kind);
    const from =
      open === undefined ? inForce(current, desired) : open.target === target ? open.from : open.target;
    const transition =
      open?.target === target
        ? open
        : { kind, target, ...(from === undefined ? {} : { from }), started: created };
    return { file, state: { ...state, tsrke: { ...state.tsrke, keyRing, transition } }, note, minted };
  };

  if (action === 'abort') return choose(...abortOf(open, current, desired));
  if (action === 'resume' && open?.target === '') return choose(noFile, open.kind, continuing(open));

  if (!enabled && (action !== 'resume' || open === undefined)) {
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
        : open?.target === ''
          ? continuing(open)
          : undefined;
    // RKE's own disable, cut off, leaves the key in currentState alone.
    const cutOff = localKeysOf(current).length > 0 && localKeysOf(desired).length === 0;
    if (action === 'resume' && note === undefined && !cutOff) throw nothingOpen(action);
    return choose(noFile, 'disable', note);
  }

  if (open !== undefined && open.target !== '') {
    const file = parseProviderFile(open.target, "the state's open transition");
    return choose(file, open.kind, `${continuing(open)}${rotate ? '; no further key is made' : ''}`);
  }

  const [first] = localKeysOf(current);
  if (first !== undefined) {
    const keys = localKeysOf(current);
    const file = managedFile(first);
    if (open !== undefined) {
      return choose(file, 'enable', `the ${open.kind} is taken back; key ${first.name} goes on`);
    }
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
    if (action === 'resume') throw nothingOpen(action);
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
  if (action === 'resume') throw nothingOpen(action);
  if (rotate) {
    throw new TsrkeError('NOT_ENABLED', 'encryption of secrets was not enabled on this cluster yet', {
      next: 'run `tsrke up` first',
    });
  }
  return choose(managedFile(request.newKey(takenNames(state, onNodes))), 'enable', undefined, true);
}

function continuing(open: Transition): string {
  return `continuing the ${open.kind} of ${open.started} that was cut off`;
}

function nothingOpen(action: 'resume' | 'abort'): TsrkeError {
  return new TsrkeError('NOTHING_OPEN', `there is no open change to ${action}`, {
    next: action === 'abort' ? 'to go back from a finished change, ask for another one' : 'run `tsrke up`',
  });
}

/** The file that an abort would go back to, as far as RKE's two texts tell it; `''`: encryption was off. */
function inForce(current: ProviderFile, desired: ProviderFile): string | undefined {
  const [first, ...others] = localKeysOf(current);
  // RKE writes [new, old] into currentState while desiredState still has [old].
  const [before] =
    others.length > 0 ? [...localKeysOf(desired).filter((key) => isIn(key, others)), ...others] : [first];
  return before === undefined ? '' : renderProviderFile(managedFile(before));
}

function isIn(key: Key, keys: readonly Key[]): boolean {
  return keys.some((each) => keyId(each) === keyId(key));
}

/** An abort that was cut off goes on; otherwise back to what was in force before the transition. */
function abortOf(
  open: Transition | undefined,
  current: ProviderFile,
  desired: ProviderFile,
): [ProviderFile, TransitionKind, string] {
  if (open?.kind === 'abort') {
    return [open.target === '' ? noFile : fileOf(open.target, 'open transition'), 'abort', continuing(open)];
  }
  const interrupted = localKeysOf(current).length > 1;
  if (open === undefined && !interrupted) throw nothingOpen('abort');
  const text = open?.from ?? inForce(current, desired) ?? '';
  const what = open === undefined ? 'rotation that was interrupted' : `${open.kind} of ${open.started}`;
  return [fileOf(text, 'open transition'), 'abort', `going back from the ${what}`];
}

function fileOf(text: string, part: string): ProviderFile {
  return text === '' ? noFile : parseProviderFile(text, `the state's ${part}`);
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
