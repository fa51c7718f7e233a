/** A plan as a person sees it: a rotation of secrets and custom resources on nodes with long names. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { planView } from '../../src/cli/plan.ts';
import type { PlanDocument } from '../../src/encryption/plan-document.ts';
import { moduleOf, plain, showNode } from './screen.ts';

const nodes = ['a', 'b', 'c'].map((zone) => `controlplane-eu-central-1${zone}-01.prod.internal.example.com`);
const both = 'secrets+widgets.example.com: aescbc:key-2026-08#3c5a6f0a1b2c';
const before = `${both},identity`;
const target =
  'secrets+widgets.example.com: aescbc:key-2026-11,identity; configmaps+certificates.cert-manager.io: secretbox:cm#c2e4d6f8a0b1,identity';
const read = `${both},aescbc:key-2026-11,identity; configmaps+certificates.cert-manager.io: secretbox:cm#c2e4d6f8a0b1,identity`;

const plan: PlanDocument = {
  ...{ type: 'plan', formatVersion: 1, time: '2026-11-25T12:00:00.000Z', cluster: 'prod' },
  ...{ action: 'up', somethingToDo: true },
  note: 'an interrupted rotation is taken up again',
  change: { kind: 'rotate', from: before, to: target },
  keys: [
    { key: 'aescbc:key-2026-11', becomes: 'made' },
    { key: 'aescbc:key-2026-08#3c5a6f0a1b2c', becomes: 'retired' },
  ],
  due: ['write key aescbc:key-2026-08 of secrets is 97 days old, and max_key_age says 90 days'],
  differences: ['kubernetes_version: v1.30.14-rancher1-1, the state has v1.29.9-rancher1-1'],
  steps: [
    {
      ...{ line: 'plugins' },
      nodes: [{ node: nodes[0] ?? '', socket: '/var/run/kmsplugin/socket.sock', container: 'recreated' }],
    },
    {
      ...{ line: 'read', file: read },
      nodes: nodes.map((node, at) => ({
        ...{ node, providerFile: 'written' },
        apiserver: at === 0 ? 'recreated' : 'restarted',
      })),
    },
    {
      line: 'rewrite',
      resources: [
        { resource: 'secrets', objects: 20_000 },
        { resource: 'certificates.cert-manager.io', objects: 1 },
        { resource: 'widgets.example.com' },
      ],
    },
    {
      ...{ line: 'prune', file: target },
      nodes: [{ node: nodes[2] ?? '', providerFile: 'removed', apiserver: 'left alone' }],
    },
  ],
  ...{ restarts: 3, objects: 20_001 },
  estimate: {
    ...{ seconds: 96, perRestart: 10, rewrites: 300 },
    basis: '10 s are taken for a restart; the speed of rewriting was measured by reading',
  },
  world: { state: { serial: 7, sha256: '' }, wanted: '', nodes: [], stored: {} },
};

const page = `an interrupted rotation is taken up again
write key aescbc:key-2026-08 of secrets is 97 days old, and max_key_age says
  90 days
kubernetes_version: v1.30.14-rancher1-1, the state has v1.29.9-rancher1-1
tsrke up would do this
  what  rotate
  from  secrets+widgets.example.com: aescbc:key-2026-08#3c5a6f0a1b2c,identity
  to    secrets+widgets.example.com: aescbc:key-2026-11,identity;
        configmaps+certificates.cert-manager.io:
        secretbox:cm#c2e4d6f8a0b1,identity
1. run the KMS plugins of cluster.yml
   controlplane-eu-central-1a-01.prod.internal.example.com: recreate the
     container of the KMS plugin at /var/run/kmsplugin/socket.sock
2. make every key readable on every node
   secrets+widgets.example.com:
     aescbc:key-2026-08#3c5a6f0a1b2c,aescbc:key-2026-11,identity;
     configmaps+certificates.cert-manager.io: secretbox:cm#c2e4d6f8a0b1,identity
   controlplane-eu-central-1a-01.prod.internal.example.com: write the provider
     file, recreate kube-apiserver
   controlplane-eu-central-1b-01.prod.internal.example.com: write the provider
     file, restart kube-apiserver
   controlplane-eu-central-1c-01.prod.internal.example.com: write the provider
     file, restart kube-apiserver
3. rewrite, and prove it in etcd
   secrets: 20000 objects
   certificates.cert-manager.io: 1 object
   widgets.example.com: nobody can count them just now
4. remove what is no longer needed
   secrets+widgets.example.com: aescbc:key-2026-11,identity;
     configmaps+certificates.cert-manager.io: secretbox:cm#c2e4d6f8a0b1,identity
   controlplane-eu-central-1c-01.prod.internal.example.com: remove the
     provider file
key aescbc:key-2026-11 is made
key aescbc:key-2026-08#3c5a6f0a1b2c is retired; the state keeps it, because
  old snapshots need it
3 restarts, 20001 objects to rewrite, about 96 seconds (10 s are taken for a
restart; the speed of rewriting was measured by reading)
nothing was changed
keep this plan with \`--out plan.json\` for \`tsrke up --plan plan.json\``.split('\n');

const linesOf = (text: string) => text.split('\n').filter((line) => line !== '');

test.each([64, 80, 120])('nothing is wider than %i columns', (width) => {
  for (const line of linesOf(planView(plan, undefined, plain, width))) {
    expect(line.length, line).toBeLessThanOrEqual(width);
  }
});

test('where the keys are those that are there, nobody reads `adopt`', () => {
  const text = planView(
    { ...plan, change: { kind: 'adopt', from: before, to: before } },
    undefined,
    plain,
    80,
  );
  expect(linesOf(text)).toContain('  what  bring every node in step');
});

describe('on a terminal', () => {
  let folder = '';
  let script = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tsrke-plan-view-'));
    script = join(folder, 'plan.mjs');
    writeFileSync(
      script,
      `import { answer } from '${moduleOf('answer')}';
       import { planView } from '${moduleOf('plan')}';
       const plan = ${JSON.stringify(plan)};
       await answer({ output: 'text', debug: false }, async () => ({
         text: (paint, width) => planView(plan, undefined, paint, width), document: plan, exitCode: 2,
       }));`,
    );
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('80 columns: colours for marks alone', async () => {
    const shown = await showNode([script]);
    expect(shown.lines).toEqual(page);
    expect(shown.code).toBe(2);
    // Bold and dim: text keeps the colour of text, light or dark.
    const used = [...shown.written.matchAll(/\u001b\[([\d;]+)m/g)].map(([, code]) => code);
    expect(new Set(used)).toEqual(new Set(['1', '22', '2']));
  });

  test.each([64, 120])('%i columns: nothing wraps that is not broken on purpose', async (columns) => {
    const shown = await showNode([script], { columns });
    expect(shown.lines).toEqual(linesOf(planView(plan, undefined, plain, columns)));
  });

  test('NO_COLOR: the same words', async () => {
    const shown = await showNode([script], { env: { NO_COLOR: '1' } });
    expect(shown.lines).toEqual(page);
    expect(shown.written).not.toContain('\u001b');
  });

  test('no terminal: the same words, 80 columns, no colours', async () => {
    const shown = await promisify(execFile)(process.execPath, [script]).catch((error: unknown) => {
      return error as { stdout: string; code: number };
    });
    expect(linesOf(shown.stdout)).toEqual(page);
    expect(shown).toMatchObject({ code: 2 });
  });
});
