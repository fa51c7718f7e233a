/** kube-apiservers that load a changed file by themselves: nothing is restarted, and nothing is taken for loaded. */
import { expect, it } from 'vitest';
import { providerPath } from '../../src/encryption/world.ts';
import { MemoryLab, type LabOptions } from './memory-lab.ts';

const open = (options: Partial<LabOptions> = {}) =>
  new MemoryLab({ nodes: 3, encrypted: true, reload: true, ...options });

const startedAt = (lab: MemoryLab) =>
  lab.model.nodes.map(({ name }) => lab.model.engine(name).get('kube-apiserver').startedAt);

const seconds = (lab: MemoryLab) => lab.clock.now().getTime() / 1000;

const stored = (lab: MemoryLab) => [
  ...new Set(
    lab.model.store
      .range('/registry/secrets/', '/registry/secrets0')
      .values.map(({ value }) => /^k8s:enc:[^:]*:[^:]*:[^:]*/.exec(value.toString('latin1'))?.[0] ?? ''),
  ),
];

it.each([34, 30, 28])('1.%i rotates without a restart', async (minor) => {
  const lab = open({ minor });
  // From one moment on it is on record, or told, what each has loaded.
  await lab.tsrke('rotate');
  const before = { started: startedAt(lab), stored: stored(lab), at: seconds(lab) };
  const { said, error, notes } = await lab.tsrke('rotate');
  expect(error).toBeUndefined();
  expect(said).toMatch(/: 5 rewritten, 0 restarts on 3 node/);
  expect(startedAt(lab)).toEqual(before.started);
  expect(stored(lab)).toHaveLength(1);
  expect(stored(lab)).not.toEqual(before.stored);
  expect(notes).toContain('task wait for requests that began under the file of before');
  // Three lines of two polls each (the first node alone, the others together), and one request timeout.
  expect(seconds(lab) - before.at).toBeGreaterThan(60);
  expect(seconds(lab) - before.at).toBeLessThan(3 * 2 * 65 + 60 + 60);
  expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
});

it('before 1.28, where nobody tells what became of it, restarts as ever', async () => {
  const lab = open({ minor: 27 });
  expect((await lab.tsrke('rotate')).said).toMatch(/: 5 rewritten, 9 restarts on 3 node/);
});

it('a file that cannot be loaded is taken away again at once, and the next run goes on', async () => {
  const lab = open();
  const before = lab.model.host('cp-2').read(providerPath)?.bytes.toString();
  lab.model.reloadFails.add('cp-2');
  const { error } = await lab.tsrke('rotate');
  expect(error).toMatchObject({ code: 'RELOAD_FAILED', node: 'cp-2' });
  expect(error?.message).toContain('it goes on with the file it had before, which lies on its disk again');
  expect(lab.model.host('cp-2').read(providerPath)?.bytes.toString()).toBe(before);
  expect(lab.problems()).toEqual([]);
  // Its next start would have failed with the other one.
  lab.model.reboot('cp-2');
  lab.model.reloadFails.clear();
  expect((await lab.tsrke('rotate')).error).toBeUndefined();
  expect(stored(lab)).toHaveLength(1);
});

it('a disable takes the argument away with the file, a later enable does without it', async () => {
  const lab = open();
  lab.enabled = false;
  expect((await lab.tsrke('up')).error).toBeUndefined();
  expect(stored(lab)).toEqual(['']);
  lab.enabled = true;
  expect((await lab.tsrke('up')).error).toBeUndefined();
});
