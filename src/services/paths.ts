/** Where files of the services lie, as the containers see them (rke-compat, sections 6 and 9). */
import type { RkeNode } from '../config/rke-config.ts';

export const admissionPath = '/etc/kubernetes/admission.yaml';
export const auditPolicyPath = '/etc/kubernetes/audit-policy.yaml';
export const cloudConfigPath = '/etc/kubernetes/cloud-config';
export const webhookPath = '/etc/kubernetes/kube-api-authn-webhook.yaml';

const folder = '/etc/kubernetes/ssl';
export const certificatePath = (name: string): string => `${folder}/${name}.pem`;
export const keyPath = (name: string): string => `${folder}/${name}-key.pem`;
export const kubeconfigPath = (name: string): string => `${folder}/kubecfg-${name}.yaml`;

export const caPath = certificatePath('kube-ca');

/** A node's own certificate, by the address that the other nodes know: `kube-etcd-198-51-100-11`. */
export function ownCertificate(kind: 'kube-etcd' | 'kube-kubelet', node: RkeNode): string {
  const address = node.internalAddress === '' ? node.address : node.internalAddress;
  return `${kind}-${address.toLowerCase().replaceAll('.', '-')}`;
}
