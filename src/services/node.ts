/** What a node's object in Kubernetes carries by its entry in cluster.yml, as RKE 1.6 sets it. */
import type { RkeNode } from '../config/rke-config.ts';

export interface Taint {
  readonly key: string;
  readonly value: string;
  readonly effect: string;
}

export const controlplaneTaint: Taint = {
  key: 'node-role.kubernetes.io/controlplane',
  value: 'true',
  effect: 'NoSchedule',
};

const etcdTaint: Taint = { key: 'node-role.kubernetes.io/etcd', value: 'true', effect: 'NoExecute' };

/** As kubelet's `register-with-taints` has it. */
export function taintText({ key, value, effect }: Taint): string {
  return `${key}=${value}:${effect}`;
}

export interface NodeMarks {
  readonly labels: Readonly<Record<string, string>>;
  /** Labels of roles that the node does not have. */
  readonly labelsToRemove: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly taints: readonly Taint[];
  /** Those of the two that RKE keeps for itself. */
  readonly taintsToRemove: readonly Taint[];
}

/** Of these cluster.yml's own taints change nothing. */
const reserved: readonly (readonly [role: string, taint: Taint])[] = [
  ['etcd', etcdTaint],
  ['controlplane', controlplaneTaint],
];

const roles = ['etcd', 'controlplane', 'worker'] as const;

export function marksOf(node: RkeNode): NodeMarks {
  const has = (role: string) => node.role.includes(role);
  const roleLabel = (role: string) => `node-role.kubernetes.io/${role}`;
  // A worker takes pods, whatever else it is.
  const own = reserved.filter(([role]) => has(role) && !has('worker')).map(([, taint]) => taint);
  const others = ((node['taints'] ?? []) as readonly Partial<Taint>[])
    .map(({ key = '', value = '', effect = '' }) => ({ key, value, effect }))
    .filter((taint) => !reserved.some(([, each]) => isSame(each, taint)));
  return {
    labels: {
      ...((node['labels'] ?? {}) as Readonly<Record<string, string>>),
      ...Object.fromEntries(roles.filter(has).map((role) => [roleLabel(role), 'true'])),
    },
    labelsToRemove: roles.filter((role) => !has(role)).map(roleLabel),
    annotations: {
      'rke.cattle.io/external-ip': node.address,
      'rke.cattle.io/internal-ip': node.internalAddress,
    },
    taints: [...own, ...others],
    taintsToRemove: reserved.map(([, taint]) => taint).filter((taint) => !own.includes(taint)),
  };
}

function isSame(a: Taint, b: Taint): boolean {
  return a.key === b.key && a.effect === b.effect;
}
