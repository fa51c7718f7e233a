import { expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import type { KubeApi, Marker, Markers } from '../../src/ports.ts';
import { ClusterLock } from '../../src/provision/lock.ts';
import { identityOf, thisOwner, type Owner } from '../../src/state/lock.ts';

const signal = new AbortController().signal;
const elsewhere: Owner = {
  host: 'another-machine',
  boot: 'b',
  pid: 7,
  started: '1',
  since: '2026-01-01T00:00:00Z',
};
const goneHere: Owner = { ...thisOwner(new Date(0)), pid: 2 ** 22 - 1, started: '1' };

/** One Lease, kept as kube-apiserver keeps it: 404, 201, 409 by resourceVersion. */
function oneLease(serves: () => boolean = () => true) {
  let version = 0;
  let stored: { metadata: Record<string, unknown>; spec: Record<string, unknown> } | undefined;
  const write = (body: unknown) => {
    version += 1;
    stored = structuredClone(body) as typeof stored;
    if (stored !== undefined) stored.metadata['resourceVersion'] = String(version);
  };
  const kube: KubeApi = {
    request: (_node, { method, path, body }) => {
      const answer = (status: number) =>
        Promise.resolve({ status, headers: {}, text: JSON.stringify(stored ?? {}) });
      if (path.startsWith('/readyz')) return answer(serves() ? 200 : 500);
      if (!serves()) return Promise.reject(new TsrkeError('KUBE', 'refused'));
      if (method === 'GET') return answer(stored === undefined ? 404 : 200);
      const given = (body as { metadata: { resourceVersion?: string } }).metadata.resourceVersion;
      if (method === 'POST' ? stored !== undefined : given !== String(version)) return answer(409);
      write(body);
      return answer(method === 'POST' ? 201 : 200);
    },
  };
  return { kube, write, holder: () => stored?.spec['holderIdentity'] };
}

/** Markers of three nodes, as Docker keeps them. */
function nodesMarkers() {
  const found = new Map<string, { labels: Marker['labels']; beats: number }>();
  const markers: Markers = {
    marker: (node) => Promise.resolve(structuredClone(found.get(node))),
    createMarker(node, _name, labels) {
      if (found.has(node)) return Promise.resolve(false);
      found.set(node, { labels, beats: 0 });
      return Promise.resolve(true);
    },
    beatMarker(node, _name, beats) {
      const marker = found.get(node);
      if (marker === undefined) return Promise.reject(new TsrkeError('DOCKER', 'no such container'));
      marker.beats = beats;
      return Promise.resolve();
    },
    removeMarker(node, _name, labels) {
      const same = JSON.stringify(found.get(node)?.labels ?? labels) === JSON.stringify(labels);
      if (same) found.delete(node);
      return Promise.resolve(same);
    },
  };
  return { markers, found };
}

/** Sleeping moves the clock; `onSleep` is what others do meanwhile. The keeper's long sleeps end with `tick`. */
function lockOn(
  kube: KubeApi,
  owner: Owner,
  onSleep: () => void = () => undefined,
  { markers } = nodesMarkers(),
  members = ['h1', 'h2', 'h3'],
) {
  let now = 0;
  let wake: () => void = () => undefined;
  const clock = {
    now: () => new Date(now),
    sleep: (milliseconds: number, until: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        // Renewing every 10 s is the keeper's; the waiting taker sleeps for a second.
        if (milliseconds > 5_000) {
          until.addEventListener('abort', () => reject(new Error('aborted')));
          wake = resolve;
          return;
        }
        now += milliseconds;
        onSleep();
        setImmediate(resolve);
      }),
  };
  const report = { note: () => undefined };
  const lock = new ClusterLock({ kube, markers, nodes: () => members, owner, clock, report });
  return Object.assign(lock, {
    later: (milliseconds: number) => (now += milliseconds),
    tick: async () => {
      wake();
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    },
  });
}

