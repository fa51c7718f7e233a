/** `encrypt status` at every moment of every change: it says what is so, and touches nothing. */
import { expect, it } from 'vitest';
import { MemoryLab } from './memory-lab.ts';
import { statusOf } from './status-of.ts';

type Change = 'enable' | 'rotate' | 'disable';

/** Kills the change before its nth effect, then looks. */
async function cutOff(change: Change, nodes: 1 | 3, before: number) {
  const lab = new MemoryLab({ nodes, encrypted: change !== 'enable', secrets: 1 });
  lab.enabled = change !== 'disable';
  const { effects } = await lab.tsrke(change === 'rotate' ? 'rotate' : 'up', {
    faultOf: ({ number }) => (number === before ? { kind: 'killed', when: 'before' } : undefined),
  });
  const { generation } = lab.model;
  const { state } = lab.store;
  const seen = await statusOf(lab);
  expect(seen.log.filter(({ changes }) => changes)).toEqual([]);
  expect(lab.model.generation).toBe(generation);
  expect(lab.store.state).toBe(state);
  return { lab, ...seen, effects };
}

const phases = ['read', 'write', 'rewrite', 'prune', 'record'];

it.each([
  // With one node there is no line for reading alone; the last file of an enable is the one that it writes with.
  ['enable', 1, ['write', 'rewrite', 'record']],
  ['rotate', 3, phases],
  ['disable', 1, ['write', 'rewrite', 'prune', 'record']],
] as const)('%s on %i node(s), cut off before each change to the world', async (change, nodes, expected) => {
  const { effects: all } = await cutOff(change, nodes, Infinity);
  const met: string[] = [];
  for (const { number, changes, what } of all.log) {
    // Leases and copies of the state tell nothing new.
    if (!changes || /leases|full-cluster-state/.test(what)) continue;
    const { lab, status } = await cutOff(change, nodes, number);
    const { serial, transition, keyRing } = lab.store.state.tsrke;
    expect(status.nodes.every(({ reachable }) => reachable)).toBe(true);
    expect(status.transition?.kind).toBe(transition?.kind);
    expect(status.problems.some(({ kind }) => kind === 'transition-open')).toBe(transition !== undefined);
    // However it stands, nothing of a key but its fingerprint is told.
    const told = JSON.stringify(status);
    for (const { secret } of keyRing) expect(told).not.toContain(secret.reveal());
    if (transition === undefined) {
      // Nothing begun, or all done.
      expect(status.asItShouldBe).toBe(change === 'rotate' || serial > 0);
      continue;
    }
    // Its Lease still holds: this very process is the one that is at work.
    expect(status.next).toMatch(/`tsrke encrypt resume` finishes|wait for the run that is at work: process/);
    // A server that is alone and does not serve may get a file of its own in between.
    const { phase = '' } = status.transition ?? {};
    const stands = nodes > 1 || status.problems.every(({ kind }) => kind !== 'node-not-ready');
    if (stands && met.at(-1) !== phase) met.push(phase);
  }
  expect(met).toEqual(expected);
});
