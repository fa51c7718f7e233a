/**
 * `reload: automatic`: an enable brings it, then a rotation restarts nothing and its clients notice nothing at all, and
 * once it is taken out of cluster.yml it goes.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { providerFlag } from '../../src/encryption/world.ts';
import { editKubeApi, type Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

let opened: Lab | undefined;
let lab: Lab;

beforeAll(async () => {
  opened = lab = await openLab({
    // A real one looks at its file every 60 s, and nobody can tell it otherwise.
    hosts: labName === 'memory' ? 3 : 1,
    encryption: 'off',
    secrets: 50,
    apiserverArgs: { 'request-timeout': '10s' },
  });
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

const starts = () => Promise.all(lab.hosts.map((host) => host.apiserverStarts()));
const stored = () => storedPrefixes(lab.etcd);
const each = <T>(value: T) => lab.hosts.map(() => value);

/** What the arguments of each kube-apiserver say of automatic reload. */
async function flags(): Promise<string[][]> {
  const containers = await Promise.all(lab.hosts.map((host) => host.inspect()));
  const name = `${providerFlag}-automatic-reload`;
  return containers.map(({ Args }) => Args.filter((arg) => arg.startsWith(name)));
}

it('up enables encryption with it: one recreation of each node, and no further restart', async () => {
  editKubeApi(lab, { secrets_encryption_config: { enabled: true, reload: 'automatic' } });
  const plan = await lab.tsrke(['plan']);
  expect(plan.code, plan.stderr).toBe(2);
  expect(plan.stdout).toContain('recreate kube-apiserver with automatic reload');
  expect(plan.stdout).toMatch(new RegExp(`^${lab.hosts.length} restarts?, `, 'm'));
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  expect(await starts()).toEqual(each(1));
  expect(await flags()).toEqual(each([`${providerFlag}-automatic-reload=true`]));
  expect(await stored()).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:/)]);
});

it('rotate-key', async () => {
  const before = { starts: await starts(), stored: await stored() };
  const clients = await lab.startClients();
  const ran = await lab.tsrke(['encrypt', 'rotate-key']);
  const { hosts } = await clients.stop();
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toContain(` 0 restarts on ${lab.hosts.length} node(s)`);
  expect(ran.stderr).toContain('wait for requests that began under the file of before');
  for (const seen of Object.values(hosts))
    expect(seen).toMatchObject({ refused: 0, decryption: 0, other: [] });
  expect(await starts()).toEqual(before.starts);
  expect(await stored()).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:/)]);
  expect(await stored()).not.toEqual(before.stored);
});

it('a second up changes nothing', async () => {
  const state = readFileSync(lab.state, 'utf8');
  const ran = await lab.tsrke(['up']);
  expect(ran.stdout, ran.stderr).toMatch(/^nothing to do/);
  expect(readFileSync(lab.state, 'utf8')).toBe(state);
});

it('taken out of cluster.yml, it goes with one recreation of each node', async () => {
  editKubeApi(lab, { secrets_encryption_config: { enabled: true } });
  const plan = await lab.tsrke(['plan']);
  expect(plan.code, plan.stderr).toBe(2);
  expect(plan.stdout).toContain('h1: recreate kube-apiserver without automatic reload');
  const status = await lab.tsrke(['encrypt', 'status', '--check']);
  expect(status.code, status.stderr).toBe(2);
  expect(status.stdout).toMatch(/automatic reload, which\s+cluster\.yml\s+does\s+not\s+ask\s+for/);
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toContain(`${lab.hosts.length} restarts`);
  expect(await flags()).toEqual(each([]));
  expect(await starts()).toEqual(each(2));
  const rotation = await lab.tsrke(['encrypt', 'rotate-key', '--dry-run']);
  expect(rotation.code, rotation.stderr).toBe(2);
  expect(rotation.stdout).toMatch(/^`reload: automatic` in cluster\.yml would spare \d of the restarts$/m);
});
