import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { wishOf } from '../../src/services/cluster.ts';
import { describeDrift, driftOf } from '../../src/services/drift.ts';
import type { SeenContainer } from '../../src/services/drift.ts';
import { servicesOf } from '../../src/services/services.ts';
import { debian, fixture, inspected, pathVariable } from './inputs.ts';

const wish = wishOf(loadConfig(fixture('cluster.yml')), true);

/** What is told of a host that RKE has set up, after `edit`. */
function told(
  edit: (seen: Map<string, SeenContainer>) => void = () => undefined,
  roles = ['controlplane', 'etcd'],
) {
  const node = wish.rke.nodes[0];
  if (node === undefined) throw new Error('no node');
  const seen = new Map(
    inspected('h1').map((inspect) => [inspect.Name.slice(1), { inspect, imageEnv: [pathVariable] }] as const),
  );
  edit(seen);
  return driftOf(servicesOf({ ...node, role: roles }, debian, wish), seen).flatMap(describeDrift);
}

function change(seen: Map<string, SeenContainer>, name: string, inspect: object): void {
  const now = seen.get(name);
  if (now === undefined) throw new Error(`no ${name}`);
  seen.set(name, { ...now, inspect: { ...now.inspect, ...inspect } });
}

test('a host as RKE left it shows none, and its other containers are nobody else', () => {
  expect(told()).toEqual([]);
});

describe('a host on which', () => {
  test('nothing runs yet', () => {
    expect(told((seen) => seen.clear())).toEqual([
      'etcd is missing',
      'service-sidekick is missing',
      'kube-apiserver is missing',
      'kube-controller-manager is missing',
      'kube-scheduler is missing',
      'kubelet is missing',
      'kube-proxy is missing',
    ]);
  });

  test('one is stopped', () => {
    expect(told((seen) => change(seen, 'kubelet', { State: { Running: false } }))).toEqual([
      'kubelet is stopped',
    ]);
  });

  test('one is stopped, and is not the wanted one', () => {
    const edit = (seen: Map<string, SeenContainer>) => {
      const Config = { ...seen.get('kubelet')?.inspect.Config, Image: 'rancher/hyperkube:v1.29.9-rancher1' };
      change(seen, 'kubelet', { State: { Running: false }, Config });
    };
    expect(told(edit)).toEqual([
      'kubelet: image: rancher/hyperkube:v1.29.9-rancher1 in the container, rancher/hyperkube:v1.30.5-rancher1 wanted',
    ]);
  });

  test('the role changes from controlplane to worker', () => {
    expect(told(undefined, ['etcd', 'worker'])).toEqual([
      'kube-apiserver is not wanted here',
      'kube-controller-manager is not wanted here',
      'kube-scheduler is not wanted here',
      'nginx-proxy is missing',
      'kubelet: argument --register-with-taints: node-role.kubernetes.io/controlplane=true:NoSchedule in the container, not wanted',
    ]);
  });
});
