/** Who has the cluster's lock, as one who only looks sees it. */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { leaseHolder } from '../../src/kube/lease.ts';
import type { KubeApi } from '../../src/ports.ts';
import { thisOwner, type Owner } from '../../src/state/lock.ts';

const { signal } = new AbortController();
const since = new Date('2026-01-02T03:04:05Z');
const here = thisOwner(since);
const elsewhere: Owner = { ...here, host: 'ci-7', pid: 42 };
const gone: Owner = { ...here, pid: spawnSync(process.execPath, ['-e', '']).pid };

/** The server's clock says noon. */
function answering(status: number, owner: Owner, renewTime: string, holderIdentity = 'somebody'): KubeApi {
  const metadata = { annotations: { 'tsrke.io/owner': JSON.stringify(owner) } };
  const text = JSON.stringify({ metadata, spec: { holderIdentity, leaseDurationSeconds: 60, renewTime } });
  const headers = { date: 'Fri, 02 Jan 2026 12:00:00 GMT' };
  return {
    request: (_, { method }) =>
      method === 'GET'
        ? Promise.resolve({ status, headers, text })
        : Promise.reject(new Error('it only looks')),
  };
}

test.each<[string, KubeApi, string | undefined]>([
  ['renewed a moment ago', answering(200, elsewhere, '2026-01-02T11:59:30.000000Z'), 'process 42 on ci-7'],
  ['not renewed for its length', answering(200, elsewhere, '2026-01-02T11:58:59.000000Z'), undefined],
  ['of a run here that is dead', answering(200, gone, '2026-01-02T11:59:59.000000Z'), undefined],
  ['given back', answering(200, elsewhere, '2026-01-02T11:59:59.000000Z', ''), undefined],
  ['there is none', answering(404, elsewhere, ''), undefined],
])('%s', async (_, kube, expected) => {
  const holder = await leaseHolder(kube, 'h1', signal);
  if (expected === undefined) expect(holder).toBeUndefined();
  else expect(holder).toBe(`${expected} since 2026-01-02T03:04:05.000Z`);
});

test('a server that does not answer says nothing', async () => {
  const kube: KubeApi = { request: () => Promise.reject(new TsrkeError('KUBE', 'no answer')) };
  expect(await leaseHolder(kube, 'h1', signal)).toBeUndefined();
});
