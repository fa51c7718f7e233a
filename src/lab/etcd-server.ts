/** etcd's API (v3.5, as far as tsrke speaks it) of one member: gRPC over mTLS over streams. */
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:tls';
import {
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf, TsrkeError } from '../errors.ts';
import { etcdPackage, type RangeRequest } from '../etcd/proto.ts';
import type { EtcdKeyValue } from '../ports.ts';
import { StreamConnections, type Connections } from './connections.ts';
import type { ServerCertificate } from './kube-server.ts';
import { bridge } from './http-bridge.ts';
import type { EtcdView, LabSurface } from './surface.ts';

type Answer = sendUnaryData<unknown>;

/** The end of the range that is one key: the key itself and every longer one comes after it. */
const justAfter = (key: Buffer): Buffer => Buffer.concat([key, Buffer.from([0])]);

/** What one member serves: its cluster's key space, and, where there is one, its view of the members. */
export interface ServedEtcd {
  readonly etcd: LabSurface['etcd'];
  /** Asked at each call. */
  readonly view: () => EtcdView | undefined;
  /** Its answer to /health. */
  readonly isWell: () => boolean;
}

/** gRPC and /health at one port, as etcd has them. */
export function etcdServer(
  certificate: ServerCertificate,
  { etcd: all, view, isWell }: ServedEtcd,
): Connections {
  const server = new Server({ 'grpc.max_send_message_length': -1 });
  const checked = () => {
    const trouble = view()?.trouble;
    if (trouble !== undefined) throw new TsrkeError('ETCD', trouble);
    return all;
  };
  const etcd: LabSurface['etcd'] = {
    range: async (...asked) => await checked().range(...asked),
    compact: async (...asked) => await checked().compact(...asked),
    size: (signal) => all.size(signal),
  };
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

  server.addService(etcdPackage['etcdserverpb.Cluster'] as ServiceDefinition, membership(view));

  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const http = createServer(
    bridge(() => {
      const well = isWell();
      const body = well ? { health: 'true', reason: '' } : { health: 'false', reason: 'RAFT NO LEADER' };
      const headers = { 'content-type': 'application/json' };
      return Promise.resolve({ status: well ? 200 : 503, headers, body: Buffer.from(JSON.stringify(body)) });
    }),
  );
  const tls = createTlsServer(
    { ...certificate, requestCert: true, rejectUnauthorized: true, ALPNProtocols: ['h2', 'http/1.1'] },
    (socket) => {
      socket.on('error', () => undefined);
      if (socket.alpnProtocol === 'h2') injector.injectConnection(socket);
      else http.emit('connection', socket);
    },
  );
  tls.on('tlsClientError', () => undefined);
  return new StreamConnections((stream) => {
    tls.emit('connection', stream);
  });
}

/** Members' numbers are unsigned decimals on the wire. */
function membership(view: ServedEtcd['view']): UntypedServiceImplementation {
  const decimal = (id: string) => BigInt(`0x${id}`).toString();
  const hex = (id: string) => BigInt(id).toString(16).padStart(16, '0');
  const answer = (callback: Answer, change: (view: EtcdView) => Promise<unknown>) => {
    (async () => {
      const seen = view();
      if (seen === undefined) throw new TsrkeError('ETCD', 'etcdserver: server stopped');
      await change(seen);
      const members = (await seen.list()).map(({ id, name, peerUrls, clientUrls, learner }) => ({
        ...{ ID: decimal(id), name, peerURLs: peerUrls, clientURLs: clientUrls, isLearner: learner },
      }));
      return { members };
    })().then(
      (value) => callback(null, value),
      (error: unknown) => callback(grpcError(error)),
    );
  };
  return {
    MemberList: (_: unknown, callback: Answer) => answer(callback, () => Promise.resolve()),
    MemberAdd: ({ request }: ServerUnaryCall<{ peerURLs: string[] }, unknown>, callback: Answer) =>
      answer(callback, (seen) => seen.addLearner(request.peerURLs[0] ?? '')),
    MemberPromote: ({ request }: ServerUnaryCall<{ ID: string }, unknown>, callback: Answer) =>
      answer(callback, (seen) => seen.promote(hex(request.ID))),
    MemberRemove: ({ request }: ServerUnaryCall<{ ID: string }, unknown>, callback: Answer) =>
      answer(callback, (seen) => seen.remove(hex(request.ID))),
  };
}

function headerOf({ clusterId, revision }: { clusterId: string; revision: bigint }) {
  return { cluster_id: clusterId, member_id: '1', revision: String(revision) };
}

function message({ key, value, modRevision }: EtcdKeyValue) {
  return { key, value, mod_revision: String(modRevision) };
}

/** The model's words are etcd's own, and so are the codes that go with them. */
function grpcError(error: unknown): { code: status; details: string } {
  const details = error instanceof TsrkeError ? messageOf(error.cause ?? error) : messageOf(error);
  return { code: codes.find(([words]) => words.test(details))?.[1] ?? status.UNAVAILABLE, details };
}

const codes: readonly (readonly [RegExp, status])[] = [
  [/required revision/, status.OUT_OF_RANGE],
  [/member not found/, status.NOT_FOUND],
  [/Peer URLs already|learner member|not enough started/, status.FAILED_PRECONDITION],
];
