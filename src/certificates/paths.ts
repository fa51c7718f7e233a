/** Where RKE's nodes keep certificates, keys and kubeconfigs, by the certificate's name. */
const folder = '/etc/kubernetes/ssl';

export const certificatePath = (name: string): string => `${folder}/${name}.pem`;
export const keyPath = (name: string): string => `${folder}/${name}-key.pem`;
export const kubeconfigPath = (name: string): string => `${folder}/kubecfg-${name}.yaml`;

export const caPath = certificatePath('kube-ca');
