import { expect, test } from 'vitest';
import { ofDaemonSet, ofDeployment, waitRolledOut, type Workload } from '../../src/kube/rollout.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import { FakeObjects } from './fake-objects.ts';

const generation = { metadata: { generation: 2 } };

test.each<[string, Workload, string | undefined]>([
  ['no status yet', generation, 'not begun'],
  ['an old status', { ...generation, status: { observedGeneration: 1, numberAvailable: 3 } }, 'not begun'],
  ['no nodes', { ...generation, status: { observedGeneration: 2, desiredNumberScheduled: 0 } }, undefined],
  [
    'updated, not available',
    {
      ...generation,
      status: {
        observedGeneration: 2,
        desiredNumberScheduled: 3,
        updatedNumberScheduled: 3,
        numberAvailable: 1,
      },
    },
    '1 of 3 pod(s)',
  ],
  [
    'available, not updated',
    {
      ...generation,
      status: {
        observedGeneration: 2,
        desiredNumberScheduled: 3,
        updatedNumberScheduled: 2,
        numberAvailable: 3,
      },
    },
    '2 of 3 pod(s)',
  ],
  [
    'OnDelete',
    {
      ...generation,
      spec: { updateStrategy: { type: 'OnDelete' } },
      status: { observedGeneration: 2, desiredNumberScheduled: 3, numberAvailable: 3 },
    },
    undefined,
  ],
])('a DaemonSet with %s', (_, workload, expected) => {
  expect(ofDaemonSet(workload)).toBe(expected);
});

test.each<[string, Workload, string | undefined]>([
  ['no status yet', generation, 'not begun'],
  ['no pods wanted', { ...generation, spec: { replicas: 0 }, status: { observedGeneration: 2 } }, undefined],
  [
    'one of two',
    {
      ...generation,
      spec: { replicas: 2 },
      status: { observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 1 },
    },
    '1 of 2 pod(s)',
  ],
  [
    'old pods',
    {
      ...generation,
      status: { observedGeneration: 2, replicas: 2, updatedReplicas: 1, availableReplicas: 2 },
    },
    '1 old pod(s) still there',
  ],
  [
    'all of it',
    {
      ...generation,
      status: { observedGeneration: 2, replicas: 1, updatedReplicas: 1, availableReplicas: 1 },
    },
    undefined,
  ],
])('a Deployment with %s', (_, workload, expected) => {
  expect(ofDeployment(workload)).toBe(expected);
});

const ref = { apiVersion: 'apps/v1', kind: 'DaemonSet', namespace: 'kube-system', name: 'net' };
const { signal } = new AbortController();

function wait(kube: FakeObjects, onLook?: (unfinished: readonly string[]) => void) {
  const server = { kube, node: 'cp-1', clock: new VirtualClock(), random: () => 0.5 };
  return waitRolledOut({ server, of: [ref], limit: 5_000, signal, ...(onLook && { onLook }) });
}

test('waiting tells how far it is, and ends once the pods are there', async () => {
  const kube = new FakeObjects();
  const put = (available: number) =>
    kube.put('/apis/apps/v1/namespaces/kube-system/daemonsets', {
      metadata: { name: 'net', generation: 1 },
      status: {
        observedGeneration: 1,
        desiredNumberScheduled: 2,
        updatedNumberScheduled: 2,
        numberAvailable: available,
      },
    });
  put(0);
  const told: string[] = [];
  const unfinished = await wait(kube, (left) => {
    told.push(...left);
    put(told.length);
  });
  expect(unfinished).toEqual([]);
  expect(told).toEqual([
    'DaemonSet kube-system/net: 0 of 2 pod(s)',
    'DaemonSet kube-system/net: 1 of 2 pod(s)',
  ]);
});

test('waiting ends at its limit with what is left', async () => {
  expect(await wait(new FakeObjects())).toEqual(['DaemonSet kube-system/net: not there']);
});
