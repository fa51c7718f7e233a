import { expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { ClusterLock } from '../../src/kube/lease.ts';
import type { KubeApi } from '../../src/ports.ts';
import { thisOwner, type Owner } from '../../src/state/lock.ts';

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
function oneLease() {
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
      if (path.startsWith('/readyz')) return answer(200);
      if (method === 'GET') return answer(stored === undefined ? 404 : 200);
      const given = (body as { metadata: { resourceVersion?: string } }).metadata.resourceVersion;
      if (method === 'POST' ? stored !== undefined : given !== String(version)) return answer(409);
      write(body);
      return answer(method === 'POST' ? 201 : 200);
    },
  };
  return { kube, write, holder: () => stored?.spec['holderIdentity'] };
}

/** Sleeping moves the clock; `onSleep` is what others do meanwhile. */
function lockOn(kube: KubeApi, owner: Owner, onSleep: () => void = () => undefined): ClusterLock {
  let now = 0;
  const clock = {
    now: () => new Date(now),
    sleep: (milliseconds: number, until: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        // Renewing every 10 s is the keeper's; the waiting taker sleeps for a second.
        if (milliseconds > 5_000) {
          until.addEventListener('abort', () => reject(new Error('aborted')));
          return;
        }
        now += milliseconds;
        onSleep();
        setImmediate(resolve);
      }),
  };
  return new ClusterLock({ kube, nodes: () => ['h1'], owner, clock, report: { note: () => undefined } });
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
