/** Makes certificates and puts them into a bundle: the changes of changes.ts, carried out. */
import { createPublicKey, generateKeyPair, randomBytes, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { TsrkeError } from '../errors.ts';
import { elementOf, type Bundle, type BundleElement } from './bundle.ts';
import { readCertificate, readKey, type Certificate } from './certificate.ts';
import { adminConfig, changesFor, externalEtcdNames, type Change } from './changes.ts';
import { caNames, leavesOf, tokenName, type CaName, type CertifiedCluster, type Leaf } from './cluster.ts';
import { addressIn } from './kubeconfig.ts';
import { certificatePem, keyPem, selfIssuer, type Subject } from './x509.ts';

/** Time and randomness. */
export interface Source {
  now(): Date;
  /** An RSA key of its own for the certificate of this name. */
  newKey(name: string): Promise<KeyObject>;
  /** 63 bits. */
  newSerial(): bigint;
}

const generate = promisify(generateKeyPair);

export const systemSource: Source = {
  now: () => new Date(),
  newKey: async () => (await generate('rsa', { modulusLength: 2048 })).privateKey,
  newSerial: () => randomBytes(8).readBigUInt64BE() >> 1n,
};

/** Ten years of 365 days, as RKE has it. */
const validFor = 3650 * 24 * 3_600_000;

/** Everything for a cluster that does not exist yet. */
export async function newBundle(cluster: CertifiedCluster, source: Source = systemSource): Promise<Bundle> {
  return await carryOut(cluster, undefined, changesFor(cluster, undefined, source.now()), source);
}

/**
 * The bundle after these changes, which `changesFor` or `rotationFor` has found; what they do not name stays as it is,
 * and what is issued again keeps its key. Throws CERTIFICATES_INVALID where a CA's key is missing that is needed.
 */
export async function carryOut(
  cluster: CertifiedCluster,
  bundle: Bundle | undefined,
  changes: readonly Change[],
  source: Source = systemSource,
): Promise<Bundle> {
  const made = new Map(Object.entries(bundle ?? {}));
  const named = new Set(changes.filter(({ what }) => what !== 'kubeconfig').map(({ name }) => name));
  const now = toSeconds(source.now());
  const leaves = leavesOf(cluster).filter(({ name }) => named.has(name));
  const cas = caNames.filter((name) => named.has(name));
  // Before any work: a CA that the user has brought may have come without its key.
  const unsigned = leaves.filter((leaf) => !cas.includes(leaf.ca) && issuerIn(made, leaf) === undefined);
  if (unsigned.length > 0) throw notIssued(unsigned, changes);

  const rotated = new Set(changes.filter(({ what }) => what === 'rotate').map(({ name }) => name));
  const keys = await keysFor([...cas, ...leaves.map(({ name }) => name)], rotated, made, source);
  const keyOf = (name: string) => keys.get(name) ?? absent(name);
  for (const name of cas) made.set(name, caElement(name, { commonName: name }, keyOf(name), now));
  for (const leaf of leaves) {
    // RKE's own: on a new cluster both share one.
    const shares = leaf.name === 'kube-node' && !keys.has('kube-node');
    const key = shares
      ? (readKey(made.get('kube-proxy')?.keyPEM ?? '') ?? absent('kube-proxy'))
      : keyOf(leaf.name);
    const signing = issuerIn(made, leaf) ?? absent(leaf.ca);
    made.set(leaf.name, leafElement(leaf, key, signing, { now, serial: source.newSerial() }));
  }
  // Very old clusters sign tokens with kube-apiserver's key: that of before, should it just have been rotated.
  const server = bundle?.['kube-apiserver'] ?? made.get('kube-apiserver');
  if (named.has(tokenName) && server !== undefined)
    made.set(tokenName, elementOf(tokenName, server, { commonName: tokenName }));
  for (const [name, element] of externalElements(cluster)) if (named.has(name)) made.set(name, element);
  for (const { name } of changes.filter(({ what }) => what === 'remove')) made.delete(name);
  if (changes.some(({ name }) => name === 'kube-admin'))
    admit(cluster, made, addressIn(bundle?.['kube-admin']?.config ?? ''));
  return Object.fromEntries([...made].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The keys that there are, and new ones side by side where there are none, or none to be kept. */
async function keysFor(
  names: readonly string[],
  rotated: ReadonlySet<string>,
  made: ReadonlyMap<string, BundleElement>,
  source: Source,
): Promise<Map<string, KeyObject>> {
  const ownKey = (name: string) => (rotated.has(name) ? undefined : readKey(made.get(name)?.keyPEM ?? ''));
  const found = await Promise.all(
    names
      .filter((name) => name !== 'kube-node' || rotated.has(name) || ownKey(name) !== undefined)
      .map(async (name) => [name, ownKey(name) ?? (await source.newKey(name))] as const),
  );
  return new Map(found);
}

/** One that takes the place of `former`, with a key of its own. */
export async function newCa(
  name: CaName,
  former: Certificate | undefined,
  source: Source,
): Promise<BundleElement> {
  // By what an old CA without a key id has signed OpenSSL cannot tell it from another of the same name.
  const commonName = former !== undefined && former.keyId === undefined ? `${name}-2` : name;
  // Whoever is to trust it may have a clock that is late.
  const begin = toSeconds(new Date(source.now().getTime() - 3_600_000));
  return caElement(name, { commonName }, await source.newKey(name), begin);
}

const toSeconds = (date: Date): Date => new Date(Math.floor(date.getTime() / 1000) * 1000);

function caElement(name: CaName, subject: Subject, privateKey: KeyObject, now: Date): BundleElement {
  const certificatePEM = certificatePem({
    ...{ subject, publicKey: createPublicKey(privateKey), issuer: selfIssuer(subject, privateKey) },
    ...{ serial: 0n, notBefore: now, notAfter: new Date(now.getTime() + validFor) },
    ...{ ca: true, usages: [], names: { dns: [], ip: [] } },
  });
  return elementOf(name, { certificatePEM, keyPEM: keyPem(privateKey) }, {});
}

interface Signing {
  readonly certificate: NonNullable<ReturnType<typeof readCertificate>>;
  readonly key: KeyObject;
}

function leafElement(
  leaf: Leaf,
  privateKey: KeyObject,
  { certificate: ca, key }: Signing,
  { now, serial }: { readonly now: Date; readonly serial: bigint },
): BundleElement {
  const certificatePEM = certificatePem({
    subject: leaf.subject,
    publicKey: createPublicKey(privateKey),
    issuer: { subject: ca.subject, keyId: ca.keyId, privateKey: key },
    serial,
    notBefore: ca.notBefore,
    notAfter: new Date(now.getTime() + validFor),
    ca: false,
    usages: leaf.usages,
    names: leaf.names,
  });
  return elementOf(leaf.name, { certificatePEM, keyPEM: keyPem(privateKey) }, leaf);
}

/** undefined: the CA's key is not there. */
function issuerIn(
  made: ReadonlyMap<string, Pick<BundleElement, 'certificatePEM' | 'keyPEM'>>,
  { ca }: Leaf,
): Signing | undefined {
  const element = made.get(ca);
  const certificate = readCertificate(element?.certificatePEM ?? '');
  const key = readKey(element?.keyPEM ?? '');
  const isWhole = certificate !== undefined && key !== undefined && certificate.x509.checkPrivateKey(key);
  return isWhole ? { certificate, key } : undefined;
}

/** Of these changes those that `carryOut` cannot make, because the user's own CA has kept its key. */
export function unsignable(
  cluster: CertifiedCluster,
  bundle: Bundle | undefined,
  changes: readonly Change[],
): Change[] {
  const made = new Map(Object.entries(bundle ?? {}));
  const isMade = (name: string) => changes.some((change) => change.name === name && change.what !== 'remove');
  const leaves = leavesOf(cluster).filter((leaf) => !isMade(leaf.ca) && issuerIn(made, leaf) === undefined);
  return changes.filter(
    ({ name, what }) => !['kubeconfig', 'remove'].includes(what) && leaves.some((leaf) => leaf.name === name),
  );
}

function notIssued(leaves: readonly Leaf[], changes: readonly Change[]): TsrkeError {
  const names = leaves.map(({ name }) => name);
  const cas = [...new Set(leaves.map(({ ca }) => ca))].join(' and ');
  const why = (name: string) => changes.find((change) => change.name === name)?.why ?? '';
  return new TsrkeError(
    'CERTIFICATES_INVALID',
    `${names.join(', ')} must be issued, and the state has no key of ${cas}: that is a CA of your own`,
    {
      details: names.map((name) => `${name}: ${why(name)}`),
      next: 'have them signed there: `tsrke cert generate-csr` makes the requests, `tsrke up --custom-certs` takes the certificates. Nothing was touched',
    },
  );
}

/** Those of an etcd outside the cluster, out of cluster.yml. Throws CONFIG_INVALID. */
export function externalElements({ externalEtcd }: CertifiedCluster): [string, BundleElement][] {
  if (externalEtcd === undefined) return [];
  const { client, ca } = externalEtcdNames;
  const certificateOf = (pem: string, field: string) => {
    const certificate = readCertificate(pem);
    if (certificate !== undefined) return certificate.x509.toString();
    throw new TsrkeError('CONFIG_INVALID', `services.etcd.${field} is not a certificate in PEM`);
  };
  const key = readKey(externalEtcd.key);
  if (key === undefined)
    throw new TsrkeError('CONFIG_INVALID', 'services.etcd.key is not an RSA key in PEM without a passphrase');
  const own = { certificatePEM: certificateOf(externalEtcd.cert, 'cert'), keyPEM: keyPem(key) };
  const authority = { certificatePEM: certificateOf(externalEtcd.ca, 'ca_cert'), keyPEM: '' };
  return [
    [client, elementOf(client, own, {})],
    [ca, elementOf(ca, authority, {})],
  ];
}

/** The admin's kubeconfig holds its certificates, leads to `address` where a node has it, and is where RKE puts it. */
export function admit(
  cluster: CertifiedCluster,
  made: Map<string, BundleElement>,
  address: string | undefined,
): void {
  const admin = made.get('kube-admin');
  if (admin === undefined) return;
  const config = adminConfig(cluster, Object.fromEntries(made), address);
  made.set('kube-admin', {
    ...admin,
    config,
    ...(config === '' ? {} : { configPath: cluster.kubeconfigPath }),
  });
}

function absent(name: string): never {
  throw new Error(`no key was made for ${name}`);
}
