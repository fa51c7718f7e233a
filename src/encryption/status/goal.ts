/** Where a cluster is on its way to, and how far it has come. Pure. */
import { TsrkeError } from '../../errors.ts';
import type { NodeName } from '../../ports.ts';
import type { ClusterState, Held, TransitionKind } from '../../state/rkestate.ts';
import { film, noFile, parseProviderFile, sameMeaning, type ProviderFile } from '../configuration.ts';
import type { Line } from '../plan.ts';
import { plannedKey } from '../preview.ts';
import type { Sight } from './sight.ts';
import { chooseTarget, type Target } from '../target.ts';
import { answers, type Wanted } from '../wanted.ts';

export type Phase = 'read' | 'write' | 'rewrite' | 'prune' | 'record';

export interface OpenTransition {
  readonly kind: TransitionKind;
  /** RFC 3339; left out: RKE began it, which keeps no time. */
  readonly started?: string;
  /** What was in force before and what is to be, without key material; left out where nobody recorded it. */
  readonly from?: string;
  readonly to: string;
  /** What comes next; left out while no node can be seen. `record`: only the state is to be written. */
  readonly phase?: Phase;
  /** The way there, in its order. */
  readonly steps: readonly { readonly phase: Phase; readonly state: 'done' | 'next' | 'to do' }[];
  /** The last phase that may be done before the next command: the rotation is taken in steps. */
  readonly held?: Held;
  /** How it was recognised, where the state does not name it. */
  readonly found?: string;
}

export interface Goal {
  readonly file: ProviderFile;
  /** A change is under way, by the state or by what RKE left. */
  readonly isOpen: boolean;
  /** It is taken in steps and waits for the next one. */
  readonly held: Held | undefined;
  readonly chosen: Target | undefined;
  /** The state holds a proof, which `up` takes for a census while the nodes are as it says. */
  readonly isProved: boolean;
  /** What cluster.yml asks for beyond that. */
  readonly differs: string | undefined;
}

/** Where the cluster is on its way to: the open change's target, else what the state says is in force. */
export function goalOf(state: ClusterState, wanted: Wanted, sight: Sight): Goal {
  const text = state.document.currentState?.encryptionConfig ?? '';
  const inForce = text === '' ? noFile : parseProviderFile(text, "the state's currentState.encryptionConfig");
  const { transition: open } = state.tsrke;
  const target =
    open === undefined
      ? inForce
      : open.target === ''
        ? noFile
        : parseProviderFile(open.target, "the state's open transition");
  const isProved = open === undefined && state.tsrke.proof !== undefined;
  let chosen: Target;
  try {
    const onNodes = sight.nodes.flatMap(({ file }) => file ?? []);
    chosen = chooseTarget({
      action: 'up',
      wanted,
      state,
      onNodes,
      now: sight.time,
      newKey: (provider) => plannedKey(provider),
      namedKey: plannedKey,
    });
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    const differs = error.message;
    return {
      file: target,
      isOpen: open !== undefined,
      held: open?.held,
      isProved,
      chosen: undefined,
      differs,
    };
  }
  if (open === undefined && chosen.note !== undefined) {
    return { file: chosen.file, isOpen: true, held: undefined, isProved, chosen, differs: undefined };
  }
  const asks =
    wanted.kind === 'off'
      ? 'encryption off'
      : target.entries.length === 0
        ? 'encryption on'
        : 'another encryption';
  const isAsked = open === undefined ? sameMeaning(chosen.file, inForce) : answers(target, wanted);
  return {
    ...{ file: target, isOpen: open !== undefined, held: open?.held, isProved, chosen },
    differs: isAsked ? undefined : `cluster.yml asks for ${asks}`,
  };
}

/** What a node works with. */
export interface OwnFile {
  readonly node: NodeName;
  readonly file: ProviderFile;
}

const phases = ['read', 'write', 'rewrite', 'prune', 'record'] as const;

/** `lines`: what is left to do, as the nodes in `own` tell. */
export function transitionOf(
  { isOpen, chosen, file }: Goal,
  state: ClusterState,
  lines: readonly Line[],
  own: readonly OwnFile[],
): OpenTransition | undefined {
  if (!isOpen) return undefined;
  const open = state.tsrke.transition;
  const { kind, from } = open ?? chosen?.state.tsrke.transition ?? { kind: 'change', from: undefined };
  const left = new Set(lines.filter((line) => !isRepair(line, own)).map((line) => line.kind));
  const next = phases.find((each) => each !== 'record' && left.has(each)) ?? 'record';
  const isSeen = own.length > 0;
  const at = isSeen ? phases.indexOf(next) : -1;
  return {
    kind,
    ...(open === undefined ? {} : { started: open.started }),
    ...(from === undefined ? {} : { from: filmOf(from) }),
    to: film(file),
    ...(isSeen ? { phase: next } : {}),
    steps: phases.map((phase, index) => ({
      phase,
      state: index < at ? 'done' : index === at ? 'next' : 'to do',
    })),
    ...(open?.held === undefined ? {} : { held: open.held }),
    ...(open === undefined && chosen?.note !== undefined ? { found: chosen.note } : {}),
  };
}

/** Brings nodes back to the files they have, or their containers to their binds: the change itself is where it was. */
function isRepair(line: Line, own: readonly OwnFile[]): boolean {
  if (line.kind === 'remake') return true;
  if (!('pushes' in line)) return false;
  return line.pushes.every(({ node, file = noFile }) => {
    const mine = own.find((each) => each.node === node);
    return mine !== undefined && sameMeaning(mine.file, file);
  });
}

function filmOf(text: string): string {
  return film(text === '' ? noFile : parseProviderFile(text, "the state's open transition"));
}
