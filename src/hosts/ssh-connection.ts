/** One SSH connection to a host, made when it is first needed, carrying any number of streams. */
import type { Duplex } from 'node:stream';
import ssh2 from 'ssh2';
import type { ClientChannel, ConnectConfig } from 'ssh2';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Report } from '../ports.ts';
import { recordName } from './host-keys.ts';
import type { HostKeys } from './host-keys.ts';
import { credentialsOf } from './ssh-auth.ts';
import type { Credentials, SshTarget } from './ssh-auth.ts';
import { teachCertificates } from './ssh-certificate.ts';

// ssh2 is CommonJS: Node finds not all of its names.
const { Client } = ssh2;

export interface SshContext {
  readonly hostKeys: HostKeys;
  readonly report: Report;
  /** Milliseconds from the first packet until the user is let in. */
  readonly dialTimeout: number;
}

/** A dead peer is noticed after four of these, in milliseconds. */
const keepalive = 5_000;

export class SshConnection {
  readonly target: SshTarget;
  readonly #context: SshContext;
  readonly #bastion: SshConnection | undefined;
  #client: Promise<ssh2.Client> | undefined;
  #closed = false;

  constructor(target: SshTarget, context: SshContext, bastion?: SshConnection) {
    this.target = target;
    this.#context = context;
    this.#bastion = bastion;
  }

  /** Resolves once the user is let in. Throws NODE_UNREACHABLE, SSH_KEY or HOST_KEY_CHANGED. */
  async connect(): Promise<void> {
    await this.#connected();
  }

