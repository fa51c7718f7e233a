import { describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { chooseLeaving, drain, type DrainInput } from '../../src/kube/drain.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import type { KubeApi, KubeRequest, KubeResponse } from '../../src/ports.ts';
import { answer, status } from './fake-objects.ts';

interface Given {
  readonly owner?: string;
  readonly local?: boolean;
  readonly phase?: string;
  readonly mirror?: boolean;
}

function pod(name: string, { owner, local = false, phase = 'Running', mirror = false }: Given = {}) {
  return {
    metadata: {
      ...{ name, namespace: 'web', uid: `uid-${name}` },
      ...(mirror ? { annotations: { 'kubernetes.io/config.mirror': 'x' } } : {}),
      ...(owner === undefined ? {} : { ownerReferences: [{ kind: owner, controller: true }] }),
    },
    spec: { volumes: local ? [{ emptyDir: {} }] : [] },
    status: { phase },
  };
}

test.each<[string, Given, DrainInput, 'goes' | 'stays' | RegExp]>([
  ['of a ReplicaSet', { owner: 'ReplicaSet' }, {}, 'goes'],
  ["kubelet's own", { mirror: true }, { force: true }, 'stays'],
  ['of a DaemonSet', { owner: 'DaemonSet' }, { ignoreDaemonSets: true }, 'stays'],
  ['of a DaemonSet', { owner: 'DaemonSet' }, { ignoreDaemonSets: false }, /ignore_daemonsets/],
  ['of nobody', {}, {}, /\(force\)/],
  ['of nobody', {}, { force: true }, 'goes'],
  ['of nobody, that has ended', { phase: 'Succeeded' }, {}, 'goes'],
  ['with an emptyDir', { owner: 'ReplicaSet', local: true }, {}, /\(delete_local_data\)/],
  ['with an emptyDir', { owner: 'ReplicaSet', local: true }, { deleteLocalData: true }, 'goes'],
  ['with an emptyDir, that has ended', { owner: 'Job', local: true, phase: 'Failed' }, {}, 'goes'],
])('a pod %s (%j) with %j', (_, given, input, expected) => {
  const { leaving, kept } = chooseLeaving([pod('a', given)], input);
  if (expected instanceof RegExp) expect(kept).toEqual([expect.stringMatching(expected)]);
  else expect({ leaving: leaving.length, kept }).toEqual({ leaving: expected === 'goes' ? 1 : 0, kept: [] });
});

/** Evicted pods are there for one more look. */
class Node implements KubeApi {
  readonly pods = new Map<string, ReturnType<typeof pod>>();
  readonly ending = new Set<string>();
  readonly evictions: unknown[] = [];
  readonly clock = new VirtualClock();
  refuses: (name: string) => KubeResponse | Error | undefined = () => undefined;

  constructor(...pods: ReturnType<typeof pod>[]) {
    for (const each of pods) this.pods.set(each.metadata.name, each);
  }

  request(_: string, { method, path, body }: KubeRequest): Promise<KubeResponse> {
    if (method === 'GET') {
      expect(path).toBe('/api/v1/pods?fieldSelector=spec.nodeName%3Dw');
      const items = [...this.pods.values()];
      for (const name of this.ending) this.pods.delete(name);
      return Promise.resolve(answer(200, { items }));
    }
    const name = /\/api\/v1\/namespaces\/web\/pods\/(.*)\/eviction$/.exec(path)?.[1] ?? '';
    const refusal = this.refuses(name);
    if (refusal instanceof Error) return Promise.reject(refusal);
    if (refusal !== undefined) return Promise.resolve(refusal);
    this.evictions.push(body);
    this.ending.add(name);
    return Promise.resolve(answer(201, {}));
  }

  async drain(input: DrainInput = {}): Promise<string[]> {
    const told: string[] = [];
    const server = { kube: this, node: 'cp-1', clock: this.clock, random: () => 0.5 };
    const { signal } = new AbortController();
    await drain({ server, name: 'w', input, onLook: (left) => told.push(left.join()), signal });
    return told;
  }
}

describe('drain', () => {
  test('evicts what has to go, and waits until it is gone', async () => {
    const node = new Node(pod('a', { owner: 'ReplicaSet' }), pod('d', { owner: 'DaemonSet' }));
    expect(await node.drain({ ignoreDaemonSets: true, gracePeriod: 5 })).toEqual(['web/a: is ending']);
    expect(node.evictions).toEqual([
      {
        apiVersion: 'policy/v1',
        kind: 'Eviction',
        metadata: { namespace: 'web', name: 'a' },
        deleteOptions: { preconditions: { uid: 'uid-a' }, gracePeriodSeconds: 5 },
      },
    ]);
    expect([...node.pods.keys()]).toEqual(['d']);
  });

  test('touches nothing where a pod may not be moved', async () => {
    const node = new Node(pod('a', { owner: 'ReplicaSet' }), pod('b'));
    await expect(node.drain()).rejects.toMatchObject({
      code: 'DRAIN',
      details: ['web/b has no controller that starts it elsewhere (force)'],
    });
    expect(node.evictions).toEqual([]);
  });

  test('a pod that its PodDisruptionBudget keeps is asked for again', async () => {
    const node = new Node(pod('a', { owner: 'ReplicaSet' }));
    const faults = [
      status(429, 'TooManyRequests', "Cannot evict pod as it would violate the pod's disruption budget."),
      new TsrkeError('KUBE', 'no connection'),
    ];
    node.refuses = () => faults.shift();
    expect((await node.drain()).map((told) => told.slice(0, 24))).toEqual([
      'web/a: Cannot evict pod ',
      'web/a: no connection',
      'web/a: is ending',
    ]);
    expect(node.evictions).toHaveLength(1);
  });

  test('ends at its time with what is left, and why', async () => {
    const node = new Node(pod('a', { owner: 'ReplicaSet' }), pod('b', { owner: 'ReplicaSet' }));
    node.refuses = (name) => (name === 'b' ? status(429, 'TooManyRequests', 'disruption budget') : undefined);
    const began = node.clock.now().getTime();
    await expect(node.drain({ timeout: 12 })).rejects.toMatchObject({
      code: 'DRAIN',
      message: 'Node w was not drained within 12 s',
      details: ['web/b: disruption budget'],
    });
    expect(node.clock.now().getTime() - began).toBe(15_000);
  });

  test('one that is gone, or that has been made anew under its name, is not waited for', async () => {
    const node = new Node(pod('a', { owner: 'StatefulSet' }));
    node.refuses = () => {
      node.pods.set('a', { ...pod('a'), metadata: { ...pod('a').metadata, uid: 'another' } });
      return status(409, 'Conflict', 'the UID in the precondition does not match');
    };
    expect(await node.drain()).toEqual([]);
  });
});
