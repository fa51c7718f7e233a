/**
 * Certificates of the user's own CA (`--cert-dir`, `--custom-certs`): RKE's file names and demands, and whatever else
 * would only show once a node has them. Judges all of them before it says anything.
 */
import { TsrkeError } from '../errors.ts';
import { elementOf, type Bundle, type BundleElement } from './bundle.ts';
import { isSignedBy, readCertificate, readKey, type Certificate } from './certificate.ts';
import { isEnding } from './changes.ts';
import { leavesOf, tokenName, type CaName, type CertifiedCluster, type Leaf } from './cluster.ts';
import { admit, externalElements } from './issue.ts';
import { addressIn } from './kubeconfig.ts';
import { ids, keyPem, type Usage } from './x509.ts';

export interface CustomOptions {
  readonly cluster: CertifiedCluster;
  /** What messages call the folder. */
  readonly where: string;
  /** The text of a file in it: `kube-ca.pem`, `kube-ca-key.pem`; undefined: there is none. */
  readonly read: (file: string) => string | undefined;
  /** The state's bundle; undefined: there is no cluster yet. */
  readonly bundle: Bundle | undefined;
  readonly now: Date;
}

export interface CustomBundle {
  readonly bundle: Bundle;
  readonly warnings: readonly string[];
}

interface Pair {
  readonly certificate: Certificate;
  readonly certificatePEM: string;
  /** Empty: it came without. */
  readonly keyPEM: string;
}

const requestHeader: CaName = 'kube-apiserver-requestheader-ca';

const purposes: Record<Usage, string> = { client: 'clients (clientAuth)', server: 'servers (serverAuth)' };

/** Throws CERTIFICATES_INVALID, with every mistake in its details. */
export function customBundle(options: CustomOptions): CustomBundle {
  const { cluster, where, bundle: had, now } = options;
  const judge = new Judge(options);
  const leaves = leavesOf(cluster);
  const ca = judge.ca('kube-ca');
  const hasRequestHeader = options.read(`${requestHeader}.pem`) !== undefined;
  const aggregation = hasRequestHeader ? judge.ca(requestHeader) : ca && { ...ca, keyPEM: '' };
  judge.sameCa('kube-ca', ca, had);
  const cas: Partial<Record<CaName, Pair>> = {
    ...(ca && { 'kube-ca': ca }),
    ...(aggregation && { [requestHeader]: aggregation }),
  };
  const pairs = leaves.map((leaf) => [leaf, judge.leaf(leaf, cas[leaf.ca])] as const);
  const token = judge.token(had?.[tokenName]);
  if (judge.problems.length > 0) throw refused(where, judge.problems);

  const made = new Map<string, BundleElement>();
  for (const [name, pair] of Object.entries(cas)) made.set(name, elementOf(name, pair, { commonName: name }));
  for (const [leaf, pair] of pairs) if (pair !== undefined) made.set(leaf.name, leafElement(leaf, pair));
  const server = made.get('kube-apiserver');
  const signer = token ?? had?.[tokenName] ?? server;
  if (signer !== undefined) made.set(tokenName, elementOf(tokenName, signer, { commonName: tokenName }));
  for (const [name, element] of externalElements(cluster)) made.set(name, element);
  admit(cluster, made, addressIn(had?.['kube-admin']?.config ?? ''));
  const warnings = [...judge.warnings(now)];
  if (!hasRequestHeader) {
    warnings.push(
      `${where} has no ${requestHeader}.pem: kube-ca stands in, so whoever it certifies as ${leafOf(leaves, requestHeader)} may speak for any user`,
    );
  }
  return { bundle: Object.fromEntries([...made].sort(([a], [b]) => (a < b ? -1 : 1))), warnings };
}

/** Collects what is wrong. */
class Judge {
  readonly problems: string[] = [];
  readonly #ending = new Map<string, Date>();
  readonly #options: CustomOptions;

  constructor(options: CustomOptions) {
    this.#options = options;
  }

  ca(name: CaName): Pair | undefined {
    const pair = this.#pair(name, 'key optional');
    if (pair === undefined || pair.certificate.x509.ca) return pair;
    this.problems.push(`${name}.pem is not the certificate of a CA`);
    return undefined;
  }

  /** Another CA would cut off every node, user and pod of the cluster at once. */
  sameCa(name: CaName, pair: Pair | undefined, had: Bundle | undefined): void {
    const known = readCertificate(had?.[name]?.certificatePEM ?? '');
    if (pair === undefined || known === undefined) return;
    const { x509, subject } = pair.certificate;
    // Both are looked for in what it has signed.
    if (known.x509.publicKey.equals(x509.publicKey) && known.subject.equals(subject)) return;
    this.problems.push(`${name}.pem is another CA than the cluster’s`);
  }