  /** A stream to a Unix socket on the host; `what` listens there. */
  openSocket(path: string, what = 'Docker'): Promise<Duplex> {
    return this.#open(
      path,
      `see on ${this.target.name} that ${what} runs, that ${this.target.user} may use ${path} (group docker; ` +
        `a new membership counts from the next login), and that sshd has AllowStreamLocalForwarding yes`,
      (client, done) => client.openssh_forwardOutStreamLocal(path, done),
    );
  }

  /** A stream to a TCP port as seen from the host. */
  openPort(host: string, port: number): Promise<Duplex> {
    return this.#open(
      `${host}:${port}`,
      `see on ${this.target.name} that something listens at ${host}:${port}, and that sshd has AllowTcpForwarding yes`,
      (client, done) => client.forwardOut('127.0.0.1', 0, host, port, done),
    );
  }

  close(): void {
    this.#closed = true;
    // A connection that never came about has nothing to close; whoever asked for it was told.
    this.#client?.then((client) => client.end(), ignore);
    this.#client = undefined;
  }

  /** Opening a stream has no effect on the host, so a connection that proves broken is made anew, once. */
  async #open(
    where: string,
    ifRefused: string,
    open: (client: ssh2.Client, done: (error: Error | undefined, channel: ClientChannel) => void) => void,
  ): Promise<Duplex> {
    for (let attempt = 1; ; attempt++) {
      const connection = this.#connected();
      const client = await connection;
      try {
        return await this.#answered(where, (done) => open(client, done));
      } catch (cause) {
        if (cause instanceof TsrkeError) throw cause;
        const refused = typeof (cause as { reason?: unknown }).reason === 'number';
        if (refused || attempt === 2) {
          throw new TsrkeError('NODE_UNREACHABLE', `no stream to ${where} through SSH`, {
            node: this.target.name,
            cause,
            next: refused
              ? ifRefused
              : 'see that the host is up and the network is stable, then run the same command again',
          });
        }
        this.#drop(connection);
        client.destroy();
      }
    }
  }

  /** sshd connects on our behalf and may wait for minutes; a stream that comes too late is closed. */
  #answered(
    where: string,
    open: (done: (error: Error | undefined, channel: ClientChannel) => void) => void,
  ): Promise<Duplex> {
    const limit = this.#context.dialTimeout;
    return new Promise<Duplex>((resolve, reject) => {
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        reject(
          new TsrkeError('NODE_UNREACHABLE', `no stream to ${where} through SSH within ${duration(limit)}`, {
            node: this.target.name,
            next: `see that ${where} can be reached from ${this.target.name}, and that no firewall drops it silently`,
          }),
        );
      }, limit);
      try {
        open((error, channel) => {
          clearTimeout(timer);
          if (error !== undefined) reject(error);
          else if (late) channel.close();
          else resolve(channel);
        });
      } catch (error) {
        clearTimeout(timer);
        throw error;
      }
    });
  }

  #connected(): Promise<ssh2.Client> {
    if (this.#closed) {
      return Promise.reject(
        new TsrkeError('NODE_UNREACHABLE', 'the SSH connection was closed', { node: this.target.name }),
      );
    }
    if (this.#client === undefined) {
      const connection: Promise<ssh2.Client> = this.#dial(() => this.#drop(connection));
      connection.catch(() => this.#drop(connection));
      this.#client = connection;
    }
    return this.#client;
  }

  #drop(connection: Promise<ssh2.Client>): void {
    if (this.#client === connection) this.#client = undefined;
  }

  async #dial(onClose: () => void): Promise<ssh2.Client> {
    const { target } = this;
    const { hostKeys, report, dialTimeout } = this.#context;
    const credentials = credentialsOf(target);
    const sock = await this.#throughBastion();
    const begun = performance.now();
    const client = new Client();
    const complaints: Error[] = [];
    try {
      await new Promise<void>((resolve, reject) => {
        const config: ConnectConfig = {
          host: target.address,
          port: target.port,
          username: target.user,
          authHandler: credentials.methods,
          readyTimeout: dialTimeout,
          keepaliveInterval: keepalive,
          keepaliveCountMax: 3,
          // Streams to Unix sockets are OpenSSH's; a server by another name is asked all the same.
          strictVendor: false,
          algorithms: { serverHostKey: hostKeys.algorithms(target) },
          hostVerifier: (key: Buffer) => {
            try {
              const news = hostKeys.verify(target, key);
              if (news !== undefined) report.note('info', news, target.name);
              return true;
            } catch (error) {
              reject(error instanceof Error ? error : new Error(String(error)));
              return false;
            }
          },
          ...(sock === undefined ? {} : { sock }),
        };
        client.on('error', (error: Error & { level?: string }) => {
          // An agent that cannot sign with one key may still do so with the next.
          complaints.push(error);
          if (error.level !== 'agent') reject(error);
        });
        client.on('close', () => {
          onClose();
          reject(complaints[0] ?? new Error('the host closed the connection'));
        });
        client.on('ready', resolve);
        client.connect(config);
        teachCertificates(client);
      });
    } catch (error) {
      client.destroy();
      sock?.destroy();
      throw this.#translate(error, complaints, credentials);
    }
    // Docker's answers are small: without this each waits for the acknowledgement of the last.
    client.setNoDelay(true);
    report.debug(
      `ssh connect ${recordName(target)} as ${target.user} ${duration(performance.now() - begun)}`,
      target.name,
    );
    return client;
  }

  async #throughBastion(): Promise<Duplex | undefined> {
    const { target } = this;
    try {
      return await this.#bastion?.openPort(target.address, target.port);
    } catch (cause) {
      // The bastion's own troubles (its key, its address) are told in its own name.
      if (!(cause instanceof TsrkeError) || cause.code !== 'NODE_UNREACHABLE') throw cause;
      throw new TsrkeError(
        'NODE_UNREACHABLE',
        `no SSH connection to ${recordName(target)} through the bastion host`,
        { node: target.name, cause, ...(cause.next === undefined ? {} : { next: cause.next }) },
      );
    }
  }

  #translate(error: unknown, complaints: readonly Error[], credentials: Credentials): TsrkeError {
    if (error instanceof TsrkeError) return error;
    const { target } = this;
    const where = `${target.user}@${recordName(target)}`;
    const level = (error as { level?: string }).level;
    const text = messageOf(error);
    if (level === 'client-authentication' || /authentication failures/i.test(text)) {
      const agent = complaints.filter((complaint) => complaint !== error).map(messageOf);
      return new TsrkeError('NODE_UNREACHABLE', `${where} was refused by the host`, {
        node: target.name,
        cause: error,
        details: [`offered: ${credentials.offered()}`, ...agent.map((line) => `ssh-agent: ${line}`)],
        next:
          `see that \`ssh -p ${target.port} ${target.user}@${target.address}\` works with this key and that the ` +
          `user in cluster.yml is the right one`,
      });
    }
    return new TsrkeError(
      'NODE_UNREACHABLE',
      level === 'client-timeout'
        ? `no SSH connection to ${where} within ${duration(this.#context.dialTimeout)}`
        : `no SSH connection to ${where}`,
      {
        node: target.name,
        cause: error,
        next:
          `see that the host is up and that port ${target.port} of ${target.address} can be reached` +
          (this.#bastion === undefined
            ? ' from here'
            : ` from the bastion host ${this.#bastion.target.address}`),
      },
    );
  }
}

/** `170 ms`, `3.4 s`. */
export function duration(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds.toFixed()} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

function ignore(): void {
  // Deliberately nothing.
}