const held = (owner: Owner) => ({
  metadata: { annotations: { 'tsrke.io/owner': JSON.stringify(owner) } },
  spec: { holderIdentity: `${owner.host}/${owner.pid}`, leaseDurationSeconds: 60 },
});

test('a free lock is taken and given back', async () => {
  const lease = oneLease();
  const lock = lockOn(lease.kube, thisOwner(new Date()));
  await lock.acquire(signal);
  expect(lease.holder()).toContain(String(process.pid));
  await lock.hold(signal);
  await lock.release();
  expect(lease.holder()).toBe('');
});

test('the lock of a run on this machine that is gone is taken at once', async () => {
  const lease = oneLease();
  lease.write(held(goneHere));
  const lock = lockOn(lease.kube, thisOwner(new Date()), () => expect.unreachable('it waited'));
  await lock.acquire(signal);
  expect(lease.holder()).toContain(String(process.pid));
  await lock.release();
});

test('a lock that is renewed is never taken', async () => {
  const lease = oneLease();
  lease.write(held(elsewhere));
  let seconds = 0;
  const lock = lockOn(lease.kube, thisOwner(new Date()), () => {
    seconds += 1;
    if (seconds === 10) lease.write(held(elsewhere));
  });
  const error: unknown = await lock.acquire(signal).catch((each: unknown) => each);
  expect(error).toBeInstanceOf(TsrkeError);
  expect(error).toMatchObject({ code: 'LOCKED', exitCode: 4 });
  expect((error as Error).message).toContain('another-machine/7');
});

test('a lock that nobody renews for its whole length is taken', async () => {
  const lease = oneLease();
  lease.write(held(elsewhere));
  let seconds = 0;
  const lock = lockOn(lease.kube, thisOwner(new Date()), () => (seconds += 1));
  await lock.acquire(signal);
  expect(seconds).toBeGreaterThanOrEqual(60);
  await lock.release();
});

const self = () => thisOwner(new Date());
const label = (owner: Owner) => ({ 'tsrke.io/owner': JSON.stringify(owner) });

test('while no apiserver serves the nodes are locked, and the Lease takes over once one does', async () => {
  let serves = false;
  const lease = oneLease(() => serves);
  const nodes = nodesMarkers();
  const lock = lockOn(lease.kube, self(), undefined, nodes);
  await lock.acquire(signal);
  expect([...nodes.found.keys()]).toEqual(['h1', 'h2', 'h3']);
  expect(lease.holder()).toBeUndefined();
  await lock.tick();
  expect([...nodes.found.values()].map(({ beats }) => beats)).toEqual([1, 1, 1]);
  serves = true;
  await lock.hold(signal);
  expect(lease.holder()).toContain(String(process.pid));
  expect(nodes.found.size).toBe(0);
  await lock.release();
});

test('markers of a run that lives are never taken, and those taken before are given back', async () => {
  const nodes = nodesMarkers();
  nodes.found.set('h2', { labels: label(elsewhere), beats: 3 });
  let seconds = 0;
  const alive = () => {
    seconds += 1;
    if (seconds === 20) nodes.found.set('h2', { labels: label(elsewhere), beats: 4 });
  };
  const lock = lockOn(oneLease(() => false).kube, self(), alive, nodes);
  await expect(lock.acquire(signal)).rejects.toMatchObject({ code: 'LOCKED' });
  expect([...nodes.found.keys()]).toEqual(['h2']);
});

test.each<[string, Owner]>([
  ['a run that is gone from this machine', goneHere],
  ['a run elsewhere that does not move for a whole lock’s length', elsewhere],
])('markers of %s are replaced', async (_, owner) => {
  const nodes = nodesMarkers();
  nodes.found.set('h1', { labels: label(owner), beats: 3 });
  const lock = lockOn(oneLease(() => false).kube, self(), undefined, nodes);
  await lock.acquire(signal);
  expect([...nodes.found.values()].map(({ labels }) => labels)).toEqual(
    Array(3).fill([...nodes.found.values()][2]?.labels),
  );
  await lock.release();
  expect(nodes.found.size).toBe(0);
});

