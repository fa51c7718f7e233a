/** All servers of a lab over one surface: for each node sshd, and behind it Docker's API, kube-apiserver and etcd. */
import type { Duplex } from 'node:stream';
import type { NodeName } from '../ports.ts';
import type { Connections } from './connections.ts';
import { dockerServer } from './docker-server.ts';
import { etcdServer } from './etcd-server.ts';
import { healthServer } from './health-server.ts';
import { kmsServer } from './kms-server.ts';
import { kubeServer } from './kube-server.ts';
import type { KmsPlugin } from './kms-plugin.ts';
import { SshServer, type Run, type SshLogin } from './ssh-server.ts';
import type { LabNode, LabSurface, Listening } from './surface.ts';

export interface ServersOptions {
  readonly surface: LabSurface;
  /** As LabSurface's. */
  readonly listening: NonNullable<LabSurface['listening']>;
  /** Public key of the user who is let in, as in authorized_keys. */
  readonly authorized: string;
  /** As SshServerOptions.userCa, of all hosts. */
  readonly userCa?: string | undefined;
  /** Users who are let in, but are not of the group `docker`. */
  readonly outsiders?: readonly string[] | undefined;
  /** A host's private key by the node's name, and `bastion`. */
  readonly hostKey: (host: string) => string;
  /** false: a firewall lets nobody through to this port of the node now, so a connection is refused. */
  readonly listens: (node: NodeName, port: number) => boolean;
  /** What the user may run on a node over SSH. */
  readonly run: Run;
  /** As SshServerOptions.login, on a node. */
  readonly login?: ((node: NodeName, accept: () => void) => Promise<void>) | undefined;
  /** true: the nodes listen nowhere; a bastion at 127.0.0.1 leads to them. */
  readonly behindBastion: boolean;
}

export interface Servers {
  /** SSH ports by node; 22 behind a bastion. */
  readonly ports: ReadonlyMap<NodeName, number>;
  /** The bastion's port at 127.0.0.1. */
  readonly bastion: number | undefined;
  /** Who was let in over SSH so far, by host: a node, or `bastion`. */
  readonly logins: readonly (SshLogin & { readonly host: string })[];
  /** Takes the host off the network: everything that came to it is broken off, nothing more is let in. */
  unplug(node: NodeName): void;
  /** Puts it back, at the same address and port. */
  plug(node: NodeName): Promise<void>;
  /** Serves Docker's API of the node on this stream, as its own socket does. */
  docker(node: NodeName, stream: Duplex): void;
  /** A stream to a port as the host at `from`, or any other of the network, would get it; undefined: refused. */
  dial(address: string, port: number, from?: string): ((stream: Duplex) => void) | undefined;
  close(): void;
}

const dockerSocket = '/var/run/docker.sock';
const local = new Set(['127.0.0.1', 'localhost', '::1']);

interface Host {
  readonly node: LabNode;
  readonly ssh: SshServer;
  readonly docker: Connections;
  /** KMS plugins that were asked for. */
  readonly plugins: ReadonlyMap<KmsPlugin, Connections>;
  /** What serves at its ports, by what was listening there. */
  readonly served: Map<string, Connections>;
  plugged: boolean;
}

/** Resolves once everything listens. */
export async function startServers(options: ServersOptions): Promise<Servers> {
  const { surface, behindBastion, login, outsiders = [] } = options;
  const hosts = new Map<string, Host>();
  const ports = new Map<NodeName, number>();
  const logins: (SshLogin & { host: string })[] = [];

  const dial = (address: string, port: number, from?: string) => {
    const host = hosts.get(address);
    if (host?.plugged !== true || !options.listens(host.node.name, port)) return undefined;
    if (port === ports.get(host.node.name)) return (stream: Duplex) => host.ssh.take(stream, from);
    const listening = options.listening(host.node.name, port, from === address);
    if (listening === undefined) return undefined;
    return (stream: Duplex) => serverOf(host, listening).take(stream);
  };

  const serverOf = ({ node, served }: Host, listening: Listening): Connections => {
    const { kind, tls } = listening;
    const id = [kind, ...(kind === 'kube' ? [listening.node] : []), JSON.stringify(tls)].join(' ');
    const server = served.get(id) ?? startServer(node, listening);
    served.set(id, server);
    return server;
  };

  const startServer = (node: LabNode, listening: Listening): Connections => {
    switch (listening.kind) {
      case 'kube':
        return kubeServer(listening.tls, (ask) => surface.kube(listening.node, ask));
      case 'etcd': {
        const { etcd } = surface;
        const view = () => surface.member?.(node.address);
        return etcdServer(listening.tls, { etcd, view, isWell: listening.isWell });
      }
      case 'health':
        return healthServer(listening.tls);
    }
  };

  const sshd = (host: string) => ({
    hostKey: options.hostKey(host),
    authorized: [options.authorized],
    userCa: options.userCa,
    onLogin: (login: SshLogin) => logins.push({ ...login, host }),
  });

  for (const node of surface.nodes) {
    const docker = dockerServer((ask) => surface.docker(node.name, ask));
    const plugins = new Map<KmsPlugin, Connections>();
    const pluginServer = (plugin: KmsPlugin) => {
      const server = plugins.get(plugin) ?? kmsServer(plugin);
      plugins.set(plugin, server);
      return server;
    };
    const ssh = new SshServer({
      ...sshd(node.name),
      socket(path, user) {
        if (outsiders.includes(user)) return undefined;
        if (path === dockerSocket) return (stream) => docker.take(stream);
        const plugin = surface.plugin?.(node.name, path);
        return plugin === undefined ? undefined : (stream) => pluginServer(plugin).take(stream);
      },
      run: options.run,
      ...(login !== undefined && { login: (accept) => login(node.name, accept) }),
      port: (address, port) => dial(local.has(address) ? node.address : address, port, node.address),
    });
    hosts.set(node.address, { node, ssh, docker, plugins, served: new Map(), plugged: true });
  }

  for (const { node, ssh } of hosts.values()) {
    ports.set(node.name, behindBastion ? 22 : await ssh.listen(node.address));
  }
  const bastion = behindBastion
    ? new SshServer({
        ...sshd('bastion'),
        socket: () => undefined,
        run: () => undefined,
        port: (address, port) => dial(address, port, '127.0.0.1'),
      })
    : undefined;
  const bastionPort = await bastion?.listen('127.0.0.1');

  const hostOf = (name: NodeName): Host => {
    const found = [...hosts.values()].find(({ node }) => node.name === name);
    if (found === undefined) throw new Error(`the lab has no node ${name}`);
    return found;
  };
  const breakOff = ({ ssh, docker, plugins, served }: Host) => {
    ssh.close();
    docker.close();
    for (const server of [...plugins.values(), ...served.values()]) server.close();
  };

  return {
    ports,
    bastion: bastionPort,
    logins,
    dial,
    docker: (name, stream) => hostOf(name).docker.take(stream),
    unplug(name) {
      const host = hostOf(name);
      host.plugged = false;
      breakOff(host);
    },
    async plug(name) {
      const host = hostOf(name);
      if (host.plugged) return;
      if (!behindBastion) await host.ssh.listen(host.node.address, ports.get(name));
      host.plugged = true;
    },
    close() {
      for (const host of hosts.values()) breakOff(host);
      bastion?.close();
    },
  };
}
