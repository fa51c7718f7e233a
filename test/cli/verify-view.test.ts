/** The report of `encrypt verify`, for the screen and to be filed. */
import { expect, test } from 'vitest';
import { verifyMarkdown, verifyView } from '../../src/cli/verify-view.ts';
import type { Verification } from '../../src/provision/verify.ts';

const hash = 'a'.repeat(64);
const row = { read: 204, gone: 0, failed: 0, resource: 'secrets' };
const key = {
  ...({ type: 'aescbc', name: 'k-new', fingerprint: '99e0aa21b7c4', state: 'active', stored: 204 } as const),
  ...{ created: '2026-11-20T20:53:20.000Z', ageSeconds: 400_000 },
  ...{ writesOn: ['cp-1', 'cp-2'], readsOn: ['cp-1', 'cp-2'] },
};

const proved: Verification = {
  ...{
    type: 'encryption-verification',
    cluster: 'prod_eu',
    proved: true,
    encryption: 'on',
    clusterYml: 'on',
  },
  ...{ begun: '2026-11-25T12:00:00.000Z', ended: '2026-11-25T12:01:09.000Z' },
  warnings: [],
  writeKeys: [key],
  nodes: ['cp-1', 'cp-2'].map((node) => ({
    ...{ node, address: '10.0.0.1', reachable: true, ready: true, flag: true, hasLoaded: 'yes' },
    ...{ onDisk: { sha256: hash, owner: 0, mode: '0600' }, loaded: hash, inStep: true, why: [] },
  })),
  keys: [key],
  census: {
    ...{ total: 1069, at: [{ clusterId: '1', revision: '90210' }], others: { resources: 41, objects: 865 } },
    resources: [
      {
        ...{ resource: 'secrets', provider: 'aescbc', name: 'k-new', count: 204, refused: 0 },
        ...{ samples: [], asWanted: true },
      },
    ],
  },
  readings: ['cp-1', 'cp-2'].map((node) => ({ node, ...row })),
  findings: [],
};
const [first, second] = proved.nodes as [Verification['nodes'][number], Verification['nodes'][number]];
const broken: Verification = {
  ...proved,
  proved: false,
  nodes: [first, { ...second, inStep: false, why: ['has loaded another file than the one on its disk'] }],
  readings: [
    { node: 'cp-1', ...row },
    { node: 'cp-2', ...row, read: 201, gone: 2, failed: 1 },
  ],
  findings: [
    {
      ...{ kind: 'object-unreadable', node: 'cp-2', resource: 'secrets', count: 1, samples: ['ns/a'] },
      ...{ text: 'cannot decrypt 1 secrets (e.g. ns/a): no | key_s', next: '`tsrke up` gives it the keys' },
    },
    { kind: 'transition-open', text: 'a change is open: rotate', next: '`tsrke encrypt resume` finishes it' },
  ],
};

const mark = (name: string) => (text: string) => `<${name}>${text}</${name}>`;
const plain = (text: string) => text;
const paint = { bold: plain, dim: plain, green: mark('green'), yellow: mark('yellow') };

test('proved: what was looked at, when, and the sentence at the end', () => {
  const text = verifyView(proved, { ...paint, green: plain }, 80);
  expect(text).toMatch(/^Encryption of secrets is on\n {2}cluster {6}prod_eu\n/);
  expect(text).toContain('\n  looked at    2026-11-25 12:00:00 to 12:01:09 UTC\n');
  expect(text).toContain('\nTHROUGH  RESOURCE  READ  GONE  FAILED\ncp-1     secrets    204     0       0\n');
  expect(text).toMatch(
    /\n\n✔ proved: 204 objects, each under the key that is wanted, and each read through\ncp-1, cp-2$/,
  );
});

test('off as asked is no proof of encryption, and does not sound like one', () => {
  const text = verifyView({ ...proved, encryption: 'off', clusterYml: 'off' }, paint, 200);
  expect(text).toMatch(/✔ encryption is off, as cluster\.yml says: 204 objects in plain text, each read/);
  expect(text).not.toContain('proved');
});

test('not proved: figures that stand out, and what to type below each finding', () => {
  const text = verifyView(broken, paint, 80);
  expect(text).toMatch(/cp-2 +secrets +201 +2 +<yellow>1<\/yellow>\n/);
  expect(text).toContain(
    [
      '<yellow>⚠ not proved: 2 findings</yellow>',
      '  cp-2: cannot decrypt 1 secrets (e.g. ns/a): no | key_s',
      '    next: `tsrke up` gives it the keys',
      '  a change is open: rotate',
      '    next: `tsrke encrypt resume` finishes it',
    ].join('\n'),
  );
});

test.each([50, 80, 120])('nothing is wider than %i columns', (width) => {
  for (const line of verifyView(broken, { ...paint, yellow: plain }, width).split('\n'))
    expect(line.length).toBeLessThanOrEqual(width);
});

test('Markdown: a table for each thing, names that hold its marks, findings as a list', () => {
  expect(verifyMarkdown(broken)).toBe(`# Encryption of secrets in prod\\_eu: not proved

⚠ not proved: 2 findings.

- Encryption of secrets is on
- write key: aescbc k-new, fingerprint 99e0aa21b7c4, 4 days old
- cluster.yml: asks for encryption on
- looked at: 2026-11-25 12:00:00 to 12:01:09 UTC

## Nodes

| NODE | READY | FLAG | ON DISK | LOADED | IN STEP |
| --- | --- | --- | --- | --- | --- |
| cp-1 | yes | yes | aaaaaaaaaaaa | aaaaaaaaaaaa | yes |
| cp-2 | yes | yes | aaaaaaaaaaaa | aaaaaaaaaaaa | no |

- cp-2: has loaded another file than the one on its disk

## Keys

| TYPE | NAME | FINGERPRINT | STATE | CREATED (UTC) | OBJECTS |
| --- | --- | --- | --- | --- | ---: |
| aescbc | k-new | 99e0aa21b7c4 | active | 2026-11-20 20:53 | 204 |

## What etcd holds

| STORED | UNDER | OBJECTS |  |
| --- | --- | ---: | --- |
| secrets | aescbc:k-new | 204 |  |

1069 values in etcd at revision 90210, 865 not to be encrypted (41 kinds)

## Read through each kube-apiserver

| THROUGH | RESOURCE | READ | GONE | FAILED |
| --- | --- | ---: | ---: | ---: |
| cp-1 | secrets | 204 | 0 | 0 |
| cp-2 | secrets | 201 | 2 | 1 |

## Findings

- **object-unreadable** cp-2: cannot decrypt 1 secrets (e.g. ns/a): no \\| key\\_s
  - next: \`tsrke up\` gives it the keys
- **transition-open** a change is open: rotate
  - next: \`tsrke encrypt resume\` finishes it`);
});
