/** Keys that a KMS keeps: rotated there, and followed here without a restart. */
import { describe, expect, it, test } from 'vitest';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { KmsPlugin } from '../../src/lab/kms-plugin.ts';
import { entry, kms, KmsLab } from './kms-lab.ts';

/** Many Secrets: so many that they are not all on their way at once. */
const many = 60;

async function encrypted(nodes: 1 | 3, secrets = 5): Promise<KmsLab> {
  const lab = new KmsLab({ nodes, secrets });
  lab.asks(entry(kms('v2')));
  await lab.done('up');
  return lab;
}

const isRewrite = ({ what }: Effect) => /^kube PATCH .*\/secrets\//.test(what);
/** Killed once so many objects were written. */
const killedAt = (count: number) => {
  let rewrites = 0;
  return (effect: Effect): Fault | undefined => {
    if (!isRewrite(effect)) return undefined;
    rewrites += 1;
    return rewrites === count ? { kind: 'killed', when: 'after' } : undefined;
  };
};
const after = (lab: KmsLab, milliseconds: number, then: () => void) =>
  void lab.clock.sleep(milliseconds, new AbortController().signal).then(then);

/** What nobody has in memory any more, and with the old keys destroyed. */
function everythingIsReadable(lab: KmsLab, ...destroyed: string[]): void {
  for (const keyId of destroyed) lab.vault.delete(keyId);
  for (const { name } of lab.model.nodes) lab.model.reboot(name);
  lab.clock.advance(10_000);
  expect(lab.problems()).toEqual([]);
}

