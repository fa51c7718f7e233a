/** `certificatesBundle` of the state: each certificate with its key, its kubeconfig, and the names RKE has for them. */
import type { JsonObject } from '../state/rkestate.ts';
import { componentKubeconfig } from './kubeconfig.ts';
import { certificatePath, keyPath, kubeconfigPath } from './paths.ts';

/** All twelve fields, in RKE's order. */
export interface BundleElement {
  /** Empty where there is none, as the others. */
  readonly certificatePEM: string;
  readonly keyPEM: string;
  /** A kubeconfig's text. */
  readonly config: string;
  readonly name: string;
  /** RKE's own word, which is not always the certificate's. */
  readonly commonName: string;
  readonly ouName: string;
  readonly envName: string;
  readonly path: string;
  readonly keyEnvName: string;
  readonly keyPath: string;
  readonly configEnvName: string;
  readonly configPath: string;
}

export type Bundle = Readonly<Record<string, BundleElement>>;

const fields = [
  ...['certificatePEM', 'keyPEM', 'config', 'name', 'commonName', 'ouName', 'envName', 'path', 'keyEnvName'],
  ...['keyPath', 'configEnvName', 'configPath'],
] as const;

/** As the state has it; fields that are missing are empty, as Go's decoder leaves them. */
export function bundleIn(certificates: Readonly<Record<string, JsonObject>>): Bundle {
  const element = (from: JsonObject) =>
    Object.fromEntries(
      fields.map((field) => [field, typeof from[field] === 'string' ? from[field] : '']),
    ) as unknown as BundleElement;
  return Object.fromEntries(Object.entries(certificates).map(([name, from]) => [name, element(from)]));
}

/** For the state: Go's encoder sorts the keys of a map. */
export function bundleForState(bundle: Bundle): Record<string, JsonObject> {
  return Object.fromEntries(
    Object.entries(bundle)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, element]) => [name, { ...element }]),
  );
}

/** Everything but certificate and key follows from the name. */
export function elementOf(
  name: string,
  { certificatePEM, keyPEM }: Pick<BundleElement, 'certificatePEM' | 'keyPEM'>,
  { commonName = `system:${name}`, ouName = '' }: { readonly commonName?: string; readonly ouName?: string },
): BundleElement {
  const envName = name.toUpperCase().replaceAll('-', '_');
  const withKubeconfig = hasKubeconfig(name);
  return {
    certificatePEM,
    keyPEM,
    config: withKubeconfig ? componentKubeconfig(name) : '',
    name,
    commonName,
    ouName,
    envName,
    path: certificatePath(name),
    keyEnvName: `${envName}_KEY`,
    keyPath: keyPath(name),
    configEnvName: withKubeconfig ? `KUBECFG_${envName}` : '',
    configPath: withKubeconfig ? kubeconfigPath(name) : '',
  };
}

/** RKE gives one to every client, and to the CA and the proxy's client of the aggregation layer, which need none. */
function hasKubeconfig(name: string): boolean {
  const without = ['kube-ca', 'kube-apiserver', 'kube-service-account-token'];
  return !without.includes(name) && !name.includes('kube-etcd') && !name.includes('kube-kubelet');
}
