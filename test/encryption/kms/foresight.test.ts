/** What is known of a key of a KMS before a rotation: from the plugins, else from the kube-apiservers. */
import { describe, expect, test } from 'vitest';
import type { ProviderFile } from '../../../src/encryption/configuration.ts';
import { isRewritten, keksInSight, newestOf, waitStepOf } from '../../../src/encryption/kms/foresight.ts';
import { hashOf } from '../../../src/encryption/kms/renewal.ts';
import type { Look } from '../../../src/encryption/observe.ts';
import type { World } from '../../../src/encryption/world.ts';
import { TsrkeError } from '../../../src/errors.ts';
import { isWaitNeeded } from '../../../src/encryption/preview.ts';
import { writeKeyOf } from '../../../src/encryption/configuration.ts';
import { Notes } from '../../hosts/notes.ts';

const file = (endpoint: string): ProviderFile => ({
  entries: [
    {
      resources: ['secrets'],
      providers: [{ kind: 'kms', apiVersion: 'v2', name: 'vault', endpoint }, { kind: 'identity' }],
    },
  ],
});
const socket = file('unix:///run/kms/a.sock');

interface Told {
  /** Of the key id that its kube-apiserver was told; undefined: none. */
  readonly apiserver?: string;
  /** undefined: it cannot be asked. */
  readonly plugin?: string;
}

async function sight(told: Readonly<Record<string, Told>>, target = socket) {
  const nodes = Object.keys(told);
  const container = { binds: ['/run/kms:/run/kms'] };
  const keks = [{ resource: 'secrets', stored: 'kms2:vault', keyId: 'kek-1', count: 5 }];
  const look = { members: nodes.map((node) => ({ node, container })), census: { keks } } as unknown as Look;
  const world = {
    binds: { wanted: [], former: [] },
    report: new Notes(),
    kube: {
      request: (node: string) => {
        const id = told[node]?.apiserver;
        const name = 'apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds';
        const labels = `{key_id_hash="${hashOf(id ?? '')}",provider_name="vault"}`;
        const text = id === undefined ? '' : `${name}${labels} 1\n`;
        return Promise.resolve({ status: 200, headers: {}, text });
      },
    },
    plugins: {
      plugin: (node: string) => ({
        status: () => {
          const keyId = told[node]?.plugin;
          if (keyId === undefined) throw new TsrkeError('KMS_UNHEALTHY', 'nobody there', { node });
          return Promise.resolve({ keyId });
        },
        close: () => undefined,
      }),
    },
  } as unknown as World;
  const found = await keksInSight(target, look, world, new AbortController().signal);
  return { found, keyId: found[0]?.keyId, step: waitStepOf(found, look) };
}

test.each<[string, Readonly<Record<string, Told>>, string | undefined]>([
  ['plugins hear of it first', { a: { apiserver: 'kek-1', plugin: 'kek-2' } }, 'kek-2'],
  ['plugins that differ', { a: { plugin: 'kek-2' }, b: { plugin: 'kek-1' } }, undefined],
  ['one plugin that cannot be asked', { a: { plugin: 'kek-2' }, b: { apiserver: 'kek-2' } }, undefined],
  ['no plugin that can be asked', { a: { apiserver: 'kek-1' }, b: { apiserver: 'kek-1' } }, 'kek-1'],
  ['nor all were told the same', { a: { apiserver: 'kek-1' }, b: {} }, undefined],
  ['nor one that etcd names', { a: { apiserver: 'kek-2' } }, undefined],
])('the key that all is to lie under: %s', async (_, told, expected) => {
  expect((await sight(told)).keyId).toBe(expected);
});

test('a plugin at an abstract socket is not asked', async () => {
  const told = { a: { apiserver: 'kek-1', plugin: 'kek-2' } };
  expect((await sight(told, file('unix:///@kms'))).keyId).toBe('kek-1');
});

test('who has which is told by name where anybody knows it', async () => {
  const { step } = await sight({
    a: { apiserver: 'kek-1', plugin: 'kek-2' },
    b: { apiserver: 'kek-3', plugin: 'kek-2' },
    c: { plugin: 'kek-2' },
  });
  expect(step.keys[0]).toEqual({
    ...{ provider: 'vault', keyId: 'kek-2' },
    nodes: [
      { node: 'a', apiserver: 'kek-1', plugin: 'kek-2' },
      { node: 'b', apiserver: hashOf('kek-3'), plugin: 'kek-2' },
      { node: 'c', plugin: 'kek-2' },
    ],
  });
  expect(isWaitNeeded([step])).toBe(true);
  expect(isWaitNeeded([(await sight({ a: { apiserver: 'kek-2', plugin: 'kek-2' } })).step])).toBe(false);
});

describe('what is stored again', () => {
  const write = writeKeyOf(socket, 'secrets');
  const known = newestOf([{ stored: 'kms2:vault', keyId: 'kek-2', nodes: [] }]);
  test.each([
    ['another key', { id: 'aescbc:k#1', kmsKeyId: undefined }, known, true],
    ['an older key id', { id: 'kms2:vault', kmsKeyId: 'kek-1' }, known, true],
    ['the newest', { id: 'kms2:vault', kmsKeyId: 'kek-2' }, known, false],
    [
      'one of which nobody can tell',
      { id: 'kms2:vault', kmsKeyId: 'kek-2' },
      new Map<string, string>(),
      undefined,
    ],
  ])('%s', (_, holding, newest, expected) => {
    expect(isRewritten(holding, write, newest)).toBe(expected);
  });
});
