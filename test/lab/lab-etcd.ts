/** The lab's etcd behind the cluster's back: what lies there, and changes that no kube-apiserver knows of. */
import {
  credentials,
  type ClientDuplexStream,
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

/** Every value that was put below a path since etcd began, also those that are gone by now. */
export interface EtcdHistory {
  /** In etcd's order; `prefix` as of LabEtcd. */
  readonly puts: readonly { readonly key: string; readonly prefix: string }[];
  /** Whether something was compacted before it was seen. */
  readonly hasGap: boolean;
  stop(): void;
}

interface WatchResponse {
  readonly canceled: boolean;
  readonly compact_revision: string;
  /** `type` 0: a put. */
  readonly events: readonly { type: number; kv: KeyValue & { mod_revision: string } }[];
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
          KeyValue: {
            fields: { key: field('bytes', 1), mod_revision: field('int64', 3), value: field('bytes', 5) },
          },
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
          Event: { fields: { type: field('int32', 1), kv: field('KeyValue', 2) } },
          WatchCreateRequest: {
            fields: {
              key: field('bytes', 1),
              range_end: field('bytes', 2),
              start_revision: field('int64', 3),
            },
          },
          WatchRequest: { fields: { create_request: field('WatchCreateRequest', 1) } },
          WatchResponse: {
            fields: {
              canceled: field('bool', 4),
              compact_revision: field('int64', 5),
              events: { rule: 'repeated', type: 'Event', id: 11 },
            },
          },
          Watch: {
            methods: {
              Watch: {
                ...{ requestType: 'WatchRequest', requestStream: true },
                ...{ responseType: 'WatchResponse', responseStream: true },
              },
            },
          },
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
const { KV, Watch } = (
  loadPackageDefinition(definition) as unknown as {
    etcdserverpb: Record<'KV' | 'Watch', ServiceClientConstructor>;
  }
).etcdserverpb;

/** TLS of a client: PEM texts. */
interface Tls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const secureFor = ({ ca, cert, key }: Tls) =>
  credentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert));

/** A member that was away must be found again soon. */
const channel = {
  'grpc.ssl_target_name_override': 'localhost',
  'grpc.max_receive_message_length': 256 << 20,
  'grpc.max_send_message_length': 256 << 20,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 500,
};

function prefixOf(value: Buffer): string {
  return /^k8s:enc:[^:]+:v\d+:[^:]*:/.exec(value.subarray(0, 300).toString('latin1'))?.[0] ?? '';
}

function endOf(path: string): Buffer {
  const end = Buffer.from(path);
  end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
  return end;
}

/** Follows one member from revision 1 on. `tls` is asked for until it has an answer: there may be no cluster yet. */
export function followEtcd(endpoint: string, path: string, tls: () => Tls): EtcdHistory {
  const puts: { key: string; prefix: string }[] = [];
  let from = 1n;
  let hasGap = false;
  let isOver = false;
  let end = () => undefined;
  let timer: NodeJS.Timeout | undefined;

  function follow(): void {
    let client: InstanceType<ServiceClientConstructor>;
    try {
      client = new Watch(endpoint, secureFor(tls()), channel);
    } catch {
      timer = setTimeout(follow, 50);
      return;
    }
    const method = client['Watch'] as unknown as () => ClientDuplexStream<object, WatchResponse>;
    const stream = method.call(client);
    end = () => {
      stream.cancel();
      client.close();
      return undefined;
    };
    stream.on('data', ({ events, compact_revision: compacted }: WatchResponse) => {
      if (compacted !== '0') {
        hasGap = true;
        from = BigInt(compacted);
      }
      for (const { type, kv } of events) {
        from = BigInt(kv.mod_revision) + 1n;
        if (type === 0) puts.push({ key: kv.key.toString(), prefix: prefixOf(kv.value) });
      }
    });
    // Whatever ends it is told as an error, and always as a status.
    stream
      .on('error', () => undefined)
      .on('status', () => {
        client.close();
        if (!isOver) timer = setTimeout(follow, 50);
      });
    const created = { key: Buffer.from(path), range_end: endOf(path), start_revision: String(from) };
    stream.write({ create_request: created });
  }
  follow();
  return {
    puts,
    get hasGap() {
      return hasGap;
    },
    stop() {
      isOver = true;
      clearTimeout(timer);
      end();
    },
  };
}

type Method = (
  request: object,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: unknown) => void,
) => unknown;

/** `endpoints` as in `198.51.100.11:2379`. */
export function openEtcd(endpoints: readonly string[], tls: Tls): LabEtcd {
  const secure = secureFor(tls);
  const members = endpoints.map((endpoint) => new KV(endpoint, secure, channel));

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
      const end = endOf(path);
      let from = Buffer.from(path);
      while (true) {
        const { kvs, more } = (await call('Range', {
          key: from,
          range_end: end,
          limit: 1000,
        })) as RangeResponse;
        for (const { key, value } of kvs) {
          found.set(key.toString(), prefixOf(value));
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
