/** `encrypt status` in every phase and in every trouble: it says what is so and what to do, and touches nothing. */
import { readFileSync, writeFileSync } from 'node:fs';
import { load, dump } from 'js-yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { StatusAnswer } from '../../src/provision/status.ts';
import type { Lab, LabHost } from '../lab/lab.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const everywhere = labName === 'memory';

let opened: Lab | undefined;
let lab: Lab;
let host: LabHost;
let on: string;

beforeAll(async () => {
  opened = lab = await openLab({ hosts: everywhere ? 3 : 1, encryption: 'on', secrets: 30 });
  host = lab.hosts.at(-1) as LabHost;
  on = readFileSync(lab.config, 'utf8');
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

function ask(encryption: 'on' | 'off'): void {
  const yaml = load(on) as { services: Record<string, unknown> };
  if (encryption === 'off') delete yaml.services['kube-api'];
  writeFileSync(lab.config, encryption === 'on' ? on : dump(yaml));
}

async function world() {
  const nodes = await Promise.all(
    lab.hosts.map(async (each) => {
      const { Id, State } = await each.inspect();
      return { id: Id, startedAt: State.StartedAt, file: await each.readFile(providerFile) };
    }),
  );
  return {
    nodes,
    state: readFileSync(lab.state, 'utf8'),
    stored: [...(await lab.etcd.prefixes())].toSorted(),
  };
}

/** Looks, and makes sure that it did nothing else. */
async function status(): Promise<StatusAnswer & { code: number | null }> {
  const before = await world();
  const ran = await lab.tsrke(['encrypt', 'status', '--check', '--output', 'json']);
  expect(await world()).toEqual(before);
  expect(ran.stderr).toBe('');
  const seen = JSON.parse(ran.stdout) as StatusAnswer;
  expect(ran.code, ran.stdout).toBe(seen.asItShouldBe ? 0 : 2);
  for (const secret of before.state.matchAll(/secret: ?(\S+?)(\\n|")/g))
    expect(ran.stdout).not.toContain(secret[1]);
  return { ...seen, code: ran.code };
}

const kinds = ({ problems }: StatusAnswer) => [...new Set(problems.map(({ kind }) => kind))];

async function finish(): Promise<void> {
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  expect(await status()).toMatchObject({ code: 0, problems: [] });
}

const titles = {
  read: /make every key readable/,
  write: /write with the wanted key/,
  rewrite: /rewrite secrets/,
  prune: /remove what is no longer/,
} as const;

/** The phases of each change, and what nodes do in them. On the real lab each takes seconds, so there it is one. */
const changes: readonly {
  readonly change: 'enable' | 'rotate' | 'disable';
  readonly phases: readonly (readonly [phase: keyof typeof titles, encryption: 'on' | 'off'])[];
}[] = everywhere
  ? [
      {
        change: 'rotate',
        phases: [
          ['read', 'on'],
          ['write', 'on'],
          ['rewrite', 'on'],
          ['prune', 'on'],
        ],
      },
      {
        change: 'disable',
        phases: [
          ['write', 'on'],
          ['rewrite', 'off'],
          ['prune', 'off'],
        ],
      },
      {
        change: 'enable',
        phases: [
          ['read', 'off'],
          ['write', 'off'],
          ['rewrite', 'on'],
        ],
      },
    ]
  : [{ change: 'rotate', phases: [['rewrite', 'on']] }];

it('a cluster as RKE left it: on, in step, and everything under the one key', async () => {
  const seen = await status();
  expect(seen).toMatchObject({ code: 0, encryption: 'on', problems: [], writeKeys: [{ type: 'aescbc' }] });
  expect(seen.nodes.map(({ node, inStep }) => [node, inStep])).toEqual(
    lab.hosts.map(({ name }) => [name, true]),
  );
  if ('unavailable' in seen.census) throw new Error(seen.census.unavailable);
  expect(seen.census.resources).toMatchObject([{ resource: 'secrets', asWanted: true }]);
  expect(seen.census.resources[0]?.count).toBe((await lab.etcd.prefixes()).size);
  const text = await lab.tsrke(['encrypt', 'status']);
  expect(text.stdout).toMatch(/^Encryption of secrets is on\n/);
  expect(text.stdout).toMatch(/✔ all is as the state and cluster\.yml say\n$/);
});

for (const { change, phases } of changes) {
  it(`${change}, cut off again and again: each phase is told, and the command that is named goes on`, async () => {
    ask(change === 'disable' ? 'off' : 'on');
    let command = change === 'rotate' ? ['encrypt', 'rotate-key'] : ['up'];
    for (const [phase, encryption] of phases) {
      const killed = await lab.tsrke(command, { killWhen: titles[phase] });
      expect(killed.signal, killed.stderr).toBe('SIGKILL');
      const seen = await status();
      expect(seen).toMatchObject({ encryption, transition: { kind: change, phase } });
      expect(kinds(seen)).toContain('transition-open');
      expect(seen.atWork).toBeUndefined();
      expect(seen.next).toMatch(/^`tsrke encrypt resume` finishes/);
      command = ['encrypt', 'resume'];
    }
    const resumed = await lab.tsrke(command);
    expect(resumed.code, resumed.stderr).toBe(0);
    const seen = await status();
    expect(seen).toMatchObject({ code: 0, problems: [], encryption: change === 'disable' ? 'off' : 'on' });
  });
}

// On a real host it takes half a minute more, and shows nothing else.
if (everywhere) {
  it('beside a run that is at work: it says so, and neither disturbs the other', async () => {
    let beside: Promise<{ stdout: string; code: number | null }> | undefined;
    const ran = await lab.tsrke(['encrypt', 'rotate-key'], {
      onOutput: (text) => {
        if (text.includes('write with'))
          beside ??= lab.tsrke(['encrypt', 'status', '--check', '--output', 'json']);
      },
    });
    expect(ran.code, ran.stderr).toBe(0);
    const looked = await beside;
    const seen = JSON.parse(looked?.stdout ?? '') as StatusAnswer;
    expect(seen.atWork).toMatch(/^process \d+ on /);
    expect(seen.next).toMatch(/^wait for the run that is at work/);
    expect(looked?.code).toBe(2);
  });
}

it('a node with another file, and one with the right file but the old one loaded: up mends both', async () => {
  const good = (await host.readFile(providerFile)) ?? '';
  // What is loaded is still the old one; nothing is restarted.
  await host.writeFile(providerFile, good.replace(/name: \S+/, 'name: somebody-elses'), 0o600);
  const wrong = await status();
  expect(kinds(wrong)).toEqual(['node-not-in-step']);
  expect(wrong.nodes.at(-1)).toMatchObject({ node: host.name, inStep: false, hasLoaded: 'no' });
  await host.writeFile(providerFile, good, 0o600);
  expect(await status()).toMatchObject({ code: 0, problems: [] });

  // Other bytes of the same meaning: on the disk the right file, in memory the one before.
  await host.writeFile(providerFile, `# by hand\n${good}`, 0o600);
  const old = await status();
  expect(old.problems).toMatchObject([{ kind: 'node-not-in-step', node: host.name }]);
  expect(old.problems[0]?.text).toMatch(/has loaded another file than the one on its disk/);
  expect(old.nodes.at(-1)?.loaded).not.toBe(old.nodes.at(-1)?.onDisk?.sha256);
  expect(old.next).toMatch(/`tsrke up`/);
  await finish();
});

it('a file that everybody on the node can read', async () => {
  const good = (await host.readFile(providerFile)) ?? '';
  await host.writeFile(providerFile, good, 0o644);
  const seen = await status();
  expect(seen.problems).toMatchObject([{ kind: 'file-exposed', node: host.name }]);
  await host.writeFile(providerFile, good, 0o600);
});

it('objects in plain text that an enable of RKE left behind are found, counted, and encrypted by up', async () => {
  const state = JSON.parse(readFileSync(lab.state, 'utf8')) as Record<string, { encryptionConfig?: string }>;
  const text = state['currentState']?.encryptionConfig ?? '';
  const key = /- name: (\S+)\n\s+secret: (\S+)/.exec(text);
  const plainFirst = text.replace(
    /providers:[\s\S]*/,
    `providers:\n  - identity: {}\n  - aescbc:\n      keys:\n      - name: ${key?.[1] ?? ''}\n        secret: ${key?.[2] ?? ''}`,
  );
  const loadEverywhere = async (file: string) => {
    for (const each of lab.hosts) {
      await each.writeFile(providerFile, file, 0o600);
      await each.docker.getContainer('kube-apiserver').restart();
    }
    await lab.ready();
  };
  await loadEverywhere(plainFirst);
  await lab.createSecrets(7, { prefix: 'left-plain' });
  await loadEverywhere(text);
  // RKE writes both halves, and nothing of tsrke's, neither here nor in the cluster's own copy.
  delete state['tsrke'];
  writeFileSync(lab.state, JSON.stringify(state, undefined, 2));
  await lab.etcd.del('/registry/secrets/kube-system/full-cluster-state');

  const seen = await status();
  expect(seen.problems).toMatchObject([{ kind: 'plaintext', resource: 'secrets' }]);
  expect(seen.problems[0]?.text).toMatch(/^7 secrets lie in plain text \(e\.g\. default\/left-plain-00001/);
  expect(seen.keys.find(({ type }) => type === 'identity')).toMatchObject({ stored: 7 });
  await finish();
  expect([...(await lab.etcd.prefixes()).values()]).not.toContain('');
});

it('a node that is off the network is a row; where it is the only one, so is etcd', async () => {
  await host.unplug();
  try {
    const before = readFileSync(lab.state, 'utf8');
    const ran = await lab.tsrke(['encrypt', 'status', '--check', '--output', 'json']);
    expect(ran.code, ran.stderr).toBe(2);
    expect(ran.seconds).toBeLessThan(60);
    const seen = JSON.parse(ran.stdout) as StatusAnswer;
    expect(seen.nodes.at(-1)).toMatchObject({ node: host.name, reachable: false, inStep: false });
    expect(seen.next).toMatch(new RegExp(`^make ${host.name} reachable`));
    expect(seen.encryption).toBe(everywhere ? 'on' : 'unknown');
    expect('unavailable' in seen.census).toBe(!everywhere);
    expect(readFileSync(lab.state, 'utf8')).toBe(before);
  } finally {
    await host.plug();
    await lab.ready();
  }
});

it('no kube-apiserver serves: etcd and the files are still shown', async () => {
  for (const each of lab.hosts) await each.docker.getContainer('kube-apiserver').stop();
  const seen = await status();
  expect(kinds(seen)).toEqual(['node-not-ready']);
  expect(
    seen.nodes.every(({ reachable, ready, onDisk }) => reachable && !ready && onDisk !== undefined),
  ).toBe(true);
  expect(seen.census).toMatchObject({ resources: [{ resource: 'secrets', asWanted: true }] });
  for (const each of lab.hosts) await each.docker.getContainer('kube-apiserver').start();
  await lab.ready();
  expect(await status()).toMatchObject({ code: 0, problems: [] });
});
