/** What RKE can leave behind (its state's two halves, the node's file, etcd): `tsrke up` finishes it. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dump, load } from 'js-yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Lab, LabHost } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';

interface NamedKey {
  readonly name: string;
  readonly secret: string;
}

interface StateFile {
  desiredState: { encryptionConfig?: string };
  currentState: { encryptionConfig?: string };
  tsrke?: { keyRing: (NamedKey & { retired?: string })[] };
}

let lab: Lab;
let host: LabHost;
let on: string;

beforeAll(async () => {
  lab = await openLab({ hosts: 1, encryption: 'on', secrets: 30 });
  const [first] = lab.hosts;
  if (first === undefined) throw new Error('the lab has no host');
  host = first;
  on = readFileSync(lab.config, 'utf8');
});

afterAll(async () => {
  await (lab as Lab | undefined)?.close();
  await closeLabs();
});

// --- by hand, as RKE does it --------------------------------------------------------------------------------

/** RKE's text; 'identity' is a place in the list of providers. */
function textOf(...providers: readonly (NamedKey | 'identity')[]): string {
  const lines = providers.map((each, index) => {
    if (each === 'identity') return '  - identity: {}\n';
    const head = typeof providers[index - 1] === 'object' ? '' : '  - aescbc:\n      keys:\n';
    return `${head}      - name: ${each.name}\n        secret: ${each.secret}\n`;
  });
  return `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources:\n  - secrets\n  providers:\n${lines.join('')}`.trimEnd();
}

let made = 0;
function rkeKey(): NamedKey {
  made += 1;
  const hex = randomBytes(16).toString('hex').toUpperCase();
  return { name: `k-rke${made}`, secret: Buffer.from(hex).toString('base64') };
}

async function loadOnNode(text: string): Promise<void> {
  await host.writeFile(providerFile, text, 0o600);
  await host.docker.getContainer('kube-apiserver').restart();
  await lab.ready();
}

function stateFile(): StateFile {
  return JSON.parse(readFileSync(lab.state, 'utf8')) as StateFile;
}

/** The state as RKE leaves it: these two texts, nothing of tsrke's, neither here nor in the cluster's own copy. */
async function leave(current: string | undefined, desired: string | undefined): Promise<void> {
  const state = stateFile();
  delete state.tsrke;
  for (const [half, text] of [
    [state.currentState, current],
    [state.desiredState, desired],
  ] as const) {
    delete half.encryptionConfig;
    if (text !== undefined) half.encryptionConfig = text;
  }
  writeFileSync(lab.state, JSON.stringify(state, undefined, 2));
  await lab.etcd.del('/registry/secrets/kube-system/full-cluster-state');
}

function ask(encryption: 'on' | 'off'): void {
  const yaml = load(on) as { services: Record<string, unknown> };
  if (encryption === 'off') delete yaml.services['kube-api'];
  writeFileSync(lab.config, encryption === 'on' ? on : dump(yaml));
}

/** Encryption is on, by tsrke's own means where it must be; the key in force. */
async function keyInForce(): Promise<NamedKey> {
  ask('on');
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  const [key] = keysIn((await host.readFile(providerFile)) ?? '');
  if (key === undefined) throw new Error('there is no key on the node');
  return key;
}

function keysIn(text: string): NamedKey[] {
  const file = load(text) as { resources: { providers: Record<string, { keys?: NamedKey[] } | null>[] }[] };
  return file.resources
    .flatMap(({ providers }) => providers)
    .flatMap((provider) => Object.values(provider).flatMap((each) => each?.keys ?? []));
}

const stored = () => storedPrefixes(lab.etcd);
const under = (key: NamedKey) => `k8s:enc:aescbc:v1:${key.name}:`;

// --- the table ----------------------------------------------------------------------------------------------

interface Row {
  readonly row: string;
  readonly asked: 'on' | 'off';
  /** What RKE left: nodes, secrets and state; resolves to what etcd must show first. */
  readonly prepare: (k: NamedKey, next: NamedKey) => Promise<unknown>;
  /** In which key everything ends; undefined: in none. */
  readonly ends?: 'k' | 'next';
  readonly mixed: boolean;
  /** Whether both keys were ever used. */
  readonly both: boolean;
  readonly says: RegExp;
}

