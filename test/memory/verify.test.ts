/** `encrypt verify` on the model: at every moment of a rotation, and while objects come and go. */
import { expect, it } from 'vitest';
import { providerPath } from '../../src/encryption/world.ts';
import { Effects, type Effect, type Fault } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { verifyEncryption, type Verification } from '../../src/provision/verify.ts';
import { MemoryLab } from './memory-lab.ts';

interface Asked {
  readonly proof: Verification;
  readonly log: readonly Effect[];
  /** Texts of progress. */
  readonly told: readonly string[];
}

interface Hooks {
  readonly faultOf?: (effect: Effect) => Fault | undefined;
  readonly onDone?: (effect: Effect) => void;
}

async function verify(lab: MemoryLab, hooks: Hooks = {}): Promise<Asked> {
  const told: string[] = [];
  const effects = new Effects({ clock: lab.clock, ...hooks });
  const proof = await verifyEncryption(
    {
      configPath: lab.enabled ? lab.configs.on : lab.configs.off,
      report: {
        note: () => undefined,
        debug: () => undefined,
        task: (_title, work) => work({ progress: (text) => told.push(text), done: () => undefined }),
      },
      signal: new AbortController().signal,
    },
    { store: lab.store.through(effects), link: labLink(lab.model, effects) },
  );
  return { proof, log: effects.log, told };
}

const readings = ({ readings: rows }: Verification) =>
  rows.map(({ node, read, gone, failed }) => [node, read, gone, failed]);
const isRead = ({ what }: Effect) => /GET .*\/namespaces\/default\/secrets\//.test(what);

it('a rotation cut off before each of its changes: proved at its ends alone, and nothing is changed', async () => {
  const whole = new MemoryLab({ nodes: 3, encrypted: true, secrets: 2 });
  const { effects } = await whole.tsrke('rotate');
  const moments = effects.log.filter(({ changes, what }) => changes && !what.includes('leases'));
  let proofs = 0;
  for (const { number } of moments) {
    const lab = new MemoryLab({ nodes: 3, encrypted: true, secrets: 2 });
    await lab.tsrke('rotate', {
      faultOf: (effect) => (effect.number === number ? { kind: 'killed', when: 'before' } : undefined),
    });
    const [{ generation }, { state }] = [lab.model, lab.store];
    const { proof, log } = await verify(lab);
    expect(log.filter(({ changes }) => changes)).toEqual([]);
    expect([lab.model.generation, lab.store.state]).toEqual([generation, state]);
    const isOpen = state.tsrke.transition !== undefined;
    expect(proof.findings.some(({ kind }) => kind === 'transition-open')).toBe(isOpen);
    // Whatever the moment: all servers read all objects, and the state has all keys.
    const kinds = new Set<string>(proof.findings.map(({ kind }) => kind));
    for (const lost of ['object-unreadable', 'object-unseen', 'key-not-recorded', 'key-missing'])
      expect(kinds).not.toContain(lost);
    expect(proof.readings.every(({ failed }) => failed === 0)).toBe(true);
    if (proof.proved) proofs += 1;
    expect(isOpen && proof.proved).toBe(false);
  }
  expect(moments.length).toBeGreaterThan(15);
  expect(proofs).toBeGreaterThan(0);
  const { proof } = await verify(whole);
  expect(proof.findings).toEqual([]);
});

it('objects that are deleted while they are read are gone, and those that come are no trouble', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true, secrets: 40 });
  let seen = 0;
  const { proof, told } = await verify(lab, {
    onDone: (effect) => {
      if (!isRead(effect)) return;
      seen += 1;
      if (seen !== 10) return;
      void lab.put('DELETE', '/api/v1/namespaces/default/secrets/secret-9');
      lab.create('secret-new');
    },
  });
  expect(proof.findings).toEqual([]);
  expect(proof.proved).toBe(true);
  const stored = proof.census as { resources: readonly { count: number }[] };
  const sums = readings(proof).map(([, read, gone]) => Number(read) + Number(gone));
  for (const sum of sums) expect(sum).toBeGreaterThanOrEqual((stored.resources[0]?.count ?? 0) - 1);
  expect(readings(proof).some(([, , gone]) => gone === 1)).toBe(true);
  expect(told.at(-2)).toMatch(/^\d+\/\d+, \d+\/s, 0 s left$/);
});

it('a server that was started with the file of before the rotation is named with all that it cannot read', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true, secrets: 5 });
  const old = lab.model.host('cp-2').read(providerPath)?.bytes;
  if (old === undefined) throw new Error('cp-2 has no provider file');
  await lab.tsrke('rotate');
  lab.model.host('cp-2').write(providerPath, old);
  lab.model.reboot('cp-2');
  await lab.clock.sleep(60_000, new AbortController().signal);
  const { proof } = await verify(lab);
  expect(proof.findings.map(({ kind, node }) => `${kind} ${node ?? ''}`)).toEqual([
    'node-not-ready cp-2',
    'node-not-in-step cp-2',
    'object-unreadable cp-2',
  ]);
  const [good, lacking] = readings(proof);
  expect(good).toEqual(['cp-1', 6, 0, 0]);
  expect(lacking).toEqual(['cp-2', 0, 0, 6]);
  const found = proof.findings.at(-1);
  expect(found).toMatchObject({ resource: 'secrets', count: 6 });
  expect(found?.text).toMatch(/no matching key was found/);
  // What is to be typed mends it.
  expect(found?.next).toMatch(/^`tsrke up` gives it the keys/);
  lab.tampered = true;
  expect((await lab.tsrke('up')).error).toBeUndefined();
  expect((await verify(lab)).proof.findings).toEqual([]);
});

it('a node that restarts in the middle: what it was asked before says nothing of it now', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true, secrets: 40 });
  await lab.tsrke('rotate');
  let done = false;
  const { proof } = await verify(lab, {
    onDone: (effect) => {
      if (done || !isRead(effect)) return;
      done = true;
      lab.model.reboot('cp-2');
    },
  });
  expect(done).toBe(true);
  expect(proof.findings).toMatchObject([{ kind: 'changed-meanwhile', node: 'cp-2' }]);
});

it('a server that falls silent in the middle is given up, and the others are read to the end', async () => {
  const lab = new MemoryLab({ nodes: 3, encrypted: true, secrets: 40 });
  let seen = 0;
  const { proof } = await verify(lab, {
    faultOf: ({ kind, what }) => {
      if (kind !== 'kube' || !what.includes('cp-3')) return undefined;
      if (what.includes('/namespaces/default/secrets/')) seen += 1;
      return seen > 10 ? { kind: 'fails', when: 'before' } : undefined;
    },
  });
  expect(proof.findings.map(({ kind, node }) => [kind, node])).toContainEqual(['server-silent', 'cp-3']);
  const rows = new Map(readings(proof).map(([node, read]) => [node, read]));
  expect(rows.get('cp-1')).toBe(rows.get('cp-2'));
  expect(Number(rows.get('cp-3'))).toBeLessThan(Number(rows.get('cp-1')));
});
