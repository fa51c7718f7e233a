/** The kube API of each controlplane node by itself, over one pool of connections per node. */
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { Pool } from 'undici';
import { TsrkeError } from '../errors.ts';
import type { Dial, KubeApi, KubeRequest, KubeResponse, NodeName, Report } from '../ports.ts';
import { ApiserverConnector, type ApiserverAddress } from './connect.ts';

export type { ApiserverAddress } from './connect.ts';

export interface KubeApiOptions {
  readonly nodes: readonly ApiserverAddress[];
  /** PEM: the state's kube-ca, which must have signed every server's certificate. */
  readonly ca: string;
  /** PEM: kube-admin's certificate and key. */
  readonly cert: string;
  readonly key: string;
  readonly dial: Dial;
  readonly report: Pick<Report, 'debug'>;
  /** false: always through SSH. Default true: directly where that works, else through SSH. */
  readonly direct?: boolean;
  /** Connections per node; default 64. */
  readonly connections?: number;
  /** Milliseconds for a direct TCP connection; default 2 000. */
  readonly directTimeout?: number;
  /** Default false: with HTTP/2 the same work was slower (bench/README.md). */
  readonly http2?: boolean;
}

export interface ClosableKubeApi extends KubeApi {
  /** Ends all connections; requests under way reject. */
  close(): Promise<void>;
}

const defaultTimeout = 30_000;
const unzip = promisify(gunzip);

/**
 * A KubeApi for these nodes. Nothing is connected before the first request. A node is reached directly or
 * through SSH, whichever works first (direct is tried first), and by the other way once the chosen one fails.
 * Rejects with TsrkeError KUBE (not reached, timed out, broken off) or WRONG_CLUSTER (a server whose
 * certificate `ca` did not sign). Neither bodies nor headers are ever reported.
 */
export function createKubeApi(options: KubeApiOptions): ClosableKubeApi {
  const { report } = options;
  const pools = new Map(options.nodes.map((node) => [node.name, poolOf(node, options)]));

  async function request(node: NodeName, ask: KubeRequest, signal: AbortSignal): Promise<KubeResponse> {
    signal.throwIfAborted();
    const pool = pools.get(node);
    if (pool === undefined) throw new Error(`no kube-apiserver address was given for node ${node}`);
    const what = `${ask.method} ${ask.path.replace(/\?.*/s, '')}`;
    const began = performance.now();
    try {
      const answer = await send(pool, ask, signal);
      report.debug(`kube ${what} ${answer.status} ${since(began)}`, node);
      return answer;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      report.debug(`kube ${what} failed ${since(began)}`, node);
      if (error instanceof TsrkeError) throw error;
      throw new TsrkeError('KUBE', `kube-apiserver did not answer ${what}`, { node, cause: error });
    }
  }

  return {
    request,
    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()));
    },
  };
}

function poolOf(node: ApiserverAddress, options: KubeApiOptions): Pool {
  const http2 = options.http2 ?? false;
  const connector = new ApiserverConnector(
    node,
    { ca: options.ca, cert: options.cert, key: options.key },
    {
      dial: options.dial,
      directTimeout: options.directTimeout ?? 2_000,
      handshakeTimeout: 10_000,
      direct: options.direct ?? true,
      http2,
    },
  );
  return new Pool(`https://${originHost(node)}:${node.port}`, {
    connections: options.connections ?? 64,
    pipelining: http2 ? 100 : 1,
    allowH2: http2,
    keepAliveTimeout: 30_000,
    connect(_, callback) {
      connector.open().then(
        (socket) => callback(null, socket),
        (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), null),
      );
    },
  });
}

/** Only the Host header comes from this; the connector decides what is dialled. */
function originHost(node: ApiserverAddress): string {
  const [address] = node.addresses;
  if (address === undefined) return '127.0.0.1';
  return address.includes(':') ? `[${address}]` : address;
}

async function send(pool: Pool, ask: KubeRequest, signal: AbortSignal): Promise<KubeResponse> {
  const headers: Record<string, string> = {
    accept: ask.accept ?? 'application/json',
    'user-agent': 'tsrke',
  };
  // Metrics are megabytes of repetitive text; other answers would cost the server more than they save.
  if (ask.path.startsWith('/metrics')) headers['accept-encoding'] = 'gzip';
  if (ask.body !== undefined) headers['content-type'] = ask.contentType ?? 'application/json';
  // Connecting has limits of its own (connect.ts). A timer for each request would cost more than parsing it.
  const timeout = ask.timeout ?? defaultTimeout;
  const answer = await pool.request({
    method: ask.method,
    path: ask.path,
    headers,
    signal,
    headersTimeout: timeout,
    bodyTimeout: timeout,
    ...(ask.body === undefined ? {} : { body: JSON.stringify(ask.body) }),
  });
  const zipped = answer.headers['content-encoding'] === 'gzip';
  const text = zipped ? (await unzip(await answer.body.arrayBuffer())).toString() : await answer.body.text();
  return { status: answer.statusCode, headers: single(answer.headers), text };
}

function single(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) result[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return result;
}

function since(began: number): string {
  return `${Math.round(performance.now() - began)} ms`;
}
