/** An etcd member in process: keys and values at one revision, real gRPC, TLS with client certificates. */
import {
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerUnaryCall,
  type StatusObject,
} from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { etcdPackage, type Member, type RangeRequest } from '../../src/etcd/proto.ts';
import { certificate, kubeCa } from '../kube/certificates.ts';

export interface FakeEtcd {
  readonly port: number;
  readonly values: Map<string, Buffer>;
  readonly ranges: RangeRequest[];
  /** Revisions before this one are compacted. */
  compacted: bigint;
  revision: bigint;
  /** Answers nothing but Status, as a member without quorum does. */
  withoutQuorum: boolean;
  status: { dbSize?: string; dbSizeInUse?: string; dbSizeQuota?: string };
  /** Of the whole cluster: several in process may share them. */
  members: Member[];
  /** Learners have caught up with the leader. */
  isInSync: boolean;
  /** What changes of membership are refused with, one after the other. */
  refusals: Refusal[];
  /** Changes of membership as asked for, e.g. `add https://…`. */
  readonly changes: string[];
  /** Called once the next change of membership is done; a refusal takes the place of its answer. */
  afterChange: () => Refusal | undefined;
  onRange: (request: RangeRequest) => void;
  close(): void;
}

type Call<Request> = ServerUnaryCall<Request, unknown>;
type Refusal = Pick<StatusObject, 'code' | 'details'>;

const noRefusal = (): Refusal | undefined => undefined;

export async function startEtcd(tls = true): Promise<FakeEtcd> {
  const server = new Server({ 'grpc.max_send_message_length': -1 });
  const fake = {
    port: 0,
    values: new Map<string, Buffer>(),
    ranges: [] as RangeRequest[],
    compacted: 0n,
    revision: 100n,
    withoutQuorum: false,
    status: {},
    members: [] as Member[],
    isInSync: true,
    refusals: [] as Refusal[],
    changes: [] as string[],
    afterChange: noRefusal,
    onRange: () => undefined,
    close: () => {
      server.forceShutdown();
    },
  } as FakeEtcd & { port: number };
  const header = () => ({
    cluster_id: '14841639068965178418',
    member_id: '1',
    revision: String(fake.revision),
  });

  server.addService(etcdPackage['etcdserverpb.KV'] as ServiceDefinition, {
    Range({ request }: ServerUnaryCall<RangeRequest, unknown>, answer: sendUnaryData<unknown>) {
      fake.ranges.push(request);
      fake.onRange(request);
      if (fake.withoutQuorum) {
        answer({ code: status.UNAVAILABLE, details: 'etcdserver: no leader' });
        return;
      }
      const revision = BigInt(request.revision);
      if (revision !== 0n && revision < fake.compacted) {
        const details = 'etcdserver: mvcc: required revision has been compacted';
        answer({ code: status.OUT_OF_RANGE, details });
        return;
      }
      const from = request.key.toString('latin1');
      const end = request.range_end.toString('latin1');
      const keys = [...fake.values.keys()]
        .filter((key) => (end === '' ? key === from : key >= from && key < end))
        .sort();
      const page = keys.slice(0, Number(request.limit));
      answer(null, {
        header: header(),
        kvs: page.map((key) => ({ key: Buffer.from(key), value: fake.values.get(key), mod_revision: '7' })),
        more: keys.length > page.length,
        count: String(keys.length),
      });
    },
    Compact({ request }: ServerUnaryCall<{ revision: string }, unknown>, answer: sendUnaryData<unknown>) {
      const revision = BigInt(request.revision);
      if (revision <= fake.compacted) {
        const details = 'etcdserver: mvcc: required revision has been compacted';
        answer({ code: status.OUT_OF_RANGE, details });
      } else if (revision > fake.revision) {
        const details = 'etcdserver: mvcc: required revision is a future revision';
        answer({ code: status.OUT_OF_RANGE, details });
      } else {
        fake.compacted = revision;
        answer(null, { header: header() });
      }
    },
  });
  /** As etcd refuses them (3.5): members are told apart by peer URL, one learner at most. */
  const change = (asked: string, answer: sendUnaryData<unknown>, work: () => Refusal | undefined) => {
    fake.changes.push(asked);
    const refusal = fake.refusals.shift() ?? work();
    const { afterChange } = fake;
    fake.afterChange = noRefusal;
    answer(refusal ?? afterChange() ?? null, { header: header() });
  };
  const precondition = (details: string) => ({ code: status.FAILED_PRECONDITION, details });
  const notFound = { code: status.NOT_FOUND, details: 'etcdserver: member not found' };
  server.addService(etcdPackage['etcdserverpb.Cluster'] as ServiceDefinition, {
    MemberList(_: unknown, answer: sendUnaryData<unknown>) {
      if (fake.withoutQuorum) answer({ code: status.UNAVAILABLE, details: 'etcdserver: no leader' });
      else answer(null, { header: header(), members: fake.members });
    },
    MemberAdd({ request }: Call<Pick<Member, 'peerURLs' | 'isLearner'>>, answer: sendUnaryData<unknown>) {
      const { peerURLs, isLearner } = request;
      change(`add ${isLearner ? 'learner ' : ''}${peerURLs.join()}`, answer, () => {
        if (fake.members.some((member) => member.peerURLs.some((url) => peerURLs.includes(url))))
          return precondition('etcdserver: Peer URLs already exists');
        if (isLearner && fake.members.some((member) => member.isLearner))
          return precondition('etcdserver: too many learner members in cluster');
        const ID = String(10_000_000_000_000_000_000n + BigInt(fake.members.length));
        fake.members.push({ ID, name: '', peerURLs, clientURLs: [], isLearner });
        return undefined;
      });
    },
    MemberPromote({ request }: Call<Pick<Member, 'ID'>>, answer: sendUnaryData<unknown>) {
      change(`promote ${request.ID}`, answer, () => {
        const at = fake.members.findIndex(({ ID }) => ID === request.ID);
        const member = fake.members[at];
        if (member === undefined) return notFound;
        if (!member.isLearner) return precondition('etcdserver: can only promote a learner member');
        if (!fake.isInSync)
          return precondition('etcdserver: can only promote a learner member which is in sync with leader');
        fake.members[at] = { ...member, isLearner: false };
        return undefined;
      });
    },
    MemberRemove({ request }: Call<Pick<Member, 'ID'>>, answer: sendUnaryData<unknown>) {
      change(`remove ${request.ID}`, answer, () => {
        const at = fake.members.findIndex(({ ID }) => ID === request.ID);
        if (at === -1) return notFound;
        fake.members.splice(at, 1);
        return undefined;
      });
    },
  });
  server.addService(etcdPackage['etcdserverpb.Maintenance'] as ServiceDefinition, {
    Status(_: unknown, answer: sendUnaryData<unknown>) {
      answer(null, { header: header(), version: '3.5.12', ...fake.status });
    },
  });
  const { cert, key } = certificate('kube-etcd-198-51-100-11');
  const pair = { cert_chain: Buffer.from(cert), private_key: Buffer.from(key) };
  const credentials = tls
    ? ServerCredentials.createSsl(Buffer.from(kubeCa), [pair], true)
    : ServerCredentials.createInsecure();
  fake.port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
  return fake;
}
