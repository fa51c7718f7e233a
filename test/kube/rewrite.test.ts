import { describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import type { Resource } from '../../src/kube/outcome.ts';
import {
  rewrite,
  touchAnnotation,
  type RewriteOptions,
  type RewriteProgress,
} from '../../src/kube/rewrite.ts';
import { answer, expired, FakeKube, status } from './fake-kube.ts';
import { VirtualClock } from '../../src/lab/clock.ts';

const secrets: Resource = {
  group: '',
  version: 'v1',
  resource: 'secrets',
  namespaced: true,
  etcdPath: 'secrets',
};

function given(count: number): FakeKube {
  const kube = new FakeKube();
  for (let index = 0; index < count; index += 1)
    kube.put('default', `s-${String(index).padStart(3, '0')}`, true);
  return kube;
}

async function pass(kube: FakeKube, more: Partial<RewriteOptions> = {}) {
  const { limits, ...rest } = more;
  return await rewrite({
    kube,
    nodes: ['cp-1', 'cp-2'],
    resource: secrets,
    clock: new VirtualClock(),
    signal: new AbortController().signal,
    random: () => 0.5,
    ...rest,
    limits: { pageSize: 3, ...limits },
  });
}

const staleOnes = (kube: FakeKube) =>
  [...kube.objects.values()].filter((object) => object.stale).map((object) => object.name);

const isPatch = (request: { method: string }) => request.method === 'PATCH';

const unreached = (node: string) => new TsrkeError('KUBE', 'kube-apiserver did not answer', { node });

describe('rewrite', () => {
  test('every object is stored again, and a second pass moves nothing', async () => {
    const kube = given(20);
    const first = await pass(kube);
    expect(first).toEqual({
      total: 20,
      rewritten: 20,
      current: 0,
      gone: 0,
      failed: [],
      unlisted: undefined,
    });
    expect(staleOnes(kube)).toEqual([]);
    expect(await pass(kube)).toMatchObject({ total: 20, rewritten: 0, current: 20 });
  });

  test('payloads are never asked for, and no object is sent back', async () => {
    const kube = given(4);
    await pass(kube);
    for (const { request } of kube.requests) {
      expect(request.accept).toMatch(
        /^application\/json;as=PartialObjectMetadata(List)?;g=meta\.k8s\.io;v=v1$/,
      );
      if (!isPatch(request)) continue;
      const body = request.body as { metadata: object };
      expect(Object.keys(body)).toEqual(['metadata']);
      expect(Object.keys(body.metadata)).toEqual(['uid', 'resourceVersion']);
    }
  });

  test('the work is spread over all apiservers', async () => {
    const kube = given(60);
    await pass(kube);
    const patches = kube.requests.filter(({ request }) => isPatch(request));
    for (const node of ['cp-1', 'cp-2']) {
      expect(patches.filter((each) => each.node === node).length).toBeGreaterThan(10);
    }
  });

  test('objects written, deleted or re-created since the list are done', async () => {
    const kube = given(9);
    let once = false;
    kube.before = (request) => {
      if (once || !isPatch(request)) return undefined;
      once = true;
      kube.write('default/s-000');
      kube.remove('default/s-001');
      kube.remove('default/s-002');
      kube.put('default', 's-002', false);
      return undefined;
    };
    expect(await pass(kube)).toMatchObject({ total: 9, rewritten: 6, gone: 3, failed: [] });
  });

  test('an expired list goes on with the token of the error', async () => {
    const kube = given(30);
    let lists = 0;
    kube.before = (request) => {
      if (!isPatch(request) && (lists += 1) % 3 === 0) kube.compact();
      return undefined;
    };
    const result = await pass(kube);
    expect(result).toMatchObject({ rewritten: 30, failed: [], unlisted: undefined });
    expect(kube.listed.length).toBe(30);
  });

  test('an expired list without a token starts anew', async () => {
    const kube = given(12);
    let lists = 0;
    kube.before = (request) => (!isPatch(request) && (lists += 1) === 3 ? expired(undefined) : undefined);
    const result = await pass(kube);
    expect(result).toMatchObject({ rewritten: 12, failed: [] });
    expect(staleOnes(kube)).toEqual([]);
  });

  test('an object that admission refuses is named with the reason, the rest goes on', async () => {
    const kube = given(10);
    kube.refuses = (object) => (object.name === 's-004' ? 'frozen' : undefined);
    const result = await pass(kube);
    expect(result).toMatchObject({
      total: 10,
      rewritten: 9,
      failed: [
        {
          namespace: 'default',
          name: 's-004',
          reason: 'admission webhook "guard.example.com" denied the request: frozen',
        },
      ],
    });
  });

  test('a webhook that refuses with 409 or 404 is not taken for a change by somebody else', async () => {
    const kube = given(2);
    kube.before = (request) => {
      if (!isPatch(request)) return undefined;
      const code = request.path.includes('s-000') ? 409 : 404;
      return answer(code, {
        kind: 'Status',
        reason: code === 409 ? 'Conflict' : 'NotFound',
        message: 'admission webhook "guard.example.com" denied the request: no',
      });
    };
    const result = await pass(kube);
    expect(result.failed.map((each) => each.name).sort()).toEqual(['s-000', 's-001']);
    expect(result.gone).toBe(0);
  });

  test('an API that a starting apiserver has not loaded yet is asked again', async () => {
    const kube = given(5);
    let misses = 3;
    kube.before = () => ((misses -= 1) >= 0 ? answer(404, undefined, '404 page not found\n') : undefined);
    expect(await pass(kube)).toMatchObject({ rewritten: 5, gone: 0, failed: [] });
  });

  test('a busy server is left alone for as long as it asks', async () => {
    const kube = given(3);
    const clock = new VirtualClock();
    const times: number[] = [];
    kube.before = (request) => {
      if (!isPatch(request)) return undefined;
      times.push(clock.now().getTime());
      if (times.length > 1) return undefined;
      return { ...status(429, 'TooManyRequests', 'too many requests', ''), headers: { 'retry-after': '7' } };
    };
    const limits = { pace: { start: 1, most: 1, easy: 100 } };
    const result = await pass(kube, { clock, nodes: ['cp-1'], limits });
    expect(result).toMatchObject({ rewritten: 3, failed: [] });
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(7000);
  });

  test('what one apiserver cannot do, another does', async () => {
    const kube = given(40);
    kube.before = (_, node) => (node === 'cp-1' ? unreached(node) : undefined);
    expect(await pass(kube)).toMatchObject({ rewritten: 40, failed: [] });
  });

  test('an object that always ends in a server error is given up after some tries', async () => {
    const kube = given(5);
    kube.before = (request) =>
      request.path.includes('s-003')
        ? status(500, 'InternalError', 'failed calling webhook', 's-003')
        : undefined;
    const result = await pass(kube);
    expect(result).toMatchObject({ total: 5, rewritten: 4 });
    expect(result.failed).toEqual([
      { namespace: 'default', name: 's-003', reason: 'failed calling webhook' },
    ]);
    expect(kube.requests.filter(({ request }) => request.path.includes('s-003')).length).toBe(4);
  });

  test('an object whose connection always breaks is given up too', async () => {
    const kube = given(5);
    kube.before = (request, node) => (request.path.includes('s-003') ? unreached(node) : undefined);
    const result = await pass(kube);
    expect(result.failed.map((each) => each.name)).toEqual(['s-003']);
    expect(result.rewritten).toBe(4);
  });

  test('an answer that got lost counts the object as done, for it was written', async () => {
    const kube = given(3);
    let lost = false;
    kube.after = (request, node) => {
      if (lost || !isPatch(request)) return undefined;
      lost = true;
      return unreached(node);
    };
    const result = await pass(kube);
    expect(result).toMatchObject({ total: 3, failed: [] });
    expect(staleOnes(kube)).toEqual([]);
  });

  test('a list that cannot be made is reported, objects of earlier pages are still rewritten', async () => {
    const kube = given(9);
    let lists = 0;
    kube.before = (request) => {
      if (isPatch(request) || (lists += 1) <= 2) return undefined;
      return status(500, 'InternalError', 'unable to transform key "/registry/secrets/default/s-007"', '');
    };
    const result = await pass(kube);
    expect(result).toMatchObject({ total: 6, rewritten: 6 });
    expect(result.unlisted).toMatch(/cannot list secrets \(500\): unable to transform key/);
  });

  test('no answer from any apiserver for two minutes ends the pass', async () => {
    const kube = given(9);
    kube.before = (request, node) => (request.path.includes('?limit=') ? undefined : unreached(node));
    const limits = { triesUnanswered: 1000 };
    await expect(pass(kube, { limits })).rejects.toMatchObject({ code: 'KUBE' });
  });

  test('a server of another cluster ends the pass at once', async () => {
    const kube = given(9);
    kube.before = (request, node) =>
      isPatch(request) ? new TsrkeError('WRONG_CLUSTER', 'another CA', { node }) : undefined;
    await expect(pass(kube)).rejects.toMatchObject({ code: 'WRONG_CLUSTER' });
  });

  test('an abort ends the pass with its reason, whatever is under way', async () => {
    const kube = given(50);
    const stop = new AbortController();
    kube.before = (request) => {
      if (request.path.includes('s-010')) stop.abort(new Error('interrupted'));
      return undefined;
    };
    await expect(pass(kube, { signal: stop.signal })).rejects.toThrow('interrupted');
  });

  test('nothing is written while etcd is above 80 % of its quota', async () => {
    const kube = given(40);
    const clock = new VirtualClock();
    const sizes = [85, 85, 82, 60];
    const paused: (string | undefined)[] = [];
    let relieved = 0;
    let written = 0;
    kube.before = (request) => {
      if (isPatch(request)) written += 1;
      return undefined;
    };
    const result = await pass(kube, {
      clock,
      etcdSize: () => {
        if (sizes.length > 1) expect(written).toBe(0);
        return Promise.resolve({ used: (sizes.shift() ?? 60) * 1024 ** 2, quota: 100 * 1024 ** 2 });
      },
      relieve: () => {
        relieved += 1;
        return Promise.resolve();
      },
      onProgress: (progress) => paused.push(progress.paused),
    });
    expect(result.rewritten).toBe(40);
    expect(relieved).toBe(1);
    expect(paused).toContain('etcd holds 85 MiB of its 100 MiB; waiting for compaction');
  });

  test('space that never becomes free ends the pass', async () => {
    const kube = given(4);
    const etcdSize = () => Promise.resolve({ used: 90, quota: 100 });
    await expect(pass(kube, { etcdSize })).rejects.toMatchObject({ code: 'ETCD' });
  });

  test('etcd that has reached its quota ends the pass', async () => {
    const kube = given(4);
    kube.before = (request) =>
      isPatch(request)
        ? status(500, 'InternalError', 'etcdserver: mvcc: database space exceeded', '')
        : undefined;
    await expect(pass(kube)).rejects.toMatchObject({ code: 'ETCD' });
  });

  test('under KMS v1, touching writes every object and leaves no trace', async () => {
    const kube = given(10);
    kube.neverStale = true;
    expect(await pass(kube)).toMatchObject({ rewritten: 0, current: 10 });
    expect(staleOnes(kube).length).toBe(10);
    expect(await pass(kube, { touch: true })).toMatchObject({ total: 10, rewritten: 10, current: 0 });
    expect(staleOnes(kube)).toEqual([]);
    for (const object of kube.objects.values()) expect(object.annotations.size).toBe(0);
  });

  test('a trace that an interrupted touch left is removed by the next one', async () => {
    const kube = given(1);
    const object = kube.put('default', 'left', true);
    object.annotations.set(touchAnnotation, (0.5).toString(36).slice(2));
    await pass(kube, { touch: true });
    expect(object.annotations.size).toBe(0);
  });

  test('progress knows the total from the first page on and ends at it', async () => {
    const kube = given(30);
    const clock = new VirtualClock();
    const seen: RewriteProgress[] = [];
    kube.before = () => {
      clock.advance(10);
      return undefined;
    };
    await pass(kube, { clock, nodes: ['cp-1'], onProgress: (progress) => seen.push(progress) });
    expect(seen[0]).toMatchObject({ resource: 'secrets', total: 30 });
    expect(seen.at(-1)).toMatchObject({ done: 30, total: 30, eta: 0, paused: undefined });
    for (const { total } of seen) expect(total).toBe(30);
  });

  test('at most two pages wait, however many objects there are', async () => {
    const kube = given(300);
    let ahead = 0;
    let patched = 0;
    kube.before = async (request) => {
      if (isPatch(request)) {
        await new Promise((resolve) => setImmediate(resolve));
        patched += 1;
      } else {
        ahead = Math.max(ahead, kube.listed.length - patched);
      }
      return undefined;
    };
    await pass(kube, { limits: { pageSize: 10, pace: { start: 4, most: 4, easy: 1e9 } } });
    expect(ahead).toBeLessThanOrEqual(10 + 10 + 8);
  });
});
