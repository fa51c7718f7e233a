import { expect, it } from 'vitest';
import { breakEveryEffect, mostTelling, show } from './every-effect.ts';

// An error thrown a hundred thousand times need not say each time from where.
Error.stackTraceLimit = 3;

it.each([1, 3] as const)(
  'an enable on %i node(s), broken off at every effect, is finished by the same command',
  async (nodes) => {
    const figures = await breakEveryEffect(
      { lab: { nodes }, command: 'up', enabled: true },
      nodes === 1 ? undefined : mostTelling,
    );
    show(`an enable, ${nodes} node(s)`, figures);
    expect(figures.problems).toEqual([]);
  },
);
