/** The members of one etcd: whichever of them answers. */
import { status, type MethodDefinition, type ServiceError } from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Report } from '../ports.ts';
import type { Endpoint } from './endpoint.ts';
import { etcdPackage, type RangeRequest, type RangeResponse } from './proto.ts';

/** Milliseconds for what a healthy member answers at once. */
export const shortDeadline = 5_000;

const kv = etcdPackage['etcdserverpb.KV'] as ServiceDefinition;
export const rangeMethod = kv['Range'] as MethodDefinition<RangeRequest, RangeResponse>;

/**
 * Nothing is connected before the first call. The first endpoint that answers a linearizable read serves until it
 * fails; then the others are tried.
 */
export class Endpoints {
  readonly all: readonly Endpoint[];
  readonly #report: Pick<Report, 'debug'> | undefined;
  #chosen: Endpoint | undefined;

  constructor(all: readonly Endpoint[], report: Pick<Report, 'debug'> | undefined) {
    this.all = all;
    this.#report = report;
  }

  /** Asks the chosen endpoint, or the first that turns out healthy; moves on when the way or the member fails. */
  async ask<Request, Response>(
    name: string,
    method: MethodDefinition<Request, Response>,
    request: Request,
    deadline: number,
    signal: AbortSignal,
  ): Promise<Response> {
    const failures: TsrkeError[] = [];
    const chosen = this.#chosen;
    const order = chosen === undefined ? this.all : [chosen, ...this.all.filter((other) => other !== chosen)];
    for (const endpoint of order) {
      try {
        if (endpoint !== this.#chosen) await this.askHealth(endpoint, signal);
        const response = await this.call(endpoint, name, method, request, deadline, signal);
        this.#chosen = endpoint;
        return response;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!movesOn(error)) throw failed(name, endpoint, error);
        endpoint.close();
        if (this.#chosen === endpoint) this.#chosen = undefined;
        failures.push(failed(name, endpoint, error));
      }
    }
    const [first] = failures;
    if (first !== undefined && failures.length === 1) throw first;
    throw new TsrkeError('ETCD', `no etcd member answered ${name}`, {
      ...(first?.node !== undefined && { node: first.node }),
      cause: new AggregateError(failures),
      details: failures.map(messageOf),
    });
  }

  /** A member without quorum accepts connections and answers Status: only a linearizable read tells. */
  async askHealth(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const key = Buffer.from('health');
    const request = { key, range_end: Buffer.alloc(0), limit: '1', revision: '0' };
    await this.call(endpoint, 'Range', rangeMethod, request, shortDeadline, signal);
  }

  /** Asks this very endpoint. Rejects as it does. */
  async call<Request, Response>(
    endpoint: Endpoint,
    name: string,
    method: MethodDefinition<Request, Response>,
    request: Request,
    deadline: number,
    signal: AbortSignal,
  ): Promise<Response> {
    const began = performance.now();
    const told = (result: string) =>
      this.#report?.debug(
        `etcd ${name} ${endpoint.url.host} ${result} ${Math.round(performance.now() - began)} ms`,
        endpoint.node,
      );
    try {
      const response = await endpoint.call(method, request, deadline, signal);
      told('ok');
      return response;
    } catch (error) {
      told('failed');
      throw error;
    }
  }

  close(): void {
    for (const endpoint of this.all) endpoint.close();
  }
}

function failed(name: string, endpoint: Endpoint, error: unknown): TsrkeError {
  return new TsrkeError('ETCD', `etcd at ${endpoint.url.host} did not answer ${name}`, {
    node: endpoint.node,
    cause: error,
  });
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}

/** Another member may answer what this one could not; what etcd as a whole refuses, every member refuses. */
function movesOn(error: unknown): boolean {
  if (!isServiceError(error)) return true;
  return [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.INTERNAL, status.UNKNOWN].includes(error.code);
}
