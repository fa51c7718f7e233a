import fc from 'fast-check';
import { test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import type { Resource } from '../../src/kube/outcome.ts';
import { rewrite } from '../../src/kube/rewrite.ts';
import { answer, expired, FakeKube, status } from './fake-kube.ts';
import { VirtualClock } from '../../src/lab/clock.ts';

const secrets: Resource = {
  group: '',
  version: 'v1',
  resource: 'secrets',
  namespaced: true,
  etcdPath: 'secrets',
};

/** What may befall one request, or happen in the cluster just before it. */
const events = [
  'nothing',
  'refused connection',
  'lost answer',
  'throttled',
  'throttled with Retry-After',
  'unavailable',
  'internal error',
  'garbage',
  'api not loaded',
  'compaction',
  'list starts anew',
  'another client writes',
  'another client deletes',
  'another client re-creates',
  'another client creates',
] as const;

const history = fc.record({
  stale: fc.array(fc.boolean(), { minLength: 0, maxLength: 40 }),
  refused: fc.array(fc.nat(40), { maxLength: 3 }),
  events: fc.array(fc.tuple(fc.constantFrom(...events), fc.nat(40)), { maxLength: 120 }),
  nodes: fc.integer({ min: 1, max: 3 }),
  pageSize: fc.integer({ min: 1, max: 7 }),
  start: fc.integer({ min: 1, max: 8 }),
  touch: fc.boolean(),
});

function nameOf(index: number): string {
  return `s-${String(index).padStart(2, '0')}`;
}

/** Lets the events happen one by one, one per request, and tells whether the list was started anew. */
function befall(kube: FakeKube, happenings: readonly (readonly [(typeof events)[number], number])[]) {
  let at = 0;
  let loseAnswer = false;
  const told = { anew: false };
  kube.before = (request, node) => {
    const [event, index] = happenings[at] ?? ['nothing', 0];
    at += 1;
    const key = `default/${nameOf(index)}`;
    const isList = request.method === 'GET';
    switch (event) {
      case 'nothing':
        return undefined;
      case 'refused connection':
        return new TsrkeError('KUBE', 'connection refused', { node });
      case 'lost answer':
        loseAnswer = true;
        return undefined;
      case 'throttled':
        return status(429, 'TooManyRequests', 'too many requests', '');
      case 'throttled with Retry-After':
        return {
          ...status(429, 'TooManyRequests', 'too many requests', ''),
          headers: { 'retry-after': '2' },
        };
      case 'unavailable':
        return status(503, 'ServiceUnavailable', 'shutting down', '');
      case 'internal error':
        return status(500, 'InternalError', 'leader changed', '');
      case 'garbage':
        return isList ? answer(502, undefined, '<html>') : answer(200, undefined, '<html>');
      case 'api not loaded':
        return answer(404, undefined, '404 page not found');
      case 'compaction':
        kube.compact();
        return undefined;
      case 'list starts anew':
        if (!isList) return undefined;
        // What was listed until now comes again, or is gone.
        told.anew = true;
        kube.listed.length = 0;
        return expired(undefined);
      case 'another client writes':
        kube.write(key);
        return undefined;
      case 'another client deletes':
        kube.remove(key);
        return undefined;
      case 'another client re-creates':
        kube.remove(key);
        kube.put('default', nameOf(index), false);
        return undefined;
      case 'another client creates':
        kube.put('default', `t-${String(at)}`, false);
        return undefined;
    }
  };
  kube.after = (_, node) => {
    if (!loseAnswer) return undefined;
    loseAnswer = false;
    return new TsrkeError('KUBE', 'connection reset', { node });
  };
  return told;
}

test('whatever happens, every object listed ends in exactly one count, and what was stale is rewritten or named', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (given) => {
      const kube = new FakeKube();
      given.stale.forEach((stale, index) => kube.put('default', nameOf(index), stale));
      const uidsBefore = new Map([...kube.objects].map(([key, { uid }]) => [key, uid]));
      const refused = new Set(given.refused.map(nameOf));
      kube.refuses = ({ name }) => (refused.has(name) ? 'no' : undefined);
      const told = befall(kube, given.events);
      const result = await rewrite({
        kube,
        nodes: ['cp-1', 'cp-2', 'cp-3'].slice(0, given.nodes),
        resource: secrets,
        clock: new VirtualClock(),
        signal: new AbortController().signal,
        touch: given.touch,
        limits: {
          pageSize: given.pageSize,
          pace: { start: given.start, most: 8, easy: 100 },
          patience: Infinity,
        },
      });
      const { total, rewritten, current, gone, failed } = result;
      const sum = rewritten + current + gone + failed.length;
      if (sum !== total) throw new Error(`total is ${total}, the sum ${sum}`);
      const listed = kube.listed.length;
      if (told.anew ? total < listed : total !== listed) {
        throw new Error(`${total} counted, ${listed} listed`);
      }
      const named = new Set(failed.map(({ namespace, name }) => `${namespace}/${name}`));
      if (named.size !== failed.length) throw new Error('an object failed twice');
      if (result.unlisted !== undefined) return;
      for (const [key, object] of kube.objects) {
        const throughout = uidsBefore.get(key) === object.uid;
        if (throughout && object.stale && !named.has(key)) throw new Error(`${key} was forgotten`);
      }
    }),
    { numRuns: 1500 },
  );
});

test('with room for every fault, nothing is left: all is rewritten', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (given) => {
      const kube = new FakeKube();
      given.stale.forEach((stale, index) => kube.put('default', nameOf(index), stale));
      befall(kube, given.events);
      const result = await rewrite({
        kube,
        nodes: ['cp-1', 'cp-2', 'cp-3'].slice(0, given.nodes),
        resource: secrets,
        clock: new VirtualClock(),
        signal: new AbortController().signal,
        limits: {
          pageSize: given.pageSize,
          triesOnError: 200,
          triesWhenBusy: 200,
          triesUnanswered: 200,
          patience: Infinity,
        },
      });
      if (result.failed.length > 0) throw new Error(JSON.stringify(result.failed));
      const stale = [...kube.objects.values()].filter((object) => object.stale);
      if (result.unlisted === undefined && stale.length > 0) throw new Error(`${stale.length} are stale`);
    }),
    { numRuns: 500 },
  );
});