describe('rotate-key with KMS v2', () => {
  it.each([1, 3] as const)(
    'follows the key that the plugins of %i node(s) have, without a restart',
    async (nodes) => {
      const lab = await encrypted(nodes);
      expect(lab.lies()).toEqual({ 'kms2:vault:kek-1': 6 });
      const before = lab.restarts();
      lab.newKek('kek-2');
      const { said } = await lab.done('rotate');
      // The sixth is the state's own copy, which was saved once more before.
      expect(said).toMatch(
        /: 5 rewritten, 0 restarts .*; of the keys of the KMS etcd needs vault: kek-2 \(6\) and no other$/,
      );
      expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
      expect(lab.restarts()).toBe(before);
      expect(lab.store.state.tsrke.transition).toBeUndefined();
      everythingIsReadable(lab, 'kek-1');
    },
  );

  it('says that there is nothing to follow, once every apiserver has asked its plugin anew', async () => {
    const lab = await encrypted(3);
    const { serial } = lab.store.state.tsrke;
    const begun = lab.clock.now().getTime();
    const { said } = await lab.done('rotate');
    expect(said).toBe(
      'nothing to do: all that is encrypted lies under the key that the KMS plugin still has (vault: kek-1 (6)); rotate the key there first',
    );
    expect(lab.clock.now().getTime() - begun).toBeLessThan(70_000);
    expect(lab.store.state.tsrke.serial).toBe(serial);
  });

  it('hears of a key that the plugins get while it is looking', async () => {
    const lab = await encrypted(3);
    after(lab, 20_000, () => lab.newKek('kek-2'));
    await lab.done('rotate');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  });

  it('waits for the one apiserver whose plugin has the new key later', async () => {
    const lab = await encrypted(3);
    lab.newKek('kek-2', ['cp-1', 'cp-2']);
    after(lab, 130_000, () => lab.newKek('kek-2', ['cp-3']));
    const early: string[] = [];
    const progress = new Set<string>();
    await lab.done('rotate', {
      onProgress: (text) => progress.add(text),
      onDone: (effect) => {
        if (isRewrite(effect) && lab.plugin('cp-3').keyId !== 'kek-2') early.push(effect.what);
      },
    });
    expect(early).toEqual([]);
    expect(progress).toContain('cp-3 still has key id kek-1; it asks its plugin every 60 s');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  });

  it('gives up on one that never has it, with nothing rewritten, and finishes once it has', async () => {
    const lab = await encrypted(3);
    lab.newKek('kek-2', ['cp-1', 'cp-3']);
    const { error, effects } = await lab.tsrke('rotate');
    expect(error).toMatchObject({
      code: 'KMS_KEYS_DIFFER',
      exitCode: 1,
      details: [
        expect.stringMatching(
          /^cp-1: vault has a key id that etcd has not seen \(sha256:\w{12}…\)$/,
        ) as string,
        'cp-2: vault has key id kek-1',
        expect.stringMatching(/^cp-3: /) as string,
      ],
    });
    expect(effects.log.filter(isRewrite)).toEqual([]);
    expect(lab.store.state.tsrke.transition).toBeUndefined();
    lab.newKek('kek-2');
    await lab.done('rotate');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  });

  it('follows a further key that comes in the middle of the rewrite', async () => {
    const lab = await encrypted(3, many);
    lab.newKek('kek-2');
    let rewrites = 0;
    await lab.done('rotate', {
      onDone: (effect) => {
        if (!isRewrite(effect) || (rewrites += 1) !== 20) return;
        lab.newKek('kek-3');
        lab.clock.advance(60_000);
      },
    });
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-3': many + 1 });
    everythingIsReadable(lab, 'kek-1', 'kek-2');
  });

  test.each(['rotate', 'up', 'resume'] as const)(
    'killed in the middle of the rewrite, %s finishes it',
    async (command) => {
      const lab = await encrypted(3, many);
      lab.newKek('kek-2');
      await lab.tsrke('rotate', { faultOf: killedAt(20) });
      expect(Object.keys(lab.lies()).toSorted()).toEqual(['kms2:vault:kek-1', 'kms2:vault:kek-2']);
      await lab.done(command);
      expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': many + 1 });
      expect((await lab.done('up')).said).toMatch(/^nothing to do/);
      everythingIsReadable(lab, 'kek-1');
    },
  );

  it.each([1, 3] as const)(
    'without any etcd, passes through each of %i apiserver(s) show it',
    async (nodes) => {
      const lab = await encrypted(nodes);
      lab.newKek('kek-2');
      const faultOf = ({ kind }: Effect): Fault | undefined =>
        kind === 'etcd' ? { kind: 'fails', when: 'before' } : undefined;
      const { said } = await lab.done('rotate', { faultOf });
      expect(said).toContain('no etcd could be read');
      expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
    },
  );

  it('an etcd that does not answer just then is no reason to take an old key for the newest', async () => {
    const lab = await encrypted(1);
    lab.newKek('kek-2');
    let looks = 0;
    await lab.done('rotate', {
      faultOf: ({ what }) =>
        what === 'etcd Range' && (looks += 1) === 2 ? { kind: 'fails', when: 'before' } : undefined,
    });
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  });

  it('an abort leaves what is rewritten where it is, and up asks for nothing more', async () => {
    const lab = await encrypted(1, many);
    lab.newKek('kek-2');
    await lab.tsrke('rotate', { faultOf: killedAt(20) });
    const { notes } = await lab.done('abort');
    expect(notes.join()).toContain('it must keep both keys until');
    expect(lab.store.state.tsrke.transition).toBeUndefined();
    expect((await lab.done('up')).said).toMatch(/^nothing to do/);
    expect(Object.keys(lab.lies())).toHaveLength(2);
    await lab.done('rotate');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': many + 1 });
  });

  it('finds a plugin whose key of that id is another one, and loses nothing', async () => {
    const lab = await encrypted(3);
    lab.newKek('kek-2', ['cp-1', 'cp-2']);
    const keeps = new KmsPlugin(new Map([...lab.vault].filter(([keyId]) => keyId === 'kek-1')), 'kek-2');
    (lab.plugins as Map<string, KmsPlugin>).set('cp-3', keeps);
    // What one node has written as a trial another one cannot read, for a moment.
    const { error } = await lab.tsrke('rotate', { invariants: false });
    expect(error).toMatchObject({ code: 'KMS_KEYS_DIFFER', node: expect.stringMatching(/^cp-/) as string });
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-1': 6 });
    expect(lab.problems()).toEqual([]);
  });
});