let series = 0;
const someSecrets = () => lab.createSecrets(10, { prefix: `left-${(series += 1)}` });

const rows: readonly Row[] = [
  {
    row: '[new, old] and [old]: a rotation cut off in its rewrite',
    asked: 'on',
    async prepare(k, next) {
      await loadOnNode(textOf(next, k, 'identity'));
      await someSecrets();
      await leave(textOf(next, k, 'identity'), textOf(k, 'identity'));
    },
    ends: 'next',
    mixed: true,
    both: true,
    says: /a rotation to key k-rke\d+ was interrupted/,
  },
  {
    row: '[new] and [old]: a rotation that never reached desiredState, all rewritten',
    asked: 'on',
    async prepare(k, next) {
      await loadOnNode(textOf(next, k, 'identity'));
      await leave(textOf(next, k, 'identity'), textOf(k, 'identity'));
      // tsrke rewrites quicker than this test could by hand; then RKE's texts are put in place.
      const ran = await lab.tsrke(['up']);
      expect(ran.code, ran.stderr).toBe(0);
      await loadOnNode(textOf(next, 'identity'));
      await leave(textOf(next, 'identity'), textOf(k, 'identity'));
    },
    ends: 'next',
    mixed: false,
    both: true,
    says: /had reached the nodes but not desiredState/,
  },
  {
    row: '[k] and [k], but some are still plain',
    asked: 'on',
    async prepare(k) {
      await loadOnNode(textOf('identity', k));
      await someSecrets();
      await loadOnNode(textOf(k, 'identity'));
      await leave(textOf(k, 'identity'), textOf(k, 'identity'));
    },
    ends: 'k',
    mixed: true,
    both: false,
    says: /rewrite secrets/,
  },
  {
    row: 'nothing and [k]: an enable cut off in its rewrite',
    asked: 'on',
    async prepare(k) {
      await loadOnNode(textOf('identity', k));
      await someSecrets();
      await loadOnNode(textOf(k, 'identity'));
      await leave(undefined, textOf(k, 'identity'));
    },
    ends: 'k',
    mixed: true,
    both: false,
    says: /an enable with key \S+ was interrupted/,
  },
  {
    row: '[k] and nothing: a disable cut off with the file as it was',
    asked: 'off',
    async prepare(k) {
      await loadOnNode(textOf(k, 'identity'));
      await leave(textOf(k, 'identity'), undefined);
    },
    mixed: false,
    both: false,
    says: /rewrite secrets/,
  },
  {
    row: '[k] and nothing: a disable cut off in its rewrite',
    asked: 'off',
    async prepare(k) {
      await loadOnNode(textOf('identity', k));
      await someSecrets();
      await leave(textOf(k, 'identity'), undefined);
    },
    mixed: true,
    both: false,
    says: /rewrite secrets/,
  },
  {
    row: '[k] and nothing: a disable cut off with the file already gone',
    asked: 'off',
    async prepare(k) {
      await loadOnNode(textOf('identity', k));
      await host.removeFile(providerFile);
      await leave(textOf(k, 'identity'), undefined);
    },
    mixed: false,
    both: false,
    says: /rewrite secrets/,
  },
  {
    row: '[k] and nothing, but cluster.yml asks for encryption again',
    asked: 'on',
    async prepare(k) {
      await loadOnNode(textOf('identity', k));
      await someSecrets();
      await leave(textOf(k, 'identity'), undefined);
    },
    ends: 'k',
    mixed: true,
    both: false,
    says: /rewrite secrets/,
  },
  {
    row: '[new, old] and nothing: a disable after a rotation cut off, which hides the old key',
    asked: 'off',
    async prepare(k, next) {
      await loadOnNode(textOf(next, k, 'identity'));
      await someSecrets();
      await host.writeFile(providerFile, textOf('identity', next), 0o600);
      await host.docker.getContainer('kube-apiserver').restart();
      await leave(textOf(next, k, 'identity'), undefined);
    },
    mixed: true,
    both: true,
    says: /rewrite secrets/,
  },
];

