/** New CAs for a cluster that runs, and a cluster whose containers are lost. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Lab, LabHost } from '../lab/lab.ts';
import { closeLabs, fewHosts, openLab } from '../lab/open-lab.ts';
import { takesAll } from '../part.ts';

let opened: Lab | undefined;
let lab: Lab;
let host: LabHost;

beforeAll(async () => {
  // 54 restarts on three real hosts take five minutes.
  opened = lab = await openLab({ hosts: takesAll ? 3 : fewHosts, bare: true });
  const [first] = lab.hosts;
  if (first === undefined) throw new Error('the lab has no host');
  host = first;
  await done('up');
  await lab.ready();
  await lab.createSecrets(20);
});
afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

async function done(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.tsrke(args);
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

const ca = () => host.readFile('/etc/kubernetes/ssl/kube-ca.pem');
const certificates = (pem: string | undefined) => pem?.match(/BEGIN CERTIFICATE/g)?.length;
const serial = () =>
  (JSON.parse(readFileSync(lab.state, 'utf8')) as { tsrke: { serial: number } }).tsrke.serial;

it('new CAs come while clients are at work: refused connections apart nothing goes wrong', async () => {
  const before = await ca();
  const clients = await lab.startClients();
  expect(await done('cert', 'rotate', '--rotate-ca', '--pause')).toContain('trusted beside the old ones');
  expect(certificates(await ca())).toBe(2);
  for (const shown of [await lab.tsrke(['plan']), await lab.tsrke(['encrypt', 'status'])]) {
    expect(shown.stdout).toMatch(/the CAs are being rotated \(pass 1 of 3\)/);
  }
  expect(await done('cert', 'rotate', '--rotate-ca')).toMatch(
    /^kube-ca and kube-apiserver-requestheader-ca are new/,
  );
  const { hosts } = await clients.stop();
  for (const [name, { decryption, other }] of Object.entries(hosts)) {
    expect({ name, decryption, other }).toEqual({ name, decryption: 0, other: [] });
  }
  expect(certificates(await ca())).toBe(1);
  expect(await ca()).not.toBe(before);
  expect(await done('up')).toMatch(/^nothing to do/);
  await done('encrypt', 'rotate-key');
  expect(await done('encrypt', 'verify')).toContain('proved');
});

it('kube-apiserver and etcd are gone from every node: up makes them again, as they were', async () => {
  const file = await host.readFile('/etc/kubernetes/ssl/encryption.yaml');
  for (const each of lab.hosts) {
    for (const name of ['kube-apiserver', 'etcd'])
      await each.docker.getContainer(name).remove({ force: true });
  }
  const plan = await lab.tsrke(['plan']);
  expect(plan.code, plan.stderr).toBe(2);
  expect(plan.stdout).toContain('containers of this cluster are lost');
  const former = serial();
  expect(await done('up')).toMatch(/made again; secrets are encrypted/);
  expect(serial()).toBeGreaterThanOrEqual(former);
  await lab.ready();
  expect(await host.readFile('/etc/kubernetes/ssl/encryption.yaml')).toBe(file);
  expect(await done('encrypt', 'verify')).toContain('proved');
  expect(await done('up')).toMatch(/^nothing to do/);
});
