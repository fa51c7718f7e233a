/** kube-apiservers that load a changed file by themselves: nothing is restarted, and nothing is taken for loaded. */
import { describe, expect, it } from 'vitest';
import { providerFlag, providerPath } from '../../src/encryption/world.ts';
import { MemoryLab, type LabOptions } from './memory-lab.ts';
import { planOf } from './plan-of.ts';

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

/** kube-apiserver's whole command. */
const words = (lab: MemoryLab) =>
  lab.model.nodes.map(({ name }) => lab.model.engine(name).get('kube-apiserver').config.Entrypoint);

/** The argument of each node's kube-apiserver. */
const flags = (lab: MemoryLab) =>
  words(lab).map((each) => each?.filter((word) => word.includes('automatic-reload')) ?? []);

const flag = `${providerFlag}-automatic-reload=true`;

describe('`reload: automatic`', () => {
  const ask = (lab: MemoryLab, reload: string, more: readonly string[] = []) =>
    lab.configure(`secrets_encryption_config: {enabled: true${reload}}`, ...more);
  const recorded = (lab: MemoryLab) => lab.store.state.tsrke.config;

  it('comes with the recreation of an enable; nothing else is restarted, then or later', async () => {
    const lab = new MemoryLab({ nodes: 3 });
    ask(lab, ', reload: automatic');
    lab.enabled = true;
    expect((await lab.tsrke('up')).said).toMatch(/: \d+ rewritten, 3 restarts on 3 node/);
    expect(flags(lab)).toEqual([[flag], [flag], [flag]]);
    expect(recorded(lab)).toEqual({
      services: { 'kube-api': { secrets_encryption_config: { reload: 'automatic' } } },
    });
    expect(JSON.stringify(lab.store.state.document)).not.toContain('reload');
    expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
    expect((await lab.tsrke('rotate')).said).toMatch(/: \d+ rewritten, 0 restarts on 3 node/);
  });

  it.each(['', ', reload: restart'])(
    'is given and taken by `up`, one node after the other (%s)',
    async (without) => {
      const lab = new MemoryLab({ nodes: 3, encrypted: true });
      const before = words(lab);
      ask(lab, ', reload: automatic');
      // Where nothing is rewritten, its speed is no part of the estimate.
      expect((await planOf(lab, 'up')).estimate?.basis).toBe('10 s are taken for a restart');
      const given = await lab.tsrke('up');
      expect(given.said).toMatch(/: 0 rewritten, 3 restarts on 3 node/);
      expect(given.notes).toContain('task recreate kube-apiserver as cluster.yml asks');
      expect(flags(lab)).toEqual([[flag], [flag], [flag]]);
      ask(lab, without);
      // A rotation takes nothing away, and still goes without a restart.
      expect((await lab.tsrke('rotate')).said).toMatch(/, 0 restarts on 3 node/);
      expect((await lab.tsrke('up')).said).toMatch(/: 0 rewritten, 3 restarts on 3 node/);
      expect(words(lab)).toEqual(before);
      expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
    },
  );

  it('that a rotation meets first comes with its first line, and spares the others', async () => {
    const lab = new MemoryLab({ nodes: 3, encrypted: true });
    ask(lab, ', reload: automatic');
    expect((await lab.tsrke('rotate')).said).toMatch(/: \d+ rewritten, 3 restarts on 3 node/);
    expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
  });

  it('taken out again leaves an argument that extra_args ask for', async () => {
    const lab = open();
    expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
    ask(lab, ', reload: automatic', ['extra_args: {encryption-provider-config-automatic-reload: "true"}']);
    expect((await lab.tsrke('up')).error).toBeUndefined();
    ask(lab, '', ['extra_args: {encryption-provider-config-automatic-reload: "true"}']);
    expect((await lab.tsrke('up')).error).toBeUndefined();
    expect(flags(lab)).toEqual([[flag], [flag], [flag]]);
    expect(startedAt(lab)).toEqual(startedAt(open()));
  });

  it('goes with a disable, and comes again with an enable', async () => {
    const lab = new MemoryLab({ nodes: 3, encrypted: true });
    ask(lab, ', reload: automatic');
    await lab.tsrke('up');
    lab.configure('secrets_encryption_config: {enabled: false, reload: automatic}');
    lab.enabled = false;
    expect((await lab.tsrke('up')).said).toMatch(/, 3 restarts on 3 node/);
    expect(flags(lab)).toEqual([[], [], []]);
    expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
    ask(lab, ', reload: automatic');
    lab.enabled = true;
    expect((await lab.tsrke('up')).said).toMatch(/, 3 restarts on 3 node/);
    expect(flags(lab)).toEqual([[flag], [flag], [flag]]);
  });

  it('is refused before anything is touched where kube-apiserver does not know it', async () => {
    const lab = new MemoryLab({ nodes: 3, encrypted: true, minor: 25 });
    ask(lab, ', reload: automatic');
    const { error, effects } = await lab.tsrke('up');
    expect(error).toMatchObject({ code: 'UNSUPPORTED', exitCode: 3 });
    expect(error?.message).toContain('from 1.26 on');
    expect(effects.log.filter(({ changes, kind }) => changes && kind !== 'kube')).toEqual([]);
    expect(lab.store.state.tsrke.serial).toBe(0);
  });

  it('with which kube-apiserver does not come up is taken back', async () => {
    const lab = new MemoryLab({ nodes: 1, encrypted: true });
    lab.model.startFails.set('cp-1', () =>
      lab.model.engine('cp-1').find('old-kube-apiserver') === undefined ? undefined : 'no such flag',
    );
    ask(lab, ', reload: automatic');
    expect((await lab.tsrke('up')).error?.message).toContain('it runs again with the file it had before');
    expect(flags(lab)).toEqual([[]]);
    lab.model.startFails.clear();
    expect((await lab.tsrke('up')).error).toBeUndefined();
    expect(flags(lab)).toEqual([[flag]]);
  });
});

it('a disable takes the argument away with the file, a later enable does without it', async () => {
  const lab = open();
  lab.enabled = false;
  expect((await lab.tsrke('up')).error).toBeUndefined();
  expect(stored(lab)).toEqual(['']);
  lab.enabled = true;
  expect((await lab.tsrke('up')).error).toBeUndefined();
});
