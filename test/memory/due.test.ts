/** Keys that grow old: `rotate-key --if-due`, and what `up` says. */
import { expect, it, test } from 'vitest';
import { Effects } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { readStatus } from '../../src/provision/status.ts';
import { processStart, writesUnder } from '../../src/kube/metrics.ts';
import { entry, kms, KmsLab } from './kms-lab.ts';
import { silent } from './silent.ts';

const day = 86_400_000;
const managed = (maxAge: string, more = '') => `{enabled: true, max_key_age: ${maxAge}${more}}`;

async function enabled(wish: string): Promise<KmsLab> {
  const lab = new KmsLab({ nodes: 1 });
  lab.wishes(wish);
  await lab.done('up');
  return lab;
}

/** What `status` warns of. */
async function warned(lab: KmsLab): Promise<readonly string[]> {
  const effects = new Effects({ clock: lab.clock });
  const { warnings, problems } = await readStatus(
    { configPath: lab.configs.on, report: silent, signal: new AbortController().signal },
    { store: lab.store.through(effects), link: labLink(lab.model, effects) },
  );
  expect(problems).toEqual([]);
  return warnings.map(({ text }) => text);
}

const names = (lab: KmsLab) => lab.store.state.tsrke.keyRing.map(({ name }) => name);

it('does nothing before max_key_age, and rotates from then on', async () => {
  const lab = await enabled(managed('90d'));
  const [first = ''] = names(lab);
  lab.clock.advance(89 * day);
  const early = await lab.done('rotate', { ifDue: true });
  expect(early.said).toMatch(
    new RegExp(`^nothing to do: aescbc:${first} is 89 days old, and due in (23 hours|1 day)$`),
  );
  expect(early.effects.log).toEqual([]);
  lab.clock.advance(day);
  expect(await warned(lab)).toEqual([
    `aescbc:${first} is due: it is 90 days old; run \`tsrke encrypt rotate-key\``,
  ]);
  const { said, notes } = await lab.done('up');
  expect(said).toMatch(/^nothing to do/);
  expect(notes).toContain(
    `warning  aescbc:${first} is due: it is 90 days old; run \`tsrke encrypt rotate-key\``,
  );
  await lab.done('rotate', { ifDue: true });
  expect(names(lab)).toHaveLength(2);
  expect(await warned(lab)).toEqual([]);
  expect((await lab.done('rotate', { ifDue: true })).said).toContain('is 0 minutes old, and due in');
  expect((await lab.done('up')).notes.join()).not.toContain('is due');
});

it('a rotation that was cut off is finished at any age', async () => {
  const lab = await enabled(managed('90d'));
  await lab.tsrke('rotate', {
    faultOf: ({ what }) => (what.includes('/restart') ? { kind: 'killed', when: 'after' } : undefined),
  });
  expect(lab.store.state.tsrke.transition).toBeDefined();
  await lab.done('rotate', { ifDue: true });
  expect(lab.store.state.tsrke.transition).toBeUndefined();
  expect(names(lab)).toHaveLength(2);
});

it('a key that RKE made is due: nobody knows how old it is', async () => {
  const lab = new KmsLab({ nodes: 1, encrypted: true });
  lab.wishes(managed('3650d'));
  await lab.done('rotate', { ifDue: true });
  expect(names(lab)).toHaveLength(2);
});

test.each([
  ['0', 'nothing to do: max_key_age is 0, so no key is ever due by its age'],
  ['""', undefined],
])('--if-due with max_key_age %s', async (maxAge, sentence) => {
  const lab = await enabled(managed(maxAge));
  lab.clock.advance(4000 * day);
  const { said, error } = await lab.tsrke('rotate', { ifDue: true });
  expect(said).toBe(sentence);
  if (sentence === undefined) expect(error).toMatchObject({ code: 'CONFIG_INVALID', exitCode: 3 });
});

it('the age of a key that a KMS keeps counts from when all lay under it', async () => {
  const lab = new KmsLab({ nodes: 1 });
  lab.wishes(managed('30d', `, custom_config: {resources: [${entry(kms('v2'))}]}`));
  await lab.done('up');
  lab.clock.advance(29 * day);
  expect((await lab.done('rotate', { ifDue: true })).said).toMatch(
    /^nothing to do: kms2:vault is 29 days old/,
  );
  lab.clock.advance(2 * day);
  lab.newKek('kek-2');
  await lab.done('rotate', { ifDue: true });
  expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 6 });
  expect(lab.store.state.tsrke.keks).toEqual({
    'kms2:vault': { keyId: 'kek-2', since: expect.stringMatching(/^2025-02-01/) as string },
  });
  expect((await lab.done('rotate', { ifDue: true })).said).toMatch(/is 0 minutes old/);
  lab.wishes('{enabled: true}');
  await lab.done('up');
  expect(lab.store.state.tsrke.keks).toBeUndefined();
});

it('fields that RKE does not know are kept beside rkeConfig, as they were last acted on', async () => {
  const lab = await enabled(managed('90d', ', provider: aesgcm, resources: [secrets, configmaps]'));
  const fields = () => lab.store.state.tsrke.config;
  const kept = (said: object) => ({ services: { 'kube-api': { secrets_encryption_config: said } } });
  expect(fields()).toEqual(
    kept({ provider: 'aesgcm', resources: ['secrets', 'configmaps'], max_key_age: '90d' }),
  );
  for (const half of [lab.store.state.document.desiredState, lab.store.state.document.currentState]) {
    const { kubeApi } = half?.rkeConfig?.['services'] as { kubeApi: Record<string, object> };
    // RKE would have no other way to keep this key than a custom configuration.
    expect(Object.keys(kubeApi['secretsEncryptionConfig'] ?? {})).toEqual(['enabled', 'customConfig']);
  }
  // Nothing but a field has changed: no node is touched, and it is kept.
  lab.wishes(managed('30d', ', provider: aesgcm, resources: [secrets, configmaps]'));
  const before = lab.restarts();
  expect((await lab.done('up')).said).toMatch(/^nothing to do/);
  expect(lab.restarts()).toBe(before);
  expect(fields()).toMatchObject(kept({ max_key_age: '30d' }));
  const { serial } = lab.store.state.tsrke;
  await lab.done('up');
  expect(lab.store.state.tsrke.serial).toBe(serial);
  lab.wishes('{enabled: false}');
  await lab.done('up');
  expect(fields()).toBeUndefined();
});

it('tells how many values were written under a key, as kube-apiserver counts them', async () => {
  const lab = await enabled(managed('90d', ', provider: aesgcm'));
  const { body } = lab.model.ask('cp-1', {
    method: 'GET',
    path: '/metrics',
    headers: {},
    body: Buffer.alloc(0),
  });
  const [name = ''] = names(lab);
  expect(writesUnder(body.toString(), name)).toBeGreaterThanOrEqual(6);
  expect(processStart(body.toString())?.getTime()).toBeLessThanOrEqual(lab.clock.now().getTime());
});
