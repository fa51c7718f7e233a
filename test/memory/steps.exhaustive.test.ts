/** A rotation in steps, each of them broken off. */
import { expect, it } from 'vitest';
import type { Action } from '../../src/encryption/target.ts';
import { shareOf } from '../part.ts';
import { breakEveryEffect, show } from './every-effect.ts';

it.each<[Action, readonly Action[], Action | undefined]>([
  ['prepare', [], 'rotate'],
  ['swap', ['prepare'], 'rotate'],
  ['reencrypt', ['prepare', 'swap'], undefined],
])('%s, broken off at every change, is finished by the same command', async (command, before, then) => {
  const figures = await breakEveryEffect(
    {
      lab: { nodes: 1, encrypted: true },
      prepare: async (lab) => {
        for (const each of before) await lab.tsrke(each);
      },
      command,
      ...(then === undefined ? { saysDone: 'OUT_OF_ORDER' } : { then }),
      enabled: true,
    },
    ({ changes }) => changes,
  );
  show(`${command}, 1 node`, figures);
  expect(figures.problems).toEqual([]);
  expect(figures.faults).toBeGreaterThan(shareOf(20) - 1);
});
