/** What random histories have found, kept in their smallest form. */
import { expect, it } from 'vitest';
import { parseState, serialiseState } from '../../src/state/rkestate.ts';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { MemoryLab } from './memory-lab.ts';

it('a node that is just rebooting, with encryption off, leaves a state that the next run can read', async () => {
  const lab = new MemoryLab({ nodes: 3 });
  lab.model.reboot('cp-1');
  const { error } = await lab.tsrke('up');
  expect(error).toBeUndefined();
  expect(parseState(serialiseState(lab.store.state), 'state').document.currentState?.encryptionConfig).toBe(
    undefined,
  );
});

it('a disable on one node, cut off while its container is made anew, never pushes a file without entries', async () => {
  const lab = new MemoryLab({ nodes: 1, encrypted: true });
  lab.enabled = false;
  const { error } = await lab.tsrke('up', { faultOf: whatOf(/DELETE .*old-kube-apiserver/, 'before') });
  expect(error).toBeDefined();
  const { said } = await lab.tsrke('up');
  expect(said).toMatch(/^(nothing to do: )?encryption of secrets is off/);
});

/** Killed at the first effect of this kind. */
function whatOf(pattern: RegExp, when: 'before' | 'after') {
  return ({ what }: Effect): Fault | undefined => (pattern.test(what) ? { kind: 'killed', when } : undefined);
}
