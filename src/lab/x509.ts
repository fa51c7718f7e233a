/**
 * X.509 certificates (RFC 5280) as far as a lab's PKI needs them: RSA, SHA-256, the extensions that Go's library writes
 * for RKE. Encoded here, in DER, because Node can read certificates but not make them.
 */
import { createHash, sign, type KeyObject } from 'node:crypto';
import { isIPv4 } from 'node:net';

export interface Subject {
  readonly commonName: string;
  readonly organisation?: string;
}

export interface CertificateOptions {
  readonly subject: Subject;
  readonly publicKey: KeyObject;
  readonly issuer: Subject;
  /** The issuer's RSA keys; the same pair for a CA that signs itself. */
  readonly issuerKeys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  /** Not negative: up to 8 bytes. */
  readonly serial: bigint;
  /** Both before 2050, whole seconds. */
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly ca: boolean;
  readonly usages: readonly ('client' | 'server')[];
  /** Subject alternative names; none: no such extension. */
  readonly dns: readonly string[];
  /** IPv4 only. */
  readonly ip: readonly string[];
}

/** The certificate in PEM, with a newline at its end. */
export function certificatePem(options: CertificateOptions): string {
  const algorithm = sequence(oid('1.2.840.113549.1.1.11'), Buffer.from([0x05, 0x00]));
  const body = sequence(
    tagged(0, integer(2n)),
    integer(options.serial),
    algorithm,
    nameOf(options.issuer),
    sequence(time(options.notBefore), time(options.notAfter)),
    nameOf(options.subject),
    options.publicKey.export({ format: 'der', type: 'spki' }),
    tagged(3, sequence(...extensions(options))),
  );
  const signature = sign('sha256', body, options.issuerKeys.privateKey);
  const der = sequence(body, algorithm, bits(signature));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function extensions(options: CertificateOptions): Buffer[] {
  const { ca, usages, dns, ip } = options;
  // digitalSignature and keyEncipherment, for a CA keyCertSign as well; the first byte counts unused bits.
  const keyUsage = encode(0x03, Buffer.from(ca ? [2, 0xa4] : [5, 0xa0]));
  const all = [extension('2.5.29.15', keyUsage, true)];
  if (usages.length > 0) {
    const purposes = usages.map((usage) =>
      oid(usage === 'client' ? '1.3.6.1.5.5.7.3.2' : '1.3.6.1.5.5.7.3.1'),
    );
    all.push(extension('2.5.29.37', sequence(...purposes)));
  }
  if (ca) {
    all.push(extension('2.5.29.19', sequence(Buffer.from([0x01, 0x01, 0xff])), true));
    all.push(extension('2.5.29.14', octets(keyId(options.publicKey))));
  } else {
    all.push(extension('2.5.29.35', sequence(encode(0x80, keyId(options.issuerKeys.publicKey)))));
  }
  const names = [
    ...dns.map((name) => encode(0x82, Buffer.from(name, 'ascii'))),
    ...ip.map((address) => {
      if (!isIPv4(address)) throw new Error(`${address} is not an IPv4 address`);
      return encode(0x87, Buffer.from(address.split('.').map(Number)));
    }),
  ];
  if (names.length > 0) all.push(extension('2.5.29.17', sequence(...names)));
  return all;
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [Buffer.from([0x01, 0x01, 0xff])] : []), octets(value));
}

/** SHA-1 of the public key's own bits (RFC 5280, 4.2.1.2), which are PKCS#1's encoding for RSA. */
function keyId(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ format: 'der', type: 'pkcs1' }))
    .digest();
}

function nameOf({ organisation, commonName }: Subject): Buffer {
  const part = (id: string, text: string) => encode(0x31, sequence(oid(id), encode(0x0c, Buffer.from(text))));
  return sequence(
    ...(organisation === undefined ? [] : [part('2.5.4.10', organisation)]),
    part('2.5.4.3', commonName),
  );
}

function time(date: Date): Buffer {
  return encode(0x17, Buffer.from(`${date.toISOString().slice(2, 19).replace(/[-:T]/g, '')}Z`));
}

function encode(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}

const sequence = (...parts: readonly Buffer[]): Buffer => encode(0x30, Buffer.concat(parts));
const tagged = (number: number, content: Buffer): Buffer => encode(0xa0 + number, content);
const octets = (content: Buffer): Buffer => encode(0x04, content);
const bits = (content: Buffer): Buffer => encode(0x03, Buffer.concat([Buffer.from([0]), content]));

function integer(value: bigint): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  // A leading one bit would make it negative.
  return encode(0x02, (bytes[0] ?? 0) < 0x80 ? bytes : Buffer.concat([Buffer.from([0]), bytes]));
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const number of rest) {
    const groups = [number & 0x7f];
    for (let left = number >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return encode(0x06, Buffer.from(bytes));
}
