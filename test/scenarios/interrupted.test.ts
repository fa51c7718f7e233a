/** Cut off anywhere, the same command again finishes it, makes no second key, and the clients never notice. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { load } from 'js-yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ClientCounts } from '../lab/clients.ts';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const bin = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'bin/tsrke.js');
const rotate = ['encrypt', 'rotate-key'];

interface NamedKey {
  readonly name: string;
  readonly secret: string;
}

let lab: Lab;
/** Every key that was ever seen: by name from etcd, with its bytes from the nodes. */
const names = new Set<string>();
const keys = new Set<string>();

beforeAll(async () => {
  lab = await openLab({ hosts: 3, encryption: 'on', secrets: 200 });
  const enabled = await lab.tsrke(['up']);
  expect(enabled.code, enabled.stderr).toBe(0);
});

afterAll(async () => {
  await (lab as Lab | undefined)?.close();
  await closeLabs();
});

function keyRing(): readonly NamedKey[] {
  const state = JSON.parse(readFileSync(lab.state, 'utf8')) as { tsrke?: { keyRing: NamedKey[] } };
  return state.tsrke?.keyRing ?? [];
}

function keysIn(text: string): NamedKey[] {
  const file = load(text) as { resources: { providers: Record<string, { keys?: NamedKey[] } | null>[] }[] };
  return file.resources
    .flatMap(({ providers }) => providers)
    .flatMap((provider) => Object.values(provider).flatMap((each) => each?.keys ?? []));
}

/** The ring, and what RKE left on the nodes: an untouched cluster has no ring yet. */
async function knownKeys(): Promise<readonly NamedKey[]> {
  const known = [...keyRing()];
  for (const host of lab.hosts) {
    const found = keysIn((await host.readFile(providerFile)) ?? 'resources: []');
    known.push(...found.filter(({ name }) => !known.some((key) => key.name === name)));
  }
  return known;
}

async function collect(): Promise<void> {
  for (const prefix of (await lab.etcd.prefixes()).values()) {
    const name = prefix.split(':')[4];
    if (name !== undefined) names.add(name);
  }
  for (const host of lab.hosts) {
    const text = await host.readFile(providerFile);
    for (const { name, secret } of text === undefined ? [] : keysIn(text)) keys.add(`${name} ${secret}`);
  }
}

/** What holds after every interruption, once the same command ran to its end. */
async function expectFinished(before: readonly NamedKey[], counts: ClientCounts): Promise<void> {
  await collect();
  const ring = keyRing();
  expect(ring).toHaveLength(before.length + 1);
  const minted = ring.filter((key) => !before.some(({ name }) => name === key.name));
  expect(minted).toHaveLength(1);
  expect([...new Set((await lab.etcd.prefixes()).values())]).toEqual([
    `k8s:enc:aescbc:v1:${minted[0]?.name}:`,
  ]);
  for (const host of lab.hosts) {
    expect(keysIn((await host.readFile(providerFile)) ?? ''), host.name).toEqual([
      { name: minted[0]?.name, secret: minted[0]?.secret },
    ]);
  }
  const inRing = ring.map(({ name, secret }) => `${name} ${secret}`);
  expect(inRing).toEqual(expect.arrayContaining([...keys]));
  expect(ring.map(({ name }) => name)).toEqual(expect.arrayContaining([...names]));
  for (const [host, { decryption, other, ok }] of Object.entries(counts.hosts)) {
    expect({ decryption, other }, host).toEqual({ decryption: 0, other: [] });
    expect(ok, host).toBeGreaterThan(0);
  }
  expect(counts.bothDown).toBe(0);
}

describe('rotate-key cut off', () => {
  it.each([
    ['as soon as the state is saved', /state saved/],
    ['when the first node has the file', /restarting kube-apiserver/],
    ['between two restarts', /h1 is ready/],
    ['before the second restart of each', /write with the wanted key/],
    ['in the middle of the rewrite', /rewrite secrets/],
    ['before the prune', /remove what is no longer needed/],
    ['in the middle of the prune', /remove what is no longer needed[^]*h1 is ready/],
  ])('%s by SIGKILL', async (_when, killWhen) => {
    const before = await knownKeys();
    const clients = await lab.startClients();
    const killed = await lab.tsrke(rotate, { killWhen });
    expect(killed.signal, killed.stderr).toBe('SIGKILL');
    await collect();
    const again = await lab.tsrke(rotate);
    const counts = await clients.stop();
    expect(again.code, again.stderr).toBe(0);
    expect(again.stderr).toMatch(/continuing the rotate of .* that was cut off; no further key is made/);
    await expectFinished(before, counts);
  });

  it('by one SIGINT: the step in hand is finished, exit code 130', async () => {
    const before = await knownKeys();
    const clients = await lab.startClients();
    const interrupted = await interrupt(/restarting kube-apiserver/);
    expect(interrupted.code, interrupted.stderr).toBe(130);
    expect(interrupted.stderr).toMatch(/h\d is ready/);
    await collect();
    const again = await lab.tsrke(rotate);
    const counts = await clients.stop();
    expect(again.code, again.stderr).toBe(0);
    await expectFinished(before, counts);
  });
});

function interrupt(when: RegExp): Promise<{ code: number | null; stderr: string }> {
  const { SSH_AUTH_SOCK: _agent, ...env } = process.env;
  const child = spawn(process.execPath, [bin, ...rotate], {
    cwd: lab.dir,
    env: { ...env, HOME: lab.dir },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  let sent = false;
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    if (sent || !when.test(stderr)) return;
    sent = child.kill('SIGINT');
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (code) => resolve({ code, stderr }));
  });
}
