/** Who must be there before anything changes: all that serve this cluster, reached, and the sick one first. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dump, load } from 'js-yaml';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { Lab, LabHost } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const commands = ['up', 'encrypt rotate-key'];

interface Node {
  readonly address: string;
}

let opened: Lab | undefined;
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
let config: string;
let rkeState: string;

beforeAll(async () => {
  opened = lab = await openLab({ hosts: 3, encryption: 'on', secrets: 30 });
  const [first, second, third] = lab.hosts;
  if (first === undefined || second === undefined || third === undefined) throw new Error('no three hosts');
  [h1, h2, h3] = [first, second, third];
  config = readFileSync(lab.config, 'utf8');
  rkeState = readFileSync(lab.state, 'utf8');
});

beforeEach(() => {
  writeFileSync(lab.config, config);
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

const startedAt = async (host: LabHost) => (await host.inspect()).State.StartedAt;

async function onNodes() {
  return await Promise.all(
    lab.hosts.map(async (host) => {
      const { Id, State } = await host.inspect();
      return { id: Id, startedAt: State.StartedAt, file: await host.readFile(providerFile) };
    }),
  );
}

async function everything() {
  const stored = [...(await lab.etcd.prefixes())].sort();
  return { nodes: await onNodes(), stored, state: readFileSync(lab.state, 'utf8') };
}

/** A state file from before h3 was there. */
function withoutH3(): void {
  const yaml = load(config) as { nodes: Node[] };
  yaml.nodes = yaml.nodes.filter(({ address }) => address !== h3.address);
  writeFileSync(lab.config, dump(yaml));
  const state = JSON.parse(rkeState) as Record<
    'desiredState' | 'currentState',
    { rkeConfig: { nodes: Node[] } }
  >;
  for (const { rkeConfig } of [state.desiredState, state.currentState]) {
    rkeConfig.nodes = rkeConfig.nodes.filter(({ address }) => address !== h3.address);
  }
  writeFileSync(lab.state, JSON.stringify(state, undefined, 2), { mode: 0o600 });
}

it.each(commands)('an apiserver that cluster.yml does not name stops the run: tsrke %s', async (command) => {
  withoutH3();
  try {
    const before = await everything();
    const ran = await lab.tsrke(command.split(' '));
    expect(ran, ran.stderr).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(new RegExp(`does not name: .*(${h3.address}|h3).* \\(MEMBER_UNKNOWN\\)`));
    expect(ran.stderr).toMatch(/^next: add it to `nodes:`/m);
    expect(await everything()).toEqual(before);
  } finally {
    writeFileSync(lab.state, rkeState, { mode: 0o600 });
  }
});

it('an unreachable node stops the run before anything is touched', async () => {
  const before = await everything();
  await h2.unplug();
  try {
    const ran = await lab.tsrke(['encrypt', 'rotate-key']);
    expect(ran, ran.stderr).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(/^h2: .*\(NODE_UNREACHABLE\)/m);
    expect(ran.stderr).toMatch(/^next: /m);
  } finally {
    await h2.plug();
  }
  await lab.ready();
  expect(await everything()).toEqual(before);
});

it('a node that does not become ready keeps all others from being restarted', async () => {
  const before = await onNodes();
  await h3.docker.getContainer('kube-apiserver').stop({ t: 1 });
  await h3.failStarts('no disk left');
  try {
    const ran = await lab.tsrke(['encrypt', 'rotate-key']);
    expect(ran, ran.stderr).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(/^h3: .*\(APISERVER_NOT_READY\)/m);
    expect(ran.stderr).toMatch(/^ {2}.*no disk left/m);
  } finally {
    await h3.letStart();
  }
  expect((await onNodes()).slice(0, 2)).toEqual(before.slice(0, 2));
});

it('a node that is not ready is worked on first, and its own key is kept readable', async () => {
  // Somebody gave h3 a file of its own: it serves, but cannot read what the others have stored.
  const own = { name: 'k-own', secret: randomBytes(32).toString('base64') };
  await h3.writeFile(
    providerFile,
    `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc: {keys: [${JSON.stringify(own)}]}\n  - identity: {}\n`,
    0o600,
  );
  await h3.docker.getContainer('kube-apiserver').restart({ t: 1 });
  const readyz = async () => (await lab.kube(h3, 'GET', '/readyz')).status;
  await expect.poll(readyz, { timeout: 60_000 }).toBe(500);
  const [at1, at2] = [await startedAt(h1), await startedAt(h2)];
  let othersWhenH3WasReady: string[] | undefined;
  let looking: Promise<void> | undefined;
  const ran = await lab.tsrke(['encrypt', 'rotate-key'], {
    onOutput: (text) => {
      if (looking !== undefined || !/h3 is ready/.test(text)) return;
      looking = Promise.all([startedAt(h1), startedAt(h2)]).then(
        (both) => void (othersWhenH3WasReady = both),
      );
    },
  });
  await looking;
  expect(ran.code, ran.stderr).toBe(0);
  expect([...ran.stderr.matchAll(/^ +(h\d) is ready/gm)][0]?.[1]).toBe('h3');
  expect(othersWhenH3WasReady).toEqual([at1, at2]);
  const { tsrke } = JSON.parse(readFileSync(lab.state, 'utf8')) as { tsrke: { keyRing: { name: string }[] } };
  expect(tsrke.keyRing.map(({ name }) => name)).toContain(own.name);
  expect(new Set((await lab.etcd.prefixes()).values()).size).toBe(1);
  for (const host of lab.hosts) {
    expect((await lab.kube(host, 'GET', '/api/v1/secrets')).status, host.name).toBe(200);
  }
  expect((await lab.tsrke(['up'])).stdout).toMatch(/^nothing to do/);
});