  leaf(leaf: Leaf, ca: Pair | undefined): Pair | undefined {
    const pair = this.#pair(leaf.name, 'with key');
    if (pair === undefined) return undefined;
    const { certificate } = pair;
    const say = (what: string) => this.problems.push(`${leaf.name}.pem ${what}`);
    if (ca !== undefined && !isSignedBy(certificate, ca.certificate)) say(`is not signed by ${leaf.ca}.pem`);
    const subject = subjectProblem(leaf, certificate);
    if (subject !== undefined) say(subject);
    const uses = purposesIn(certificate);
    for (const usage of leaf.usages) {
      if (uses !== undefined && !uses.includes(ids[usage])) say(`is not for ${purposes[usage]}`);
    }
    const held = [...certificate.names.dns, ...certificate.names.ip];
    const lacks = [...leaf.names.dns, ...leaf.names.ip].filter((name) => !held.includes(name));
    if (lacks.length > 0) say(`lacks ${lacks.join(', ')} among its alternative names`);
    return pair;
  }

  /** The pair that signs tokens, where the folder has one. A cluster's own must stay: every token hangs on it. */
  token(had: BundleElement | undefined): Pair | undefined {
    const { read } = this.#options;
    const [pem, key] = [read(`${tokenName}.pem`), read(`${tokenName}-key.pem`)];
    if (pem === undefined && key === undefined) return undefined;
    const pair = this.#pair(tokenName, 'with key');
    const known = readKey(had?.keyPEM ?? '');
    const own = readKey(pair?.keyPEM ?? '');
    if (known !== undefined && own !== undefined && keyPem(known) !== keyPem(own))
      this.problems.push(`${tokenName}-key.pem is not the cluster’s: every token in use would end`);
    return pair;
  }

  warnings(now: Date): string[] {
    return [...this.#ending]
      .filter(([, notAfter]) => isEnding(notAfter, now))
      .map(([name, notAfter]) => `${name}.pem ends on ${notAfter.toISOString().slice(0, 10)}`);
  }

  #pair(name: string, keys: 'with key' | 'key optional'): Pair | undefined {
    const { read, now } = this.#options;
    const [text, keyText] = [read(`${name}.pem`), read(`${name}-key.pem`)];
    const say = (what: string) => this.problems.push(what);
    const certificate = readCertificate(text ?? '');
    if (text === undefined) say(`${name}.pem is missing`);
    else if (certificate === undefined) say(`${name}.pem is not a certificate in PEM`);
    const key = readKey(keyText ?? '');
    if (keyText !== undefined && key === undefined)
      say(`${name}-key.pem is not an RSA key in PEM without a passphrase`);
    else if (key === undefined && keys === 'with key') say(`${name}-key.pem is missing`);
    if (certificate === undefined) return undefined;
    if (key !== undefined && !certificate.x509.checkPrivateKey(key))
      say(`${name}-key.pem is not the key of ${name}.pem`);
    const { notBefore, notAfter } = certificate;
    if (notAfter <= now) say(`${name}.pem ended on ${notAfter.toISOString().slice(0, 10)}`);
    else if (notBefore > now) say(`${name}.pem begins only on ${notBefore.toISOString().slice(0, 10)}`);
    this.#ending.set(name, notAfter);
    return {
      certificate,
      certificatePEM: certificate.x509.toString(),
      keyPEM: key === undefined ? '' : keyPem(key),
    };
  }
}

/** undefined: for anything. */
function purposesIn({ x509 }: Certificate): readonly string[] | undefined {
  return x509.keyUsage;
}

/** Kubernetes knows clients by common name and organisation; of etcd's and kubelets' certificates nobody reads them. */
function subjectProblem({ name, subject }: Leaf, { x509 }: Certificate): string | undefined {
  if (/^kube-(etcd|kubelet)-/.test(name)) return undefined;
  const lines = x509.subject.split('\n');
  const lacks = [
    ...(lines.includes(`CN=${subject.commonName}`) ? [] : [`the common name ${subject.commonName}`]),
    ...(subject.organisation === undefined || lines.includes(`O=${subject.organisation}`)
      ? []
      : [`the organisation ${subject.organisation}`]),
  ];
  return lacks.length === 0 ? undefined : `has not ${lacks.join(' and ')}`;
}

/** As RKE names it here: by the file's name, but for the two that have an organisation. */
function leafElement({ name, commonName, ouName }: Leaf, pair: Pair): BundleElement {
  return elementOf(name, pair, {
    commonName: commonName ?? name,
    ...(ouName === undefined ? {} : { ouName }),
  });
}

function leafOf(leaves: readonly Leaf[], ca: CaName): string {
  return leaves.find((leaf) => leaf.ca === ca)?.subject.commonName ?? '';
}

function refused(where: string, problems: readonly string[]): TsrkeError {
  const [first = ''] = problems;
  const words = problems.length === 1 ? first : `${problems.length} things are wrong with the certificates`;
  return new TsrkeError('CERTIFICATES_INVALID', `${where}: ${words}`, {
    ...(problems.length > 1 && { details: problems }),
    next: 'correct them and run the same command again; `tsrke cert generate-csr` makes requests with all that is needed',
  });
}
