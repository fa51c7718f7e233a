/**
 * New CAs for a cluster that runs, in three passes over all of its nodes: both are trusted, the new ones sign, the old
 * ones are forgotten. Each bundle trusts all that the one before it and the one after it have signed.
 */
import { TsrkeError } from '../errors.ts';
import type { CaRotation } from '../state/rkestate.ts';
import type { Bundle, BundleElement } from './bundle.ts';
import { certificatesIn, readCertificate, readKey } from './certificate.ts';
import { caNames, type CaName, type CertifiedCluster } from './cluster.ts';
import { carryOut, newCa, systemSource, type Source } from './issue.ts';
import { rotationFor } from './rotation.ts';

/** What a pass brings to all nodes, and what the state keeps of it. */
export interface CaPass {
  readonly bundle: Bundle;
  readonly rotation: CaRotation;
}

/**
 * The pass that follows the one that is done, or the first one; undefined: that was the last. `bundle`: what all nodes
 * have. Throws CERTIFICATES_INVALID where a CA is the user's own, and STATE_INVALID.
 */
export async function nextCaPass(
  cluster: CertifiedCluster,
  bundle: Bundle,
  rotation: CaRotation | undefined,
  source: Source = systemSource,
): Promise<CaPass | undefined> {
  switch (rotation?.phase) {
    case undefined:
      return await trustBoth(cluster, bundle, source);
    case 'trust-both':
      return await issueAll(cluster, bundle, rotation.next ?? {}, source);
    case 'issue':
      return await forgetOld(cluster, bundle, source);
    case 'retire':
      return undefined;
  }
}

/** For whoever looks while it is open. */
export function describeCaRotation({ phase }: CaRotation): string {
  const pass = { 'trust-both': 1, issue: 2, retire: 3 }[phase];
  return `the CAs are being rotated (pass ${pass} of 3): go on with \`tsrke cert rotate --rotate-ca\``;
}

/** The CAs of a bundle. */
export const casIn = (bundle: Bundle): BundleElement[] => caNames.flatMap((name) => bundle[name] ?? []);

async function trustBoth(cluster: CertifiedCluster, bundle: Bundle, source: Source): Promise<CaPass> {
  expectOwnCas(bundle);
  const next = Object.fromEntries(
    await Promise.all(
      casIn(bundle).map(async ({ name, certificatePEM }) => {
        const made = await newCa(name as CaName, readCertificate(certificatePEM), source);
        return [name, { certificatePEM: made.certificatePEM, keyPEM: made.keyPEM }] as const;
      }),
    ),
  );
  const both = withCas(bundle, (ca) => ({
    ...ca,
    certificatePEM: joined(ca.certificatePEM, next[ca.name]?.certificatePEM ?? ''),
  }));
  const rotation: CaRotation = { phase: 'trust-both', done: false, next };
  return { bundle: await withAdmin(cluster, both, source), rotation };
}

async function issueAll(
  cluster: CertifiedCluster,
  bundle: Bundle,
  next: NonNullable<CaRotation['next']>,
  source: Source,
): Promise<CaPass> {
  const signing = withCas(bundle, (ca) => {
    const made = next[ca.name];
    if (made === undefined) throw lost(ca.name);
    // RKE takes the first one for the key's.
    const [former = ''] = certificatesIn(ca.certificatePEM);
    return { ...ca, certificatePEM: joined(made.certificatePEM, former), keyPEM: made.keyPEM };
  });
  const changes = rotationFor(cluster, signing, { services: [] }, source.now());
  return {
    bundle: await carryOut(cluster, signing, changes, source),
    rotation: { phase: 'issue', done: false },
  };
}

async function forgetOld(cluster: CertifiedCluster, bundle: Bundle, source: Source): Promise<CaPass> {
  const alone = withCas(bundle, (ca) => {
    const [own = ''] = certificatesIn(ca.certificatePEM);
    return { ...ca, certificatePEM: joined(own) };
  });
  return {
    bundle: await withAdmin(cluster, alone, source),
    rotation: { phase: 'retire', done: false },
  };
}

/** The admin's kubeconfig has its CA inside. */
async function withAdmin(cluster: CertifiedCluster, bundle: Bundle, source: Source): Promise<Bundle> {
  const change = { name: 'kube-admin', what: 'kubeconfig', why: 'it trusts other CAs' } as const;
  return await carryOut(cluster, bundle, [change], source);
}

function withCas(bundle: Bundle, change: (ca: BundleElement) => BundleElement): Bundle {
  return { ...bundle, ...Object.fromEntries(casIn(bundle).map((ca) => [ca.name, change(ca)])) };
}

const joined = (...pems: readonly string[]): string => pems.map((pem) => `${pem.trim()}\n`).join('');

/** Throws CERTIFICATES_INVALID. */
export function expectOwnCas(bundle: Bundle): void {
  for (const { name, certificatePEM, keyPEM } of casIn(bundle)) {
    const key = readKey(keyPEM);
    if (key !== undefined && readCertificate(certificatePEM)?.x509.checkPrivateKey(key) === true) continue;
    throw new TsrkeError(
      'CERTIFICATES_INVALID',
      `the state has no key of ${name}, a CA of your own: tsrke makes none in its place`,
      { next: 'have its successor made where its key is kept; nothing was touched' },
    );
  }
}

function lost(name: string): TsrkeError {
  return new TsrkeError('STATE_INVALID', `the state does not have the new ${name} any more`, {
    next: 'restore the state file, or bring the cluster’s copy back with `tsrke util get-state-file`',
  });
}
