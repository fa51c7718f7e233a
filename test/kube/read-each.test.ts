import { expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import type { Resource } from '../../src/kube/outcome.ts';
import { Pace } from '../../src/kube/pace.ts';
import { readEach, type ObjectName, type ReadEachOptions } from '../../src/kube/read-each.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import type { KubeRequest, KubeResponse } from '../../src/ports.ts';
import { answer, status } from './fake-kube.ts';

const secrets: Resource = {
  group: '',
  version: 'v1',
  resource: 'secrets',
  namespaced: true,
  etcdPath: 'secrets',
};
const ok = answer(200, { kind: 'PartialObjectMetadata' });
const unreached = () => new TsrkeError('KUBE', 'kube-apiserver did not answer', { node: 'cp-1' });
const undecryptable = () =>
  status(
    500,
    'InternalError',
    'Internal error occurred: no matching key was found for the provided AES transformer',
    '',
  );
const missing = (name: string) => status(404, 'NotFound', `secrets "${name}" not found`, name);

interface Given extends Partial<ReadEachOptions<ObjectName>> {
  readonly count: number;
  /** `number` counts the requests for this very object. */
  readonly answers?: (name: string, number: number) => KubeResponse | Error;
}

async function given({ count, answers = () => ok, ...more }: Given) {
  const requests: KubeRequest[] = [];
  const times = new Map<string, number>();
  let [inFlight, most] = [0, 0];
  const clock = new VirtualClock();
  async function* objects() {
    for (let at = 1; at <= count; at += 1)
      yield await Promise.resolve({ namespace: 'default', name: `s-${at}` });
  }
  const read = readEach({
    kube: {
      async request(_node, request) {
        requests.push(request);
        const name = request.path.split('/').at(-1) ?? '';
        times.set(name, (times.get(name) ?? 0) + 1);
        inFlight += 1;
        most = Math.max(most, inFlight);
        await clock.sleep(5, new AbortController().signal);
        inFlight -= 1;
        const said = answers(name, times.get(name) ?? 0);
        if (said instanceof Error) throw said;
        return said;
      },
    },
    node: 'cp-1',
    resource: secrets,
    objects: objects(),
    pace: new Pace({ start: 4, most: 8, easy: 150 }),
    isStored: () => Promise.resolve(true),
    clock,
    signal: new AbortController().signal,
    random: () => 0.5,
    ...more,
  });
  return { result: await read, requests, most: () => most, times, clock };
}

test('each object by itself, metadata alone, never from a cache, and never more at a time than the pace allows', async () => {
  const done: number[] = [];
  const { result, requests, most } = await given({ count: 300, onDone: () => done.push(1) });
  expect(result).toEqual({ read: 300, gone: 0, failures: [], silent: undefined });
  expect(done).toHaveLength(300);
  expect(requests).toHaveLength(300);
  for (const { method, path, accept } of requests) {
    expect(method).toBe('GET');
    expect(path).toMatch(/^\/api\/v1\/namespaces\/default\/secrets\/s-\d+$/);
    expect(accept).toMatch(/as=PartialObjectMetadata;/);
  }
  expect(most()).toBe(8);
});

test('objects that a server cannot decrypt are counted by reason, asked for once, and a few are named', async () => {
  const { result, times } = await given({
    count: 500,
    answers: (name) => (name.endsWith('7') ? undecryptable() : ok),
  });
  expect(result.read).toBe(450);
  expect(result.failures).toEqual([
    {
      kind: 'unreadable',
      reason: 'no matching key was found for the provided AES transformer',
      count: 50,
      samples: ['default/s-7', 'default/s-17', 'default/s-27'],
    },
  ]);
  expect(Math.max(...times.values())).toBe(1);
});

test('deleted meanwhile is gone where etcd says so too; what etcd has and the server does not see is a failure', async () => {
  const { result } = await given({
    count: 4,
    answers: (name) => (name === 's-2' || name === 's-3' ? missing(name) : ok),
    isStored: ({ name }) => Promise.resolve(name === 's-3'),
  });
  expect(result).toMatchObject({ read: 2, gone: 1 });
  expect(result.failures).toMatchObject([{ kind: 'unseen', count: 1, samples: ['default/s-3'] }]);
});

test('a server that is busy or stumbles is asked again, as late as it wants', async () => {
  const busy = { ...status(429, 'TooManyRequests', 'slow down', ''), headers: { 'retry-after': '7' } };
  const { result, clock } = await given({
    count: 3,
    answers: (name, number) => {
      if (name === 's-1' && number === 1) return busy;
      if (name === 's-2' && number < 3) return status(500, 'InternalError', 'etcdserver: leader changed', '');
      return name === 's-3' && number === 1 ? unreached() : ok;
    },
  });
  expect(result).toMatchObject({ read: 3, failures: [] });
  expect(clock.now().getTime() - Date.parse('2025-01-01T00:00:00Z')).toBeGreaterThanOrEqual(7_000);
});

test('what stays refused is told in the server’s words, whatever the object is called', async () => {
  const { result, times } = await given({
    count: 100,
    answers: (name) => status(403, 'Forbidden', `secrets "${name}" is forbidden`, ''),
  });
  expect(result.failures).toMatchObject([
    { kind: 'refused', reason: 'secrets "…" is forbidden', count: 100 },
  ]);
  expect(Math.max(...times.values())).toBe(1);
  const other = await given({ count: 50, answers: (name) => status(500, '', `reason ${name}`, '') });
  expect(other.result.failures.reduce((sum, { count }) => sum + count, 0)).toBe(50);
  expect(other.result.failures).toHaveLength(21);
  expect(other.result.failures.at(-1)).toMatchObject({ reason: 'other reasons', count: 30 });
});

test('a server that stops answering is given up, and what it has not read is in no count', async () => {
  let answered = 0;
  const { result, clock } = await given({
    count: 1_000,
    answers: () => ((answered += 1) <= 100 ? ok : unreached()),
  });
  expect(result).toMatchObject({ read: 100, failures: [], silent: 'kube-apiserver did not answer' });
  const seconds = (clock.now().getTime() - Date.parse('2025-01-01T00:00:00Z')) / 1_000;
  expect(seconds).toBeGreaterThanOrEqual(20);
  expect(seconds).toBeLessThan(60);
});

test('one object whose answers alone break off does not stop the others', async () => {
  const { result } = await given({ count: 500, answers: (name) => (name === 's-9' ? unreached() : ok) });
  expect(result).toMatchObject({ read: 499, silent: undefined });
  expect(result.failures).toMatchObject([{ kind: 'refused', count: 1, samples: ['default/s-9'] }]);
});

test('a server of another cluster, an etcd that fails and an interrupt end it', async () => {
  const other = new TsrkeError('WRONG_CLUSTER', 'another CA', { node: 'cp-1' });
  await expect(given({ count: 50, answers: () => other })).rejects.toBe(other);
  const etcd = new TsrkeError('ETCD', 'no etcd member answered');
  async function* failing() {
    yield await Promise.resolve({ namespace: 'default', name: 's-1' });
    throw etcd;
  }
  await expect(given({ count: 0, objects: failing() })).rejects.toBe(etcd);
  const stop = new AbortController();
  const reason = new Error('interrupted');
  const asked = given({
    count: 100,
    signal: stop.signal,
    answers: (name) => {
      if (name === 's-50') stop.abort(reason);
      return stop.signal.aborted ? unreached() : ok;
    },
  });
  await expect(asked).rejects.toBe(reason);
});
