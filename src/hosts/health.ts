/** Health checks of services, asked on the node itself through its SSH connection, as RKE does. */
import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { messageOf } from '../errors.ts';
import type { ClientCertificate, Dial, Health } from '../ports.ts';
import { likeSocket } from './docker-client.ts';
import { reach } from './reach.ts';

/** More than a health check says; nobody reads on. */
const mostBytes = 64 * 1024;

export interface HealthOptions {
  readonly dial: Dial;
  /** Milliseconds for the connection, and then for the answer; default 5 000. */
  readonly timeout?: number;
}

export function healthChecks({ dial, timeout = 5_000 }: HealthOptions): Health {
  return {
    async ask(node, check, client, signal) {
      const url = new URL(check.url);
      const host = url.hostname === 'localhost' ? '127.0.0.1' : url.hostname.replace(/^\[(.*)\]$/, '$1');
      const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
      const reached = await reach(dial, { node, host, port }, timeout, signal);
      if (reached.kind !== 'accepted') return reached.why;
      const late = AbortSignal.timeout(timeout);
      try {
        const answer = await ask(url, reached.stream, client, AbortSignal.any([signal, late]));
        return verdict(url, answer);
      } catch (error) {
        signal.throwIfAborted();
        return late.aborted ? `no answer within ${timeout / 1000} s` : messageOf(error);
      } finally {
        reached.stream.destroy();
      }
    },

    async knock(node, { host, port }, signal) {
      const reached = await reach(dial, { node, host, port }, timeout, signal);
      if (reached.kind !== 'accepted') return reached;
      reached.stream.destroy();
      return { kind: 'accepted', why: '' };
    },
  };
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function ask(
  url: URL,
  stream: Duplex,
  client: ClientCertificate | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket =
      url.protocol === 'https:'
        ? // Its names are of no matter: SSH has proved whose host this is.
          connectTls({ socket: stream, rejectUnauthorized: false, ...client })
        : likeSocket(stream);
    const aborted = () => {
      socket.destroy();
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', aborted);
    socket.on('error', reject);
    const asked = request(
      {
        ...{ method: 'GET', path: url.pathname + url.search, createConnection: () => socket },
        headers: { host: url.host, 'user-agent': 'tsrke', connection: 'close' },
      },
      (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        const done = () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          bytes += chunk.length;
          if (bytes > mostBytes) done();
        });
        response.on('end', done);
        response.on('error', reject);
      },
    );
    asked.on('error', reject);
    asked.on('close', () => signal.removeEventListener('abort', aborted));
    asked.end();
  });
}

function verdict(url: URL, { status, text }: Answer): string | undefined {
  if (status !== 200) return `answers ${status}${firstLine(text)}`;
  // etcd's, which answers 200 in older versions whatever it says.
  if (url.pathname === '/health' && !saysHealthy(text))
    return `answers that it is not healthy${firstLine(text)}`;
  return undefined;
}

function saysHealthy(text: string): boolean {
  try {
    const { health } = JSON.parse(text) as { readonly health?: unknown };
    return health === 'true' || health === true;
  } catch {
    return false;
  }
}

/** Of Kubernetes' lists of checks the first that failed. */
function firstLine(text: string): string {
  const lines = text.split('\n').flatMap((each) => each.trim() || []);
  const line = lines.find((each) => each.startsWith('[-]')) ?? lines[0];
  return line === undefined ? '' : `: ${line.slice(0, 200)}`;
}
