/** Kubeconfigs, character by character as RKE writes them; without a newline at their end. */
import { caPath, certificatePath, keyPath } from './paths.ts';

/** Of a component on a node: it names files, and its kube-apiserver is the node's own or nginx-proxy. */
export function componentKubeconfig(name: string): string {
  return kubeconfig('local', `${name}-local`, 'https://127.0.0.1:6443', {
    ca: `certificate-authority: ${caPath}`,
    cert: `client-certificate: ${certificatePath(name)}`,
    key: `client-key: ${keyPath(name)}`,
  });
}

export interface AdminKubeconfig {
  readonly clusterName: string;
  /** An address of a controlplane node. */
  readonly address: string;
  /** PEM texts. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** The admin's, `kube_config_cluster.yml`: key material, certificates and key are in it. */
export function adminKubeconfig({ clusterName, address, ca, cert, key }: AdminKubeconfig): string {
  const base64 = (pem: string) => Buffer.from(pem).toString('base64');
  return kubeconfig(clusterName, `kube-admin-${clusterName}`, `https://${address}:6443`, {
    ca: `certificate-authority-data: ${base64(ca)}`,
    cert: `client-certificate-data: ${base64(cert)}`,
    key: `client-key-data: ${base64(key)}`,
  });
}

/** The address that a kubeconfig of RKE's leads to; undefined: it is not one. */
export function addressIn(text: string): string | undefined {
  return /^ {4}server: "https:\/\/(.*):6443"$/m.exec(text)?.[1];
}

function kubeconfig(
  cluster: string,
  user: string,
  server: string,
  lines: { readonly ca: string; readonly cert: string; readonly key: string },
): string {
  return `apiVersion: v1
kind: Config
clusters:
- cluster:
    api-version: v1
    ${lines.ca}
    server: "${server}"
  name: "${cluster}"
contexts:
- context:
    cluster: "${cluster}"
    user: "${user}"
  name: "${cluster}"
current-context: "${cluster}"
users:
- name: "${user}"
  user:
    ${lines.cert}
    ${lines.key}`;
}
