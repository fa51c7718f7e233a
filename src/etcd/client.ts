/** The cluster's etcd, spoken to as kube-apiserver does: its endpoints, its client certificate. */
import { status, type MethodDefinition, type ServiceError } from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Dial, Etcd, EtcdRange, NodeName, Report } from '../ports.ts';
import { Endpoint } from './endpoint.ts';
import {
  etcdPackage,
  type RangeRequest,
  type RangeResponse,
  type ResponseHeader,
  type StatusResponse,
} from './proto.ts';

export interface EtcdOptions {
  /** URLs as in kube-apiserver's --etcd-servers, in its order: tried in turn until one answers. */
  readonly endpoints: readonly string[];
  /** PEM texts of --etcd-cafile, --etcd-certfile and --etcd-keyfile; not needed where all URLs are http. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly dial: Dial;
  /** The node through whose SSH connection endpoints are reached that cannot be reached directly. */
  readonly node: NodeName;
  readonly report?: Pick<Report, 'debug'>;
  /** false: always through SSH. Default true: directly where that works. */
  readonly direct?: boolean;
  /** Milliseconds for a direct TCP connection, and again for its TLS handshake; default 2 000. */
  readonly directTimeout?: number;
}

const rangeDeadline = 60_000;
const shortDeadline = 5_000;

const kv = etcdPackage['etcdserverpb.KV'] as ServiceDefinition;
const maintenance = etcdPackage['etcdserverpb.Maintenance'] as ServiceDefinition;
const methods = {
  range: kv['Range'] as MethodDefinition<RangeRequest, RangeResponse>,
  compact: kv['Compact'] as MethodDefinition<
    { readonly revision: string; readonly physical: boolean },
    { readonly header: ResponseHeader | null }
  >,
  status: maintenance['Status'] as MethodDefinition<Record<string, never>, StatusResponse>,
};

/**
 * An Etcd over these endpoints. Nothing is connected before the first call. The first endpoint that answers a
 * linearizable read serves until it fails; then the others are tried. A page that is larger than 32 MiB is
 * halved: the answer then holds fewer keys than asked for, with `more` set.
 */
