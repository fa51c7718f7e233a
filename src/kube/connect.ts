/**
 * How a connection to one node's kube-apiserver is made: directly, or through the node's SSH connection
 * where the network does not let us. The way that worked is kept and is chosen anew only once it fails.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Dial, NodeName } from '../ports.ts';

export interface ApiserverAddress {
  readonly name: NodeName;
  /** Tried in this order when reached directly; names or IP addresses that the server's certificate holds. */
  readonly addresses: readonly string[];
  readonly port: number;
}

export interface Credentials {
  /** PEM texts: the cluster's kube-ca, and a client certificate with its key. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface Ways {
  readonly dial: Dial;
  /** Milliseconds for a direct TCP connection. */
  readonly directTimeout: number;
  /** Milliseconds for the TLS handshake, on either way, and for the stream through SSH. */
  readonly handshakeTimeout: number;
  /** false: never directly, always through SSH. */
  readonly direct: boolean;
  readonly http2: boolean;
}

type Way = 'direct' | 'ssh';

/** OpenSSL's verdicts on a certificate that our CA did not sign. RKE's CAs all bear one name, hence the fourth. */
const strangerCodes = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
]);

/** Makes TLS connections to one node's kube-apiserver; holds which way worked and the TLS session to resume. */
export class ApiserverConnector {
  readonly #to: ApiserverAddress;
  readonly #context: SecureContext;
  readonly #ways: Ways;
  #way: Way | undefined;
  #directWorked = false;
  #session: Buffer | undefined;

  constructor(to: ApiserverAddress, credentials: Credentials, ways: Ways) {
    this.#to = to;
    // Made once: parsing keys for each of 64 connections takes longer than their handshakes.
    this.#context = createSecureContext({ ...credentials, minVersion: 'TLSv1.2' });
    this.#ways = ways;
  }

  /** Throws TsrkeError WRONG_CLUSTER when no way leads to a server of our CA but one leads to another's; else KUBE. */
  async open(): Promise<TLSSocket> {
    const failures: unknown[] = [];
    for (const way of this.#order()) {
      try {
        const socket = await (way === 'direct' ? this.#direct() : this.#throughSsh());
        this.#way = way;
        this.#directWorked ||= way === 'direct';
        return socket;
      } catch (error) {
        failures.push(error);
        // A host that refuses where it answered before has no apiserver running; SSH leads to the same nothing,
        // or, if it comes up this very moment, would be kept as the slower way.
        if (way === 'direct' && this.#directWorked && codeOf(error) === 'ECONNREFUSED') break;
      }
    }
    const cause =
      failures.length === 1 ? failures[0] : new AggregateError(failures, failures.map(messageOf).join('; '));
    const node = this.#to.name;
    if (failures.some((failure) => strangerCodes.has(codeOf(failure) ?? ''))) {
      throw new TsrkeError(
        'WRONG_CLUSTER',
        `the kube-apiserver at ${this.#to.addresses.join(', ')} port ${this.#to.port} has a certificate that the state's kube-ca did not sign`,
        {
          node,
          cause,
          next: 'check that this state file belongs to this cluster; nothing was changed',
        },
      );
    }
    throw new TsrkeError('KUBE', `no connection to kube-apiserver on port ${this.#to.port}`, { node, cause });
  }

  #order(): Way[] {
    if (!this.#ways.direct || this.#to.addresses.length === 0) return ['ssh'];
    return this.#way === 'ssh' ? ['ssh', 'direct'] : ['direct', 'ssh'];
  }

  async #direct(): Promise<TLSSocket> {
    const failures: unknown[] = [];
    for (const address of this.#to.addresses) {
      try {
        const tcp = await openTcp(address, this.#to.port, this.#ways.directTimeout);
        return await this.#secure(tcp, address);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    const first = failures.find((failure) => strangerCodes.has(codeOf(failure) ?? '')) ?? failures[0];
    throw Object.assign(new AggregateError(failures, failures.map(messageOf).join('; ')), {
      code: codeOf(first),
    });
  }

  async #throughSsh(): Promise<TLSSocket> {
    const { dial, handshakeTimeout } = this.#ways;
    const stream = await within(dial(this.#to.name, '127.0.0.1', this.#to.port), handshakeTimeout);
    return await this.#secure(stream, '127.0.0.1');
  }

  #secure(stream: Duplex, host: string): Promise<TLSSocket> {
    return new Promise((resolve, reject) => {
      const socket = connectTls({
        socket: stream,
        host,
        secureContext: this.#context,
        ...(this.#session === undefined ? {} : { session: this.#session }),
        ALPNProtocols: this.#ways.http2 ? ['h2', 'http/1.1'] : ['http/1.1'],
      });
      const timer = setTimeout(() => {
        socket.destroy(
          new Error(`no TLS handshake with ${host} within ${this.#ways.handshakeTimeout / 1000} s`),
        );
      }, this.#ways.handshakeTimeout);
      const failed = (error: Error) => {
        clearTimeout(timer);
        stream.destroy();
        reject(error);
      };
      const closed = () => {
        failed(new Error(`${host} closed the connection during the TLS handshake`));
      };
      socket.on('session', (session) => (this.#session = session));
      socket.once('error', failed);
      socket.once('close', closed);
      socket.once('secureConnect', () => {
        clearTimeout(timer);
        socket.off('error', failed);
        socket.off('close', closed);
        resolve(socket);
      });
    });
  }
}

/** A TCP connection without Nagle's delay, or an error within `timeout` milliseconds. */
export function openTcp(host: string, port: number, timeout: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host, port, noDelay: true, keepAlive: true });
    const timer = setTimeout(() => {
      const words = `no connection to ${host}:${port} within ${timeout / 1000} s`;
      socket.destroy(Object.assign(new Error(words), { code: 'ETIMEDOUT' }));
    }, timeout);
    const failed = (error: Error) => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      resolve(socket);
    });
  });
}

/** The stream, or an error after `timeout` milliseconds; a stream that comes later is closed. */
async function within(dialled: Promise<Duplex>, timeout: number): Promise<Duplex> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      dialled.then(
        (stream) => stream.destroy(),
        () => undefined,
      );
      reject(new Error(`no stream through SSH within ${timeout / 1000} s`));
    }, timeout);
  });
  try {
    return await Promise.race([dialled, late]);
  } finally {
    clearTimeout(timer);
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
