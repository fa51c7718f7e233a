/** etcd's API (v3.5, as far as tsrke speaks it) of one member: gRPC over mTLS over streams. */
import { Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf } from '../errors.ts';
import { etcdPackage, type RangeRequest } from '../etcd/proto.ts';
import type { EtcdKeyValue } from '../ports.ts';
import { StreamConnections, type Connections } from './connections.ts';
import type { ServerCertificate } from './kube-server.ts';
import type { LabSurface } from './surface.ts';

type Answer = sendUnaryData<unknown>;

/** The end of the range that is one key: the key itself and every longer one comes after it. */
const justAfter = (key: Buffer): Buffer => Buffer.concat([key, Buffer.from([0])]);

export function etcdServer(certificate: ServerCertificate, etcd: LabSurface['etcd']): Connections {
  const server = new Server({ 'grpc.max_send_message_length': -1 });
  const never = new AbortController().signal;
  /** Status and Compact do not say at what revision they answer; a range over nothing does. */
  const header = async () => {
    const range = { from: Buffer.from([0]), end: Buffer.from([1]), limit: 1, revision: 0n };
    return headerOf(await etcd.range(range, never));
  };
  const answering = (answer: Answer, work: Promise<object>) => {
    work.then(
      (value) => answer(null, value),
      (error: unknown) => answer(grpcError(error)),
    );
  };

  server.addService(etcdPackage['etcdserverpb.KV'] as ServiceDefinition, {
    Range({ request }: ServerUnaryCall<RangeRequest, unknown>, answer: Answer) {
      answering(
        answer,
        (async () => {
          const end = request.range_end.length === 0 ? justAfter(request.key) : request.range_end;
          const limit = Number(request.limit) === 0 ? Number.MAX_SAFE_INTEGER : Number(request.limit);
          const range = await etcd.range(
            { from: request.key, end, limit, revision: BigInt(request.revision) },
            never,
          );
          return { header: headerOf(range), kvs: range.kvs.map(message), more: range.more };
        })(),
      );
    },
    Compact({ request }: ServerUnaryCall<{ revision: string }, unknown>, answer: Answer) {
      answering(
        answer,
        (async () => {
          await etcd.compact(BigInt(request.revision), never);
          return { header: await header() };
        })(),
      );
    },
  });
  server.addService(etcdPackage['etcdserverpb.Maintenance'] as ServiceDefinition, {
    Status(_: unknown, answer: Answer) {
      answering(
        answer,
        (async () => {
          const { used, quota } = await etcd.size(never);
          return {
            header: await header(),
            version: '3.5.12',
            dbSize: String(used),
            dbSizeInUse: String(used),
            dbSizeQuota: String(quota ?? 0),
          };
        })(),
      );
    },
  });

  const pair = { cert_chain: Buffer.from(certificate.cert), private_key: Buffer.from(certificate.key) };
  const injector = server.createConnectionInjector(
    ServerCredentials.createSsl(Buffer.from(certificate.ca), [pair], true),
  );
  return new StreamConnections((stream) => {
    injector.injectConnection(stream);
  });
}

function headerOf({ clusterId, revision }: { clusterId: string; revision: bigint }) {
  return { cluster_id: clusterId, member_id: '1', revision: String(revision) };
}

function message({ key, value, modRevision }: EtcdKeyValue) {
  return { key, value, mod_revision: String(modRevision) };
}

/** The model's words are etcd's own; a compacted or future revision has a code of its own there. */
function grpcError(error: unknown): { code: status; details: string } {
  const details = messageOf(error);
  return { code: /required revision/.test(details) ? status.OUT_OF_RANGE : status.UNAVAILABLE, details };
}