describe('a plugin that is down', () => {
  it('when the rotation begins: nothing is restarted, and the same command finishes later', async () => {
    const lab = await encrypted(3);
    lab.newKek('kek-2');
    lab.plugin('cp-2').up = false;
    lab.clock.advance(60_000);
    const before = lab.restarts();
    const { error } = await lab.tsrke('rotate');
    expect(error).toMatchObject({ code: 'KMS_UNHEALTHY', exitCode: 1, node: 'cp-2' });
    expect(lab.restarts()).toBe(before);
    lab.plugin('cp-2').up = true;
    lab.clock.advance(10_000);
    await lab.done('rotate');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  });

  it('while it waits: it ends after five minutes, and the same command finishes later', async () => {
    const lab = await encrypted(3);
    after(lab, 5_000, () => (lab.plugin('cp-2').healthy = false));
    const { error } = await lab.tsrke('rotate');
    expect(error).toMatchObject({ code: 'KMS_UNHEALTHY', exitCode: 1 });
    lab.newKek('kek-2');
    lab.plugin('cp-2').healthy = true;
    lab.clock.advance(10_000);
    await lab.done('rotate');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  });

  it('in the middle of the rewrite, everywhere: what cannot be written stays readable, and the same command finishes', async () => {
    const lab = await encrypted(3, many);
    lab.newKek('kek-2');
    let rewrites = 0;
    const { error } = await lab.tsrke('rotate', {
      onDone: (effect) => {
        if (!isRewrite(effect) || (rewrites += 1) !== 20) return;
        for (const plugin of lab.plugins.values()) plugin.up = false;
        lab.clock.advance(240_000);
      },
    });
    expect(error).toMatchObject({ code: 'REWRITE_INCOMPLETE', exitCode: 1 });
    expect(lab.problems()).toEqual([]);
    for (const plugin of lab.plugins.values()) plugin.up = true;
    lab.clock.advance(10_000);
    await lab.done('rotate');
    expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': many + 1 });
  });

  it('when a local key is to follow: no node is restarted that could not read what etcd holds', async () => {
    const lab = await encrypted(3);
    lab.plugin('cp-1').up = false;
    lab.clock.advance(60_000);
    const before = lab.restarts();
    lab.asks();
    const { error } = await lab.tsrke('up');
    expect(error).toMatchObject({ code: 'KMS_UNHEALTHY', exitCode: 1 });
    expect(lab.restarts()).toBe(before);
    lab.plugin('cp-1').up = true;
    lab.clock.advance(10_000);
    await lab.done('up');
    expect(Object.keys(lab.lies())).toEqual([expect.stringMatching(/^aescbc:/)]);
  });
});

describe('rotate-key with KMS v1', () => {
  const versionOne = async (nodes: 1 | 3) => {
    const lab = new KmsLab({ nodes, minor: 28 });
    lab.asks(entry(kms('v1')));
    await lab.done('up');
    expect(lab.lies()).toEqual({ 'kms1:vault:kek-1': 6 });
    return lab;
  };
  const annotated = (lab: KmsLab) =>
    lab.model.store
      .range('/registry/secrets/', '/registry/secrets0')
      .values.filter(({ key }) => key.includes('secret-'))
      .map(({ key }) => JSON.stringify(lab.read(key.replace('/registry/secrets/', ''))))
      .filter((text) => text.includes('tsrke.io/touched'));

  it.each([1, 3] as const)(
    'really writes every object again on %i node(s), and leaves no trace on it',
    async (nodes) => {
      const lab = await versionOne(nodes);
      const before = lab.restarts();
      lab.newKek('kek-2');
      const { said } = await lab.done('rotate');
      expect(said).toContain(': 6 rewritten, 0 restarts');
      expect(lab.lies()).toEqual({ 'kms1:vault:kek-2': 6 });
      expect(lab.restarts()).toBe(before);
      expect(annotated(lab)).toEqual([]);
      everythingIsReadable(lab, 'kek-1');
    },
  );

  it('killed between the two writes of an object, the same command finishes and takes the annotation away', async () => {
    const lab = await versionOne(3);
    lab.newKek('kek-2');
    await lab.tsrke('rotate', { faultOf: killedAt(3) });
    expect(annotated(lab)).not.toEqual([]);
    await lab.done('rotate');
    expect(lab.lies()).toEqual({ 'kms1:vault:kek-2': 6 });
    expect(annotated(lab)).toEqual([]);
  });

  it.each([1, 3] as const)(
    'does not become KMS v2 under the name it has, on %i node(s): no file can hold both',
    async (nodes) => {
      const lab = await versionOne(nodes);
      const before = lab.restarts();
      lab.asks(entry(kms('v2')));
      const { error } = await lab.tsrke('up');
      expect(error).toMatchObject({
        code: 'KEY_CONFLICT',
        exitCode: 3,
        message: 'the name vault would stand for KMS v1 and v2',
        next: 'no provider file can hold both: give the new one a name of its own in cluster.yml',
      });
      expect(lab.restarts()).toBe(before);
      expect(lab.lies()).toEqual({ 'kms1:vault:kek-1': 6 });
    },
  );

  it('moves to KMS v2 under a name of its own', async () => {
    const lab = await versionOne(3);
    lab.asks(entry(kms('v2', 'vault-2')));
    await lab.done('up');
    expect(lab.lies()).toEqual({ 'kms2:vault-2:kek-1': 6 });
  });
});

test('a rotation of a key that tsrke makes takes the KMS’s keys along', async () => {
  const lab = new KmsLab({ nodes: 3 });
  await lab.put('POST', '/api/v1/namespaces/default/configmaps', {
    metadata: { name: 'settings' },
    data: {},
  });
  lab.asks(entry(kms('v2')), entry('{aesgcm: {keys: [{name: made}]}}', 'configmaps'));
  await lab.done('up');
  lab.newKek('kek-2');
  await lab.done('rotate');
  expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  expect(lab.store.state.document.currentState?.encryptionConfig).toContain('made-2');
});
