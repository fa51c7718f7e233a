/** Commands that make, upgrade and remove KMS plugins' containers, broken off at every effect. */
import { expect, it } from 'vitest';
import type { Effect } from '../../src/lab/faults.ts';
import { shareOf } from '../part.ts';
import { breakEveryEffect, show, type Scenario } from './every-effect.ts';
import { plugin, PluginLab, vault } from './kms-plugin-lab.ts';
import type { LabOptions, MemoryLab } from './memory-lab.ts';

// An error thrown a hundred thousand times need not say each time from where.
Error.stackTraceLimit = 3;

const open = (options: LabOptions) => new PluginLab(options);

function asPlugins(lab: MemoryLab): PluginLab {
  if (lab instanceof PluginLab) return lab;
  throw new Error('a lab without plugins of its own');
}

function have(...states: readonly string[]) {
  return (lab: MemoryLab): string | undefined => {
    const [wrong] = asPlugins(lab)
      .plugins()
      .filter((each) => each.join() !== states.join());
    return wrong === undefined ? undefined : `a node has the plugins ${wrong.join(', ')}`;
  };
}

const enable: Omit<Scenario, 'lab'> = {
  open,
  prepare(lab) {
    asPlugins(lab).asks(plugin(), vault());
    return Promise.resolve();
  },
  command: 'up',
  enabled: true,
  wrong: have('1 kek-1 running always'),
};

/** With another key of the same KMS: what was written meanwhile may lie under either. */
const upgrade: Omit<Scenario, 'lab'> = {
  ...enable,
  async prepare(lab) {
    asPlugins(lab).asks(plugin(), vault());
    await asPlugins(lab).done();
    asPlugins(lab).asks(plugin({ tag: '2', keyId: 'kek-2' }), vault());
  },
  wrong: have('2 kek-2 running always'),
};

const leave: Omit<Scenario, 'lab'> = {
  ...enable,
  async prepare(lab) {
    asPlugins(lab).asks(plugin(), vault());
    await asPlugins(lab).done();
    asPlugins(lab).asks(undefined);
  },
  wrong: have(),
};

const changes = (effect: Effect) => effect.changes;
/** Those on the plugins' containers all, of the others a part. */
const telling = ({ what, ...effect }: Effect) =>
  effect.changes && (what.includes('tsrke-kms') || what.includes('/create') || effect.number % 12 === 0);

it.each([
  { title: 'enabled at once with a plugin, 1 node', nodes: 1, scenario: enable, effects: changes },
  { title: 'enabled at once with a plugin, 3 nodes', nodes: 3, scenario: enable, effects: telling },
  { title: 'a plugin upgraded, 1 node', nodes: 1, scenario: upgrade, effects: changes },
  { title: 'a plugin upgraded, 3 nodes', nodes: 3, scenario: upgrade, effects: telling },
  { title: 'a plugin removed, 1 node', nodes: 1, scenario: leave, effects: changes },
  { title: 'a plugin removed, 3 nodes', nodes: 3, scenario: leave, effects: telling },
] as const)('$title, broken off at every effect, is finished by the same command', async (each) => {
  const { title, nodes, scenario, effects } = each;
  const figures = await breakEveryEffect({ ...scenario, lab: { nodes } }, effects);
  show(title, figures);
  expect(figures.problems).toEqual([]);
  expect(figures.faults).toBeGreaterThan(shareOf(30) - 1);
});
