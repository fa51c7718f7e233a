/** What a certificate says, and whether a CA has signed it. */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { elements, inside, ipText, oid } from './der.ts';
import { ids, type AltNames } from './x509.ts';

export interface Certificate {
  readonly x509: X509Certificate;
  /** Subject and issuer in DER, to be compared byte by byte. */
  readonly subject: Buffer;
  readonly issuer: Buffer;
  readonly keyId: Buffer | undefined;
  readonly names: AltNames;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** All certificates of a PEM text, each as it stands there. */
export function certificatesIn(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? [];
}

/** Of a PEM text the first certificate, as RKE has it; undefined: there is none. */
export function readCertificate(pem: string): Certificate | undefined {
  const [first] = certificatesIn(pem);
  if (first === undefined) return undefined;
  try {
    const x509 = new X509Certificate(first);
    const [body] = elements(inside(x509.raw));
    const fields = elements(body?.content ?? Buffer.alloc(0)).filter(({ tag }) => tag !== 0xa0);
    const [, , issuer, , subject] = fields;
    const extensions = fields.find(({ tag }) => tag === 0xa3)?.content;
    if (issuer === undefined || subject === undefined) return undefined;
    const keyId = extensionIn(extensions, ids.subjectKeyId);
    return {
      x509,
      subject: subject.whole,
      issuer: issuer.whole,
      keyId: keyId === undefined ? undefined : inside(keyId),
      names: namesIn(extensions),
      notBefore: new Date(x509.validFrom),
      notAfter: new Date(x509.validTo),
    };
  } catch {
    return undefined;
  }
}

/** An RSA private key without passphrase, PKCS#1 or PKCS#8 (RKE knows no other); undefined: it is none. */
export function readKey(pem: string): KeyObject | undefined {
  try {
    const key = createPrivateKey(pem);
    return key.asymmetricKeyType === 'rsa' ? key : undefined;
  } catch {
    return undefined;
  }
}

/** By name and by signature: all CAs that RKE made bear the same name. */
export function isSignedBy(certificate: Certificate, ca: Certificate): boolean {
  return certificate.issuer.equals(ca.subject) && certificate.x509.verify(ca.x509.publicKey);
}

/** The alternative names in a list of extensions, in DER. */
export function namesIn(extensions: Buffer | undefined): AltNames {
  const value = extensionIn(extensions, ids.altNames);
  const all = value === undefined ? [] : elements(inside(value));
  return {
    dns: all.filter(({ tag }) => tag === 0x82).map(({ content }) => content.toString('latin1')),
    ip: all.filter(({ tag }) => tag === 0x87).map(({ content }) => ipText(content)),
  };
}

function extensionIn(extensions: Buffer | undefined, id: string): Buffer | undefined {
  const wanted = oid(id);
  for (const { content } of extensions === undefined ? [] : elements(inside(extensions))) {
    const parts = elements(content);
    // Its value is last, behind `critical` where that is said.
    if (parts[0]?.whole.equals(wanted) === true) return parts.at(-1)?.content;
  }
  return undefined;
}
