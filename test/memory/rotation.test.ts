import { expect, it } from 'vitest';
import { MemoryLab } from './memory-lab.ts';

it.each([1, 3] as const)('enables, rotates and disables on %i node(s)', async (nodes) => {
  const lab = new MemoryLab({ nodes });
  const said: (string | undefined)[] = [];
  const run = async (command: 'up' | 'rotate', enabled = true) => {
    lab.enabled = enabled;
    const { said: sentence, error } = await lab.tsrke(command);
    expect(error).toBeUndefined();
    said.push(sentence?.replace(/k-\w+/g, 'KEY').replace(/revision \d+/, 'revision N'));
  };
  await run('up');
  await run('rotate');
  await run('up');
  await run('up', false);
  await run('up', false);
  expect(said).toEqual([
    expect.stringMatching(/^secrets are encrypted \(secrets: aescbc:KEY,identity\): 5 rewritten/),
    expect.stringMatching(/^secrets are encrypted \(secrets: aescbc:KEY,identity\): 5 rewritten/),
    `nothing to do: secrets are encrypted (secrets: aescbc:KEY,identity) on ${nodes} node(s)`,
    expect.stringMatching(/^encryption of secrets is off: 5 rewritten/),
    'nothing to do: encryption of secrets is off',
  ]);
  expect(lab.store.state.tsrke.keyRing).toHaveLength(2);
});
