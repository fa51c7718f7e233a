/** Who trusts whom: certificates of a CA, by their texts, as TLS on the hosts would have it. */
import { X509Certificate } from 'node:crypto';
import { certificatesIn } from '../certificates/certificate.ts';

const known = new Map<string, Map<string, boolean>>();

/** Whether one of these CAs has signed it. Placeholders, which are no certificates, trust each other and nothing else. */
export function isTrusted(certificate: string, ca: string): boolean {
  const ofCa = known.get(ca) ?? new Map<string, boolean>();
  known.set(ca, ofCa);
  const before = ofCa.get(certificate);
  if (before !== undefined) return before;
  const own = parsed(certificate);
  const issuers = certificatesIn(ca).flatMap((each) => parsed(each) ?? []);
  const trusted =
    own === undefined
      ? issuers.length === 0
      : issuers.some((issuer) => own.checkIssued(issuer) && own.verify(issuer.publicKey));
  ofCa.set(certificate, trusted);
  return trusted;
}

function parsed(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}
