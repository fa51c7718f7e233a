import { expect, test } from 'vitest';
import { durationOf, inWords } from '../../src/config/duration.ts';
import { writeKeyAges, writesWarning } from '../../src/encryption/age.ts';
import { localKeysOf, parseProviderFile } from '../../src/encryption/configuration.ts';

const day = 86_400_000;
const now = new Date('2026-04-01T00:00:00Z');
const daysAgo = (days: number) => new Date(now.getTime() - days * day).toISOString();
const file = parseProviderFile(
  JSON.stringify({
    kind: 'EncryptionConfiguration',
    resources: [
      {
        resources: ['secrets'],
        providers: [{ aesgcm: { keys: [{ name: 'new', secret: Buffer.alloc(32, 1).toString('base64') }] } }],
      },
      {
        resources: ['configmaps'],
        providers: [{ kms: { apiVersion: 'v2', name: 'vault', endpoint: 'unix:///s' } }],
      },
      { resources: ['pods'], providers: [{ identity: {} }] },
    ],
  }),
  'it',
);
const ring = (created: string) => localKeysOf(file).map((key) => ({ ...key, created, why: 'rotate' }));

test.each([
  ['90d', 90 * day],
  ['2160h', 90 * day],
  ['1d12h30m', 1.5 * day + 1_800_000],
  ['0', 0],
  ['90', undefined],
  ['1.5d', undefined],
  ['-1d', undefined],
  ['', undefined],
])('durationOf %s', (text, expected) => expect(durationOf(text)).toBe(expected));

test.each([
  [90.9 * day, '90 days'],
  [day, '1 day'],
  [5_400_000, '1 hour'],
  [120_000, '2 minutes'],
])('inWords %d', (time, expected) => expect(inWords(time)).toBe(expected));

test.each([
  { name: 'younger', local: 89, kek: 10, due: [] },
  { name: 'just as old', local: 90, kek: 10, due: ['aesgcm:new'] },
  { name: 'the one of a KMS', local: 1, kek: 91, due: ['kms2:vault'] },
])('$name: what is due', ({ local, kek, due }) => {
  const block = { keyRing: ring(daysAgo(local)), keks: { 'kms2:vault': { since: daysAgo(kek) } } };
  const ages = writeKeyAges(file, block, now, 90 * day);
  expect(ages.map(({ stored, age }) => [stored, age])).toEqual([
    ['aesgcm:new', local * day],
    ['kms2:vault', kek * day],
  ]);
  expect(ages.filter((each) => each.due).map(({ stored }) => stored)).toEqual(due);
  expect(writeKeyAges(file, block, now, 0).some((each) => each.due)).toBe(false);
});

test('a key of which nobody knows the age is due, unless there is no limit', () => {
  expect(writeKeyAges(file, { keyRing: [] }, now, day).map((each) => [each.age, each.due])).toEqual([
    [undefined, true],
    [undefined, true],
  ]);
  expect(writeKeyAges(file, { keyRing: [] }, now).every(({ due }) => !due)).toBe(true);
});

test.each([
  { name: 'few', key: 'aesgcm:k', servers: [{ count: 30_000, over: day }], age: day, warns: false },
  {
    name: 'half of all',
    key: 'aesgcm:k',
    servers: [
      { count: 50_000, over: day },
      { count: 50_000, over: day },
    ],
    age: day,
    warns: true,
  },
  {
    name: 'few since a restart, at a rate that tells',
    key: 'aesgcm:k',
    servers: [{ count: 2_000, over: day }],
    age: 60 * day,
    warns: true,
  },
  {
    name: 'no server tells, but so many objects lie there',
    key: 'aesgcm:k',
    servers: [],
    age: undefined,
    objects: 150_000,
    warns: true,
  },
  {
    name: 'a provider without such a limit',
    key: 'aescbc:k',
    servers: [{ count: 1e9, over: day }],
    age: day,
    warns: false,
  },
])('writes: $name', ({ key, servers, age, objects = 10, warns }) => {
  const text = writesWarning({ stored: key, age }, servers, objects);
  if (warns) expect(text).toMatch(/^about \d{6} values were written under aesgcm:k; .* before 200000: run/);
  else expect(text).toBeUndefined();
});
