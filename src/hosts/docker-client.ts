/**
 * Docker's API of a host, over its SSH connection. The one place where dockerode's and HTTP's errors become
 * tsrke's: DOCKER when Docker answered, NODE_UNREACHABLE when it did not.
 */
import { Agent } from 'node:http';
import type { Duplex } from 'node:stream';
import { inspect } from 'node:util';
import Docker from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { NodeName, Report } from '../ports.ts';
import { duration } from './ssh-connection.ts';

/**
 * The newest API this adapter was written for. A container is inspected and made anew through the same version, so
 * that what a newer engine would say differently cannot get lost in between.
 */
const newestApi = '1.47';

export interface DockerHost {
  readonly name: NodeName;
  /** A new stream to Docker's socket. */
  dial(): Promise<Duplex>;
}

export class DockerClients {
  readonly #report: Report;
  readonly #timeout: number;
  readonly #apis = new Map<NodeName, string>();
  /** What all clients are made from: reading the environment for each would cost as much as a call. */
  readonly #template = withoutDockerEnvironment(
    () => new Docker({ protocol: 'http', host: 'docker', port: 80 }),
  );

  /** `timeout`: milliseconds until a call that Docker does not answer is given up. */
  constructor(report: Report, timeout: number) {
    this.#report = report;
    this.#timeout = timeout;
  }

  /** A client whose calls all end with the signal, in its reason. `timeout`: other than that of all others. */
  async for(host: DockerHost, signal: AbortSignal, timeout = this.#timeout): Promise<Docker> {
    let api = this.#apis.get(host.name);
    if (api === undefined) {
      const { ApiVersion, MinAPIVersion } = (await this.#client(host, signal).version()) as {
        ApiVersion: string;
        MinAPIVersion?: string;
      };
      api = newer(MinAPIVersion ?? '1.12', older(ApiVersion, newestApi));
      this.#apis.set(host.name, api);
    }
    return this.#client(host, signal, `v${api}`, timeout);
  }

  #client(host: DockerHost, signal: AbortSignal, version?: string, limit = this.#timeout): Docker {
    const modem = Object.create(this.#template.modem) as Docker['modem'];
    Object.assign(modem, { version, agent: new StreamAgent(host) });
    const dial = modem.dial.bind(modem);
    // Every call of dockerode ends up here.
    modem.dial = (options, callback) => {
      const call = `docker ${options.method ?? 'GET'} ${options.path.replace(/\?.*/, '')}`;
      const timeout = AbortSignal.timeout(limit);
      const either = AbortSignal.any([signal, timeout]);
      const begun = performance.now();
      let ended = false;
      const end: typeof callback = (error, result) => {
        if (ended) return;
        ended = true;
        either.removeEventListener('abort', aborted);
        const took = duration(performance.now() - begun);
        this.#report.debug(`${call.replace(/[0-9a-f]{64}/g, (id) => id.slice(0, 12))} ${took}`, host.name);
        callback?.(
          error === null
            ? null
            : this.#translate(error, call, host, signal, timeout.aborted ? limit : undefined),
          result,
        );
      };
      // node:http takes notice of an abort only once it has a socket, and SSH may be slow to give one.
      const aborted = () => end(either.reason as Error, null);
      either.addEventListener('abort', aborted);
      dial({ ...options, abortSignal: either }, end);
    };
    return new Docker({ modem } as unknown as Docker.DockerOptions);
  }

  /** `waited`: milliseconds until it was given up. */
  #translate(
    error: Error,
    call: string,
    host: DockerHost,
    signal: AbortSignal,
    waited: number | undefined,
  ): Error {
    if (signal.aborted) return signal.reason as Error;
    // The stream itself could not be opened: said already.
    if (error instanceof TsrkeError) return error;
    if (waited !== undefined) {
      return new TsrkeError('DOCKER', `no answer to ${call} within ${duration(waited)}`, {
        node: host.name,
        cause: error,
        next: `see that Docker on ${host.name} works (\`docker ps\` there), then run the same command again`,
      });
    }
    const status = statusOf(error);
    if (status !== undefined) {
      return new TsrkeError('DOCKER', `${call} was answered with ${status}`, {
        node: host.name,
        cause: withStatus(status, answerText(error)),
        next: `see \`journalctl -u docker\` on ${host.name}, then run the same command again`,
      });
    }
    return new TsrkeError('NODE_UNREACHABLE', `the connection was lost during ${call}`, {
      node: host.name,
      cause: error,
      next: 'run the same command again; it looks at what has happened and goes on from there',
    });
  }
}

