/** One etcd member as kube-apiserver's --etcd-servers names it: a gRPC client, made at its first use. */
import { once } from 'node:events';
import { isIPv4, type Socket } from 'node:net';
import { checkServerIdentity, connect as connectTls } from 'node:tls';
import { Client, credentials, type ChannelCredentials, type MethodDefinition } from '@grpc/grpc-js';
import { openDoor, type Door } from '../hosts/door.ts';
import { openTcp } from '../kube/connect.ts';
import type { Dial, NodeName } from '../ports.ts';

export interface EndpointOptions {
  /** PEM texts of --etcd-cafile, --etcd-certfile and --etcd-keyfile; not needed for endpoints without TLS. */
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly dial: Dial;
  /** Through whose SSH connection it is reached where the network does not let us. */
  readonly node: NodeName;
  /** false: always through SSH. Default true: directly where that works. */
  readonly direct?: boolean;
  /** Milliseconds for a direct TCP connection, and again for its TLS handshake; default 2 000. */
  readonly directTimeout?: number;
}

/** Values can be 1.5 MiB each; a page that is larger than this is asked for again, halved. */
const largestMessage = 32 * 1024 * 1024;
/** What may be under way unread. HTTP/2's own 64 KiB make pages of megabytes crawl over a distance. */
const window = 8 * 1024 * 1024;

interface Connection {
  readonly client: Client;
  readonly door: Door | undefined;
}

export class Endpoint {
  readonly url: URL;
  readonly node: NodeName;
  readonly #options: EndpointOptions;
  #connection: Promise<Connection> | undefined;

  /** `url` as in --etcd-servers: `https://198.51.100.11:2379`; http for an etcd without TLS. */
  constructor(url: string, options: EndpointOptions) {
    this.url = new URL(url);
    this.node = options.node;
    this.#options = options;
  }

  /** Rejects with grpc-js's ServiceError (`code`, `details`), or with the error of reaching it at all. */
  async call<Request, Response>(
    method: MethodDefinition<Request, Response>,
    request: Request,
    deadline: number,
    signal: AbortSignal,
  ): Promise<Response> {
    signal.throwIfAborted();
    const connection = (this.#connection ??= this.#connect());
    let client: Client;
    try {
      ({ client } = await connection);
    } catch (error) {
      if (this.#connection === connection) this.#connection = undefined;
      throw error;
    }
    return await new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + deadline },
        (error, response) => {
          signal.removeEventListener('abort', cancel);
          if (signal.aborted) reject(signal.reason as Error);
          else if (error !== null) reject(error);
          else if (response === undefined) reject(new Error('etcd answered nothing'));
          else resolve(response);
        },
      );
      const cancel = () => {
        call.cancel();
      };
      signal.addEventListener('abort', cancel, { once: true });
    });
  }

  /** Ends the connection; the next call makes a new one, and chooses anew between direct and SSH. */
  close(): void {
    this.#connection?.then(
      ({ client, door }) => {
        client.close();
        door?.close();
      },
      () => undefined,
    );
    this.#connection = undefined;
  }

  async #connect(): Promise<Connection> {
    const host = this.url.hostname.replace(/^\[|\]$/g, '');
    const port = Number(this.url.port === '' ? 2379 : this.url.port);
    const { direct = true, dial, node } = this.#options;
    const reachable = direct && (await this.#reaches(host, port));
    const door = reachable ? undefined : await openDoor(() => dial(node, host, port), 'etcd');
    const target = door?.target ?? `${this.url.hostname}:${port}`;
    const client = new Client(target, this.#credentials(host), {
      'grpc.max_receive_message_length': largestMessage,
      'grpc-node.flow_control_window': window,
      'grpc.initial_reconnect_backoff_ms': 200,
      'grpc.max_reconnect_backoff_ms': 2_000,
      'grpc.enable_http_proxy': 0,
      // SNI must not be an address (Node warns); the real name is checked below.
      ...(this.url.protocol === 'https:' ? { 'grpc.ssl_target_name_override': 'localhost' } : {}),
    });
    return { client, door };
  }

  /**
   * Whether the member itself answers from here: what listens at its address may be another etcd, one of this machine
   * for instance. Without TLS nothing tells them apart, but a loopback address is surely the node's, not ours.
   */
  async #reaches(host: string, port: number): Promise<boolean> {
    const { ca, cert, key, directTimeout = 2_000 } = this.#options;
    let socket: Socket | undefined;
    try {
      if (this.url.protocol !== 'https:' && isLoopback(host)) return false;
      socket = await openTcp(host, port, directTimeout);
      if (this.url.protocol !== 'https:') return true;
      const secure = connectTls({ socket, host, ca, cert, key });
      // What comes once it is let go is no news.
      secure.on('error', () => undefined);
      await once(secure, 'secureConnect', { signal: AbortSignal.timeout(directTimeout) });
      return true;
    } catch {
      return false;
    } finally {
      socket?.destroy();
    }
  }

  #credentials(host: string): ChannelCredentials {
    if (this.url.protocol !== 'https:') return credentials.createInsecure();
    const { ca, cert, key } = this.#options;
    const bytes = (pem: string | undefined) => (pem === undefined ? null : Buffer.from(pem));
    return credentials.createSsl(bytes(ca), bytes(key), bytes(cert), {
      // Whatever way it is reached, it must be the member that kube-apiserver itself would accept.
      checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
    });
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}
