/** The lab's etcd behind the cluster's back: what lies there, and changes that no kube-apiserver knows of. */
import {
  credentials,
  loadPackageDefinition,
  type ServiceError,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

export interface LabEtcd {
  /** etcd key → the provider's prefix of its value (`k8s:enc:aescbc:v1:NAME:`), '' for a value in the clear. */
  prefixes(path?: string): Promise<Map<string, string>>;
  get(key: string): Promise<Buffer | undefined>;
  put(key: string, value: Buffer | string): Promise<void>;
  del(key: string): Promise<void>;
  close(): void;
}

interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
}

interface RangeResponse {
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
}

const field = (type: string, id: number) => ({ type, id });
const definition = fromJSON(
  {
    nested: {
      etcdserverpb: {
        nested: {
          KeyValue: { fields: { key: field('bytes', 1), value: field('bytes', 5) } },
          RangeRequest: {
            fields: { key: field('bytes', 1), range_end: field('bytes', 2), limit: field('int64', 3) },
          },
          RangeResponse: {
            fields: { kvs: { rule: 'repeated', type: 'KeyValue', id: 2 }, more: field('bool', 3) },
          },
          PutRequest: { fields: { key: field('bytes', 1), value: field('bytes', 2) } },
          PutResponse: { fields: {} },
          DeleteRangeRequest: { fields: { key: field('bytes', 1) } },
          DeleteRangeResponse: { fields: {} },
          KV: {
            methods: {
              Range: { requestType: 'RangeRequest', responseType: 'RangeResponse' },
              Put: { requestType: 'PutRequest', responseType: 'PutResponse' },
              DeleteRange: { requestType: 'DeleteRangeRequest', responseType: 'DeleteRangeResponse' },
            },
          },
        },
      },
    },
  } as Parameters<typeof fromJSON>[0],
  { keepCase: true, longs: String, defaults: true },
);

type Method = (
  request: object,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => unknown;

/** `endpoints` as in `198.51.100.11:2379`. */
export function openEtcd(
  endpoints: readonly string[],
  tls: { readonly ca: string; readonly cert: string; readonly key: string },
): LabEtcd {
  const service = (
    loadPackageDefinition(definition) as unknown as { etcdserverpb: { KV: ServiceClientConstructor } }
  ).etcdserverpb.KV;
  const secure = credentials.createSsl(Buffer.from(tls.ca), Buffer.from(tls.key), Buffer.from(tls.cert));
  const members = endpoints.map(
    (endpoint) =>
      new service(endpoint, secure, {
        'grpc.ssl_target_name_override': 'localhost',
        'grpc.max_receive_message_length': 256 << 20,
        'grpc.max_send_message_length': 256 << 20,
        // A member that was away must be found again soon.
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 500,
      }),
  );

  /** The first member that answers: one may be unplugged or without quorum. */
  async function call(name: 'Range' | 'Put' | 'DeleteRange', request: object): Promise<unknown> {
    let last: unknown;
    for (const member of [...members, ...members]) {
      try {
        return await new Promise((resolve, reject) => {
          const method = (member as unknown as Record<string, Method>)[name];
          method?.call(member, request, { deadline: Date.now() + 20_000 }, (error, response) => {
            if (error === null) resolve(response);
            else reject(error);
          });
        });
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }

  return {
    async prefixes(path = '/registry/secrets/') {
      const found = new Map<string, string>();
      const end = Buffer.from(path);
      end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
      let from = Buffer.from(path);
      while (true) {
        const { kvs, more } = (await call('Range', {
          key: from,
          range_end: end,
          limit: 1000,
        })) as RangeResponse;
        for (const { key, value } of kvs) {
          const head = value.subarray(0, 300).toString('latin1');
          found.set(key.toString(), /^k8s:enc:[^:]+:v\d+:[^:]*:/.exec(head)?.[0] ?? '');
        }
        const last = kvs.at(-1);
        if (!more || last === undefined) return found;
        from = Buffer.concat([last.key, Buffer.from([0])]);
      }
    },
    async get(key) {
      const { kvs } = (await call('Range', { key: Buffer.from(key) })) as RangeResponse;
      return kvs[0]?.value;
    },
    async put(key, value) {
      await call('Put', { key: Buffer.from(key), value: Buffer.from(value as string) });
    },
    async del(key) {
      await call('DeleteRange', { key: Buffer.from(key) });
    },
    close() {
      for (const member of members) member.close();
    },
  };
}

/** What Secrets lie under: each provider's prefix once, '' for the clear, in order. */
export async function storedPrefixes(etcd: Pick<LabEtcd, 'prefixes'>): Promise<string[]> {
  return [...new Set((await etcd.prefixes()).values())].toSorted();
}
