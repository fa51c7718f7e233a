/** A rotation in steps: `prepare`, `rotate`, `reencrypt`, with anything in between. */
import { expect, it, test } from 'vitest';
import type { TsrkeError } from '../../src/errors.ts';
import { film, parseProviderFile } from '../../src/encryption/configuration.ts';
import type { Action } from '../../src/encryption/target.ts';
import { providerPath } from '../../src/encryption/world.ts';
import { storedKeyOf } from '../../src/etcd/stored.ts';
import { MemoryLab, type RunOptions } from './memory-lab.ts';

const old = 'k-first';

/** The one key that is not RKE's. */
function madeKey(lab: MemoryLab): string {
  const made = lab.store.state.tsrke.keyRing.map(({ name }) => name).filter((name) => name !== old);
  expect(made.length).toBeLessThan(2);
  return made[0] ?? '';
}

/** The nodes' files as strips, and what etcd holds, with NEW and OLD for the keys. */
function seen(lab: MemoryLab) {
  const plain = (text: string) => text.replaceAll(madeKey(lab) || '–', 'NEW').replaceAll(old, 'OLD');
  const files = lab.model.nodes.map(({ name }) => {
    const bytes = lab.model.host(name).read(providerPath)?.bytes;
    return plain(film(parseProviderFile(bytes?.toString() ?? '', name)));
  });
  const { values } = lab.model.store.range('/registry/secrets/default', '/registry/secrets/defaulu');
  const stored = values.map(({ value }) => plain(storedKeyOf(value).id));
  return { files: [...new Set(files)], stored: [...new Set(stored)] };
}

async function does(lab: MemoryLab, command: Action, options: RunOptions = {}): Promise<string> {
  const { said, error } = await lab.tsrke(command, options);
  expect(error).toBeUndefined();
  return said ?? '';
}

it.each([1, 3] as const)('each leaves the cluster where it says, on %i node(s)', async (nodes) => {
  const lab = new MemoryLab({ nodes, encrypted: true });
  const held = async () => {
    const before = seen(lab);
    const { said, error, notes } = await lab.tsrke('up');
    expect(error).toBeUndefined();
    expect(said).toMatch(/^nothing to do: .* goes on$/);
    expect(notes.join('\n')).toMatch(/the rotation of \S+ waits: /);
    expect(seen(lab)).toEqual(before);
  };
  expect(await does(lab, 'prepare')).toMatch(
    new RegExp(
      `^0 rewritten, ${nodes} restarts .*nothing is written with it yet .*\`tsrke encrypt rotate\` goes on$`,
    ),
  );
  expect(seen(lab)).toEqual({ files: ['secrets: aescbc:OLD,aescbc:NEW,identity'], stored: ['aescbc:OLD'] });
  await held();
  expect(await does(lab, 'prepare')).toMatch(/^nothing to do: /);

  expect(await does(lab, 'swap')).toMatch(/^0 rewritten, .*`tsrke encrypt reencrypt` goes on$/);
  expect(seen(lab)).toEqual({ files: ['secrets: aescbc:NEW,aescbc:OLD,identity'], stored: ['aescbc:OLD'] });
  lab.create('another');
  expect(seen(lab).stored.toSorted()).toEqual(['aescbc:NEW', 'aescbc:OLD']);
  await held();

  expect(await does(lab, 'reencrypt', { keepsOldKey: true })).toMatch(
    /^5 rewritten, 0 restarts .* without --keep-old-key goes on$/,
  );
  expect(seen(lab)).toEqual({ files: ['secrets: aescbc:NEW,aescbc:OLD,identity'], stored: ['aescbc:NEW'] });
  await held();

  expect(await does(lab, 'reencrypt')).toMatch(/^secrets are encrypted .* 0 rewritten, /);
  expect(seen(lab)).toEqual({ files: ['secrets: aescbc:NEW,identity'], stored: ['aescbc:NEW'] });
  expect(await does(lab, 'up')).toMatch(/^nothing to do: secrets are encrypted/);
});

