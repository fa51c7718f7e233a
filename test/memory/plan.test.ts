/** A plan, made at every moment of every change: it changes nothing, and the run then does just that. */
import { expect, it } from 'vitest';
import { expectSameWorld, type PlanDocument } from '../../src/encryption/plan-document.ts';
import { approvedBy } from '../../src/provision/plan.ts';
import { entry, kms, KmsLab } from './kms-lab.ts';
import { MemoryLab } from './memory-lab.ts';
import { planOf } from './plan-of.ts';

type Change = 'enable' | 'rotate' | 'disable';

async function cutOff(change: Change, nodes: 1 | 3, before: number) {
  const lab = new MemoryLab({ nodes, encrypted: change !== 'enable', secrets: 3 });
  lab.enabled = change !== 'disable';
  const { effects } = await lab.tsrke(change === 'rotate' ? 'rotate' : 'up', {
    faultOf: ({ number }) => (number === before ? { kind: 'killed', when: 'before' } : undefined),
  });
  return { lab, effects };
}

const pushes = ({ steps }: PlanDocument) =>
  steps.reduce((sum, step) => sum + ('nodes' in step ? step.nodes.length : 0), 0);

it.each([
  ['enable', 1],
  ['rotate', 3],
  ['disable', 1],
] as const)('%s on %i node(s), cut off before each change to a node', async (change, nodes) => {
  const { effects: all } = await cutOff(change, nodes, Infinity);
  for (const { number, changes, kind, what } of all.log) {
    // With three nodes it is often the same moment, on another node.
    const counts = nodes === 1 ? kind !== 'kube' : kind === 'state' || what.includes('/restart');
    if (!changes || !counts) continue;
    const { lab } = await cutOff(change, nodes, number);
    // A rotation of which nothing was saved yet is none that `up` could finish.
    const action = change === 'rotate' && lab.store.state.tsrke.serial === 0 ? 'rotate' : 'up';
    const plan = await planOf(lab, action);
    const { said, error } = await lab.tsrke(action);
    expect(error, what).toBeUndefined();
    if (plan.somethingToDo) {
      expect(said, what).toContain(`${pushes(plan)} restarts`);
      const [, rewritten = ''] = /(\d+) rewritten/.exec(said ?? '') ?? [];
      // The copy of the state is written again by the run itself, which leaves it under the wanted key.
      expect(plan.objects - Number(rewritten), what).toBeGreaterThanOrEqual(0);
      expect(plan.objects - Number(rewritten), what).toBeLessThanOrEqual(1);
    } else {
      expect(said, what).toMatch(/^nothing to do|: 0 rewritten, 0 restarts/);
    }
    const told = JSON.stringify(plan);
    for (const { secret } of lab.store.state.tsrke.keyRing) expect(told).not.toContain(secret.reveal());
    const after = await planOf(lab, 'up');
    expect(after).toMatchObject({ somethingToDo: false, steps: [], restarts: 0, objects: 0 });
    if (plan.somethingToDo)
      expect(() => expectSameWorld(plan, after.world)).toThrow(/is not the one any more/);
  }
});

it('a plan is carried out as it is, or refused when the world has moved', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true });
  const plan = await planOf(lab, 'rotate');
  // As read from its file.
  const kept = JSON.parse(JSON.stringify(plan)) as PlanDocument;
  const moved = await lab.tsrke('rotate');
  expect(moved.error).toBeUndefined();
  const { state } = lab.store;
  const refused = await lab.tsrke('rotate', { approve: approvedBy(kept) });
  expect(refused.error).toMatchObject({ code: 'PLAN_STALE', exitCode: 4 });
  expect(lab.store.state).toBe(state);
  const again = await planOf(lab, 'rotate');
  const ran = await lab.tsrke('rotate', { approve: approvedBy(again) });
  expect(ran.error).toBeUndefined();
  expect(ran.said).toContain(`${again.restarts} restarts`);
});

