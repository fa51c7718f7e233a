/** From what cluster.yml asks, the state remembers and the nodes hold to the wanted provider file. Pure. */
import { TsrkeError } from '../errors.ts';
import { withKeys, type ClusterState, type Transition, type TransitionKind } from '../state/rkestate.ts';
import {
  localKeysOf,
  managedFile,
  noFile,
  parseProviderFile,
  renderProviderFile,
  sameMeaning,
  writeKeyOf,
  type ProviderFile,
} from './configuration.ts';
import { keyId, type Key, type LocalProvider } from './key.ts';
import { isRenewable } from './kms/renewal.ts';
import { heldAt, heldBy, isStep, nextStep, type Step } from './steps.ts';
import {
  answers,
  managedShape,
  notRotatable,
  resolveCustom,
  sameShape,
  type Managed,
  type Wanted,
} from './wanted.ts';

/**
 * `up` follows cluster.yml, `resume` the open transition, `abort` goes back to what was in force before it; a step takes
 * a rotation one line further and holds it there.
 */
export type Action = 'up' | 'rotate' | 'resume' | 'abort' | Step;

export interface TargetRequest {
  readonly action: Action;
  /** What cluster.yml asks. */
  readonly wanted: Wanted;
  readonly state: ClusterState;
  /** Provider files found on the members' disks. */
  readonly onNodes: readonly ProviderFile[];
  readonly now: Date;
  /** Makes a key under a name that is not in `taken`. */
  readonly newKey: (provider: LocalProvider, taken: ReadonlySet<string>) => Key;
  /** Makes a key of this name. */
  readonly namedKey: (provider: LocalProvider, name: string) => Key;
  /** `reencrypt` leaves the old key readable. */
  readonly keepsOldKey?: boolean;
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
 * without a transition), OUT_OF_ORDER (a step before its time) or NOT_ROTATABLE (a key that is not made here).
 */
export function chooseTarget(request: TargetRequest): Target {
  const { action, wanted, state, onNodes, now } = request;
  const rotate = rotates(action);
  // The later steps go on with what `prepare` began.
  const resumes = action === 'resume' || action === 'swap' || action === 'reencrypt';
  const text = state.document.currentState?.encryptionConfig ?? '';
  const current = fileOf(text, 'currentState.encryptionConfig');
  const desired = fileOf(
    state.document.desiredState?.encryptionConfig ?? '',
    'desiredState.encryptionConfig',
  );
  const open = state.tsrke.transition;
  const held = isStep(action) ? heldBy(action, open, request.keepsOldKey === true) : undefined;

  const choose = (file: ProviderFile, kind: TransitionKind, note?: string, minted = false): Target => {
    const target = file.entries.length === 0 ? '' : renderProviderFile(file);
    const created = now.toISOString();
    const known = [current, desired, ...onNodes].flatMap(localKeysOf);
    const found = withKeys(state.tsrke.keyRing, known, created, 'found in use');
    const keyRing = withKeys(found, localKeysOf(file), created, kind);
    const from =
      open === undefined ? inForce(current, desired) : open.target === target ? open.from : open.target;
    const goesOn = open?.target === target && (action !== 'abort' || open.kind === 'abort');
    const { held: before, ...begun } = goesOn
      ? open
      : { kind, target, ...(from === undefined ? {} : { from }), started: created };
    const until = action === 'up' ? before : held;
    const transition = { ...begun, ...(until === undefined ? {} : { held: until }) };
    return { file, state: { ...state, tsrke: { ...state.tsrke, keyRing, transition } }, note, minted };
  };

  if (action === 'abort') return choose(...abortOf(open, current, desired));
  if (resumes && open?.target === '') return choose(noFile, open.kind, continuing(open));

  if (wanted.kind === 'off' && (!resumes || open === undefined)) {
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
    if (resumes || answers(file, wanted)) {
      const note = action === 'up' ? waiting(open) : undefined;
      return choose(
        file,
        open.kind,
        note ?? `${continuing(open)}${rotate ? '; no further key is made' : ''}`,
      );
    }
  }
  const openKeys = open === undefined ? [] : localKeysOf(fileOf(open.target, 'open transition'));
  if (wanted.kind === 'custom') {
    const ring = state.tsrke.keyRing.filter((key) => key.retired === undefined);
    const known = [...openKeys, ...localKeysOf(current), ...ring];
    const ever = [
      ...state.tsrke.keyRing,
      ...[current, desired, ...onNodes].flatMap(localKeysOf),
      ...openKeys,
    ];
    const resolved = resolveCustom(wanted.text, { known, ever, rotate, newKey: request.namedKey });
    if (rotate && !resolved.rotatable && !isRenewable(resolved.file)) throw notRotatable();
    if (action === 'prepare' && !resolved.rotatable) throw keptByKms();
    if (resumes) throw nothingOpen('resume');
    const same = sameMeaning(resolved.file, current);
    return choose(resolved.file, rotate ? 'rotate' : same ? 'adopt' : 'change', undefined, resolved.minted);
  }
  if (wanted.kind === 'off') throw nothingOpen('resume');
  return chooseManaged(request, wanted, { current, desired, openKeys, choose });
}

function rotates(action: Action): boolean {
  return action === 'rotate' || action === 'prepare';
}

