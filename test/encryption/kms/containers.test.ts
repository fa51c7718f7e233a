import { expect, test } from 'vitest';
import {
  definitionOf,
  nextKmsMove,
  outlineOf,
  pluginsOn,
  spareContainers,
  withoutCredentials,
} from '../../../src/encryption/kms/containers.ts';
import type { KmsContainer } from '../../../src/ports.ts';

const wish = { image: 'kms:1', command: [], env: ['TOKEN=geheim'], binds: [], socket: '/run/kms/a.sock' };
const wanted = definitionOf(wish);
const there: KmsContainer = {
  name: 'tsrke-kms-kms-1',
  socket: wish.socket,
  hash: wanted.hash,
  running: true,
  startedAt: '',
  hasFormer: false,
  interrupted: false,
};

test.each([
  ['none', undefined, 'create'],
  ['as wanted', there, undefined],
  ['stopped', { ...there, running: false }, 'finish'],
  ['cut off before anything was in its place', { ...there, interrupted: true }, 'finish'],
  ['of another definition', { ...there, hash: 'other' }, 'exchange'],
  ['exchanged, not proved', { ...there, hasFormer: true, interrupted: true }, 'back'],
  ['another one exchanged, not proved', { ...there, hash: 'other', hasFormer: true }, 'back'],
] as const)('%s', (_name, seen, move) => {
  expect(nextKmsMove(wanted, seen)).toBe(move);
});

test.each([
  ['none', [], [{ socket: wish.socket, state: 'missing' }]],
  ['as wanted', [there], 'running'],
  ['stopped', [{ ...there, running: false }], 'stopped'],
  ['stopped and of another definition', [{ ...there, running: false, hash: 'other' }], 'stopped'],
  ['of another definition', [{ ...there, hash: 'other' }], 'other-definition'],
  ['cut off', [{ ...there, interrupted: true }], 'unfinished'],
  ['exchanged, not proved', [{ ...there, hash: 'other', hasFormer: true }], 'unfinished'],
] as const)('a look at one that is there: %s', (_name, seen, state) => {
  const told = typeof state === 'string' ? [{ socket: wish.socket, state, container: there.name }] : state;
  expect(pluginsOn([wanted], seen)).toEqual(told);
});

test('a look at those that cluster.yml names no more comes last', () => {
  const other = { ...there, socket: '/run/kms/b.sock', name: 'tsrke-kms-kms-2' };
  expect(pluginsOn([wanted], [other, there]).map(({ state }) => state)).toEqual(['running', 'not-wanted']);
  expect(pluginsOn([], [other])).toEqual([
    { socket: other.socket, state: 'not-wanted', container: other.name },
  ]);
});

test('each part of a definition makes another one, a value of its environment too', () => {
  const changes = [{ image: 'b' }, { command: ['b'] }, { env: ['TOKEN=b'] }, { binds: ['/b:/b'] }];
  const hashes = changes.map((change) => definitionOf({ ...wish, ...change }).hash);
  expect(new Set([wanted.hash, ...hashes]).size).toBe(5);
  expect(JSON.stringify(outlineOf(wish))).not.toContain('geheim');
});

test('those that cluster.yml names no more', () => {
  expect(spareContainers([wanted], [there])).toEqual([]);
  expect(spareContainers([], [there])).toEqual([there]);
});

test('log lines have no value of the environment, the longest taken out first', () => {
  const lines = withoutCredentials(
    ['user admin, password admin-2, level 1'],
    ['A=admin', 'B=admin-2', 'C=1'],
  );
  expect(lines).toEqual(['user [redacted], password [redacted], level 1']);
});
