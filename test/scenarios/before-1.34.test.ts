/** Before 1.34 kube-apiserver does not say what it has loaded: only a start that is on record, or a restart, proves it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';

let opened: Lab | undefined;
let lab: Lab;
let off: string;

beforeAll(async () => {
  // One node waits for three real restarts less; what is proved of each node is the same.
  const hosts = labName === 'memory' ? 3 : 1;
  opened = lab = await openLab({ hosts, version: '1.33', encryption: 'off', secrets: 50 });
  off = readFileSync(lab.config, 'utf8');
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

const starts = () => Promise.all(lab.hosts.map((host) => host.apiserverStarts()));
/** One node has nobody to wait for: it writes with a new key at once, which saves a restart. */
const alone = () => (lab.hosts.length === 1 ? 1 : 0);
const stored = () => storedPrefixes(lab.etcd);
const enabled = () =>
  off.replace('services:', 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}');

function keysInUse(): string[] {
  const { tsrke } = JSON.parse(readFileSync(lab.state, 'utf8')) as {
    tsrke: { keyRing: { name: string; retired?: string }[] };
  };
  return tsrke.keyRing.filter(({ retired }) => retired === undefined).map(({ name }) => name);
}

/** Under the eyes of clients; resolves to how often each node was started meanwhile. */
async function finishes(...commands: { args: string[]; killWhen?: RegExp }[]): Promise<number[]> {
  const before = await starts();
  const clients = await lab.startClients();
  for (const { args, killWhen } of commands) {
    const ran = await lab.tsrke(args, killWhen === undefined ? {} : { killWhen });
    if (killWhen === undefined) expect(ran.code, ran.stderr).toBe(0);
    else expect(ran.signal, ran.stderr).toBe('SIGKILL');
  }
  const { hosts, bothDown } = await clients.stop();
  for (const [name, seen] of Object.entries(hosts))
    expect(seen, name).toMatchObject({ decryption: 0, other: [] });
  expect(bothDown).toBe(0);
  return (await starts()).map((now, index) => now - (before[index] ?? 0));
}

async function restartsNothing(): Promise<void> {
  const before = { starts: await starts(), state: readFileSync(lab.state, 'utf8') };
  const ran = await lab.tsrke(['up']);
  expect(ran.stdout, ran.stderr).toMatch(/^nothing to do/);
  expect({ starts: await starts(), state: readFileSync(lab.state, 'utf8') }).toEqual(before);
}

it('up enables encryption, and a second up restarts nothing', async () => {
  writeFileSync(lab.config, enabled());
  expect(await finishes({ args: ['up'] })).toEqual(lab.hosts.map(() => 2 - alone()));
  expect(await stored()).toEqual([`k8s:enc:aescbc:v1:${keysInUse()[0] ?? ''}:`]);
  await restartsNothing();
});

it('rotate-key is killed between a file and its restart: the next run restarts that node, the others three times', async () => {
  const [first] = lab.hosts;
  if (first === undefined) throw new Error('no host');
  const [old] = keysInUse();
  const before = await first.readFile(providerFile);
  const rotate = ['encrypt', 'rotate-key'];
  const [h1, ...others] = await finishes(
    { args: rotate, killWhen: /restarting kube-apiserver/ },
    { args: rotate },
  );
  expect(h1).toBeGreaterThanOrEqual(3 - alone());
  expect(others).toEqual(lab.hosts.slice(1).map(() => 3));
  const [key, ...more] = keysInUse();
  expect(more).toEqual([]);
  expect(key).not.toBe(old);
  expect(await first.readFile(providerFile)).not.toBe(before);
  expect(await stored()).toEqual([`k8s:enc:aescbc:v1:${key ?? ''}:`]);
  await restartsNothing();
});

it('up disables encryption, and a second up restarts nothing', async () => {
  writeFileSync(lab.config, off);
  expect(await finishes({ args: ['up'] })).toEqual(lab.hosts.map(() => 2));
  expect(keysInUse()).toEqual([]);
  expect(await stored()).toEqual(['']);
  for (const host of lab.hosts) expect(await host.readFile(providerFile)).toBeUndefined();
  await restartsNothing();
});