// Real restarts take their time: there each of RKE's changes once, cut off at its worst.
const tried =
  labName === 'memory'
    ? rows
    : rows.filter(({ row }) =>
        [
          '[new, old] and [old]: a rotation cut off in its rewrite',
          'nothing and [k]: an enable cut off in its rewrite',
          '[new, old] and nothing: a disable after a rotation cut off, which hides the old key',
        ].includes(row),
      );

it('an untouched cluster of RKE: nothing to do, nothing restarted', async () => {
  const containers = async () => {
    const all = await host.docker.listContainers();
    const names = all.flatMap(({ Names }) => Names.map((name) => name.slice(1))).toSorted();
    return Promise.all(
      names.map(async (name) => {
        const { Id, State } = await host.inspect(name);
        return { name, Id, startedAt: State.StartedAt };
      }),
    );
  };
  const before = await containers();
  const file = await host.readFile(providerFile);
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toMatch(/^nothing to do/);
  expect(await containers()).toEqual(before);
  expect(await host.readFile(providerFile)).toBe(file);
});

describe('up finishes', () => {
  const finishes = async ({ asked, prepare, ends, mixed, both, says }: Row) => {
    const k = await keyInForce();
    const next = rkeKey();
    await prepare(k, next);
    ask(asked);
    expect(await stored()).toHaveLength(mixed ? 2 : 1);
    const ran = await lab.tsrke(['up']);
    expect(ran.code, ran.stderr).toBe(0);
    expect.soft(ran.stderr).toMatch(says);
    const last = ends === 'next' ? next : ends === 'k' ? k : undefined;
    expect(await stored()).toEqual([last === undefined ? '' : under(last)]);
    const file = await host.readFile(providerFile);
    expect(file === undefined ? undefined : keysIn(file)).toEqual(last === undefined ? undefined : [last]);
    // Retired keys of rows before come back from the cluster's own copy of the state.
    const ring = stateFile().tsrke?.keyRing ?? [];
    const plain = ring.map(({ name, secret }) => ({ name, secret }));
    expect(plain).toEqual(expect.arrayContaining(both ? [k, next] : [k]));
    expect(ring.filter((key) => key.retired === undefined).map(({ name }) => name)).toEqual(
      last === undefined ? [] : [last.name],
    );
    const listed = await lab.kube(host, 'GET', '/api/v1/secrets');
    expect(listed.status, listed.text.slice(0, 300)).toBe(200);
    const again = await lab.tsrke(['up']);
    expect(again.stdout).toMatch(/^nothing to do/);
  };
  for (const row of tried) {
    it(row.row, () => finishes(row));
  }
});

it('a rotation that RKE rolled back: values under a key that nobody has stop the run, nothing is touched', async () => {
  const k = await keyInForce();
  const lost = rkeKey();
  await loadOnNode(textOf(lost, k, 'identity'));
  await someSecrets();
  await host.writeFile(providerFile, textOf(k, 'identity'), 0o600);
  await host.docker.getContainer('kube-apiserver').restart();
  // It serves, but is never ready: its cache of secrets cannot be filled.
  await expect
    .poll(async () => (await lab.kube(host, 'GET', '/version')).status, { timeout: 60_000 })
    .toBe(200);
  await leave(textOf(k, 'identity'), textOf(k, 'identity'));
  const { StartedAt } = (await host.inspect()).State;
  const state = readFileSync(lab.state, 'utf8');
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(3);
  expect(ran.stderr).toContain(lost.name);
  expect((await host.inspect()).State.StartedAt).toBe(StartedAt);
  expect(await host.readFile(providerFile)).toBe(textOf(k, 'identity'));
  expect(stateFile().currentState).toEqual((JSON.parse(state) as StateFile).currentState);
  expect(await stored()).toEqual([under(k), under(lost)].toSorted());
});
