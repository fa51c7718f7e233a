import { readFileSync } from 'node:fs';

interface Pair {
  readonly certificatePEM: string;
  readonly keyPEM: string;
}

const state = JSON.parse(
  readFileSync(new URL('../fixtures/rke-1.6.3/enabled.rkestate', import.meta.url), 'utf8'),
) as { currentState: { certificatesBundle: Record<string, Pair> } };

/** A throwaway certificate of RKE's making; those of servers hold 127.0.0.1, localhost and 198.51.100.11 to .13. */
export function certificate(name: string): { cert: string; key: string } {
  const pair = state.currentState.certificatesBundle[name];
  if (pair === undefined) throw new Error(`no certificate ${name} in the fixture`);
  return { cert: pair.certificatePEM, key: pair.keyPEM };
}

/** kube-ca, which signed the certificates of kube-apiserver, kube-admin and etcd. */
export const kubeCa = certificate('kube-ca').cert;
/** A CA that signed none of them. */
export const otherCa = certificate('kube-apiserver-requestheader-ca').cert;