/** One key, made and kept here. */
function chooseManaged(
  { action, state, onNodes, newKey }: TargetRequest,
  wanted: Managed,
  {
    current,
    desired,
    openKeys,
    choose,
  }: {
    readonly current: ProviderFile;
    readonly desired: ProviderFile;
    readonly openKeys: readonly Key[];
    readonly choose: (file: ProviderFile, kind: TransitionKind, note?: string, minted?: boolean) => Target;
  },
): Target {
  const open = state.tsrke.transition;
  const ours = (key: Key) => key.provider === wanted.provider;
  const fileWith = (key: Key) => managedFile(key, wanted.resources);
  const [begun] = openKeys.filter(ours);
  if (begun !== undefined) {
    return choose(
      fileWith(begun),
      'change',
      `cluster.yml asks for another change by now; key ${begun.name} goes on`,
    );
  }
  const shape = managedShape(current);
  const keys = shape === undefined ? [] : localKeysOf(current).filter(ours);
  const [first] = keys;
  if (first !== undefined) {
    const file = fileWith(first);
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
    const [resource = 'secrets'] = shape?.resources ?? [];
    const writes = writeKeyOf(current, resource).id !== 'identity';
    if (!writes) return choose(file, 'enable', `a disable was interrupted; key ${first.name} goes on`);
    const [old] = localKeysOf(desired);
    if (old !== undefined && ours(old) && keyId(old) !== keyId(first)) {
      return choose(
        file,
        'rotate',
        `a rotation to key ${first.name} had reached the nodes but not desiredState; it is finished`,
      );
    }
    if (action === 'resume') throw nothingOpen(action);
    if (!rotates(action)) return choose(file, sameShape(shape, wanted) ? 'adopt' : 'change');
    const key = newKey(wanted.provider, takenNames(state, onNodes));
    return choose(fileWith(key), 'rotate', undefined, true);
  }

  const isOff = current.entries.length === 0;
  const retired = new Set(
    state.tsrke.keyRing.filter((key) => key.retired !== undefined).map((key) => key.name),
  );
  const [left] = (isOff ? [desired, ...onNodes] : [])
    .flatMap(localKeysOf)
    .filter((key) => ours(key) && !retired.has(key.name));
  if (left !== undefined) {
    return choose(
      fileWith(left),
      'enable',
      `an enable with key ${left.name} was interrupted; it is finished with that key`,
    );
  }
  if (action === 'resume') throw nothingOpen(action);
  if (isOff && rotates(action)) {
    throw new TsrkeError('NOT_ENABLED', 'encryption of secrets was not enabled on this cluster yet', {
      next: 'run `tsrke up` first',
    });
  }
  const key = newKey(wanted.provider, takenNames(state, onNodes));
  return choose(fileWith(key), isOff ? 'enable' : 'change', undefined, true);
}

function continuing(open: Transition): string {
  return `continuing the ${open.kind} of ${open.started}${open.held === undefined || open.held === 'prune' ? ' that was cut off' : ''}`;
}

/** What `up` says of a rotation in steps: it is not its to take further. */
function waiting({ held, started }: Transition): string | undefined {
  if (held === undefined || held === 'prune') return undefined;
  return `the rotation of ${started} waits: ${heldAt[held]}; ${nextStep(held)} goes on`;
}

function keptByKms(): TsrkeError {
  return new TsrkeError('NOT_ROTATABLE', 'a KMS keeps the write key, and all steps are taken there', {
    next: 'rotate it in the KMS, then run `tsrke encrypt rotate-key`, which rewrites without a restart',
  });
}

function nothingOpen(action: 'resume' | 'abort'): TsrkeError {
  return new TsrkeError('NOTHING_OPEN', `there is no open change to ${action}`, {
    next: action === 'abort' ? 'to go back from a finished change, ask for another one' : 'run `tsrke up`',
  });
}

/** The file that an abort would go back to, as far as RKE's two texts tell it; `''`: encryption was off. */
function inForce(current: ProviderFile, desired: ProviderFile): string {
  const [, ...others] = localKeysOf(current);
  const shape = managedShape(current);
  if (shape === undefined || others.length === 0) {
    return current.entries.length === 0 ? '' : renderProviderFile(current);
  }
  // RKE writes [new, old] into currentState while desiredState still has [old].
  const [before] = [...localKeysOf(desired).filter((key) => isIn(key, others)), ...others];
  return before === undefined ? '' : renderProviderFile(managedFile(before, shape.resources));
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
  const interrupted = managedShape(current) !== undefined && localKeysOf(current).length > 1;
  if (open === undefined && !interrupted) throw nothingOpen('abort');
  const text = open?.from ?? inForce(current, desired);
  const what = open === undefined ? 'rotation that was interrupted' : `${open.kind} of ${open.started}`;
  // Only what stands behind the key has changed, and that is not ours to take back.
  const kept =
    open !== undefined && open.from === open.target
      ? ': the key of the KMS is not changed from here, and it must keep both keys until `tsrke encrypt rotate-key` has finished'
      : '';
  return [fileOf(text, 'open transition'), 'abort', `going back from the ${what}${kept}`];
}

function fileOf(text: string, part: string): ProviderFile {
  return text === '' ? noFile : parseProviderFile(text, `the state's ${part}`);
}

function takenNames(state: ClusterState, files: readonly ProviderFile[]): Set<string> {
  return new Set([...state.tsrke.keyRing, ...files.flatMap(localKeysOf)].map((key) => key.name));
}
