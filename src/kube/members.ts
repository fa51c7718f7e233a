/** Who else serves this cluster, as the cluster itself says: Endpoints and identity Leases. */
import { TsrkeError } from '../errors.ts';
import type { KubeApi, NodeName } from '../ports.ts';
import { expectOk, parseJson } from './status.ts';

const endpointsPath = '/api/v1/namespaces/default/endpoints/kubernetes';
const slicesPath =
  '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes';
export const kubeSystemLeases = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases';
const leasesPath = `${kubeSystemLeases}?labelSelector=apiserver.kubernetes.io%2Fidentity%3Dkube-apiserver`;

/**
 * Addresses of the apiservers that stand in Endpoints `default/kubernetes`, or, where the server no longer has
 * the Endpoints API (404), in that service's EndpointSlices; sorted, each once. Throws KUBE.
 */
export async function endpointAddresses(
  kube: KubeApi,
  node: NodeName,
  signal: AbortSignal,
): Promise<string[]> {
  const answer = await kube.request(node, { method: 'GET', path: endpointsPath }, signal);
  let addresses: (string | undefined)[];
  if (answer.status === 404) {
    const what = 'GET EndpointSlices default/kubernetes';
    const slices = expectOk(
      await kube.request(node, { method: 'GET', path: slicesPath }, signal),
      node,
      what,
    );
    const list = parseJson(slices, node, what) as {
      items?: { endpoints?: { addresses?: string[] }[] | null }[];
    };
    addresses = (list.items ?? []).flatMap((slice) =>
      (slice.endpoints ?? []).flatMap((endpoint) => endpoint.addresses ?? []),
    );
  } else {
    const what = 'GET Endpoints default/kubernetes';
    const endpoints = parseJson(expectOk(answer, node, what), node, what) as {
      subsets?: { addresses?: { ip?: string }[]; notReadyAddresses?: { ip?: string }[] }[];
    };
    addresses = (endpoints.subsets ?? []).flatMap((subset) =>
      [...(subset.addresses ?? []), ...(subset.notReadyAddresses ?? [])].map((address) => address.ip),
    );
  }
  return [...new Set(addresses.filter((address) => address !== undefined))].sort();
}

export interface IdentityLease {
  /** The Lease's name: `apiserver-` and a hash, the same over restarts on one host. */
  readonly name: string;
  /** The host's own name (label kubernetes.io/hostname); empty when the Lease carries none. */
  readonly hostname: string;
}

/**
 * Identity Leases of kube-apiservers (from 1.26) that were renewed within the last `fresh` milliseconds, sorted
 * by hostname. Their age is taken by the answering server's own Date header: our clock may be wrong.
 * A server without such Leases gives an empty list. Throws KUBE.
 */
export async function identityLeases(
  kube: KubeApi,
  node: NodeName,
  signal: AbortSignal,
  fresh = 60_000,
): Promise<IdentityLease[]> {
  const what = 'GET Leases of kube-apiserver in kube-system';
  const answer = expectOk(await kube.request(node, { method: 'GET', path: leasesPath }, signal), node, what);
  const now = Date.parse(answer.headers['date'] ?? '');
  if (Number.isNaN(now)) {
    throw new TsrkeError('KUBE', `kube-apiserver answered ${what} without a Date header`, { node });
  }
  const list = parseJson(answer, node, what) as {
    items?: {
      metadata?: { name?: string; labels?: Record<string, string> };
      spec?: { renewTime?: string };
    }[];
  };
  return (list.items ?? [])
    .filter((lease) => {
      const renewed = Date.parse(lease.spec?.renewTime ?? '');
      return !Number.isNaN(renewed) && now - renewed <= fresh;
    })
    .map(({ metadata }) => ({
      name: metadata?.name ?? '',
      hostname: metadata?.labels?.['kubernetes.io/hostname'] ?? '',
    }))
    .sort((a, b) => a.hostname.localeCompare(b.hostname) || a.name.localeCompare(b.name));
}
