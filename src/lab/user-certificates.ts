/** What an sshd with TrustedUserCAKeys makes of a user certificate (OpenSSH's PROTOCOL.certkeys; ed25519 and RSA). */
import ssh2 from 'ssh2';
import type { ParsedKey } from 'ssh2';
import { certificateSuffix } from '../hosts/ssh-certificate.ts';
import { SshReader, sshString } from '../hosts/ssh-wire.ts';

// ssh2 is CommonJS: Node finds not all of its names.
const { utils } = ssh2;

/** Strings of the public key after type and nonce. */
const keyFields = new Map([
  ['ssh-ed25519', 1],
  ['ssh-rsa', 2],
]);

/** What a signature may be made with, and how it is hashed. SHA-1 is no longer taken (OpenSSH 8.8). */
const signatureHashes = new Map([
  ['ssh-ed25519', undefined],
  ['rsa-sha2-256', 'sha256'],
  ['rsa-sha2-512', 'sha512'],
]);

const userType = 1;

/**
 * The key that the certificate lets in; undefined: not signed by this CA, not a user's, not for this user, not valid at
 * this time, bound to an option (`force-command`, …) that a lab does not know, or none at all.
 */
export function keyOfCertificate(
  blob: Buffer,
  { ca, user, now }: { readonly ca: ParsedKey; readonly user: string; readonly now: Date },
): ParsedKey | undefined {
  try {
    const reader = new SshReader(blob);
    const type = reader.string().toString('latin1').replace(certificateSuffix, '');
    const fields = keyFields.get(type);
    if (fields === undefined) return undefined;
    reader.string(); // nonce
    const key = [Buffer.from(type), ...Array.from({ length: fields }, () => reader.string())];
    reader.skip(8); // serial
    const kind = reader.uint32();
    reader.string(); // key id
    const principals = new SshReader(reader.string()).strings().map(String);
    const [from, until] = [reader.uint64(), reader.uint64()];
    const critical = reader.string();
    reader.string(); // extensions
    reader.string(); // reserved
    const signer = reader.string();
    const signed = blob.subarray(0, reader.position);
    const signature = reader.string();

    const seconds = BigInt(Math.floor(now.getTime() / 1000));
    const fits =
      kind === userType &&
      principals.includes(user) &&
      from <= seconds &&
      seconds < until &&
      critical.length === 0 &&
      signer.equals(ca.getPublicSSH());
    if (!fits || !verifiesWire(ca, signed, signature)) return undefined;
    const parsed = utils.parseKey(Buffer.concat(key.map(sshString)));
    return parsed instanceof Error ? undefined : parsed;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** `signature` as it is sent: its algorithm, then its bytes. */
export function verifiesWire(key: ParsedKey, signed: Buffer, signature: Buffer): boolean {
  const reader = new SshReader(signature);
  const algorithm = reader.string().toString('latin1');
  if (!signatureHashes.has(algorithm) || algorithm.replace(/^rsa-sha2-.*/, 'ssh-rsa') !== key.type)
    return false;
  return verifies(key, signed, reader.string(), signatureHashes.get(algorithm));
}

/** `signature` as Node's crypto knows it. */
export function verifies(key: ParsedKey, signed: Buffer, signature: Buffer, hash?: string): boolean {
  // What ssh2 cannot even try it answers with an Error, which its types do not tell.
  return (key.verify(signed, signature, hash) as unknown) === true;
}
