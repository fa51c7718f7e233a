/** The cluster's etcd, spoken to as kube-apiserver does: its endpoints, its client certificate. */
import { status, type MethodDefinition } from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Etcd, EtcdRange, Report } from '../ports.ts';
import { Endpoint, type EndpointOptions } from './endpoint.ts';
import { Endpoints, isServiceError, rangeMethod, shortDeadline } from './endpoints.ts';
import { etcdPackage, type RangeResponse, type ResponseHeader, type StatusResponse } from './proto.ts';

export interface EtcdOptions extends EndpointOptions {
  /** URLs as in kube-apiserver's --etcd-servers, in its order: tried in turn until one answers. */
  readonly endpoints: readonly string[];
  readonly report?: Pick<Report, 'debug'>;
}

const rangeDeadline = 60_000;

const kv = etcdPackage['etcdserverpb.KV'] as ServiceDefinition;
const maintenance = etcdPackage['etcdserverpb.Maintenance'] as ServiceDefinition;
const methods = {
  compact: kv['Compact'] as MethodDefinition<
    { readonly revision: string; readonly physical: boolean },
    { readonly header: ResponseHeader | null }
  >,
  status: maintenance['Status'] as MethodDefinition<Record<string, never>, StatusResponse>,
};

/**
 * An Etcd over these endpoints (see Endpoints). A page that is larger than 32 MiB is halved: the answer then holds
 * fewer keys than asked for, with `more` set.
 */
export function createEtcd(options: EtcdOptions): Etcd {
  if (options.endpoints.length === 0) throw new TsrkeError('ETCD', 'kube-apiserver names no etcd server');
  const endpoints = new Endpoints(
    options.endpoints.map((url) => new Endpoint(url, options)),
    options.report,
  );

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
          return rangeOf(await endpoints.ask('Range', rangeMethod, asked, rangeDeadline, signal));
        } catch (error) {
          if (!tooLarge(error) || limit <= 1) throw error;
        }
      }
    },

    async compact(revision, signal) {
      const request = { revision: revision.toString(), physical: false };
      try {
        await endpoints.ask('Compact', methods.compact, request, rangeDeadline, signal);
      } catch (error) {
        if (!isCompacted(error)) throw error;
      }
    },

    async size(signal) {
      const seen = await Promise.allSettled(
        endpoints.all.map((endpoint) =>
          endpoints.call(endpoint, 'Status', methods.status, {}, shortDeadline, signal),
        ),
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
      endpoints.close();
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

/** grpc-js's own limit, not etcd's `database space exceeded`, which bears the same code. */
function tooLarge(error: unknown): boolean {
  const cause = error instanceof TsrkeError ? error.cause : error;
  return (
    isServiceError(cause) && cause.code === status.RESOURCE_EXHAUSTED && cause.details.includes('larger than')
  );
}
