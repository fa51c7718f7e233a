/** The plan of a rotation in a KMS: what lies under which key id, who knows which, and the run then does just that. */
import { expect, it } from 'vitest';
import { approvedBy } from '../../src/provision/plan.ts';
import { abstract, entry, kms, KmsLab } from './kms-lab.ts';
import { planOf } from './plan-of.ts';

async function encrypted(version: 'v1' | 'v2' = 'v2', secrets = 5): Promise<KmsLab> {
  const lab = new KmsLab({ nodes: 3, secrets, minor: version === 'v1' ? 28 : 34 });
  lab.asks(entry(kms(version)));
  await lab.done('up');
  return lab;
}

const wait = (node: string, apiserver: string, plugin: string) => ({ node, apiserver, plugin });

it('nothing to do while all lies under the key that the plugins have', async () => {
  const lab = await encrypted();
  expect(await planOf(lab, 'rotate')).toMatchObject({
    ...{ somethingToDo: false, steps: [], restarts: 0, objects: 0 },
    note: 'all that is encrypted lies under the key that the KMS plugin has (vault: kek-1)',
  });
  expect((await planOf(lab, 'up')).somethingToDo).toBe(false);
});

it('a new key: no restart, a wait for those that still have the old one, and each object; then nothing', async () => {
  const lab = await encrypted();
  lab.newKek('kek-2');
  const plan = await planOf(lab, 'rotate');
  expect(plan).toMatchObject({
    ...{ action: 'rotate', somethingToDo: true, restarts: 0, objects: 6 },
    change: { kind: 'rotate', from: 'secrets: kms2:vault,identity', to: 'secrets: kms2:vault,identity' },
  });
  expect(plan.estimate?.seconds).toBeGreaterThanOrEqual(60);
  expect(plan.steps).toEqual([
    {
      line: 'wait',
      keys: [
        {
          ...{ provider: 'vault', keyId: 'kek-2' },
          nodes: ['cp-1', 'cp-2', 'cp-3'].map((node) => wait(node, 'kek-1', 'kek-2')),
        },
      ],
    },
    { line: 'rewrite', resources: [{ resource: 'secrets', objects: 6 }] },
  ]);
  const kept = JSON.parse(JSON.stringify(plan)) as typeof plan;
  const { said } = await lab.done('rotate', { approve: approvedBy(kept) });
  // The sixth is the state's own copy, which the run itself saves once more before.
  expect(said).toContain(': 5 rewritten, 0 restarts');
  expect(await planOf(lab, 'rotate')).toMatchObject({ somethingToDo: false, objects: 0 });
});

it('that every kube-apiserver knows already is not waited for', async () => {
  const lab = await encrypted();
  lab.newKek('kek-2');
  lab.clock.advance(70_000);
  lab.model.advance();
  const { steps, estimate } = await planOf(lab, 'rotate');
  expect(steps[0]).toMatchObject({
    line: 'wait',
    keys: [{ nodes: [wait('cp-1', 'kek-2', 'kek-2'), {}, {}] }],
  });
  expect(estimate?.seconds).toBeLessThan(60);
});

it('plugins that differ are shown, and nobody says how many objects it would be', async () => {
  const lab = await encrypted();
  lab.newKek('kek-2', ['cp-1', 'cp-2']);
  const plan = await planOf(lab, 'rotate');
  expect(plan).toMatchObject({ somethingToDo: true, objects: 0 });
  const [first] = plan.steps;
  expect(first).toMatchObject({
    line: 'wait',
    keys: [{ nodes: [{ plugin: 'kek-2' }, {}, { plugin: 'kek-1' }] }],
  });
  expect(first).not.toHaveProperty('keys[0].keyId');
  expect(plan.steps[1]).toEqual({ line: 'rewrite', resources: [{ resource: 'secrets' }] });
});

it('is no other for the run itself, where plugins cannot be asked and etcd was proved before', async () => {
  const lab = new KmsLab({ nodes: 3, secrets: 5 });
  lab.asks(entry(kms('v2', 'vault', abstract)));
  await lab.done('up');
  const plan = await planOf(lab, 'rotate');
  expect(plan.world.keks).toEqual({ 'kms2:vault': 'kek-1' });
  expect((await lab.tsrke('rotate', { approve: approvedBy(plan) })).error).toBeUndefined();
});

it('is refused where the KMS has gone on since', async () => {
  const lab = await encrypted();
  lab.newKek('kek-2');
  const plan = await planOf(lab, 'rotate');
  lab.newKek('kek-3');
  const { error } = await lab.tsrke('rotate', { approve: approvedBy(plan) });
  expect(error).toMatchObject({
    ...{ code: 'PLAN_STALE', exitCode: 4 },
    details: ['the key of kms2:vault was kek-2, is kek-3'],
  });
  expect(lab.lies()).toEqual({ 'kms2:vault:kek-1': 6 });
});

it('one that was cut off is planned by what is left', async () => {
  const lab = await encrypted('v2', 60);
  lab.newKek('kek-2');
  let rewrites = 0;
  await lab.tsrke('rotate', {
    faultOf: ({ what }) =>
      /^kube PATCH .*\/secrets\//.test(what) && (rewrites += 1) === 3
        ? { kind: 'killed', when: 'after' }
        : undefined,
  });
  await lab.settled();
  const old = lab.lies()['kms2:vault:kek-1'] ?? 0;
  expect(old).toBeGreaterThan(0);
  const plan = await planOf(lab, 'up');
  expect(plan.note).toMatch(/^continuing the rotate of /);
  expect(plan).toMatchObject({ restarts: 0, objects: old });
  await lab.done('up');
  expect(lab.lies()).toEqual({ 'kms2:vault:kek-2': 61 });
  expect((await planOf(lab, 'up')).somethingToDo).toBe(false);
});

it('KMS v1 tells no key id: every object, whatever the plugin has', async () => {
  const lab = await encrypted('v1');
  const plan = await planOf(lab, 'rotate');
  expect(plan.steps).toEqual([{ line: 'rewrite', resources: [{ resource: 'secrets', objects: 6 }] }]);
  expect((await lab.done('rotate', { approve: approvedBy(plan) })).said).toContain(
    ': 6 rewritten, 0 restarts',
  );
});

it('counts a key that is rotated beside it by tsrke, with its restarts', async () => {
  const lab = new KmsLab({ nodes: 1 });
  lab.asks(entry(kms('v2')), entry('{aescbc: {keys: [{name: mine}]}}', 'configmaps'));
  await lab.done('up');
  lab.newKek('kek-2');
  const plan = await planOf(lab, 'rotate');
  expect(plan.steps.map(({ line }) => line)).toEqual(['write', 'wait', 'rewrite', 'prune']);
  const { said } = await lab.done('rotate', { approve: approvedBy(plan) });
  expect(said).toContain(`${plan.restarts} restarts`);
});
