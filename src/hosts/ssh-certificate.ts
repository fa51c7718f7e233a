/**
 * OpenSSH user certificates for ssh2 1.17, which would put the certificate's algorithm into the signature too,
 * where OpenSSH wants the plain key's (PROTOCOL.certkeys). A certificate is a key of ssh2's own that answers with
 * the certificate's blob; the one method that writes the request is replaced for such keys.
 * This reaches into private parts: ssh2 is pinned, and test/hosts/ssh.real.test.ts asks a real sshd.
 */
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import ssh2 from 'ssh2';
import type { Client, IdentityCallback, ParsedKey } from 'ssh2';
import { SshReader, sshString } from './ssh-wire.ts';

// ssh2 is CommonJS: Node finds not all of its names.
const { OpenSSHAgent, utils } = ssh2;

const { convertSignature } = createRequire(import.meta.url)('ssh2/lib/protocol/utils.js') as {
  convertSignature: (signature: Buffer, keyType: string) => Buffer | false;
};

/** What the name of a certificate's algorithm has more than its key's. */
export const certificateSuffix = '-cert-v01@openssh.com';
const userAuthRequest = 50;
const requestIdentities = 11;
const identitiesAnswer = 12;

/** How many strings of a certificate, after type and nonce, are the public key. */
const keyFields = new Map([
  ['ssh-rsa', 2],
  ['ssh-ed25519', 1],
  ['ecdsa-sha2-nistp256', 2],
  ['ecdsa-sha2-nistp384', 2],
  ['ecdsa-sha2-nistp521', 2],
]);

export interface UserCertificate {
  readonly blob: Buffer;
  /** The public key it certifies, in SSH wire format. */
  readonly publicKey: Buffer;
  readonly principals: readonly string[];
  /** Undefined: for ever. */
  readonly validUntil: Date | undefined;
}

interface CertifiedKey extends ParsedKey {
  readonly certified: true;
}

/** Reads a certificate in its wire format; undefined when it is none, or of a type ssh2 has no keys for. */
export function parseCertificate(blob: Buffer): UserCertificate | undefined {
  try {
    const reader = new SshReader(blob);
    const type = reader.string().toString('latin1');
    const plainType = type.endsWith(certificateSuffix) ? type.slice(0, -certificateSuffix.length) : undefined;
    const fields = plainType === undefined ? undefined : keyFields.get(plainType);
    if (plainType === undefined || fields === undefined) return undefined;
    reader.string(); // nonce
    const key = [Buffer.from(plainType), ...Array.from({ length: fields }, () => reader.string())];
    reader.skip(8 + 4); // serial, type
    reader.string(); // key id
    const principals = new SshReader(reader.string()).strings().map(String);
    reader.skip(8); // valid after
    const until = reader.uint64();
    return {
      blob,
      publicKey: Buffer.concat(key.map(sshString)),
      principals,
      validUntil: until > 8_640_000_000_000n ? undefined : new Date(Number(until) * 1000),
    };
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** A key that ssh2 offers, and signs with, as the certificate. */
export function certified(key: ParsedKey, certificate: UserCertificate): ParsedKey {
  return Object.create(key, {
    certified: { value: true },
    getPublicSSH: { value: () => certificate.blob },
  }) as CertifiedKey;
}

/** To be called right after `client.connect()`, which makes the protocol anew. */
export function teachCertificates(client: Client): void {
  const protocol = (client as unknown as { _protocol: Protocol })._protocol;
  const plain = protocol.authPK.bind(protocol);
  protocol.authPK = (user, key, algorithm, sign) => {
    if (!('certified' in key)) {
      plain(user, key, algorithm, sign);
      return;
    }
    const signatureAlgorithm = algorithm ?? key.type;
    const request = Buffer.concat([
      Buffer.from([userAuthRequest]),
      ...[user, 'ssh-connection', 'publickey'].map((text) => sshString(Buffer.from(text))),
      Buffer.from([sign === undefined ? 0 : 1]),
      sshString(Buffer.from(signatureAlgorithm + certificateSuffix)),
      sshString(key.getPublicSSH()),
    ]);
    const send = (payload: Buffer) => {
      const { write } = protocol._packetRW;
      const packet = write.alloc(payload.length);
      packet.set(payload, write.allocStart);
      protocol._authsQueue.push('publickey');
      protocol._cipher.encrypt(write.finalize(packet));
    };
    if (sign === undefined) {
      send(request);
      return;
    }
    sign(Buffer.concat([sshString(protocol._kex.sessionID), request]), (made) => {
      const signature = convertSignature(made, key.type);
      if (signature === false)
        throw new Error(`ssh2 cannot convert a signature by a key of type ${key.type}`);
      const algorithmAndSignature = [Buffer.from(signatureAlgorithm), signature].map(sshString);
      send(Buffer.concat([request, sshString(Buffer.concat(algorithmAndSignature))]));
    });
  };
}

/** ssh-agent, certificates included and offered first: a server counts failed tries, and plain keys often fail there. */
export class CertificateAgent extends OpenSSHAgent {
  readonly #socket: string;
  readonly #onKeys: (keys: readonly ParsedKey[]) => void;

  constructor(socket: string, onKeys: (keys: readonly ParsedKey[]) => void) {
    super(socket);
    this.#socket = socket;
    this.#onKeys = onKeys;
  }

  override getIdentities(callback: IdentityCallback<ParsedKey>): void {
    askForIdentities(this.#socket).then(
      (identities) => {
        const certificates: ParsedKey[] = [];
        const plain: ParsedKey[] = [];
        for (const { blob, comment } of identities) {
          const certificate = parseCertificate(blob);
          const key = utils.parseKey(certificate?.publicKey ?? blob);
          if (key instanceof Error) continue;
          key.comment = comment;
          if (certificate === undefined) plain.push(key);
          else certificates.push(certified(key, certificate));
        }
        const keys = [...certificates, ...plain];
        this.#onKeys(keys);
        callback(undefined, keys);
      },
      (error: unknown) => callback(error as Error),
    );
  }
}

/** draft-miller-ssh-agent, 4.4; ssh2's own drops what it cannot parse, and with it every certificate. */
async function askForIdentities(path: string): Promise<{ blob: Buffer; comment: string }[]> {
  const socket = connect(path);
  try {
    socket.write(Buffer.from([0, 0, 0, 1, requestIdentities]));
    let received = Buffer.alloc(0);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      received = Buffer.concat([received, chunk]);
      if (received.length >= 4 && received.length >= 4 + received.readUInt32BE(0)) break;
    }
    if (received[4] !== identitiesAnswer) throw new Error('the agent does not list its keys');
    const reader = new SshReader(received.subarray(9));
    return Array.from({ length: received.readUInt32BE(5) }, () => ({
      blob: reader.string(),
      comment: reader.string().toString(),
    }));
  } finally {
    socket.destroy();
  }
}

interface Protocol {
  authPK(
    user: string,
    key: ParsedKey,
    algorithm: string | undefined,
    sign?: (data: Buffer, done: (signature: Buffer) => void) => void,
  ): void;
  readonly _kex: { readonly sessionID: Buffer };
  readonly _authsQueue: string[];
  readonly _cipher: { encrypt(packet: Buffer): void };
  readonly _packetRW: {
    readonly write: {
      readonly allocStart: number;
      alloc(length: number): Buffer;
      finalize(packet: Buffer): Buffer;
    };
  };
}
