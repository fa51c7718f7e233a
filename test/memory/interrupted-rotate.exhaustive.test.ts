import { expect, it } from 'vitest';
import type { MemoryLab } from './memory-lab.ts';
import { breakEveryEffect, mostTelling, show } from './every-effect.ts';

/** Killed once the first node writes with the new key; the others only read it. With one node there is no read line. */
async function cutOff(lab: MemoryLab): Promise<void> {
  const { length } = lab.model.nodes;
  let restarts = 0;
  await lab.tsrke('rotate', {
    faultOf: ({ what }) => {
      if (what.includes('/restart')) restarts += 1;
      return restarts === (length === 1 ? 1 : length + 1) ? { kind: 'killed', when: 'after' } : undefined;
    },
  });
}

// An error thrown a hundred thousand times need not say each time from where.
Error.stackTraceLimit = 3;

it.each([1, 3] as const)(
  'a rotation that was cut off before on %i node(s), broken off at every effect, is finished by the same command',
  async (nodes) => {
    const figures = await breakEveryEffect(
      { lab: { nodes, encrypted: true }, prepare: cutOff, command: 'rotate', enabled: true },
      nodes === 1 ? undefined : mostTelling,
    );
    show(`a rotation that was cut off before, ${nodes} node(s)`, figures);
    expect(figures.problems).toEqual([]);
  },
);
