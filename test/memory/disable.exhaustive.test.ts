import { expect, it } from 'vitest';
import { breakEveryEffect, mostTelling, show } from './every-effect.ts';

// An error thrown a hundred thousand times need not say each time from where.
Error.stackTraceLimit = 3;

it.each([1, 3] as const)(
  'a disable on %i node(s), broken off at every effect, is finished by the same command',
  async (nodes) => {
    const figures = await breakEveryEffect(
      { lab: { nodes, encrypted: true }, command: 'up', enabled: false },
      nodes === 1 ? undefined : mostTelling,
    );
    show(`a disable, ${nodes} node(s)`, figures);
    expect(figures.problems).toEqual([]);
  },
);
