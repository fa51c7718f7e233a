/** dockerode on the model instead of a socket; its errors are those of hosts/docker-client.ts. */
import { Readable } from 'node:stream';
import Docker from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { NodeName } from '../ports.ts';
import type { Effects } from './faults.ts';
import { NoAnswer, type HttpAnswer, type LabSurface } from './surface.ts';

/** A call as dockerode hands it to its modem. */
interface Call {
  readonly method: string;
  /** With a question mark at its end where the options belong into the query. */
  readonly path: string;
  readonly options?: { readonly _query?: object; readonly _body?: object; readonly authconfig?: unknown };
  /** Of a registry. */
  readonly authconfig?: { readonly base64: string };
  readonly file?: Buffer;
  readonly isStream?: boolean;
  readonly statusCodes: Readonly<Record<number, boolean | string>>;
}

interface Modem {
  dial(call: Call, callback: (error: Error | null, result: unknown) => void): void;
  buildQuerystring(options: object): string;
}

const template = new Docker({ protocol: 'http', host: 'docker', port: 80 });
/** Milliseconds until the real client gives a call up. */
const patience = 60_000;

/** A client for the node whose calls end with the signal. */
export function dockerClient(
  surface: LabSurface,
  effects: Effects,
  node: NodeName,
  signal: AbortSignal,
): Docker {
  const modem = Object.create(template.modem) as Modem;
  modem.dial = (call, callback) => {
    const { method } = call;
    const plain = call.path.replace(/\?.*/, '');
    const what = `${method} ${plain.replace(/[0-9a-f]{64}/g, (id) => id.slice(0, 12))}`;
    const doing = {
      kind: 'docker' as const,
      node,
      what,
      changes: method !== 'GET' && !/\/(wait|exec)$/.test(plain),
      signal,
      work: async () => {
        const ask = { method, path: pathOf(call, modem), headers: headersOf(call), body: bodyOf(call) };
        const answer = await surface.docker(node, ask).catch((error: unknown) => {
          throw error instanceof NoAnswer ? unreachable(node, `docker ${what}`, error) : error;
        });
        return resultOf(answer, call, `docker ${what}`, node);
      },
      lost: () => unreachable(node, `docker ${what}`, lostAnswer()),
      patience,
    };
    effects.run(doing).then(
      (result) => callback(null, result),
      (error: unknown) => callback(error as Error, null),
    );
  };
  return new Docker({ modem } as unknown as Docker.DockerOptions);
}

/** As docker-modem makes them. */
function headersOf({ authconfig }: Call): Record<string, string> {
  return authconfig === undefined ? {} : { 'x-registry-auth': authconfig.base64 };
}

function pathOf({ path, options: given }: Call, modem: Modem): string {
  const { authconfig: _, ...options } = given ?? {};
  const versioned = `/v1.41${path}`;
  if (!versioned.includes('?')) return versioned;
  return Object.keys(options).length > 0
    ? versioned + modem.buildQuerystring(options._query ?? options)
    : versioned.slice(0, -1);
}

function bodyOf({ method, options, file }: Call): Buffer {
  if (file !== undefined) return file;
  if (method !== 'POST' || options === undefined) return Buffer.alloc(0);
  const { authconfig: _, ...body } = options;
  return Buffer.from(JSON.stringify(options._body ?? body));
}

function resultOf({ status, body }: HttpAnswer, call: Call, what: string, node: NodeName): unknown {
  if (call.statusCodes[status] !== true) {
    const said = (parsed(body) as { message?: string } | undefined)?.message ?? '';
    throw new TsrkeError('DOCKER', `${what} was answered with ${status}`, {
      node,
      cause: Object.assign(new Error(said), { statusCode: status }),
    });
  }
  if (call.isStream === true) return Readable.from(body.length === 0 ? [] : [body]);
  return parsed(body) ?? body;
}

function parsed(body: Buffer): unknown {
  // Not each call that has no JSON should cost an exception.
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}

export function unreachable(node: NodeName, call: string, cause: unknown): TsrkeError {
  return new TsrkeError('NODE_UNREACHABLE', `the connection was lost during ${call}`, {
    node,
    cause,
    next: 'run the same command again; it looks at what has happened and goes on from there',
  });
}

export function lostAnswer(): NoAnswer {
  return new NoAnswer('ECONNRESET', 'read ECONNRESET');
}
