/** `tsrke cert rotate` in the lab's model: cut off, with a node that cannot be reached, and right before a new key. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { bundleIn, type Bundle } from '../../src/certificates/bundle.ts';
import { systemSource } from '../../src/certificates/issue.ts';
import type { Fault } from '../../src/lab/faults.ts';
import { MemoryLab } from './memory-lab.ts';

/** Keys take long to make; what is new here is the certificate. */
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
vi.spyOn(systemSource, 'newKey').mockImplementation(() => Promise.resolve(privateKey));

const folder = mkdtempSync(join(tmpdir(), 'tsrke-cert-rotate-'));
afterAll(() => rmSync(folder, { recursive: true }));

const config = join(folder, 'cluster.yml');
writeFileSync(
  config,
  `nodes:
- {address: 198.51.100.11, user: root, role: [controlplane, etcd], hostname_override: cp-1}
- {address: 198.51.100.12, user: root, role: [worker], hostname_override: worker-1}
network: {plugin: none}
dns: {provider: none}
monitoring: {provider: none}
ingress: {provider: none}
services: {kube-api: {secrets_encryption_config: {enabled: true}}}
`,
);

async function cluster(): Promise<MemoryLab> {
  const lab = new MemoryLab({ nodes: 1, bare: true, encrypted: true, config });
  const { error, notes } = await lab.up();
  expect(error, notes.join('\n')).toBeUndefined();
  lab.create('one');
  return lab;
}

const bundleOf = (lab: MemoryLab, half: 'currentState' | 'desiredState' = 'currentState'): Bundle =>
  bundleIn(lab.store.state.document[half]?.certificatesBundle ?? {});
const onDisk = (lab: MemoryLab, node: string, name: string) =>
  lab.model.host(node).read(`/etc/kubernetes/ssl/${name}.pem`)?.bytes.toString().trim();

async function expectRotated(lab: MemoryLab, before: Bundle): Promise<void> {
  const now = bundleOf(lab);
  expect(bundleOf(lab, 'desiredState')).toEqual(now);
  for (const [name, { certificatePEM }] of Object.entries(now)) {
    const stays = /-ca$|service-account-token/.test(name);
    expect([name, certificatePEM === before[name]?.certificatePEM]).toEqual([name, stays]);
  }
  for (const node of ['cp-1', 'worker-1']) {
    expect(onDisk(lab, node, 'kube-node')).toBe(now['kube-node']?.certificatePEM.trim());
  }
  expect((await lab.up()).said).toMatch(/^nothing to do/);
  expect((await lab.tsrke('rotate')).error).toBeUndefined();
  expect(lab.problems()).toEqual([]);
}

it('every certificate but those of the CAs is new on every node', async () => {
  const lab = await cluster();
  const before = bundleOf(lab);
  expect((await lab.rotateCertificates()).said).toMatch(
    /^\d+ certificates are new \(kube-admin, .*: \d+ restarts$/,
  );
  await expectRotated(lab, before);
});

describe('cut off, the same command finishes and begins no second rotation', () => {
  it.each<readonly [string, RegExp, Fault]>([
    ['before the state is saved', /^state write/, { kind: 'killed', when: 'before' }],
    ['with the first file on its way', /PUT .*archive on cp-1/, { kind: 'killed', when: 'after' }],
    ['at a restart of etcd', /etcd\/restart on cp-1/, { kind: 'killed', when: 'after' }],
    [
      'at a restart whose answer is lost',
      /kube-apiserver\/restart on cp-1/,
      { kind: 'fails', when: 'after' },
    ],
    ['at the worker', /kubelet\/restart on worker-1/, { kind: 'killed', when: 'before' }],
  ])('%s', async (_, words, fault) => {
    const lab = await cluster();
    const before = bundleOf(lab);
    let met = false;
    await lab.rotateCertificates({
      faultOf: ({ what }) => {
        if (met || !words.test(what)) return undefined;
        met = true;
        return fault;
      },
    });
    expect(met).toBe(true);
    await lab.settled();
    const begun = bundleOf(lab, 'desiredState');
    expect((await lab.rotateCertificates()).error).toBeUndefined();
    if (!words.source.startsWith('^state')) expect(bundleOf(lab)).toEqual(begun);
    await expectRotated(lab, before);
  });
});

it('a worker that cannot be reached is named at the end, and `up` brings it its certificates later', async () => {
  const lab = await cluster();
  const before = bundleOf(lab);
  lab.model.powerOff('worker-1');
  const { said, error } = await lab.rotateCertificates();
  expect(said).toBeUndefined();
  expect(error).toMatchObject({
    ...{ code: 'NODE_UNREACHABLE', node: 'worker-1' },
    message: expect.stringContaining('all other nodes have the new certificates') as string,
  });
  expect(onDisk(lab, 'cp-1', 'kube-node')).toBe(bundleOf(lab)['kube-node']?.certificatePEM.trim());
  expect(onDisk(lab, 'worker-1', 'kube-node')).toBe(before['kube-node']?.certificatePEM.trim());
  lab.model.powerOn('worker-1');
  expect((await lab.up()).said).toMatch(/^\d+ changes on 2 nodes/);
  await expectRotated(lab, before);
});
