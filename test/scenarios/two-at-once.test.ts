/** Two runs at once, here and elsewhere: one goes on, the other says why not (exit code 4) and touches nothing. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, fewHosts, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const rotate = ['encrypt', 'rotate-key'];
const leasePath = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/tsrke';

interface RingKey {
  readonly name: string;
  readonly secret: string;
  readonly retired?: string;
}

let opened: Lab | undefined;
let lab: Lab;

beforeAll(async () => {
  opened = lab = await openLab({ hosts: fewHosts, encryption: 'on', secrets: 20 });
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

function ring(state = lab.state): readonly RingKey[] {
  const { tsrke } = JSON.parse(readFileSync(state, 'utf8')) as { tsrke?: { keyRing: RingKey[] } };
  return tsrke?.keyRing ?? [];
}

const inUse = (keys: readonly RingKey[]) =>
  keys.filter(({ retired }) => retired === undefined).map(({ name }) => name);

async function onCluster() {
  const nodes = await Promise.all(
    lab.hosts.map(async (host) => {
      const { Id, State } = await host.inspect();
      return { id: Id, startedAt: State.StartedAt, file: await host.readFile(providerFile) };
    }),
  );
  return { nodes, stored: [...(await lab.etcd.prefixes())].toSorted() };
}

async function storedUnder(): Promise<string[]> {
  return [...new Set((await lab.etcd.prefixes()).values())];
}

/** Another machine: a folder with what an operator takes along, as of now. */
function elsewhere(name: string): { dir: string; state: string } {
  const dir = join(lab.dir, name);
  mkdirSync(dir);
  for (const file of ['cluster.yml', 'cluster.rkestate']) copyFileSync(join(lab.dir, file), join(dir, file));
  return { dir, state: join(dir, 'cluster.rkestate') };
}

async function refusedAsOlder({ dir, state }: ReturnType<typeof elsewhere>): Promise<void> {
  const before = { cluster: await onCluster(), state: readFileSync(state, 'utf8') };
  for (const command of [['up'], rotate]) {
    const ran = await lab.tsrke(command, { dir });
    expect(ran, ran.stderr).toMatchObject({ code: 4, stdout: '' });
    expect(ran.stderr).toMatch(/\(STATE_STALE\)/);
    expect(ran.stderr).toMatch(/^next: /m);
    expect({ cluster: await onCluster(), state: readFileSync(state, 'utf8') }).toEqual(before);
  }
}

it('a second run on this machine says who is at work; a copy of the state from before is refused', async () => {
  // RKE's own state: no serial of tsrke's tells which of the two is older.
  expect(ring()).toEqual([]);
  const copy = elsewhere('as-rke-left-it');
  let second: ReturnType<Lab['tsrke']> | undefined;
  const first = await lab.tsrke(rotate, {
    onOutput: (text) => {
      if (text.includes('restarting kube-apiserver')) second ??= lab.tsrke(rotate);
    },
  });
  const refused = await second;
  expect(first.code, first.stderr).toBe(0);
  expect(refused).toMatchObject({ code: 4, stdout: '' });
  const who = /locked by process \d+ on (\S+) since \d{4}-\S+ \(LOCKED\)/.exec(refused?.stderr ?? '');
  expect(who?.[1], refused?.stderr).toBe(hostname());
  expect(refused?.stderr).toMatch(/^next: wait for that run to end/m);
  // The one that was let through made one key, the other none.
  expect(ring()).toHaveLength(2);
  expect(await storedUnder()).toEqual([`k8s:enc:aescbc:v1:${inUse(ring())[0] ?? ''}:`]);
  await refusedAsOlder(copy);
});

it('two machines at the same moment: the Lease lets one through', async () => {
  const other = elsewhere('colleague');
  const before = ring();
  const ran = await Promise.all([lab.tsrke(rotate), lab.tsrke(rotate, { dir: other.dir })]);
  const said = ran.map(({ stderr }) => stderr).join('\n---\n');
  expect(ran.map(({ code }) => code).toSorted(), said).toEqual([0, 4]);
  const [mine, theirs] = ran;
  const [winner, loser] = mine.code === 0 ? [lab.state, theirs] : [other.state, mine];
  // LOCKED while the first is at work; had that one ended meanwhile, the second would find itself behind.
  expect(loser.stderr).toMatch(/\((LOCKED|STATE_STALE)\)/);
  expect(loser.stderr).toMatch(/^next: /m);
  expect(ring(winner)).toHaveLength(before.length + 1);
  expect(await storedUnder()).toEqual([`k8s:enc:aescbc:v1:${inUse(ring(winner))[0] ?? ''}:`]);

  // The loser's folder is the older one now, and learns so.
  await refusedAsOlder(winner === lab.state ? other : { dir: lab.dir, state: lab.state });
  copyFileSync(winner, join(lab.dir, 'newest'));
  copyFileSync(join(lab.dir, 'newest'), lab.state);
});

it('the Lease of a run that was killed on this machine holds nobody up', async () => {
  const [host] = lab.hosts;
  if (host === undefined) throw new Error('no host');
  const killed = await lab.tsrke(rotate, { killWhen: /state saved/ });
  expect(killed.signal, killed.stderr).toBe('SIGKILL');
  const lease = await lab.kube(host, 'GET', leasePath);
  const { spec } = JSON.parse(lease.text) as { spec: { holderIdentity?: string } };
  expect(spec.holderIdentity).toContain(`${hostname()}/`);
  const before = ring().length;
  const ran = await lab.tsrke(rotate);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stderr).not.toMatch(/waiting for the lock/);
  expect(ring()).toHaveLength(before);
});

it('RKE dropped our block from the state: the next up goes on, retired keys come from the copy in the cluster', async () => {
  const before = ring();
  expect(before.filter(({ retired }) => retired !== undefined).length).toBeGreaterThan(1);
  const document = JSON.parse(readFileSync(lab.state, 'utf8')) as { tsrke?: unknown };
  delete document.tsrke;
  writeFileSync(lab.state, JSON.stringify(document, undefined, 2));
  const cluster = (await onCluster()).nodes;
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toMatch(/^nothing to do/);
  expect((await onCluster()).nodes).toEqual(cluster);
  const plain = (keys: readonly RingKey[]) => keys.map(({ name, secret }) => `${name} ${secret}`).toSorted();
  expect(plain(ring())).toEqual(plain(before));
  expect(inUse(ring())).toEqual(inUse(before));
});
