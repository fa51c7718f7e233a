/** What a run takes for proved: a census, passes where no etcd answers, or the proof of a run before. */
import { expect, it, test } from 'vitest';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { serialiseWithoutKeys, parseState, type ClusterState } from '../../src/state/rkestate.ts';
import { MemoryLab } from './memory-lab.ts';

const noEtcd = ({ kind }: Effect): Fault | undefined =>
  kind === 'etcd' ? { kind: 'fails', when: 'before' } : undefined;
const ranges = (log: readonly Effect[]) => log.filter(({ what }) => what.startsWith('etcd Range')).length;
/** Provider prefixes that etcd holds Secrets under. */
const stored = (lab: MemoryLab) => [
  ...new Set(
    lab.model.store
      .range('/registry/secrets/', '/registry/secrets0')
      .values.map(({ value }) => /^k8s:enc:[^:]*:[^:]*:[^:]*/.exec(value.toString('latin1'))?.[0] ?? ''),
  ),
];

it.each([1, 3] as const)(
  'without any etcd, %i node(s) are enabled, rotated and disabled by passes',
  async (nodes) => {
    const lab = new MemoryLab({ nodes });
    lab.enabled = true;
    const enabled = await lab.tsrke('up', { faultOf: noEtcd });
    expect(enabled.error).toBeUndefined();
    expect(enabled.said).toContain('no etcd could be read');
    const [first = ''] = stored(lab);
    expect(first).toMatch(/^k8s:enc:aescbc:v1:k-/);
    const begun = lab.clock.now().getTime();
    const rotated = await lab.tsrke('rotate', { faultOf: noEtcd });
    expect(rotated.error).toBeUndefined();
    expect(stored(lab)).toHaveLength(1);
    expect(stored(lab)).not.toEqual([first]);
    // What a continue token of before could still read must have been compacted by kube-apiserver itself.
    expect(lab.clock.now().getTime() - begun).toBeGreaterThan(10 * 60_000);
    expect(lab.store.state.tsrke.proof).toBeUndefined();
    lab.enabled = false;
    const disabled = await lab.tsrke('up', { faultOf: noEtcd });
    expect(disabled.error).toBeUndefined();
    expect(stored(lab)).toEqual(['']);
  },
);

test('a proof that still holds spares the census; anything that moved brings it back', async () => {
  const lab = new MemoryLab({ nodes: 3 });
  lab.enabled = true;
  await lab.tsrke('up');
  const again = await lab.tsrke('up');
  expect(again.said).toMatch(/^nothing to do/);
  const quiet = ranges(again.effects.log);
  expect(quiet).toBe(1);
  expect(again.effects.log.filter(({ changes, what }) => changes && !what.includes('leases'))).toEqual([]);

  lab.model.reboot('cp-2');
  const started = await lab.tsrke('up');
  expect(started.error).toBeUndefined();

  const old = lab.store.state;
  const { proof } = old.tsrke;
  if (proof === undefined) throw new Error('there is no proof');
  lab.store.state = {
    ...old,
    tsrke: { ...old.tsrke, proof: { ...proof, at: [{ clusterId: 'another', revision: '1' }] } },
  };
  expect(ranges((await lab.tsrke('up')).effects.log)).toBeGreaterThan(quiet);
  lab.store.state = {
    ...old,
    tsrke: {
      ...old.tsrke,
      proof: { ...proof, at: proof.at.map((each) => ({ ...each, revision: '999999' })) },
    },
  };
  expect(ranges((await lab.tsrke('up')).effects.log)).toBeGreaterThan(quiet);
});

/** As another machine has it that was not there since. */
async function rotatedElsewhere(): Promise<{ lab: MemoryLab; before: ClusterState }> {
  const lab = new MemoryLab({ nodes: 1, encrypted: true });
  await lab.tsrke('rotate');
  const before = lab.store.state;
  await lab.tsrke('rotate');
  return { lab, before };
}

const looksOnly = (log: readonly Effect[]) =>
  log.every(({ changes, what }) => !changes || what.includes('leases'));

test('a state file that another run has left behind is refused before anything is touched', async () => {
  const { lab, before } = await rotatedElsewhere();
  lab.store.state = before;
  // That state lacks the key in use is what it is refused for.
  const { error, effects } = await lab.tsrke('up', { invariants: false });
  expect(error).toMatchObject({ code: 'STATE_STALE', exitCode: 4 });
  expect(looksOnly(effects.log)).toBe(true);
});

test('so is one from before tsrke, whose key is no longer the one in use', async () => {
  const lab = new MemoryLab({ nodes: 1, encrypted: true });
  const before = lab.store.state;
  await lab.tsrke('rotate');
  lab.store.state = before;
  // That state lacks the key in use is what it is refused for.
  const { error, effects } = await lab.tsrke('up', { invariants: false });
  expect(error).toMatchObject({ code: 'STATE_STALE', exitCode: 4 });
  expect(looksOnly(effects.log)).toBe(true);
});

test('one whose tsrke part RKE has dropped is the right one, and gets its retired keys back', async () => {
  const { lab } = await rotatedElsewhere();
  const { document, tsrke } = lab.store.state;
  const { tsrke: _dropped, ...rest } = document as Record<string, unknown>;
  const asRkeLeftIt = parseState(JSON.stringify(rest), 'state');
  lab.store.state = asRkeLeftIt;
  const { error } = await lab.tsrke('up');
  expect(error).toBeUndefined();
  const names = lab.store.state.tsrke.keyRing.map(({ name }) => name).toSorted();
  expect(names).toEqual(tsrke.keyRing.map(({ name }) => name).toSorted());
  expect(lab.store.state.tsrke.serial).toBeGreaterThan(tsrke.serial);
});

test('the copy in the cluster holds keys only while it is itself stored encrypted', async () => {
  const lab = new MemoryLab({ nodes: 3 });
  const bare: string[] = [];
  const onDone = ({ what }: Effect) => {
    if (!what.includes('full-cluster-state') && !what.includes('secrets on')) return;
    const key = '/registry/secrets/kube-system/full-cluster-state';
    const [found] = lab.model.store.range(key, `${key}\0`).values;
    const text = found?.value.toString('latin1') ?? '';
    const clear = Buffer.from(/"full-cluster-state":"([^"]*)"/.exec(text)?.[1] ?? '', 'base64').toString();
    if (lab.store.state.tsrke.keyRing.some(({ secret }) => clear.includes(secret.reveal()))) bare.push(what);
  };
  for (const [command, enabled] of [
    ['up', true],
    ['rotate', true],
    ['up', false],
  ] as const) {
    lab.enabled = enabled;
    const { error } = await lab.tsrke(command, { onDone });
    expect(error).toBeUndefined();
  }
  expect(bare).toEqual([]);
  // The check would see one.
  expect(serialiseWithoutKeys(lab.store.state)).toContain('sha256:');
});
