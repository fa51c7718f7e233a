/**
 * X.509 certificates (RFC 5280) and requests for them (RFC 2986) as Go's library writes them for RKE: RSA, SHA-256, the
 * same extensions in the same order.
 */
import { createHash, createPublicKey, sign, type KeyObject } from 'node:crypto';
import {
  bits,
  encode,
  integer,
  ipBytes,
  octets,
  oid,
  sequence,
  set,
  tagged,
  tags,
  text,
  time,
  yes,
} from './der.ts';

export interface Subject {
  readonly commonName: string;
  readonly organisation?: string;
}

export type Usage = 'client' | 'server';

/** Subject alternative names, in their order; both empty: no such extension. */
export interface AltNames {
  readonly dns: readonly string[];
  readonly ip: readonly string[];
}

/** Who signs. */
export interface Issuer {
  /** The subject as it stands in the CA's certificate, in DER: Go finds a CA only by these very bytes. */
  readonly subject: Buffer;
  /** As in the CA's certificate; undefined: it has none, and the certificate names none. */
  readonly keyId: Buffer | undefined;
  readonly privateKey: KeyObject;
}

export interface CertificateOptions {
  readonly subject: Subject;
  readonly publicKey: KeyObject;
  readonly issuer: Issuer;
  /** Not negative: up to 8 bytes. */
  readonly serial: bigint;
  /** Whole seconds. */
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly ca: boolean;
  readonly usages: readonly Usage[];
  readonly names: AltNames;
}

/** Object identifiers (RFC 5280, 4.2; RFC 2985; RFC 8017). */
export const ids = {
  sha256WithRsa: '1.2.840.113549.1.1.11',
  organisation: '2.5.4.10',
  commonName: '2.5.4.3',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  basicConstraints: '2.5.29.19',
  subjectKeyId: '2.5.29.14',
  authorityKeyId: '2.5.29.35',
  altNames: '2.5.29.17',
  client: '1.3.6.1.5.5.7.3.2',
  server: '1.3.6.1.5.5.7.3.1',
  extensionRequest: '1.2.840.113549.1.9.14',
} as const;

const nothing = Buffer.from([0x05, 0x00]);
const algorithm = sequence(oid(ids.sha256WithRsa), nothing);

/** The certificate in PEM, with a newline at its end. */
export function certificatePem(options: CertificateOptions): string {
  const body = sequence(
    tagged(0, integer(2n)),
    integer(options.serial),
    algorithm,
    options.issuer.subject,
    sequence(time(options.notBefore), time(options.notAfter)),
    subjectDer(options.subject),
    spki(options.publicKey),
    tagged(3, sequence(...extensions(options))),
  );
  return pem('CERTIFICATE', signed(body, options.issuer.privateKey));
}

/** A request for a certificate of this key, in PEM, with a newline at its end. */
export function requestPem(options: {
  readonly subject: Subject;
  readonly privateKey: KeyObject;
  readonly usages: readonly Usage[];
  readonly names: AltNames;
}): string {
  const { subject, privateKey, usages, names } = options;
  const wanted = sequence(...usageExtension(usages), ...altNamesExtension(names));
  const body = sequence(
    integer(0n),
    subjectDer(subject),
    spki(createPublicKey(privateKey)),
    tagged(0, sequence(oid(ids.extensionRequest), set(wanted))),
  );
  return pem('CERTIFICATE REQUEST', signed(body, privateKey));
}

/** A CA that signs itself. */
export function selfIssuer(subject: Subject, privateKey: KeyObject): Issuer {
  return { subject: subjectDer(subject), keyId: keyIdOf(createPublicKey(privateKey)), privateKey };
}

/** A private key as RKE keeps it: PKCS#1. */
export function keyPem(privateKey: KeyObject): string {
  return privateKey.export({ format: 'pem', type: 'pkcs1' }).toString();
}

function signed(body: Buffer, key: KeyObject): Buffer {
  return sequence(body, algorithm, bits(sign('sha256', body, key)));
}

function pem(what: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${what}-----\n${lines.join('\n')}\n-----END ${what}-----\n`;
}

const spki = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' });

function extensions({ ca, usages, names, publicKey, issuer }: CertificateOptions): Buffer[] {
  // digitalSignature and keyEncipherment, for a CA keyCertSign as well; the first byte counts unused bits.
  const keyUsage = encode(tags.bits, Buffer.from(ca ? [2, 0xa4] : [5, 0xa0]));
  const all = [extension(ids.keyUsage, keyUsage, true), ...usageExtension(usages)];
  if (ca) {
    all.push(extension(ids.basicConstraints, sequence(yes), true));
    all.push(extension(ids.subjectKeyId, octets(keyIdOf(publicKey))));
  } else if (issuer.keyId !== undefined) {
    all.push(extension(ids.authorityKeyId, sequence(encode(0x80, issuer.keyId))));
  }
  return [...all, ...altNamesExtension(names)];
}

function usageExtension(usages: readonly Usage[]): Buffer[] {
  if (usages.length === 0) return [];
  return [extension(ids.extendedKeyUsage, sequence(...usages.map((usage) => oid(ids[usage]))))];
}

function altNamesExtension({ dns, ip }: AltNames): Buffer[] {
  const names = [
    ...dns.map((name) => encode(0x82, Buffer.from(name, 'ascii'))),
    ...ip.map((address) => encode(0x87, ipBytes(address))),
  ];
  return names.length === 0 ? [] : [extension(ids.altNames, sequence(...names))];
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [yes] : []), octets(value));
}

/** SHA-1 of the public key's own bits (RFC 5280, 4.2.1.2), which are PKCS#1's encoding for RSA. */
function keyIdOf(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ format: 'der', type: 'pkcs1' }))
    .digest();
}

function subjectDer({ organisation, commonName }: Subject): Buffer {
  const part = (id: string, value: string) => set(sequence(oid(id), text(value)));
  return sequence(
    ...(organisation === undefined ? [] : [part(ids.organisation, organisation)]),
    part(ids.commonName, commonName),
  );
}