export function createEtcd(options: EtcdOptions): Etcd {
  if (options.endpoints.length === 0) throw new TsrkeError('ETCD', 'kube-apiserver names no etcd server');
  const endpoints = options.endpoints.map(
    (url) =>
      new Endpoint(url, {
        ...options,
        direct: options.direct ?? true,
        directTimeout: options.directTimeout ?? 2_000,
      }),
  );
  let chosen: Endpoint | undefined;

  async function call<Request, Response>(
    endpoint: Endpoint,
    name: string,
    method: MethodDefinition<Request, Response>,
    request: Request,
    deadline: number,
    signal: AbortSignal,
  ): Promise<Response> {
    const began = performance.now();
    const told = (result: string) =>
      options.report?.debug(
        `etcd ${name} ${endpoint.url.host} ${result} ${Math.round(performance.now() - began)} ms`,
        options.node,
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

  /** Asks the chosen endpoint, or the first that turns out healthy; moves on when the way or the member fails. */
  async function ask<Request, Response>(
    name: string,
    method: MethodDefinition<Request, Response>,
    request: Request,
    deadline: number,
    signal: AbortSignal,
  ): Promise<Response> {
    const failures: unknown[] = [];
    const order =
      chosen === undefined ? endpoints : [chosen, ...endpoints.filter((other) => other !== chosen)];
    for (const endpoint of order) {
      try {
        if (endpoint !== chosen) await healthy(endpoint, signal);
        const response = await call(endpoint, name, method, request, deadline, signal);
        chosen = endpoint;
        return response;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!movesOn(error)) throw failed(name, endpoint, error);
        endpoint.close();
        if (chosen === endpoint) chosen = undefined;
        failures.push(failed(name, endpoint, error));
      }
    }
    if (failures.length === 1) throw failures[0];
    throw new TsrkeError('ETCD', `no etcd member answered ${name}`, {
      node: options.node,
      cause: new AggregateError(failures),
      details: failures.map(messageOf),
    });
  }

  /** A member without quorum accepts connections and answers Status: only a linearizable read tells. */
  async function healthy(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const key = Buffer.from('health');
    const request = { key, range_end: Buffer.alloc(0), limit: '1', revision: '0' };
    await call(endpoint, 'Range', methods.range, request, shortDeadline, signal);
  }

  function failed(name: string, endpoint: Endpoint, error: unknown): TsrkeError {
    return new TsrkeError('ETCD', `etcd at ${endpoint.url.host} did not answer ${name}`, {
      node: options.node,
      cause: error,
    });
  }

  return {
    async range(request, signal): Promise<EtcdRange> {
      for (let limit = request.limit; ; limit = Math.floor(limit / 2)) {
        try {
          const asked = {
            key: request.from,
            range_end: request.end,
            limit: String(limit),
            revision: request.revision.toString(),
            ...(request.keysOnly === true ? { keys_only: true } : {}),
          };
          return rangeOf(await ask('Range', methods.range, asked, rangeDeadline, signal));
        } catch (error) {
          if (!tooLarge(error) || limit <= 1) throw error;
        }
      }
    },

    async compact(revision, signal) {
      const request = { revision: revision.toString(), physical: false };
      try {
        await ask('Compact', methods.compact, request, rangeDeadline, signal);
      } catch (error) {
        if (!isCompacted(error)) throw error;
      }
    },

    async size(signal) {
      const seen = await Promise.allSettled(
        endpoints.map((endpoint) => call(endpoint, 'Status', methods.status, {}, shortDeadline, signal)),
      );
      signal.throwIfAborted();
      const members = seen.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      if (members.length === 0) {
        const reasons = seen.flatMap((result) =>
          result.status === 'rejected' ? [result.reason as unknown] : [],
        );
        throw new TsrkeError('ETCD', 'no etcd member told its size', {
          node: options.node,
          cause: new AggregateError(reasons),
        });
      }
      const quotas = members.map((member) => Number(member.dbSizeQuota)).filter((quota) => quota > 0);
      return {
        used: Math.max(...members.map(usedBy)),
        quota: quotas.length === 0 ? undefined : Math.min(...quotas),
      };
    },

    close() {
      for (const endpoint of endpoints) endpoint.close();
    },
  };
}

/**
 * Whether an ETCD error says that the revision asked for is compacted (`etcdserver: mvcc: required revision has
 * been compacted`): what was begun at that revision must begin anew.
 */
export function isCompacted(error: unknown): boolean {
  return (
    error instanceof TsrkeError && error.code === 'ETCD' && messageOf(error).includes('has been compacted')
  );
}

/** Bytes in use (etcd ≥ 3.4); the file itself never shrinks, but etcd fills what compaction has freed in it. */
function usedBy(member: StatusResponse): number {
  const inUse = Number(member.dbSizeInUse);
  return inUse > 0 ? inUse : Number(member.dbSize);
}

function rangeOf(response: RangeResponse): EtcdRange {
  return {
    kvs: response.kvs.map(({ key, value, mod_revision }) => ({
      key,
      value,
      modRevision: BigInt(mod_revision),
    })),
    more: response.more,
    revision: BigInt(response.header?.revision ?? '0'),
    clusterId: response.header?.cluster_id ?? '',
  };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}

/** Another member may answer what this one could not; what etcd as a whole refuses, every member refuses. */
function movesOn(error: unknown): boolean {
  if (!isServiceError(error)) return true;
  return [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.INTERNAL, status.UNKNOWN].includes(error.code);
}

/** grpc-js's own limit, not etcd's `database space exceeded`, which bears the same code. */
function tooLarge(error: unknown): boolean {
  const cause = error instanceof TsrkeError ? error.cause : error;
  return (
    isServiceError(cause) && cause.code === status.RESOURCE_EXHAUSTED && cause.details.includes('larger than')
  );
}
