/** Changes without a restart, and changes of nothing but extra_binds or automatic reload, broken off. */
import { expect, it } from 'vitest';
import { shareOf } from '../part.ts';
import { breakEveryEffect, show } from './every-effect.ts';
import type { MemoryLab } from './memory-lab.ts';

it('a rotation by reload, broken off at its changes here and there, is finished by the same command', async () => {
  let changed = 0;
  const figures = await breakEveryEffect(
    { lab: { nodes: 1, encrypted: true, reload: true, secrets: 2 }, command: 'rotate', enabled: true },
    ({ changes }) => changes && (changed += 1) % 4 === 0,
  );
  show('rotation by reload, 1 node', figures);
  expect(figures.problems).toEqual([]);
  expect(figures.faults).toBeGreaterThan(shareOf(10) - 1);
});

it('a change of extra_binds, broken off at every change, is finished by the same command', async () => {
  const ask = (lab: MemoryLab, bind: string) =>
    lab.configure('secrets_encryption_config: {enabled: true}', `extra_binds: ["${bind}"]`);
  const figures = await breakEveryEffect(
    {
      lab: { nodes: 1, encrypted: true },
      prepare: async (lab) => {
        ask(lab, '/var/run/kmsplugin:/var/run/kmsplugin');
        await lab.tsrke('up');
        ask(lab, '/srv/policies:/srv/policies:ro');
      },
      command: 'up',
      enabled: true,
    },
    ({ changes }) => changes,
  );
  show('a change of extra_binds, 1 node', figures);
  expect(figures.problems).toEqual([]);
  expect(figures.faults).toBeGreaterThan(shareOf(20) - 1);
});

it.each([
  ['given', 'restart', 'automatic'],
  ['taken', 'automatic', 'restart'],
])(
  'automatic reload that is %s, broken off at every change, is finished by the same command',
  async (what, from, to) => {
    const ask = (lab: MemoryLab, reload: string) =>
      lab.configure(`secrets_encryption_config: {enabled: true, reload: ${reload}}`);
    const figures = await breakEveryEffect(
      {
        lab: { nodes: 1, encrypted: true },
        prepare: async (lab) => {
          ask(lab, from);
          await lab.tsrke('up');
          ask(lab, to);
        },
        command: 'up',
        enabled: true,
      },
      ({ changes }) => changes,
    );
    show(`automatic reload ${what}, 1 node`, figures);
    expect(figures.problems).toEqual([]);
    expect(figures.faults).toBeGreaterThan(shareOf(20) - 1);
  },
);
