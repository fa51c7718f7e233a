/** Going back, or on, from every place where a change can be cut off. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const abort = ['encrypt', 'abort'];

const lines = {
  read: /make every key readable on every node/,
  write: /write with the wanted key/,
  rewrite: /rewrite secrets/,
  prune: /remove what is no longer needed/,
} as const;

type Line = keyof typeof lines;
type Change = 'enable' | 'rotate' | 'disable';
type Cut = 'SIGKILL' | 'SIGINT';

interface Row {
  readonly change: Change;
  readonly line: Line;
  readonly cut: Cut;
  readonly then: 'abort' | 'abort, killed and run again' | 'resume';
}

/** In this order: what is resumed takes the cluster to where the next change begins. */
const all: readonly Row[] = [
  { change: 'enable', line: 'read', cut: 'SIGKILL', then: 'abort' },
  { change: 'enable', line: 'write', cut: 'SIGINT', then: 'abort' },
  { change: 'enable', line: 'rewrite', cut: 'SIGKILL', then: 'abort, killed and run again' },
  { change: 'enable', line: 'rewrite', cut: 'SIGINT', then: 'resume' },
  { change: 'rotate', line: 'read', cut: 'SIGINT', then: 'abort' },
  { change: 'rotate', line: 'write', cut: 'SIGKILL', then: 'abort' },
  { change: 'rotate', line: 'rewrite', cut: 'SIGINT', then: 'abort, killed and run again' },
  { change: 'rotate', line: 'prune', cut: 'SIGKILL', then: 'abort' },
  { change: 'rotate', line: 'prune', cut: 'SIGINT', then: 'abort' },
  { change: 'rotate', line: 'write', cut: 'SIGKILL', then: 'resume' },
  { change: 'disable', line: 'write', cut: 'SIGKILL', then: 'abort' },
  { change: 'disable', line: 'rewrite', cut: 'SIGINT', then: 'abort' },
  { change: 'disable', line: 'prune', cut: 'SIGINT', then: 'abort, killed and run again' },
  { change: 'disable', line: 'prune', cut: 'SIGKILL', then: 'resume' },
];

const nameOf = ({ change, line, cut, then }: Row) => `${change} cut off at ${line} by ${cut}: ${then}`;

/** Real restarts take their time: there each change once, and each way on. */
const few = all.filter((row) =>
  [
    'enable cut off at write by SIGINT: abort',
    'enable cut off at rewrite by SIGINT: resume',
    'rotate cut off at rewrite by SIGINT: abort, killed and run again',
    'disable cut off at write by SIGKILL: abort',
  ].includes(nameOf(row)),
);

interface RingKey {
  readonly name: string;
  readonly retired?: string;
}

// One node is tried at every effect on the model (test/memory).
const hosts = labName === 'memory' ? 3 : 1;

