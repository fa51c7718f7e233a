/** A real sshd on loopback, for the user who runs the tests; needs OpenSSH, not root. */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const sshd = '/usr/sbin/sshd';

export class RealSsh {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsrke-ssh-'));
  readonly user = userInfo().username;
  readonly #children: ChildProcess[] = [];
  readonly #closers: (() => void)[] = [];

  constructor() {
    if (!existsSync(sshd)) {
      throw new Error(`${sshd} is missing: these tests need OpenSSH's server (Debian: openssh-server)`);
    }
    // sshd as root insists on this folder; Debian makes it when the service starts.
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    this.key('ca', 'ed25519');
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  text(name: string): string {
    return readFileSync(this.path(name), 'utf8');
  }

  /** Makes a key pair and returns the private key's path. */
  key(name: string, type: 'ed25519' | 'rsa' | 'ecdsa', passphrase = ''): string {
    if (!existsSync(this.path(name))) {
      execFileSync('ssh-keygen', ['-q', '-t', type, '-N', passphrase, '-C', name, '-f', this.path(name)]);
    }
    return this.path(name);
  }

  /** Signs a key with the CA and returns the certificate's path. */
  certify(name: string, principals = this.user, validity = '-1h:+1h'): string {
    execFileSync('ssh-keygen', [
      ...['-q', '-s', this.path('ca'), '-I', `id of ${name}`, '-n', principals, '-V', validity],
      `${this.path(name)}.pub`,
    ]);
    return `${this.path(name)}-cert.pub`;
  }

  /** Starts an sshd that lets these keys in, and everyone with a certificate of the CA; returns its port. */
  async server(name: string, authorized: readonly string[], hostKeys: readonly string[]): Promise<number> {
    const port = await freePort();
    writeFileSync(this.path(`${name}.authorized`), authorized.map((key) => this.text(`${key}.pub`)).join(''));
    writeFileSync(
      this.path(`${name}.conf`),
      [
        `Port ${port}`,
        'ListenAddress 127.0.0.1',
        ...hostKeys.map((key) => `HostKey ${this.path(key)}`),
        `AuthorizedKeysFile ${this.path(`${name}.authorized`)}`,
        `TrustedUserCAKeys ${this.path('ca')}.pub`,
        'StrictModes no',
        'PermitRootLogin yes',
        'PasswordAuthentication no',
        'KbdInteractiveAuthentication no',
        'UsePAM no',
        `PidFile ${this.path(`${name}.pid`)}`,
        'LogLevel VERBOSE',
      ].join('\n') + '\n',
    );
    const child = spawn(sshd, ['-D', '-f', this.path(`${name}.conf`), '-E', this.path(`${name}.log`)], {
      stdio: 'ignore',
    });
    this.#children.push(child);
    await this.#listening(port, name);
    return port;
  }

  /** Starts an ssh-agent holding these keys and returns its socket. */
  async agent(name: string, keys: readonly string[]): Promise<string> {
    const socket = this.path(`${name}.sock`);
    this.#children.push(spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' }));
    for (let tries = 0; !existsSync(socket) && tries < 100; tries++) await delay(20);
    for (const key of keys) {
      execFileSync('ssh-add', ['-q', this.path(key)], {
        env: { ...process.env, SSH_AUTH_SOCK: socket },
        stdio: 'ignore',
      });
    }
    return socket;
  }

  /** A Unix socket that answers as Docker does to `GET /version`. */
  async docker(): Promise<string> {
    const socket = this.path('docker.sock');
    const server = createServer((_request, response) => {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12' }));
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    this.#closers.push(() => server.close());
    return socket;
  }

  close(): void {
    for (const child of this.#children) child.kill();
    for (const close of this.#closers) close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #listening(port: number, name: string): Promise<void> {
    for (let tries = 0; tries < 200; tries++) {
      const up = await new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => {
          socket.destroy();
          resolve(true);
        });
        socket.on('error', () => resolve(false));
      });
      if (up) return;
      await delay(25);
    }
    throw new Error(`sshd does not listen on ${port}: ${this.text(`${name}.log`)}`);
  }
}

async function freePort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
