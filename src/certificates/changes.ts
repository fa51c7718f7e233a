/**
 * Which certificates a cluster needs that its state does not have, and which of those it has must be issued again:
 * RKE's rules, and those for certificates that could not work. Looks only; `carryOut` makes what is said here.
 */
import { TsrkeError } from '../errors.ts';
import type { Bundle, BundleElement } from './bundle.ts';
import { isSignedBy, readCertificate, readKey, type Certificate } from './certificate.ts';
import { adminAddresses, caNames, leavesOf, tokenName, type CertifiedCluster, type Leaf } from './cluster.ts';
import { addressIn, adminKubeconfig } from './kubeconfig.ts';
import type { AltNames } from './x509.ts';

export interface Change {
  readonly name: string;
  /**
   * `issue again`: with the key that it has; `rotate`: with a new one; `kubeconfig`: the certificate stays, the admin's
   * kubeconfig is written anew.
   */
  readonly what: 'make' | 'issue again' | 'rotate' | 'kubeconfig' | 'remove';
  /** For people: `it is new`, `it lacks h4`. */
  readonly why: string;
  /** It serves for some days yet. */
  readonly canWait?: true;
}

/** Milliseconds before its end from which on a certificate is issued again. */
const renewBefore = 30 * 24 * 3_600_000;

export const externalEtcdNames = { client: 'kube-etcd-client', ca: 'kube-etcd-client-ca' } as const;

/**
 * In the order in which they are to be carried out; none: all is as it should be. `bundle`: the state's; undefined:
 * there is no cluster yet. A CA is never made anew. Throws STATE_INVALID and CONFIG_INVALID.
 */
export function changesFor(cluster: CertifiedCluster, bundle: Bundle | undefined, now: Date): Change[] {
  const had = bundle ?? {};
  const leaves = leavesOf(cluster);
  const changes: Change[] = [];
  for (const name of caNames) {
    if (readCertificate(had[name]?.certificatePEM ?? '') !== undefined) continue;
    // Very old clusters of RKE's have no CA of the aggregation layer.
    if (bundle !== undefined && name === 'kube-ca') throw withoutCa();
    changes.push({ name, what: 'make', why: 'it is new' });
  }
  for (const leaf of leaves) {
    const found = changeOf(leaf, had, now);
    if (found !== undefined) changes.push(found);
    else if (leaf.name === 'kube-admin') changes.push(...kubeconfigChange(cluster, had));
  }
  if (had[tokenName]?.keyPEM === undefined || had[tokenName].keyPEM === '')
    changes.push({ name: tokenName, what: 'make', why: 'tokens are signed with kube-apiserver’s key' });
  const external = cluster.externalEtcd === undefined ? [] : externalChanges(cluster.externalEtcd, had);
  changes.push(...external);
  const needed = new Set([...leaves.map(({ name }) => name), ...externalNames(cluster)]);
  const perNode = Object.keys(had).filter((name) => /^kube-(etcd|kubelet)-/.test(name) && !needed.has(name));
  return [
    ...changes,
    ...perNode.map((name): Change => ({ name, what: 'remove', why: 'its node needs it no more' })),
  ];
}

/** CAs that have ended or soon will: everything they signed is worthless then, and issuing it again does not help. */
export function endingCas(bundle: Bundle, now: Date): { readonly name: string; readonly notAfter: Date }[] {
  return caNames.flatMap((name) => {
    const notAfter = readCertificate(bundle[name]?.certificatePEM ?? '')?.notAfter;
    return notAfter !== undefined && isEnding(notAfter, now) ? [{ name, notAfter }] : [];
  });
}

function changeOf(leaf: Leaf, had: Bundle, now: Date): Change | undefined {
  const { name } = leaf;
  const element = had[name];
  const certificate = readCertificate(element?.certificatePEM ?? '');
  if (element === undefined || certificate === undefined) return { name, what: 'make', why: 'it is new' };
  const ca = readCertificate(had[leaf.ca]?.certificatePEM ?? '');
  const why = whyAgain(leaf, element, certificate, ca, now);
  if (why !== undefined) return { name, what: 'issue again', why };
  if (!isEnding(certificate.notAfter, now)) return undefined;
  const ends = `it ends on ${dayOf(certificate.notAfter)}`;
  return { name, what: 'issue again', why: ends, canWait: true };
}

const dayOf = (date: Date): string => date.toISOString().slice(0, 10);