describe(`${hosts} node(s)`, () => {
  let opened: Lab | undefined;
  let lab: Lab;
  let off: string;

  beforeAll(async () => {
    opened = lab = await openLab({ hosts, encryption: 'off', secrets: 30 });
    off = readFileSync(lab.config, 'utf8');
  });

  afterEach(async () => {
    for (const host of lab.hosts) {
      expect((await lab.kube(host, 'GET', '/api/v1/secrets')).status, host.name).toBe(200);
    }
  });

  afterAll(async () => {
    await opened?.close();
    await closeLabs();
  });

  const stateText = () => readFileSync(lab.state, 'utf8');

  function ring(): readonly RingKey[] {
    const { tsrke } = JSON.parse(stateText()) as { tsrke?: { keyRing: RingKey[] } };
    return tsrke?.keyRing ?? [];
  }

  const retired = () => ring().flatMap((key) => (key.retired === undefined ? [] : [key.name]));
  const inUse = () => ring().flatMap((key) => (key.retired === undefined ? [key.name] : []));

  function ask(encryption: 'on' | 'off'): void {
    const enabled = 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}';
    writeFileSync(lab.config, encryption === 'on' ? off.replace('services:', enabled) : off);
  }

  /** The key that all is under; undefined: none, without flag and file. */
  async function expectUnder(key: string | undefined): Promise<void> {
    const prefix = key === undefined ? '' : `k8s:enc:aescbc:v1:${key}:`;
    expect([...new Set((await lab.etcd.prefixes()).values())]).toEqual([prefix]);
    for (const host of lab.hosts) {
      const text = await host.readFile(providerFile);
      const names =
        text === undefined ? undefined : [...text.matchAll(/name: (\S+)/g)].map(([, name]) => name);
      expect(names, host.name).toEqual(key === undefined ? undefined : [key]);
      const flag = (await host.inspect()).Args.some((arg) => arg.startsWith('--encryption-provider-config='));
      expect(flag, host.name).toBe(key !== undefined);
    }
    expect(inUse()).toEqual(key === undefined ? [] : [key]);
  }

  async function cutOff(args: string[], at: RegExp, cut: Cut): Promise<void> {
    const how = cut === 'SIGKILL' ? { killWhen: at } : { signalWhen: { match: at, signal: cut } };
    const ran = await lab.tsrke(args, how);
    expect(ran, ran.stderr).toMatchObject(cut === 'SIGKILL' ? { signal: cut } : { code: 130 });
  }

  async function finishes(args: string[]): Promise<string> {
    const ran = await lab.tsrke(args);
    expect(ran.code, ran.stderr).toBe(0);
    return ran.stderr;
  }

  const rows = labName === 'memory' ? all : few;
  it.each(rows.map((row) => [nameOf(row), row] as const))('%s', async (_name, row) => {
    const [before] = inUse();
    ask(row.change === 'disable' ? 'off' : 'on');
    await cutOff(row.change === 'rotate' ? ['encrypt', 'rotate-key'] : ['up'], lines[row.line], row.cut);
    const known = ring().map(({ name }) => name);
    const made = known.find((name) => name !== before && !retired().includes(name));

    if (row.then === 'resume') {
      expect(await finishes(['encrypt', 'resume'])).toMatch(new RegExp(`continuing the ${row.change} of `));
      await expectUnder(row.change === 'disable' ? undefined : made);
      if (before !== undefined) expect(retired()).toContain(before);
    } else {
      if (row.then !== 'abort') await cutOff(abort, /h1 is ready/, 'SIGKILL');
      const said = await finishes(abort);
      const going =
        row.then === 'abort' ? `going back from the ${row.change} of ` : 'continuing the abort of ';
      expect(said).toContain(going);
      const asks = row.change === 'enable' ? 'on' : 'off';
      if (row.change === 'rotate') expect(said).not.toMatch(/still asks/);
      else
        expect(said).toContain(
          `cluster.yml still asks for encryption ${asks}: the next \`tsrke up\` goes there`,
        );
      await expectUnder(before);
      if (made !== undefined) expect(retired()).toContain(made);
      if (row.change !== 'rotate' && row.then === 'abort') {
        // What cluster.yml still asks for is not what was cut off.
        expect(await lab.tsrke(['encrypt', 'resume'])).toMatchObject({ code: 3, stdout: '' });
        await expectUnder(before);
      }
    }
    // Not one key more, not one less.
    expect(ring().map(({ name }) => name)).toEqual(known);
  });

  it.each(['abort', 'resume'])(
    'nothing is open: encrypt %s ends with exit code 3 and touches nothing',
    async (command) => {
      const nodes = () =>
        Promise.all(
          lab.hosts.map(async (host) => [
            (await host.inspect()).State.StartedAt,
            await host.readFile(providerFile),
          ]),
        );
      const before = { nodes: await nodes(), state: stateText(), stored: [...(await lab.etcd.prefixes())] };
      const ran = await lab.tsrke(['encrypt', command]);
      expect(ran, ran.stderr).toMatchObject({ code: 3, stdout: '' });
      expect(ran.stderr).toMatch(/\(NOTHING_OPEN\)/);
      expect({ nodes: await nodes(), state: stateText(), stored: [...(await lab.etcd.prefixes())] }).toEqual(
        before,
      );
    },
  );
});
