/** Cut off anywhere, the same command again finishes it, makes no second key, and the clients never notice. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { load } from 'js-yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ClientCounts } from '../lab/clients.ts';
import type { Lab, TsrkeOptions } from '../lab/lab.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
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
  lab = await openLab({ hosts: 3, encryption: 'on', secrets: labName === 'real' ? 1000 : 200 });
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

interface Cut {
  readonly when: string;
  readonly at: RegExp;
  /** SIGINT in place of SIGKILL. */
  readonly interrupt?: true;
  /** Not at once, but when etcd has values under both keys. */
  readonly mixed?: true;
}

const cuts: readonly Cut[] = [
  { when: 'as soon as the state is saved', at: /state saved/ },
  { when: 'when the first node has the file', at: /restarting kube-apiserver/ },
  { when: 'between two restarts', at: /h\d is ready/ },
  { when: 'before the second restart of each', at: /write with the wanted key/, interrupt: true },
  { when: 'in the middle of the rewrite', at: /rewrite secrets/, mixed: true },
  { when: 'before the prune', at: /remove what is no longer needed/ },
  { when: 'in the middle of the prune', at: /remove what is no longer needed[^]*h\d is ready/ },
];

async function cutOff({ at, interrupt, mixed }: Cut): Promise<void> {
  if (interrupt) {
    const ran = await lab.tsrke(rotate, { signalWhen: { match: at, signal: 'SIGINT' } });
    expect(ran.code, ran.stderr).toBe(130);
    expect(ran.stderr).toMatch(/interrupted: finishing the step in hand/);
    expect(ran.stderr).toMatch(/^next: run the same command again/m);
  } else {
    const ran = await lab.tsrke(rotate, mixed ? whenMixed(at) : { killWhen: at });
    expect(ran.signal, ran.stderr).toBe('SIGKILL');
  }
  await collect();
}

/** Kills when `at` was said and etcd has values under two keys. */
function whenMixed(at: RegExp): TsrkeOptions {
  const kill = new AbortController();
  let said = '';
  let waiting: Promise<void> | undefined;
  const isMixed = async () => {
    const end = Date.now() + 60_000;
    while (Date.now() < end && new Set((await lab.etcd.prefixes()).values()).size < 2) await sleep(20);
    kill.abort();
  };
  return {
    kill: kill.signal,
    onOutput(text) {
      said += text;
      if (at.test(said)) waiting ??= isMixed();
    },
  };
}

async function finish(): Promise<void> {
  const again = await lab.tsrke(rotate);
  expect(again.code, again.stderr).toBe(0);
  expect(again.stderr).toMatch(/continuing the rotate of .* that was cut off; no further key is made/);
}

describe('rotate-key cut off', () => {
  const finished = async (all: readonly Cut[]) => {
    const before = await knownKeys();
    const clients = await lab.startClients();
    for (const cut of all) await cutOff(cut);
    await finish();
    await expectFinished(before, await clients.stop());
  };
  // A real rotation costs minutes: there one rotation is cut off everywhere, one time after the other.
  if (labName === 'real') it('again and again', () => finished(cuts));
  else for (const cut of cuts) it(cut.when, () => finished([cut]));
});