it('counts no restart where kube-apiserver loads a changed file by itself', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true, reload: true });
  const plan = await planOf(lab, 'rotate');
  expect(plan.restarts).toBe(0);
  expect(plan).not.toHaveProperty('sparedByReload');
  // Three lines of two waits each, and the wait for requests.
  expect(plan.estimate).toMatchObject({
    perReload: 60,
    seconds: expect.toSatisfy((each) => each > 420) as number,
  });
  expect((await lab.tsrke('rotate')).said).toContain(' 0 restarts on 3 node(s)');
});

it('tells what `reload: automatic` would spare, and that is so', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true });
  expect(await planOf(lab, 'rotate')).toMatchObject({ restarts: 9, sparedByReload: 6 });
  expect(await planOf(lab, 'up')).not.toHaveProperty('sparedByReload');
  lab.configure('secrets_encryption_config: {enabled: true, reload: restart}');
  expect(await planOf(lab, 'rotate')).not.toHaveProperty('sparedByReload');
  lab.configure('secrets_encryption_config: {enabled: true, reload: automatic}');
  const plan = await planOf(lab, 'rotate');
  expect(plan.restarts).toBe(3);
  expect(plan).not.toHaveProperty('sparedByReload');
  expect((await lab.tsrke('rotate')).said).toContain(' 3 restarts on 3 node(s)');
});

it.each([
  ['that keeps identity', '{identity: {}}'],
  ['without identity, which takes a line more', ''],
])('counts a resource that only the target encrypts: one %s', async (_, last) => {
  const lab = new KmsLab({ nodes: 3 });
  lab.asks(entry(kms('v2')));
  await lab.done('up');
  for (const name of ['a', 'b']) {
    await lab.put('POST', '/api/v1/namespaces/default/configmaps', { metadata: { name }, data: {} });
  }
  lab.asks(
    entry(kms('v2')),
    `{resources: [configmaps], providers: [{secretbox: {keys: [{name: mine}]}}, ${last}]}`,
  );
  const plan = await planOf(lab, 'up');
  // RKE's own of addons come on top.
  const objects =
    2 + lab.model.store.range('/registry/configmaps/kube-system/', '/registry/configmaps/kube-system0').count;
  expect(plan.steps.find(({ line }) => line === 'rewrite')).toEqual({
    line: 'rewrite',
    resources: [{ resource: 'configmaps', objects }],
  });
  const { said } = await lab.done('up', {
    approve: approvedBy(JSON.parse(JSON.stringify(plan)) as PlanDocument),
  });
  expect(said).toContain(`: ${objects} rewritten, ${plan.restarts} restarts`);
});

it.each([
  [27, { restarts: 6 }],
  [34, { restarts: 6, sparedByReload: 3 }],
])('of an enable of 1.%i', async (minor, told) => {
  const lab = new MemoryLab({ nodes: 3, minor });
  lab.enabled = true;
  const { restarts, sparedByReload } = await planOf(lab, 'up');
  expect({ restarts, ...(sparedByReload === undefined ? {} : { sparedByReload }) }).toEqual(told);
});

it('a plan made before cluster.yml asks for automatic reload is one of another world', async () => {
  const lab = new MemoryLab({ nodes: 1 });
  lab.enabled = true;
  const plan = await planOf(lab, 'up');
  lab.configure('secrets_encryption_config: {enabled: true, reload: automatic}');
  const { error } = await lab.tsrke('up', { approve: approvedBy(plan) });
  expect(error).toMatchObject({ code: 'PLAN_STALE', details: ['cluster.yml asks for another encryption'] });
});

it('refuses a KMS that the run would refuse', async () => {
  const lab = new KmsLab({ nodes: 3 });
  lab.asks(entry(kms('v2')));
  lab.plugin('cp-2').up = false;
  await expect(planOf(lab, 'up')).rejects.toMatchObject({ code: 'KMS_UNHEALTHY', node: 'cp-2' });
  lab.plugin('cp-2').up = true;
  expect((await planOf(lab, 'up')).somethingToDo).toBe(true);
});
