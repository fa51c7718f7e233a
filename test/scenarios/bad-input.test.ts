/** A state, a host key, a stored value that do not belong here: exit 3, and the cluster is as it was. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { load } from 'js-yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { otherCa } from '../kube/certificates.ts';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

const commands = [['up'], ['encrypt', 'rotate-key']];
const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
let opened: Lab | undefined;
let lab: Lab;

beforeAll(async () => {
  opened = lab = await openLab({ hosts: 1, encryption: 'on', secrets: 10 });
});
afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

async function onCluster() {
  const nodes = await Promise.all(
    lab.hosts.map(async (host) => {
      const { Id, State } = await host.inspect();
      return { id: Id, startedAt: State.StartedAt, file: await host.readFile(providerFile) };
    }),
  );
  return { nodes, stored: [...(await lab.etcd.prefixes())].sort(), state: readFileSync(lab.state, 'utf8') };
}

async function refused(code: string, ...messages: RegExp[]): Promise<void> {
  const before = await onCluster();
  for (const command of commands) {
    const ran = await lab.tsrke(command);
    expect(ran, ran.stderr).toMatchObject({ code: 3, stdout: '' });
    for (const message of [new RegExp(`\\(${code}\\)`), /^next: /m, ...messages]) {
      expect(ran.stderr).toMatch(message);
    }
    expect(await onCluster()).toEqual(before);
  }
}

async function withState(change: (text: string) => string, work: () => Promise<void>): Promise<void> {
  const before = readFileSync(lab.state, 'utf8');
  const changed = change(before);
  expect(changed).not.toBe(before);
  writeFileSync(lab.state, changed, { mode: 0o600 });
  try {
    await work();
  } finally {
    writeFileSync(lab.state, before, { mode: 0o600 });
  }
}

// A key of no host, in the form of known_hosts.
const strangeKey = `ssh-ed25519 ${Buffer.concat([
  Buffer.from([0, 0, 0, 11]),
  Buffer.from('ssh-ed25519'),
  Buffer.from([0, 0, 0, 32]),
  Buffer.alloc(32, 7),
]).toString('base64')}`;

it('refuses the state of another cluster', async () => {
  const state = JSON.parse(readFileSync(lab.state, 'utf8')) as {
    currentState: { certificatesBundle: Record<string, { certificatePEM: string }> };
  };
  const ours = JSON.stringify(state.currentState.certificatesBundle['kube-ca']?.certificatePEM);
  const theirs = JSON.stringify(otherCa);
  await withState(
    (text) => text.replaceAll(ours, theirs),
    () => refused('WRONG_CLUSTER', /^h1: .*kube-ca did not sign/m),
  );
});

it('refuses a host that shows another key than known_hosts has', async () => {
  mkdirSync(join(lab.dir, '.ssh'), { recursive: true, mode: 0o700 });
  const path = join(lab.dir, '.ssh/known_hosts');
  const { nodes } = load(readFileSync(lab.config, 'utf8')) as { nodes: { address: string; port?: number }[] };
  const [{ address, port = 22 } = { address: '' }] = nodes;
  writeFileSync(path, `${port === 22 ? address : `[${address}]:${port}`} ${strangeKey}\n`);
  try {
    await refused('HOST_KEY_CHANGED', /^h1: .*~\/\.ssh\/known_hosts:1/m);
  } finally {
    rmSync(path);
  }
});

it('refuses a value stored under a key that nobody has, until it is gone', async () => {
  const key = '/registry/secrets/default/ghostly';
  await lab.etcd.put(key, Buffer.concat([Buffer.from('k8s:enc:aescbc:v1:ghost:'), Buffer.alloc(48, 1)]));
  try {
    await refused('KEY_MISSING', /aescbc.*ghost/, /secrets/);
  } finally {
    await lab.etcd.del(key);
  }
  const before = await onCluster();
  const ran = await lab.tsrke(['up']);
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  expect((await onCluster()).nodes).toEqual(before.nodes);
});
