/**
 * A node's sshd: logins by public key or user certificate, streams to Unix sockets and to TCP ports, and the few
 * commands that a lab knows.
 */
import { createServer, type AddressInfo, type Server as TcpServer } from 'node:net';
import type { Duplex } from 'node:stream';
import ssh2 from 'ssh2';
import type { AuthContext, ParsedKey, ServerChannel } from 'ssh2';
import { certificateSuffix } from '../hosts/ssh-certificate.ts';
import { StreamConnections } from './connections.ts';
import { keyOfCertificate, verifies, verifiesWire } from './user-certificates.ts';

// ssh2 is CommonJS: Node finds not all of its names.
const { Server, utils } = ssh2;

/** What a command prints to standard output; undefined: there is no such command. */
export type Run = (command: string) => Promise<Buffer> | undefined;

/** A user who was let in. */
export interface SshLogin {
  readonly user: string;
  /** Address of the host that it came from. */
  readonly from: string;
  /** Algorithm of the key or certificate: `ssh-ed25519`, `ssh-ed25519-cert-v01@openssh.com`, … */
  readonly algorithm: string;
}

export interface SshServerOptions {
  /** Private keys, OpenSSH's format. */
  readonly hostKey: string;
  /** Public keys that are let in, as in authorized_keys; every user name is. */
  readonly authorized: readonly string[];
  /** Public key of the CA whose certificates let the users in that they name; left out: none does. */
  readonly userCa?: string | undefined;
  /** What a Unix socket leads to for this user; undefined: refused. */
  readonly socket: (path: string, user: string) => ((stream: Duplex) => void) | undefined;
  readonly run: Run;
  /** Lets a user in whose key was proved, or breaks the connection off by rejecting; default: lets in. */
  readonly login?: (accept: () => void) => Promise<void>;
  /** Told of each user who was let in. */
  readonly onLogin?: (login: SshLogin) => void;
  /** What a TCP port leads to as seen from the node; undefined: refused. */
  readonly port: (host: string, port: number) => ((stream: Duplex) => void) | undefined;
}

export class SshServer {
  readonly #ssh: ssh2.Server;
  readonly #streams = new StreamConnections((stream) => {
    // ssh2 knows sockets only, and asks nothing of them that another stream has not.
    (this.#ssh as unknown as { injectSocket(stream: Duplex): void }).injectSocket(stream);
  });
  #tcp: TcpServer | undefined;

  constructor(options: SshServerOptions) {
    const { userCa } = options;
    const trusted: Trusted = {
      keys: options.authorized.map(publicKey),
      ca: userCa === undefined ? undefined : publicKey(userCa),
    };
    // ssh2's client forwards to Unix sockets only where it takes the server for OpenSSH.
    const config = { hostKeys: [options.hostKey], ident: 'OpenSSH_9.2 tsrke-lab' };
    this.#ssh = new Server(config, (connection, { ip }) => {
      let user = '';
      // A client that breaks off is no trouble of the server's.
      connection.on('error', () => undefined);
      connection.on('authentication', (context) => {
        const algorithm = authenticate(context, trusted);
        if (algorithm === undefined) return;
        const accept = () => {
          user = context.username;
          context.accept();
          options.onLogin?.({ user, from: ip, algorithm });
        };
        const { login } = options;
        if (login === undefined) accept();
        else login(accept).catch(() => connection.end());
      });
      connection.on('openssh.streamlocal', (accept, reject, { socketPath }) => {
        const serve = options.socket(socketPath, user);
        if (serve === undefined) reject();
        else serve(accept());
      });
      connection.on('tcpip', (accept, reject, { destIP, destPort }) => {
        const serve = options.port(destIP, destPort);
        if (serve === undefined) refused(connection, reject);
        else serve(accept());
      });
      connection.on('session', (accept) => {
        accept().on('exec', (acceptExec, _reject, { command }) => {
          void execute(options.run, command, acceptExec());
        });
      });
      // Without this each small answer waits for the acknowledgement of the last.
      (connection as unknown as { setNoDelay(on: boolean): void }).setNoDelay(true);
    });
  }

  /** Resolves to the port; rejects where this address cannot be listened on. `port` 0: any. */
  async listen(address: string, port = 0): Promise<number> {
    const server = createServer((socket) => {
      this.take(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, address, resolve);
    });
    this.#tcp = server;
    return (server.address() as AddressInfo).port;
  }

  /** Serves a connection that came by another way, e.g. through the sshd of the host at `from`. */
  take(stream: Duplex, from?: string): void {
    if (from !== undefined) Object.defineProperty(stream, 'remoteAddress', { value: from });
    this.#streams.take(stream);
  }

  /** Stops listening and breaks off every connection, as a host does that loses its power; `listen` brings it back. */
  close(): void {
    this.#tcp?.close();
    this.#tcp = undefined;
    this.#streams.close();
  }
}

/** With sshd's words, which ssh2 leaves empty. */
function refused(connection: ssh2.Connection, reject: () => void): void {
  type Fail = (channel: number, reason: number, words: string) => void;
  const { _protocol: protocol } = connection as unknown as { readonly _protocol: { channelOpenFail: Fail } };
  const fail = protocol.channelOpenFail;
  protocol.channelOpenFail = (channel, reason) => fail.call(protocol, channel, reason, 'Connection refused');
  try {
    reject();
  } finally {
    protocol.channelOpenFail = fail;
  }
}

async function execute(run: Run, command: string, channel: ServerChannel): Promise<void> {
  const output = run(command);
  if (output === undefined) {
    channel.stderr.write(`a lab's node knows no such command: ${command}\n`);
    channel.exit(127);
  } else {
    channel.write(await output);
    channel.exit(0);
  }
  channel.end();
}

/** Whom a server lets in. */
interface Trusted {
  readonly keys: readonly ParsedKey[];
  readonly ca: ParsedKey | undefined;
}

/**
 * The first request of a key asks whether it would do; only the second is signed (RFC 4252, 7). Returns its algorithm
 * once it is proved; the caller lets its owner in.
 */
function authenticate(context: AuthContext, { keys, ca }: Trusted): string | undefined {
  if (context.method !== 'publickey') {
    context.reject(['publickey']);
    return undefined;
  }
  const { key, signature, blob, hashAlgo, username: user } = context;
  const isCertificate = key.algo.endsWith(certificateSuffix);
  const known = isCertificate
    ? ca && keyOfCertificate(key.data, { ca, user, now: new Date() })
    : keys.find(
        (each) =>
          each.type === key.algo.replace(/^rsa-sha2-.*/, 'ssh-rsa') && each.getPublicSSH().equals(key.data),
      );
  // What ssh2 makes of a signature it does for plain keys only: a certificate's comes as it was sent.
  const proves = (data: Buffer, by: ParsedKey, made: Buffer) =>
    isCertificate ? verifiesWire(by, data, made) : verifies(by, data, made, hashAlgo);
  if (known === undefined) context.reject(['publickey']);
  else if (signature === undefined) context.accept();
  else if (blob !== undefined && proves(blob, known, signature)) return key.algo;
  else context.reject(['publickey']);
  return undefined;
}

function publicKey(text: string): ParsedKey {
  const parsed = utils.parseKey(text) as ParsedKey | ParsedKey[] | Error;
  const key = Array.isArray(parsed) ? parsed[0] : parsed;
  if (key === undefined || key instanceof Error) throw new Error('not a public SSH key');
  return key;
}
