/** etcd is out of tsrke's reach, behind a firewall that even SSH does not lead through: the apiservers must do. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dump, load } from 'js-yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { editKubeApi, type Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

let opened: Lab | undefined;
let lab: Lab;

beforeAll(async () => {
  opened = lab = await openLab({
    hosts: 1,
    encryption: 'off',
    secrets: 30,
    // What is proved without etcd waits for two of these before a key goes.
    apiserverArgs: { 'etcd-compaction-interval': '5s' },
  });
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

function configure(encryption: object): void {
  const yaml = load(readFileSync(lab.config, 'utf8')) as { nodes: object[] };
  const nodes = yaml.nodes.map((node) => ({ ...node, user: 'operator' }));
  writeFileSync(lab.config, dump({ ...yaml, nodes }));
  editKubeApi(lab, { secrets_encryption_config: encryption });
}

const stored = () => storedPrefixes(lab.etcd);

function proof(): unknown {
  const { tsrke } = JSON.parse(readFileSync(lab.state, 'utf8')) as { tsrke: { proof?: unknown } };
  return tsrke.proof;
}

/** With etcd out of reach for tsrke, and clients at work. */
async function unseen(...args: string[]): Promise<string> {
  for (const host of lab.hosts) await host.hideEtcd();
  const clients = await lab.startClients();
  const ran = await lab.tsrke(args).finally(() => Promise.all(lab.hosts.map((host) => host.showEtcd())));
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stderr).toContain('passes through every apiserver stand in for a census of etcd');
  expect(ran.stdout).toContain('shown by passes through every apiserver (no etcd could be read)');
  const { hosts } = await clients.stop();
  for (const seen of Object.values(hosts)) expect(seen).toMatchObject({ decryption: 0, other: [] });
  return ran.stderr;
}

it('enables, and does not take it for proved', async () => {
  configure({ enabled: true });
  await unseen('up');
  expect(await stored()).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:/)]);
  expect(proof()).toBeUndefined();
});

it('proves nothing to be filed, and says so', async () => {
  for (const host of lab.hosts) await host.hideEtcd();
  try {
    const ran = await lab.tsrke(['encrypt', 'verify']);
    expect(ran).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(
      /^etcd could not be read: .*\(NOT_PROVED\)\n[\s\S]*^next: make etcd reachable/m,
    );
  } finally {
    for (const host of lab.hosts) await host.showEtcd();
  }
  const ran = await lab.tsrke(['encrypt', 'verify']);
  expect(ran, ran.stdout + ran.stderr).toMatchObject({ code: 0 });
});

it('rotates: the old key goes once kube-apiserver itself has compacted etcd', async () => {
  const before = await stored();
  expect(await unseen('encrypt', 'rotate-key')).toContain('wait until kube-apiserver has compacted etcd');
  const after = await stored();
  expect(after).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:/)]);
  expect(after).not.toEqual(before);
});

it('where etcd can be read again, the next up takes the census and changes nothing', async () => {
  const ran = await lab.tsrke(['up']);
  expect(ran.stdout, ran.stderr).toMatch(/^nothing to do/);
  expect(proof()).toBeDefined();
});

it('disables', async () => {
  configure({ enabled: false });
  await unseen('up');
  expect(await stored()).toEqual(['']);
});