function whyAgain(
  { name, ca: caName, names }: Leaf,
  element: BundleElement,
  certificate: Certificate,
  ca: Certificate | undefined,
  now: Date,
): string | undefined {
  const key = readKey(element.keyPEM);
  if (key === undefined || !certificate.x509.checkPrivateKey(key)) return 'its key is not in the state';
  if (ca === undefined || !isSignedBy(certificate, ca)) return `it is not signed by the cluster’s ${caName}`;
  if (certificate.notAfter <= now) return `it ended on ${dayOf(certificate.notAfter)}`;
  // A CA of the user's own may have added names, and put them in its own order: they have to be there, no more.
  if (isOfOwnCa(certificate, ca)) return difference(names, certificate.names, 'lacks');
  // RKE compares kube-apiserver's list in its order, those of etcd without; a kubelet's it leaves as they are.
  if (name === 'kube-apiserver') return difference(names, certificate.names, 'order');
  if (name.startsWith('kube-etcd-')) return difference(names, certificate.names, 'set');
  return undefined;
}

/** RKE and tsrke let all that they issue begin with its CA. */
function isOfOwnCa(certificate: Certificate, ca: Certificate): boolean {
  return certificate.notBefore.getTime() !== ca.notBefore.getTime();
}

/** What to say of two lists of names that are not the same. */
function difference(
  wanted: AltNames,
  held: AltNames,
  compared: 'lacks' | 'set' | 'order',
): string | undefined {
  const flat = ({ dns, ip }: AltNames) => [...dns, '', ...ip];
  const [want, have] = [flat(wanted), flat(held)];
  const lacks = want.filter((name) => !have.includes(name));
  if (lacks.length > 0) return `it lacks ${lacks.join(', ')}`;
  if (compared === 'lacks') return undefined;
  const surplus = have.filter((name) => !want.includes(name));
  if (surplus.length > 0) return `it names ${surplus.join(', ')}, which is gone`;
  const same =
    compared === 'order' ? want.join() === have.join() : want.toSorted().join() === have.toSorted().join();
  return same ? undefined : 'the nodes’ order is another one';
}

/** RKE issues the admin's certificate again in every run; ours stays as long as it serves. */
function kubeconfigChange(cluster: CertifiedCluster, had: Bundle): Change[] {
  const admin = had['kube-admin'];
  const text = adminConfig(cluster, had, addressIn(admin?.config ?? ''));
  if (admin === undefined || admin.config === text) return [];
  return [
    {
      name: 'kube-admin',
      what: 'kubeconfig',
      why: 'it leads to a node or a name that is another one by now',
    },
  ];
}

/** The admin's kubeconfig, with this address where a controlplane node has it; empty without such nodes. */
export function adminConfig(cluster: CertifiedCluster, bundle: Bundle, address: string | undefined): string {
  const addresses = adminAddresses(cluster);
  const [ca, admin] = [bundle['kube-ca'], bundle['kube-admin']];
  const leadsTo = address !== undefined && addresses.includes(address) ? address : addresses[0];
  if (leadsTo === undefined || ca === undefined || admin === undefined) return '';
  return adminKubeconfig({
    ...{ clusterName: cluster.name, address: leadsTo },
    ...{ ca: ca.certificatePEM, cert: admin.certificatePEM, key: admin.keyPEM },
  });
}

function externalChanges(given: { readonly ca: string; readonly cert: string }, had: Bundle): Change[] {
  const parts = [
    [externalEtcdNames.client, given.cert],
    [externalEtcdNames.ca, given.ca],
  ] as const;
  return parts.flatMap(([name, pem]): Change[] => {
    const [wanted, held] = [pem, had[name]?.certificatePEM ?? ''].map(
      (each) => readCertificate(each)?.x509.raw,
    );
    if (wanted !== undefined && held?.equals(wanted) === true) return [];
    return [{ name, what: 'make', why: 'cluster.yml has another one' }];
  });
}

function externalNames({ externalEtcd }: CertifiedCluster): string[] {
  return externalEtcd === undefined ? [] : Object.values(externalEtcdNames);
}

/** It ends within 30 days, or has. */
export function isEnding(notAfter: Date, now: Date): boolean {
  return notAfter.getTime() - now.getTime() <= renewBefore;
}

function withoutCa(): TsrkeError {
  return new TsrkeError('STATE_INVALID', 'the state holds no certificate kube-ca', {
    next: 'restore the state file of this cluster; a CA is never made anew for a cluster that exists',
  });
}
