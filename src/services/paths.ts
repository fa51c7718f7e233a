/** Where files of the services lie, as the containers see them: RKE's paths. */
import { folder } from '../certificates/kubeconfig.ts';

export const admissionPath = '/etc/kubernetes/admission.yaml';
export const auditPolicyPath = '/etc/kubernetes/audit-policy.yaml';
export const cloudConfigPath = '/etc/kubernetes/cloud-config';
export const webhookPath = '/etc/kubernetes/kube-api-authn-webhook.yaml';

export const certificatePath = (name: string): string => `${folder}/${name}.pem`;
export const keyPath = (name: string): string => `${folder}/${name}-key.pem`;
export const kubeconfigPath = (name: string): string => `${folder}/kubecfg-${name}.yaml`;

export const caPath = certificatePath('kube-ca');
