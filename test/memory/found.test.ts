/** What random histories have found, kept in their smallest form. */
import { expect, it } from 'vitest';
import { parseState, serialiseState } from '../../src/state/rkestate.ts';
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