const way: readonly Action[] = ['prepare', 'swap', 'reencrypt'];

test.each<[readonly Action[], Action, RegExp]>([
  [[], 'swap', /^tsrke encrypt rotate: no rotation is prepared; .*`tsrke encrypt prepare` comes first/],
  [[], 'reencrypt', /no rotation is prepared/],
  [['prepare'], 'reencrypt', /nothing is written with it yet.*`tsrke encrypt rotate` goes on/],
  [['prepare', 'swap'], 'prepare', /is still under the old one.*`tsrke encrypt reencrypt` goes on/],
  [way, 'swap', /no rotation is prepared/],
])('after [%s], %s is out of order and touches nothing', async (before, command, says) => {
  const lab = new MemoryLab({ nodes: 1, encrypted: true });
  for (const each of before) await does(lab, each);
  const then = { seen: seen(lab), state: lab.store.state };
  const { error } = await lab.tsrke(command);
  expect(error).toMatchObject({ code: 'OUT_OF_ORDER', exitCode: 3 });
  expect(`${error?.message}; ${(error as TsrkeError).next}`).toMatch(says);
  expect({ seen: seen(lab), state: lab.store.state }).toEqual(then);
});

it('a step is not for a change that was begun as a whole', async () => {
  const lab = new MemoryLab({ nodes: 1, encrypted: true });
  await lab.tsrke('rotate', {
    faultOf: ({ what }) => (what.includes('/restart') ? { kind: 'killed', when: 'after' } : undefined),
  });
  for (const step of way) {
    const { error } = await lab.tsrke(step);
    expect(error).toMatchObject({
      code: 'OUT_OF_ORDER',
      next: expect.stringContaining('encrypt resume') as string,
    });
  }
});

test.each(['rotate', 'resume'] as const)('%s does all that is left after any of them', async (command) => {
  for (const count of [1, 2]) {
    const lab = new MemoryLab({ nodes: 3, encrypted: true });
    for (const each of way.slice(0, count)) await does(lab, each);
    const made = madeKey(lab);
    expect(await does(lab, command)).toMatch(/^secrets are encrypted .*: 5 rewritten/);
    expect(seen(lab)).toEqual({ files: ['secrets: aescbc:NEW,identity'], stored: ['aescbc:NEW'] });
    expect(madeKey(lab)).toBe(made);
  }
});

it('abort goes back from any of them', async () => {
  for (const count of [1, 2]) {
    const lab = new MemoryLab({ nodes: 3, encrypted: true });
    for (const each of way.slice(0, count)) await does(lab, each);
    await does(lab, 'abort');
    expect(seen(lab)).toEqual({ files: ['secrets: aescbc:OLD,identity'], stored: ['aescbc:OLD'] });
    expect(await does(lab, 'up')).toMatch(/^nothing to do: secrets are encrypted/);
  }
});

it('between them up repairs, and takes none', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true });
  const before = lab.model.host('cp-2').read(providerPath)?.bytes;
  await does(lab, 'prepare');
  await does(lab, 'swap');
  lab.tampered = true;
  lab.model.host('cp-2').write(providerPath, before ?? Buffer.alloc(0));
  lab.model.reboot('cp-2');
  expect(seen(lab).files).toHaveLength(2);
  expect(await does(lab, 'up')).toMatch(/^0 rewritten, \d restarts .*`tsrke encrypt reencrypt` goes on$/);
  expect(seen(lab)).toEqual({ files: ['secrets: aescbc:NEW,aescbc:OLD,identity'], stored: ['aescbc:OLD'] });
});

it('another wish in cluster.yml is followed by up, and no longer held', async () => {
  const lab = new MemoryLab({ nodes: 1, encrypted: true });
  await does(lab, 'prepare');
  lab.enabled = false;
  expect(await does(lab, 'up')).toMatch(/^encryption of secrets is off/);
  expect(lab.store.state.tsrke.transition).toBeUndefined();
});