test('a Lease that cannot be renewed for half its length is backed by the nodes, or given up for who has them', async () => {
  let serves = true;
  const lease = oneLease(() => serves);
  const nodes = nodesMarkers();
  const lock = lockOn(lease.kube, self(), undefined, nodes);
  await lock.acquire(signal);
  serves = false;
  lock.later(20_000);
  await lock.hold(signal);
  expect(nodes.found.size).toBe(0);
  lock.later(20_000);
  await lock.hold(signal);
  expect(nodes.found.size).toBe(3);
  await lock.release();

  const other = lockOn(
    oneLease(() => serves).kube,
    self(),
    () => {
      const marker = nodes.found.get('h1');
      if (marker !== undefined) marker.beats += 1;
    },
    nodes,
  );
  serves = true;
  await other.acquire(signal);
  serves = false;
  nodes.found.set('h1', { labels: label(elsewhere), beats: 0 });
  other.later(40_000);
  await expect(other.hold(signal)).rejects.toMatchObject({ code: 'LOCK_LOST' });
  await other.release();
});

test('a run that has the Lease gives way to one that is at work under markers', async () => {
  const nodes = nodesMarkers();
  nodes.found.set('h3', { labels: label(elsewhere), beats: 1 });
  const lease = oneLease();
  const alive = () => nodes.found.set('h3', { labels: label(elsewhere), beats: 2 });
  const lock = lockOn(lease.kube, self(), alive, nodes);
  await expect(lock.acquire(signal)).rejects.toMatchObject({ code: 'LOCKED' });
  expect(lease.holder()).toBe('');
});

test('the first effect on a single member adds the marker: its restart hides the Lease, and shows no free lock', async () => {
  let serves = true;
  const lease = oneLease(() => serves);
  const nodes = nodesMarkers();
  const lock = lockOn(lease.kube, self(), undefined, nodes, ['h1']);
  await lock.acquire(signal);
  expect(nodes.found.size).toBe(0);
  await lock.hold(signal);
  expect([...nodes.found.keys()]).toEqual(['h1']);
  expect(lease.holder()).toContain(String(process.pid));

  serves = false;
  const beats = () => void nodes.found.set('h1', { labels: nodes.found.get('h1')?.labels ?? {}, beats: 9 });
  const second = lockOn(lease.kube, elsewhere, beats, nodes, ['h1']);
  await expect(second.acquire(signal)).rejects.toMatchObject({ code: 'LOCKED' });
  serves = true;
  await lock.hold(signal);
  expect([...nodes.found.keys()]).toEqual(['h1']);
  await lock.release();
  expect(nodes.found.size).toBe(0);
  expect(lease.holder()).toBe('');
});

test('the marker of a run whose Lease was outlived is not waited for once more', async () => {
  const nodes = nodesMarkers();
  nodes.found.set('h1', { labels: label(elsewhere), beats: 3 });
  const lease = oneLease();
  lease.write({
    ...held(elsewhere),
    spec: { holderIdentity: identityOf(elsewhere), leaseDurationSeconds: 60 },
  });
  let seconds = 0;
  const lock = lockOn(lease.kube, self(), () => (seconds += 1), nodes, ['h1']);
  await lock.acquire(signal);
  expect(seconds).toBe(60);
  await lock.release();
});

test('a marker that cannot be removed at first is removed with a second try', async () => {
  const nodes = nodesMarkers();
  let tries = 0;
  const markers: Markers = {
    ...nodes.markers,
    removeMarker: (...args) =>
      (tries += 1) === 1
        ? Promise.reject(new TsrkeError('DOCKER', 'reset'))
        : nodes.markers.removeMarker(...args),
  };
  const lock = lockOn(oneLease(() => false).kube, self(), undefined, { ...nodes, markers }, ['h1', 'h2']);
  await lock.acquire(signal);
  await lock.release();
  expect(nodes.found.size).toBe(0);
});
