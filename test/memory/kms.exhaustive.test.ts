import { expect, it } from 'vitest';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { breakEveryEffect, show, type Scenario } from './every-effect.ts';
import { entry, kms, KmsLab } from './kms-lab.ts';
import type { LabOptions, MemoryLab } from './memory-lab.ts';

// An error thrown a hundred thousand times need not say each time from where.
Error.stackTraceLimit = 3;

const open = (options: LabOptions) => new KmsLab(options);

function asKms(lab: MemoryLab): KmsLab {
  if (lab instanceof KmsLab) return lab;
  throw new Error('a lab without plugins');
}

function under(kek: string) {
  return (lab: MemoryLab, fault: Fault) => {
    const lies = Object.keys(asKms(lab).lies());
    const left = lab.model.store.get('/registry/secrets/kube-system/tsrke-kms-check');
    // One that is made only once the next run has ended holds nothing, and the next check takes it away.
    if (left !== undefined && fault.kind !== 'done-later') return 'the Secret of the check was left behind';
    return lies.join() === kek ? undefined : `Secrets lie under ${lies.join()}`;
  };
}

/** The change from RKE's own key to one of a KMS. */
const toKms: Omit<Scenario, 'lab'> = {
  open,
  prepare(lab) {
    asKms(lab).asks(entry(kms('v2')));
    return Promise.resolve();
  },
  command: 'up',
  enabled: true,
  wrong: under('kms2:vault:kek-1'),
};

/** The plugins have a new key. */
const newKek = (version: 'v1' | 'v2'): Omit<Scenario, 'lab'> => ({
  open,
  async prepare(lab) {
    asKms(lab).asks(entry(kms(version)));
    await lab.tsrke('up');
    asKms(lab).newKek('kek-2');
  },
  command: 'rotate',
  enabled: true,
  wrong: under(`${version === 'v1' ? 'kms1' : 'kms2'}:vault:kek-2`),
});

/** Each effect costs a lab of its own: of three nodes' a part is enough. */
const aPart = ({ changes, number }: Effect) => (changes ? number % 2 === 0 : number % 40 === 0);
const mostOfAll = ({ changes, number }: Effect) => changes || number % 3 === 0;

it.each([
  { title: 'a change to KMS v2, 1 node', lab: { nodes: 1, encrypted: true }, scenario: toKms },
  { title: 'a change to KMS v2, 3 nodes', lab: { nodes: 3, encrypted: true }, scenario: toKms },
  { title: 'a rotation within KMS v2, 1 node', lab: { nodes: 1 }, scenario: newKek('v2') },
  { title: 'a rotation within KMS v2, 3 nodes', lab: { nodes: 3 }, scenario: newKek('v2') },
  { title: 'a rotation within KMS v1, 3 nodes', lab: { nodes: 3, minor: 28 }, scenario: newKek('v1') },
] as const)('$title, broken off at every effect, is finished by the same command', async (each) => {
  const { title, lab, scenario } = each;
  const figures = await breakEveryEffect({ ...scenario, lab }, lab.nodes === 1 ? mostOfAll : aPart);
  show(title, figures);
  expect(figures.problems).toEqual([]);
});
