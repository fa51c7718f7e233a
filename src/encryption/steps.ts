/** A rotation in steps, with a person between them: `prepare`, `rotate`, `reencrypt`. How far each lets it go. Pure. */
import { TsrkeError } from '../errors.ts';
import type { Held, Transition } from '../state/rkestate.ts';
import type { Line } from './plan.ts';

/** The commands that take one step; `swap` is `tsrke encrypt rotate`, where the new key becomes the write key. */
export type Step = 'prepare' | 'swap' | 'reencrypt';

/** As the user types it. */
export const stepCommands: Readonly<Record<Step, string>> = {
  prepare: 'tsrke encrypt prepare',
  swap: 'tsrke encrypt rotate',
  reencrypt: 'tsrke encrypt reencrypt',
};

export function isStep(action: string): action is Step {
  return action in stepCommands;
}

const order: readonly Line['kind'][] = ['read', 'write', 'rewrite', 'prune', 'remake', 'done'];

/** Whether a line of this kind has to wait for another command. */
export function isBeyond(kind: Line['kind'], held: Held | undefined): boolean {
  return (
    held !== undefined && held !== 'prune' && kind !== 'done' && order.indexOf(kind) > order.indexOf(held)
  );
}

/** What leads on from where a transition is held. */
export function nextStep(held: Held): string {
  switch (held) {
    case 'read':
      return `\`${stepCommands.swap}\``;
    case 'write':
      return `\`${stepCommands.reencrypt}\``;
    case 'rewrite':
      return `\`${stepCommands.reencrypt}\` without --keep-old-key`;
    case 'prune':
      return `\`${stepCommands.reencrypt}\``;
  }
}

/** What is so where it is held. */
export const heldAt: Readonly<Record<Held, string>> = {
  read: 'the new key can be read everywhere, nothing is written with it yet',
  write: 'the new key is written with, what lay there before is still under the old one',
  rewrite: 'all lies under the new key, the old one can still be read',
  prune: 'all goes under the new key, then the old one goes',
};

/** Up to which line this step may go. Throws OUT_OF_ORDER where another comes first, or where the rotation is past it. */
export function heldBy(step: Step, open: Transition | undefined, keepsOldKey: boolean): Held {
  const at = open?.held;
  switch (step) {
    case 'prepare':
      if (open === undefined || at === 'read') return 'read';
      break;
    case 'swap':
      if (at === 'read' || at === 'write') return 'write';
      break;
    case 'reencrypt':
      // Given again it goes on where it was cut off.
      if (at !== undefined && at !== 'read') return keepsOldKey ? 'rewrite' : 'prune';
  }
  const where =
    open === undefined
      ? 'no rotation is prepared'
      : at === undefined
        ? `the ${open.kind} of ${open.started} that is open was not begun in steps`
        : `of the rotation of ${open.started} ${heldAt[at]}`;
  const next =
    open === undefined
      ? `\`${stepCommands.prepare}\` comes first`
      : at === undefined
        ? '`tsrke encrypt resume` finishes it, `tsrke encrypt abort` goes back'
        : `${nextStep(at)} goes on, \`tsrke encrypt rotate-key\` does all that is left, \`tsrke encrypt abort\` goes back`;
  throw new TsrkeError('OUT_OF_ORDER', `${stepCommands[step]}: ${where}`, { next });
}
