/** With automatic reload of kube-apiserver a rotation restarts nothing, and its clients notice nothing at all. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

let opened: Lab | undefined;
let lab: Lab;

beforeAll(async () => {
  opened = lab = await openLab({
    // A real one looks at its file every 60 s, and nobody can tell it otherwise.
    hosts: labName === 'memory' ? 3 : 1,
    encryption: 'on',
    secrets: 50,
    apiserverArgs: (args) => [
      ...args,
      '--encryption-provider-config-automatic-reload=true',
      '--request-timeout=10s',
    ],
  });
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

const starts = () => Promise.all(lab.hosts.map((host) => host.apiserverStarts()));
const stored = () => storedPrefixes(lab.etcd);

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
