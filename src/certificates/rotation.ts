/** What `cert rotate` gives new keys and certificates (RKE's choice of them), beside what must change anyway. */
import type { Bundle } from './bundle.ts';
import { changesFor, type Change } from './changes.ts';
import { leavesOf, type CertifiedCluster } from './cluster.ts';

/** As `--service` has them. */
export const rotatedServices = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'etcd',
] as const;

export type RotatedService = (typeof rotatedServices)[number];

export interface Rotation {
  /** None: all, and those that belong to no service. */
  readonly services: readonly RotatedService[];
}

/** For `carryOut`. The CAs stay, and so does the key that signs tokens: every token in use hangs on it. Throws as `changesFor`. */
export function rotationFor(
  cluster: CertifiedCluster,
  bundle: Bundle,
  { services }: Rotation,
  now: Date,
): Change[] {
  const all = services.length === 0;
  const leaves = leavesOf(cluster).map(({ name }) => name);
  const chosen = leaves.filter((name) => all || services.some((service) => belongsTo(name, service)));
  const names = new Set<string>(chosen);
  return [
    ...[...names].map((name): Change => ({ name, what: 'rotate', why: 'it was asked for' })),
    ...changesFor(cluster, bundle, now).filter(({ name }) => !names.has(name)),
  ];
}

function belongsTo(name: string, service: RotatedService): boolean {
  if (service === 'kubelet') return name === 'kube-node' || name.startsWith('kube-kubelet-');
  if (service === 'etcd') return name.startsWith('kube-etcd-');
  return name === service;
}
