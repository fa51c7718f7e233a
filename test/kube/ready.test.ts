import { describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { endpointAddresses, identityLeases } from '../../src/kube/members.ts';
import { readiness, serverVersion, waitReady } from '../../src/kube/ready.ts';
import type { KubeApi, KubeRequest, KubeResponse } from '../../src/ports.ts';
import { VirtualClock } from '../../src/lab/clock.ts';

const { signal } = new AbortController();

function kubeOf(handler: (request: KubeRequest) => Partial<KubeResponse> | Error): KubeApi {
  return {
    request: (_, request) => {
      const given = handler(request);
      if (given instanceof Error) return Promise.reject(given);
      return Promise.resolve({ status: 200, headers: {}, text: '', ...given });
    },
  };
}

const down = new TsrkeError('KUBE', 'no connection to kube-apiserver', { node: 'cp-1' });
const notReady = {
  status: 500,
  text: '[+]ping ok\n[+]etcd ok\n[-]informer-sync failed: reason withheld\n[-]poststarthook/x failed: y\nreadyz check failed\n',
};

describe('readiness', () => {
  test('names the checks that fail', async () => {
    expect(
      await readiness(
        kubeOf(() => notReady),
        'cp-1',
        signal,
      ),
    ).toEqual({
      serves: true,
      ready: false,
      failing: ['informer-sync', 'poststarthook/x'],
    });
  });

  test('not reaching the server is an answer, another cluster is an error', async () => {
    const seen = await readiness(
      kubeOf(() => down),
      'cp-1',
      signal,
    );
    expect(seen).toEqual({ serves: false, ready: false, failing: ['no connection to kube-apiserver'] });
    const wrong = new TsrkeError('WRONG_CLUSTER', 'another CA');
    await expect(
      readiness(
        kubeOf(() => wrong),
        'cp-1',
        signal,
      ),
    ).rejects.toBe(wrong);
  });

  test('waiting looks closely and ends at the first ready answer', async () => {
    const answers = [down, notReady, notReady, { text: 'readyz check passed' }];
    const clock = new VirtualClock();
    const began = clock.now().getTime();
    const seen = await waitReady({
      kube: kubeOf(() => answers.shift() ?? down),
      node: 'cp-1',
      limit: 60_000,
      clock,
      signal,
    });
    expect(seen.ready).toBe(true);
    expect(clock.now().getTime() - began).toBe(450);
  });

  test('waiting ends at its limit with what was seen last', async () => {
    const clock = new VirtualClock();
    const seen = await waitReady({ kube: kubeOf(() => notReady), node: 'cp-1', limit: 2_000, clock, signal });
    expect(seen.failing).toEqual(['informer-sync', 'poststarthook/x']);
  });
});

test('the version is that of the live server, a plus sign does not matter', async () => {
  const text = JSON.stringify({ major: '1', minor: '27+', gitVersion: 'v1.27.9-eks' });
  const version = await serverVersion(
    kubeOf(() => ({ text })),
    'cp-1',
    signal,
  );
  expect(version).toEqual({ major: 1, minor: 27, gitVersion: 'v1.27.9-eks' });
  await expect(
    serverVersion(
      kubeOf(() => ({ text: '{}' })),
      'cp-1',
      signal,
    ),
  ).rejects.toThrow('without a version');
});

describe('members', () => {
  test('stand in Endpoints', async () => {
    const subsets = [
      { addresses: [{ ip: '10.0.0.2' }, { ip: '10.0.0.1' }], notReadyAddresses: [{ ip: '10.0.0.3' }] },
    ];
    const kube = kubeOf(() => ({ text: JSON.stringify({ subsets }) }));
    expect(await endpointAddresses(kube, 'cp-1', signal)).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  });

  test('stand in EndpointSlices where the Endpoints API is gone', async () => {
    const items = [{ endpoints: [{ addresses: ['10.0.0.2'] }] }, { endpoints: null }];
    const kube = kubeOf(({ path }) =>
      path.includes('/endpointslices?') ? { text: JSON.stringify({ items }) } : { status: 404, text: '{}' },
    );
    expect(await endpointAddresses(kube, 'cp-1', signal)).toEqual(['10.0.0.2']);
  });

  test('hold Leases that were renewed within a minute by the clock of the server', async () => {
    const lease = (name: string, hostname: string, renewTime: string) => ({
      metadata: { name, labels: { 'kubernetes.io/hostname': hostname } },
      spec: { renewTime },
    });
    const items = [
      lease('apiserver-b', 'h2', '2031-05-05T11:59:30.123456Z'),
      lease('apiserver-a', 'h1', '2031-05-05T11:59:01.000000Z'),
      lease('apiserver-old', 'h3', '2031-05-05T11:58:59.000000Z'),
    ];
    const headers = { date: 'Mon, 05 May 2031 12:00:00 GMT' };
    const kube = kubeOf(() => ({ headers, text: JSON.stringify({ items }) }));
    expect(await identityLeases(kube, 'cp-1', signal)).toEqual([
      { name: 'apiserver-a', hostname: 'h1' },
      { name: 'apiserver-b', hostname: 'h2' },
    ]);
    const none = kubeOf(() => ({ headers, text: '{"items":null}' }));
    expect(await identityLeases(none, 'cp-1', signal)).toEqual([]);
  });
});
