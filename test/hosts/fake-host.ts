/** A host on loopback that needs nothing installed: ssh2's own server in front of a fake Docker engine. */
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { Server, utils } from 'ssh2';
import type { Connection, ParsedKey } from 'ssh2';
import { imageSources } from '../../src/config/private-registries.ts';
import { loadHostKeys } from '../../src/hosts/host-keys.ts';
import type { HostKeys } from '../../src/hosts/host-keys.ts';
import { connectHosts } from '../../src/hosts/ssh.ts';
import type { Hosts } from '../../src/hosts/ssh.ts';
import { createSshKey } from '../../src/lab/ssh-keys.ts';
import { FakeDocker } from './fake-docker.ts';
import { Notes } from './notes.ts';

const hostKey = createSshKey();
const userKey = createSshKey();

export class FakeHost {
  readonly docker = new FakeDocker();
  readonly report = new Notes();
  readonly hostKeys: HostKeys = loadHostKeys({ recorded: {}, files: [] });
  readonly #connections = new Set<Connection>();
  readonly #server: Server;
  readonly #opened: Hosts[] = [];
  logins = 0;
  /** A firewall that drops silently: streams to ports are neither opened nor refused. */
  portsAreSilent = false;
  port = 0;

  constructor() {
    const allowed = utils.parseKey(userKey.public) as ParsedKey;
    // ssh2 forwards to Unix sockets only where it takes the server for OpenSSH.
    this.#server = new Server({ hostKeys: [hostKey.private], ident: 'OpenSSH_9.2' }, (connection) => {
      this.#connections.add(connection);
      connection.on('authentication', (context) => {
        if (context.method !== 'publickey' || !context.key.data.equals(allowed.getPublicSSH())) {
          context.reject(['publickey']);
          return;
        }
        if (context.signature && context.blob && !allowed.verify(context.blob, context.signature)) {
          context.reject();
          return;
        }
        context.accept();
      });
      connection.on('ready', () => this.logins++);
      connection.on('openssh.streamlocal', (accept, reject, info: { socketPath: string }) => {
        if (info.socketPath !== '/var/run/docker.sock') {
          reject();
          return;
        }
        const socket = connect(this.docker.port, '127.0.0.1');
        const channel = accept();
        socket.pipe(channel).pipe(socket);
        socket.on('error', () => channel.destroy());
        socket.on('close', () => channel.end());
        channel.on('close', () => socket.destroy());
      });
      connection.on('tcpip', (accept, _reject, info: { destIP: string; destPort: number }) => {
        if (this.portsAreSilent) return;
        const socket = connect(info.destPort, info.destIP);
        const channel = accept();
        socket.pipe(channel).pipe(socket);
        socket.on('error', () => channel.destroy());
      });
      connection.on('error', () => undefined);
      connection.on('close', () => this.#connections.delete(connection));
      (connection as unknown as { setNoDelay(on: boolean): void }).setNoDelay(true);
    });
  }

  async listen(): Promise<void> {
    await this.docker.listen();
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as AddressInfo).port;
  }

  /** The adapter under test, with this host as its one node `h1`. `raw`: cluster.yml. */
  open(
    more: {
      dockerSocket?: string;
      dockerTimeout?: number;
      dialTimeout?: number;
      raw?: Record<string, unknown>;
    } = {},
  ): Hosts {
    const hosts = connectHosts({
      nodes: [
        {
          ...{ name: 'h1', address: '127.0.0.1', port: this.port, user: 'rke' },
          ...{ sshKey: userKey.private, sshAgentAuth: false },
          dockerSocket: more.dockerSocket ?? '/var/run/docker.sock',
        },
      ],
      hostKeys: this.hostKeys,
      report: this.report,
      imageSource: imageSources(more.raw ?? {}),
      dialTimeout: more.dialTimeout ?? 5_000,
      ...(more.dockerTimeout === undefined ? {} : { dockerTimeout: more.dockerTimeout }),
    });
    this.#opened.push(hosts);
    return hosts;
  }

  /** The network takes all connections away. */
  disconnect(): void {
    for (const connection of this.#connections) connection.end();
  }

  close(): void {
    for (const hosts of this.#opened) hosts.close();
    this.disconnect();
    this.#server.close();
    this.docker.close();
  }
}
