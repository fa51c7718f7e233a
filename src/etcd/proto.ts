/**
 * The part of etcd's API (v3.4 to v3.6) that tsrke speaks, as protobufjs reads it. A module rather than a
 * .proto file, because tsc copies none. Fields left out are skipped by the parser.
 */
import { fromJSON, type Options } from '@grpc/proto-loader';

const field = (type: string, id: number) => ({ type, id });

const messages = {
  ResponseHeader: {
    fields: { cluster_id: field('uint64', 1), member_id: field('uint64', 2), revision: field('int64', 3) },
  },
  KeyValue: {
    fields: { key: field('bytes', 1), mod_revision: field('int64', 3), value: field('bytes', 5) },
  },
  RangeRequest: {
    fields: {
      key: field('bytes', 1),
      range_end: field('bytes', 2),
      limit: field('int64', 3),
      revision: field('int64', 4),
      serializable: field('bool', 7),
      keys_only: field('bool', 8),
    },
  },
  RangeResponse: {
    fields: {
      header: field('ResponseHeader', 1),
      kvs: { rule: 'repeated', type: 'KeyValue', id: 2 },
      more: field('bool', 3),
      count: field('int64', 4),
    },
  },
  CompactionRequest: { fields: { revision: field('int64', 1), physical: field('bool', 2) } },
  CompactionResponse: { fields: { header: field('ResponseHeader', 1) } },
  Member: {
    fields: {
      ID: field('uint64', 1),
      name: field('string', 2),
      peerURLs: { rule: 'repeated', type: 'string', id: 3 },
      clientURLs: { rule: 'repeated', type: 'string', id: 4 },
      isLearner: field('bool', 5),
    },
  },
  // From etcd 3.5; before, a member answers with what it knows by itself.
  MemberListRequest: { fields: { linearizable: field('bool', 1) } },
  MemberListResponse: {
    fields: { header: field('ResponseHeader', 1), members: { rule: 'repeated', type: 'Member', id: 2 } },
  },
  MemberAddRequest: {
    fields: { peerURLs: { rule: 'repeated', type: 'string', id: 1 }, isLearner: field('bool', 2) },
  },
  MemberAddResponse: { fields: { header: field('ResponseHeader', 1) } },
  MemberPromoteRequest: { fields: { ID: field('uint64', 1) } },
  MemberPromoteResponse: { fields: { header: field('ResponseHeader', 1) } },
  MemberRemoveRequest: { fields: { ID: field('uint64', 1) } },
  MemberRemoveResponse: { fields: { header: field('ResponseHeader', 1) } },
  StatusRequest: { fields: {} },
  StatusResponse: {
    fields: {
      header: field('ResponseHeader', 1),
      version: field('string', 2),
      dbSize: field('int64', 3),
      leader: field('uint64', 4),
      errors: { rule: 'repeated', type: 'string', id: 8 },
      dbSizeInUse: field('int64', 9),
      isLearner: field('bool', 10),
      // From etcd 3.6; 0 before.
      dbSizeQuota: field('int64', 12),
    },
  },
};

const services = {
  KV: {
    methods: {
      Range: { requestType: 'RangeRequest', responseType: 'RangeResponse' },
      Compact: { requestType: 'CompactionRequest', responseType: 'CompactionResponse' },
    },
  },
  Cluster: {
    methods: Object.fromEntries(
      ['List', 'Add', 'Promote', 'Remove'].map((verb) => [
        `Member${verb}`,
        { requestType: `Member${verb}Request`, responseType: `Member${verb}Response` },
      ]),
    ),
  },
  Maintenance: { methods: { Status: { requestType: 'StatusRequest', responseType: 'StatusResponse' } } },
};

/**
 * Without keepCase the loader would want `rangeEnd` and drop `range_end` without a word, and every range would
 * be one key.
 */
const options: Options = { keepCase: true, longs: String, defaults: true };

const root: unknown = { nested: { etcdserverpb: { nested: { ...messages, ...services } } } };

export const etcdPackage = fromJSON(root as Parameters<typeof fromJSON>[0], options);

export interface ResponseHeader {
  readonly cluster_id: string;
  readonly member_id: string;
  readonly revision: string;
}

export interface RangeRequest {
  readonly key: Buffer;
  readonly range_end: Buffer;
  readonly limit: string;
  readonly revision: string;
  readonly keys_only?: boolean;
}

export interface RangeResponse {
  readonly header: ResponseHeader | null;
  readonly kvs: readonly { readonly key: Buffer; readonly value: Buffer; readonly mod_revision: string }[];
  readonly more: boolean;
}

/** An id is decimal here. */
export interface Member {
  readonly ID: string;
  readonly name: string;
  readonly peerURLs: readonly string[];
  readonly clientURLs: readonly string[];
  readonly isLearner: boolean;
}

export interface StatusResponse {
  readonly header: ResponseHeader | null;
  readonly version: string;
  readonly dbSize: string;
  readonly leader: string;
  readonly errors: readonly string[];
  readonly dbSizeInUse: string;
  readonly isLearner: boolean;
  readonly dbSizeQuota: string;
}
