import { expect, test } from 'vitest';
import { expectAcceptable } from '../../src/encryption/acceptable.ts';
import type { ProviderFile } from '../../src/encryption/configuration.ts';
import type { MemberLook } from '../../src/encryption/observe.ts';
import type { Line } from '../../src/encryption/plan.ts';
import { secretsFile } from './samples.ts';

function member(minor: number | undefined, ...args: string[]): MemberLook {
  const container = {
    running: true,
    startedAt: '',
    args,
    binds: [],
    image: '',
    hostname: '',
    interrupted: false,
  };
  return {
    ...{ node: 'n0', flag: true, file: undefined, loaded: 'yes', ready: true, path: '/p', onDisk: undefined },
    ...{ container, minor, binds: 'as wanted', reloadFlag: 'as wanted', failing: [], reload: undefined },
  };
}

const push = (file: ProviderFile | undefined): Line[] => [
  { kind: 'rewrite', resources: ['secrets'] },
  { kind: 'write', pushes: [{ node: 'n0', file, fallback: undefined }], state: file ?? { entries: [] } },
];
const kmsV1 = push({
  entries: [
    {
      resources: ['secrets'],
      providers: [
        { kind: 'kms', apiVersion: 'v1', name: 'aws', endpoint: 'unix:///s' },
        { kind: 'identity' },
      ],
    },
  ],
});

test('files that the servers take pass, at their own version', () => {
  expect(() =>
    expectAcceptable(push(secretsFile('a,identity')), [member(34)], { minor: 30, reload: 'off' }),
  ).not.toThrow();
  expect(() => expectAcceptable(push(undefined), [member(34)], { minor: 30, reload: 'off' })).not.toThrow();
  expect(() => expectAcceptable(kmsV1, [member(28)], { minor: 30, reload: 'off' })).not.toThrow();
  const gate = '--feature-gates=KMSv1=true';
  expect(() => expectAcceptable(kmsV1, [member(34, gate)], { minor: 30, reload: 'off' })).not.toThrow();
  expect(() => expectAcceptable(kmsV1, [member(undefined)], { minor: 28, reload: 'off' })).not.toThrow();
});

test.each([
  ['the live server counts, not cluster.yml', member(34), 28],
  ['without an answer cluster.yml counts', member(undefined), 34],
])('refused in the server’s own words: %s', (_, each, minor) => {
  expect(() => expectAcceptable(kmsV1, [each], { minor, reload: 'off' })).toThrow(
    expect.objectContaining({
      code: 'PROVIDER_FILE_INVALID',
      message: expect.stringContaining('KMSv1 is deprecated') as string,
      next: expect.stringContaining('write `apiVersion: v2`') as string,
    }),
  );
});

test('automatic reload that is yet to come counts: KMS v1 names are then unique in the file', () => {
  const [entry] = (kmsV1.at(-1) as Extract<Line, { state: unknown }>).state.entries;
  if (entry === undefined) throw new Error('no entry');
  const twice = push({ entries: [entry, { ...entry, resources: ['configmaps'] }] });
  const judge = (reload: 'on' | 'off') => () => expectAcceptable(twice, [member(28)], { minor: 28, reload });
  expect(judge('off')).not.toThrow();
  expect(judge('on')).toThrow(expect.objectContaining({ code: 'PROVIDER_FILE_INVALID' }));
});