/** The HTTP status behind an error of Docker's, if it answered at all. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof TsrkeError) return statusOf(error.cause);
  const status = (error as { statusCode?: unknown } | undefined)?.statusCode;
  return typeof status === 'number' ? status : undefined;
}

/** What a call resolves to, or undefined where Docker answers with one of these statuses. */
export async function unless<T>(statuses: readonly number[], call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (statuses.includes(statusOf(error) ?? 0)) return undefined;
    throw error;
  }
}

/** Rejects with the signal's reason when it aborts first. */
export async function abortable<T>(begin: () => Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const stop = new AbortController();
  try {
    return await Promise.race([
      begin(),
      new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { signal: stop.signal });
      }),
    ]);
  } finally {
    stop.abort();
  }
}

/** All bytes of a stream that Docker sends; its errors are those of the connection. */
export async function bytesOf(
  host: NodeName,
  stream: NodeJS.ReadableStream,
  signal: AbortSignal,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of stream) chunks.push(chunk as Buffer);
  } catch (cause) {
    signal.throwIfAborted();
    throw new TsrkeError('NODE_UNREACHABLE', 'the connection was lost while Docker was answering', {
      node: host,
      cause,
      next: 'run the same command again; it looks at what has happened and goes on from there',
    });
  }
  signal.throwIfAborted();
  return Buffer.concat(chunks);
}

/** Docker's multiplexed output (stream, three zeros, length, bytes): both streams together, as they came. */
export function demultiplex(data: Buffer): string {
  const parts: Buffer[] = [];
  let position = 0;
  while (position + 8 <= data.length) {
    const end = position + 8 + data.readUInt32BE(position + 4);
    parts.push(data.subarray(position + 8, end));
    position = end;
  }
  return Buffer.concat(parts).toString();
}

/** One stream per request: a kept-alive one would be found dead only after a request had gone into it. */
class StreamAgent extends Agent {
  readonly #host: DockerHost;
  /** docker-modem spells out all of each request, its agent too, for a debug output that nobody reads. */
  readonly [inspect.custom] = () => 'StreamAgent';

  constructor(host: DockerHost) {
    super({ keepAlive: false });
    this.#host = host;
  }

  override createConnection(
    _options: object,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    this.#host.dial().then(
      (stream) => callback?.(null, likeSocket(stream)),
      (error: unknown) => callback?.(error as Error, undefined as unknown as Duplex),
    );
  }
}

/** What node:http calls on a socket and an SSH channel has not. */
export function likeSocket(stream: Duplex): Duplex {
  const nothing = () => stream;
  return Object.assign(stream, {
    setKeepAlive: nothing,
    setNoDelay: nothing,
    setTimeout: nothing,
    ref: nothing,
    unref: nothing,
    destroySoon: () => stream.destroy(),
  });
}

/** docker-modem reads DOCKER_HOST, DOCKER_CERT_PATH and others; they name the user's own engine, not a node's. */
function withoutDockerEnvironment<T>(make: () => T): T {
  const saved = Object.entries(process.env).filter(([name]) => name.startsWith('DOCKER_'));
  for (const [name] of saved) Reflect.deleteProperty(process.env, name);
  try {
    return make();
  } finally {
    for (const [name, value] of saved) process.env[name] = value;
  }
}

function answerText(error: Error): string {
  const { message } = (error as { json?: { message?: unknown } | null }).json ?? {};
  if (typeof message === 'string') return message;
  return error.message.replace(/^\(HTTP code \d+\) .*? - /, '').trim();
}

function withStatus(statusCode: number, text: string): Error {
  return Object.assign(new Error(text), { statusCode });
}

function older(a: string, b: string): string {
  return compareVersions(a, b) < 0 ? a : b;
}

function newer(a: string, b: string): string {
  return compareVersions(a, b) > 0 ? a : b;
}

function compareVersions(a: string, b: string): number {
  const [majorA = 0, minorA = 0] = a.split('.').map(Number);
  const [majorB = 0, minorB = 0] = b.split('.').map(Number);
  return majorA - majorB || minorA - minorB;
}
