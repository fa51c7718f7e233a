/** `encrypt status` as a person sees it: a cluster in the middle of a rotation, one node down, one behind. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { span, statusView } from '../../src/cli/status-view.ts';
import type { StatusAnswer } from '../../src/provision/status.ts';
import { moduleOf, plain, showNode } from './screen.ts';

const hash = (digit: string) => digit.repeat(64);
const phases = ['read', 'write', 'rewrite', 'prune', 'record'] as const;
const base = { address: '10.0.0.1', reachable: true, ready: true, flag: true, hasLoaded: 'yes' } as const;
const key = { type: 'aescbc', writesOn: [], readsOn: ['cp-1', 'cp-2'] } as const;

const answer: StatusAnswer = {
  time: '2026-11-25T12:00:00.000Z',
  cluster: 'prod',
  asItShouldBe: false,
  encryption: 'on',
  clusterYml: 'on',
  warnings: [],
  writeKeys: [
    {
      ...key,
      name: 'k-old',
      fingerprint: '3c5a6f0a1b2c',
      state: 'active',
      ageSeconds: 400_000,
      writesOn: ['cp-1', 'cp-2'],
    },
  ],
  transition: {
    ...{ kind: 'rotate', started: '2026-11-25T11:58:01.000Z', phase: 'read' },
    from: 'secrets: aescbc:k-old,identity',
    to: 'secrets: aescbc:k-new,identity',
    steps: phases.map((phase, at) => ({ phase, state: at === 0 ? 'next' : 'to do' })),
  },
  nodes: [
    {
      ...{ ...base, node: 'cp-1', inStep: true, why: [], loaded: hash('a') },
      onDisk: { sha256: hash('a'), owner: 0, mode: '0600' },
    },
    {
      ...{ ...base, node: 'cp-2', inStep: false, loaded: hash('b') },
      onDisk: { sha256: hash('b'), owner: 0, mode: '0600' },
      why: ['has secrets: aescbc:k-old,identity; its next file is still to come'],
    },
    {
      ...{
        ...base,
        node: 'cp-3',
        reachable: false,
        ready: false,
        flag: false,
        hasLoaded: 'no',
        inStep: false,
      },
      why: ['cannot be reached: no SSH connection to 203.0.113.13 port 22 as user rancher within 15 s'],
    },
  ],
  keys: [
    {
      ...key,
      name: 'k-old',
      fingerprint: '3c5a6f0a1b2c',
      state: 'active',
      created: '2026-11-20T20:53:20.000Z',
      stored: 1204,
    },
    {
      ...key,
      name: 'k-new',
      fingerprint: '99e0aa21b7c4',
      state: 'read-only',
      created: '2026-11-25T11:58:01.000Z',
      stored: 0,
    },
    { ...key, type: 'identity', name: '', state: 'read-only', stored: 3 },
  ],
  census: {
    total: 5678,
    at: [{ clusterId: '1', revision: '90210' }],
    resources: [
      {
        resource: 'secrets',
        provider: 'aescbc',
        name: 'k-old',
        count: 1204,
        refused: 0,
        samples: [],
        asWanted: false,
      },
      {
        resource: 'secrets',
        provider: 'identity',
        name: '',
        count: 3,
        refused: 0,
        samples: [],
        asWanted: false,
      },
    ],
    others: { resources: 31, objects: 4471 },
  },
  problems: [
    { kind: 'node-not-in-step', node: 'cp-2', text: '', next: '' },
    { kind: 'node-unreachable', node: 'cp-3', text: '', next: '' },
    { kind: 'transition-open', text: 'a change is open: rotate', next: '' },
  ],
  next: 'make cp-3 reachable; `tsrke up` then does what is left',
};

const page = `Encryption of secrets is on
  write key    aescbc k-old, fingerprint 3c5a6f0a1b2c, 4 days old, on cp-1, cp-2
  cluster.yml  asks for encryption on
  open change  rotate, begun 2026-11-25 11:58 UTC
               from secrets: aescbc:k-old,identity
               to secrets: aescbc:k-new,identity
               ▸ every node can read what is in use
               · every node writes with the wanted key
               · all objects are rewritten, and etcd shows it
               · what is no longer needed is removed
               · the state says so
NODE  READY  FLAG  ON DISK       LOADED        IN STEP
cp-1  yes    yes   aaaaaaaaaaaa  aaaaaaaaaaaa  yes
cp-2  yes    yes   bbbbbbbbbbbb  bbbbbbbbbbbb  no
      has secrets: aescbc:k-old,identity; its next file is still to come
cp-3  –      –     –             –             no
      cannot be reached: no SSH connection to 203.0.113.13 port 22 as user
      rancher within 15 s
TYPE      NAME   FINGERPRINT   STATE      CREATED (UTC)     OBJECTS
aescbc    k-old  3c5a6f0a1b2c  active     2026-11-20 20:53     1204
aescbc    k-new  99e0aa21b7c4  read-only  2026-11-25 11:58        0
identity  –      –             read-only  –                       3
STORED   UNDER                  OBJECTS
secrets  aescbc:k-old              1204  not the wanted key
secrets  identity (plain text)        3  not the wanted key
5678 values in etcd at revision 90210, 4471 not to be encrypted (31 kinds)
⚠ not all is as it should be
  a change is open: rotate
  see above: cp-2, cp-3
next: make cp-3 reachable; \`tsrke up\` then does what is left`.split('\n');

test.each([50, 60, 80, 120])('nothing is wider than %i columns', (width) => {
  for (const line of statusView(answer, plain, width).split('\n'))
    expect(line.length).toBeLessThanOrEqual(width);
});

test.each([50, 60, 80, 120])(
  'the containers of KMS plugins have a column of their own, %i columns wide',
  (width) => {
    const [first, ...others] = answer.nodes;
    const plugins = (['running', 'not-wanted'] as const).map((state) => ({
      socket: '/run/kms/a.sock',
      state,
    }));
    const nodes = first === undefined ? [] : [{ ...first, plugins }, ...others];
    const lines = statusView({ ...answer, nodes }, plain, width).split('\n');
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(width);
    if (width < 80) return;
    expect(lines).toContain('NODE  READY  FLAG  ON DISK       LOADED        PLUGIN            IN STEP');
    expect(lines).toContain('cp-1  yes    yes   aaaaaaaaaaaa  aaaaaaaaaaaa  runs, not wanted  yes');
    expect(lines).toContain('cp-2  yes    yes   bbbbbbbbbbbb  bbbbbbbbbbbb  –                 no');
  },
);

test.each([
  [1, '1 second'],
  [119, '119 seconds'],
  [120, '2 minutes'],
  [7_200, '2 hours'],
  [90_000, '25 hours'],
  [400_000, '4 days'],
])('%i seconds are %s', (seconds, words) => {
  expect(span(seconds)).toBe(words);
});

describe('on a terminal', () => {
  let folder = '';
  let script = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tsrke-status-view-'));
    script = join(folder, 'status.mjs');
    writeFileSync(
      script,
      `import { answer } from '${moduleOf('answer')}';
       import { statusView } from '${moduleOf('status-view')}';
       const seen = ${JSON.stringify(answer)};
       await answer({ output: 'text', debug: false }, async () => ({
         text: (paint, width) => statusView(seen, paint, width), document: seen, exitCode: 2,
       }));`,
    );
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('80 columns: colours for marks alone', async () => {
    const shown = await showNode([script]);
    expect(shown.lines).toEqual(page);
    expect(shown.code).toBe(2);
    // Bold, dim and the terminal's own yellow: text keeps the colour of text, light or dark.
    const used = [...shown.written.matchAll(/\u001b\[([\d;]+)m/g)].map(([, code]) => code);
    expect(new Set(used)).toEqual(new Set(['1', '22', '2', '33', '39']));
  });

  test('60 columns: nothing wraps that is not broken on purpose', async () => {
    const shown = await showNode([script], { columns: 60 });
    const whole = statusView(answer, plain, 60)
      .split('\n')
      .filter((line) => line !== '');
    expect(shown.lines).toEqual(whole);
  });

  test('NO_COLOR: the same words', async () => {
    const shown = await showNode([script], { env: { NO_COLOR: '1' } });
    expect(shown.lines).toEqual(page);
    expect(shown.written).not.toContain('\u001b');
  });
});
