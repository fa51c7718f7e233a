/** Where files of the services lie beside their certificates, as the containers see them: RKE's paths. */
export const admissionPath = '/etc/kubernetes/admission.yaml';
export const auditPolicyPath = '/etc/kubernetes/audit-policy.yaml';
export const cloudConfigPath = '/etc/kubernetes/cloud-config';
export const webhookPath = '/etc/kubernetes/kube-api-authn-webhook.yaml';
