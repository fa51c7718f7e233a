/**
 * What runs on a node: from cluster.yml (as RKE keeps it in the state) and the facts of the host to the exact
 * containers that RKE would make there, so that a cluster that RKE has made is taken over without recreating one.
 */
import type { RkeNode } from '../config/rke-config.ts';
import { admissionFile } from './admission.ts';
import { auditPolicyFile } from './audit-policy.ts';
import { cloudConfigOf } from './cloud.ts';
import { serviceInput } from './cluster.ts';
import type { ClusterWish, DockerHost } from './cluster.ts';
import type { Container } from './container.ts';
import { etcdContainer, snapshotsContainer } from './etcd.ts';
import { apiserverContainer } from './kube-apiserver.ts';
import { controllerManagerContainer } from './kube-controller-manager.ts';
import { proxyContainer } from './kube-proxy.ts';
import { schedulerContainer } from './kube-scheduler.ts';
import { kubeletContainer } from './kubelet.ts';
import { nginxProxyContainer } from './nginx-proxy.ts';
import { admissionPath, auditPolicyPath, cloudConfigPath, webhookPath } from './paths.ts';
import { sidekickContainer } from './service-sidekick.ts';

/** In the order in which they start. Throws UNSUPPORTED (see serviceInput, imageOf, cloudConfigOf). */
export function servicesOf(node: RkeNode, host: DockerHost, wish: ClusterWish): Container[] {
  const input = serviceInput(node, host, wish);
  const has = (role: string) => node.role.includes(role);
  const snapshots = has('etcd') ? snapshotsContainer(input) : undefined;
  return [
    ...(has('etcd') ? [etcdContainer(input)] : []),
    ...(snapshots === undefined ? [] : [snapshots]),
    ...(has('controlplane') ? [] : [nginxProxyContainer(input)]),
    sidekickContainer(input),
    ...(has('controlplane')
      ? [apiserverContainer(input), controllerManagerContainer(input), schedulerContainer(input)]
      : []),
    // A node without the role `worker` has these, too: labels and taints keep pods away from it.
    kubeletContainer(input),
    proxyContainer(input),
  ];
}

/** A file that the containers of a node read, besides certificates and the provider file. */
export interface ServiceFile {
  /** As the containers see it. */
  readonly path: string;
  readonly text: string;
}

/** Throws UNSUPPORTED. */
export function filesOf(node: RkeNode, host: DockerHost, wish: ClusterWish): ServiceFile[] {
  const { version } = serviceInput(node, host, wish);
  const { kubeApi } = wish.rke.services;
  const isControlplane = node.role.includes('controlplane');
  const ownPolicy = Object.hasOwn(kubeApi.extraArgs ?? {}, 'audit-policy-file');
  const texts: readonly (readonly [path: string, text: string | undefined])[] = [
    [cloudConfigPath, cloudConfigOf(wish)],
    [webhookPath, wish.rke.authentication?.webhook?.configFile],
    [admissionPath, isControlplane ? admissionFile(version, kubeApi) : undefined],
    [auditPolicyPath, isControlplane && !ownPolicy ? auditPolicyFile(kubeApi) : undefined],
  ];
  // RKE removes a file that would be empty: a cloud provider such as `external` needs none.
  return texts.flatMap(([path, text]) => (text === undefined || text === '' ? [] : [{ path, text }]));
}
