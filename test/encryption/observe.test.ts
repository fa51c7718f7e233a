/** What etcd is seen to hold, whatever happens while it is counted. */
import { expect, test } from 'vitest';
import { keyId } from '../../src/encryption/key.ts';
import { observe } from '../../src/encryption/observe.ts';
import type { World } from '../../src/encryption/world.ts';
import { TsrkeError } from '../../src/errors.ts';
import { transformerFor } from '../../src/lab/storage.ts';
import type { Etcd } from '../../src/ports.ts';
import { parseState, withKeys, type ClusterState } from '../../src/state/rkestate.ts';
import { Notes } from '../hosts/notes.ts';
import { key, secretsFile } from './samples.ts';

const etcdKey = '/registry/secrets/default/db';

/** A page with one Secret under this key of the samples. */
const page = (name: string, more: boolean): Awaited<ReturnType<Etcd['range']>> => {
  const transformer = transformerFor(secretsFile(name), 'secrets', () => undefined);
  const value = Buffer.from(transformer.toStorage(Buffer.from('k8s\0 what was stored'), etcdKey));
  return { kvs: [{ key: Buffer.from(etcdKey), value, modRevision: 7n }], more, revision: 7n, clusterId: '1' };
};

const compacted = () =>
  new TsrkeError('ETCD', 'etcdserver: mvcc: required revision has been compacted', { next: 'ask anew' });

/** Answers one request after the other with these. */
function etcdOf(...answers: (() => Awaited<ReturnType<Etcd['range']>>)[]): Etcd {
  const left = [...answers];
  return {
    range: () => {
      const answer = left.shift();
      if (answer === undefined) return Promise.reject(new Error('nothing more was to be asked'));
      return new Promise((resolve) => {
        resolve(answer());
      });
    },
  } as Partial<Etcd> as Etcd;
}

function stateWith(...names: string[]): ClusterState {
  const state = parseState('{"desiredState":{},"currentState":{}}', 'it');
  const keyRing = withKeys(
    [],
    names.map((name) => key(name)),
    '2026-11-20T12:00:00.000Z',
    'rotate',
  );
  return { ...state, tsrke: { ...state.tsrke, keyRing } };
}

async function storedIn(...etcds: Etcd[]): Promise<(string | undefined)[]> {
  const world = {
    ...{ etcds, etcdPrefix: '/registry', keysElsewhere: [], report: new Notes() },
    members: () => Promise.resolve([]),
  } as Partial<World> as World;
  const { stored } = await observe(world, stateWith('a', 'b'), new AbortController().signal);
  return (stored.get('secrets') ?? []).map(({ id }) => id);
}

test('what was read at a revision that was compacted meanwhile counts no more', async () => {
  const throws = () => {
    throw compacted();
  };
  // Rewritten from a to b while it was counted.
  const etcd = etcdOf(
    () => page('a', true),
    throws,
    () => page('b', false),
  );
  expect(await storedIn(etcd)).toEqual([keyId(key('b'))]);
});

test('each of several etcds counts', async () => {
  const [first, second] = [etcdOf(() => page('a', false)), etcdOf(() => page('b', false))];
  expect(new Set(await storedIn(first, second))).toEqual(new Set([keyId(key('a')), keyId(key('b'))]));
});
