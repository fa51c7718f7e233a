/** The cluster's own copy of the state: what it is when it can be read, and what becomes of a run when it cannot. */
import { expect, it, test } from 'vitest';
import { MemoryStore } from '../../src/lab/memory-store.ts';
import type { KubeApi, KubeRequest } from '../../src/ports.ts';
import { StateKeeper } from '../../src/state/keeper.ts';
import type { ClusterState } from '../../src/state/rkestate.ts';
import { Notes } from '../hosts/notes.ts';

const { signal } = new AbortController();
const name = 'full-cluster-state';
const undecryptable = 'Internal error occurred: no matching key was found for the provided AES transformer';

const state = (serial: number): ClusterState => ({
  document: { desiredState: {}, currentState: {} },
  tsrke: { formatVersion: 1, serial, lineage: 'lab', keyRing: [], loaded: {}, hostKeys: {} },
});

const copyOf = (serial: number) => {
  const { document, tsrke } = state(serial);
  return Buffer.from(JSON.stringify({ ...document, tsrke })).toString('base64');
};

type Answers = Readonly<
  Record<string, { readonly status: number; readonly message?: string; readonly serial?: number }>
>;

/** Nodes by what they answer to a GET of the copy; `ready: 500` where /readyz does. All else is done. */
function keeperOf(answers: Answers, notReady: readonly string[] = []) {
  const asked: (KubeRequest & { node: string })[] = [];
  const kube: KubeApi = {
    request(node, ask) {
      asked.push({ ...ask, node });
      const { status, message, serial } = answers[node] ?? { status: 404 };
      if (ask.path.startsWith('/readyz')) {
        return Promise.resolve({ status: notReady.includes(node) ? 500 : 200, headers: {}, text: '' });
      }
      if (ask.method !== 'GET') return Promise.resolve({ status: 200, headers: {}, text: '{}' });
      const body =
        serial === undefined
          ? { kind: 'Status', message }
          : { metadata: { resourceVersion: '7' }, data: { [name]: copyOf(serial) } };
      return Promise.resolve({ status, headers: {}, text: JSON.stringify(body) });
    },
  };
  const report = new Notes();
  const store = new MemoryStore(state(3));
  const keeper = new StateKeeper({
    store,
    kube,
    nodes: () => Object.keys(answers),
    hostKeys: () => ({}),
    report,
  });
  const written = () =>
    asked.filter(({ method }) => method !== 'GET').map(({ method, node }) => `${method} ${node}`);
  return { keeper, report, store, written };
}

const forbidden = { status: 403, message: `secrets "${name}" is forbidden` };
const noKey = { status: 500, message: undecryptable };

test('a copy that is not there is none', async () => {
  const { keeper, report, written } = keeperOf({ h1: { status: 404 } });
  expect(await keeper.meetCopy(state(3), signal)).toMatchObject({ agrees: false, lacks: [] });
  await keeper.save(state(3), true, signal);
  expect(written()).toEqual(['POST h1']);
  expect(report.notes).toEqual([': state saved (serial 4)']);
});

it.each([
  ['is forbidden', forbidden, `cannot be read (403): secrets "${name}" is forbidden`],
  ['is not to be had just now', { status: 503 }, 'cannot be read (503): kube-apiserver answered 503'],
])('a copy that %s may be newer than our file: the run ends, and says why', async (_why, answer, words) => {
  const { keeper } = keeperOf({ h1: answer });
  await expect(keeper.meetCopy(state(3), signal)).rejects.toMatchObject({
    code: 'KUBE',
    node: 'h1',
    message: `Secret kube-system/${name} ${words}`,
  });
});

test('one that no key opens is what a repair is for: it goes on, and says so', async () => {
  const { keeper, report, written } = keeperOf({ h1: noKey });
  expect(await keeper.meetCopy(state(3), signal)).toMatchObject({ agrees: false, lacks: [] });
  const saved = await keeper.save(state(3), false, signal);
  expect(saved.tsrke.serial).toBe(4);
  expect(written()).toEqual([]);
  expect(report.notes).toEqual([
    expect.stringMatching(/cannot be read .*no matching key was found.*; it follows once it can be read$/),
    ': state saved (serial 4)',
    expect.stringMatching(/could not be written .*no matching key was found.*; it follows later$/),
  ]);
});

test('it goes on, too, where no apiserver is ready', async () => {
  const { keeper, report } = keeperOf({ h1: forbidden }, ['h1']);
  expect(await keeper.meetCopy(state(3), signal)).toMatchObject({ agrees: false });
  await keeper.save(state(3), false, signal);
  expect(report.notes.join()).toContain('no apiserver is ready');
});

test('another apiserver that can read it is asked, and written through', async () => {
  const { keeper, written } = keeperOf({ h1: noKey, h2: { status: 200, serial: 3 } });
  expect(await keeper.meetCopy(state(3), signal)).toMatchObject({ agrees: true });
  await keeper.save(state(3), true, signal);
  expect(written()).toEqual(['PUT h2']);
});

test('what nobody could read is not left to lie in the clear, as keys may be in it', async () => {
  const { keeper, store } = keeperOf({ h1: noKey, h2: { status: 503 } });
  await expect(keeper.save(state(3), false, signal)).rejects.toMatchObject({
    code: 'KUBE',
    message: expect.stringContaining('keys in it might soon lie in the clear') as string,
  });
  expect(store.state.tsrke.serial).toBe(4);
  const encrypted = keeperOf({ h1: { status: 503 } });
  await encrypted.keeper.save(state(3), true, signal);
  expect(encrypted.report.notes.at(-1)).toContain('it follows later');
});
