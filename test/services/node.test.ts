import { expect, test } from 'vitest';
import { controlplaneTaint, marksOf, taintText } from '../../src/services/node.ts';
import type { NodeMarks } from '../../src/services/node.ts';
import { rkeOf } from './inputs.ts';

const etcd = { key: 'node-role.kubernetes.io/etcd', value: 'true', effect: 'NoExecute' };

function marks(roles: string, more = ''): NodeMarks {
  const [node] = rkeOf(`nodes:
- {address: n.example, internal_address: 10.0.0.1, user: u, role: [${roles}]${more}}
- {address: cp.example, user: u, role: [controlplane, etcd]}
`).nodes;
  if (node === undefined) throw new Error('no node');
  return marksOf(node);
}

test.each([
  ['controlplane', ['controlplane'], [controlplaneTaint], [etcd]],
  ['etcd', ['etcd'], [etcd], [controlplaneTaint]],
  ['etcd, controlplane', ['etcd', 'controlplane'], [etcd, controlplaneTaint], []],
  ['controlplane, worker', ['controlplane', 'worker'], [], [etcd, controlplaneTaint]],
  ['worker', ['worker'], [], [etcd, controlplaneTaint]],
])('%s', (roles, labelled, taints, taintsToRemove) => {
  const found = marks(roles);
  const label = (role: string) => `node-role.kubernetes.io/${role}`;
  expect(found).toMatchObject({ taints, taintsToRemove });
  expect(found.labels).toEqual(Object.fromEntries(labelled.map((role) => [label(role), 'true'])));
  const others = ['etcd', 'controlplane', 'worker'].filter((role) => !labelled.includes(role));
  expect(found.labelsToRemove).toEqual(others.map(label));
});

test("labels and taints of cluster.yml come on top, but not in the place of RKE's own", () => {
  const more = `, labels: {zone: a, node-role.kubernetes.io/worker: mine},
    taints: [{key: gpu, value: v, effect: NoSchedule}, {key: ${etcd.key}, value: mine, effect: NoExecute},
             {key: ${etcd.key}, value: mine, effect: NoSchedule}]`;
  expect(marks('worker', more)).toMatchObject({
    labels: { zone: 'a', 'node-role.kubernetes.io/worker': 'true' },
    taints: [
      { key: 'gpu', value: 'v', effect: 'NoSchedule' },
      { key: etcd.key, value: 'mine', effect: 'NoSchedule' },
    ],
    annotations: { 'rke.cattle.io/external-ip': 'n.example', 'rke.cattle.io/internal-ip': '10.0.0.1' },
  });
});

test("a taint as kubelet's argument has it", () => {
  expect(taintText(etcd)).toBe('node-role.kubernetes.io/etcd=true:NoExecute');
});
