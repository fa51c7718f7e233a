/** Who belongs to the cluster's etcd, asked and changed through etcd itself. */
import type { MethodDefinition } from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, EtcdMember, EtcdMembership, NodeName, Report } from '../ports.ts';
import { Endpoint, type EndpointOptions } from './endpoint.ts';
import { Endpoints, isServiceError, shortDeadline } from './endpoints.ts';
import { etcdPackage, type Member } from './proto.ts';

export interface MembershipOptions extends Omit<EndpointOptions, 'node'> {
  /** Client URLs, such as `https://198.51.100.11:2379`, each with the node through which it is reached. */
  readonly endpoints: readonly { readonly url: string; readonly node: NodeName }[];
  readonly clock: Clock;
  readonly report?: Pick<Report, 'debug'>;
}

/** A change waits for other members' disks, and for a leader where there is none just now. */
const changeDeadline = 10_000;
/**
 * For so long etcd may refuse a change because a member has come back only just (`unhealthy cluster`: it wants to have
 * seen it for 5 s), and elect a leader anew after the former one has left (RKE's election timeout is 5 s).
 */
const patience = 30_000;
const pause = 1_000;

const cluster = etcdPackage['etcdserverpb.Cluster'] as ServiceDefinition;
const methods = {
  list: cluster['MemberList'] as MethodDefinition<
    { readonly linearizable: boolean },
    { readonly members: readonly Member[] }
  >,
  add: cluster['MemberAdd'] as MethodDefinition<
    { readonly peerURLs: readonly string[]; readonly isLearner: boolean },
    unknown
  >,
  promote: cluster['MemberPromote'] as MethodDefinition<{ readonly ID: string }, unknown>,
  remove: cluster['MemberRemove'] as MethodDefinition<{ readonly ID: string }, unknown>,
};

/** Membership by way of these endpoints (see Endpoints). A change may be asked for again: what is done is fine. */
export function createEtcdMembership(options: MembershipOptions): EtcdMembership {
  const [first] = options.endpoints;
  if (first === undefined) throw new TsrkeError('ETCD', 'the cluster has no etcd member to ask');
  const { clock, report } = options;
  const open = (url: string, node: NodeName) => new Endpoint(url, { ...options, node });
  const endpoints = new Endpoints(
    options.endpoints.map(({ url, node }) => open(url, node)),
    report,
  );
  /** Of members that were asked for their health, but are none of `endpoints`. */
  const others = new Map<string, Endpoint>();

  async function list(signal: AbortSignal): Promise<EtcdMember[]> {
    const asked = { linearizable: true };
    const { members } = await endpoints.ask('MemberList', methods.list, asked, shortDeadline, signal);
    return members.map(memberOf);
  }

  /** Again and again while etcd only has not settled yet. */
  async function patiently<T>(
    work: () => Promise<T>,
    settles: (error: unknown) => boolean,
    signal: AbortSignal,
  ): Promise<T> {
    for (const end = clock.now().getTime() + patience; ;) {
      try {
        return await work();
      } catch (error) {
        if (signal.aborted || !settles(error) || clock.now().getTime() >= end) throw error;
      }
      await clock.sleep(pause, signal);
    }
  }

  return {
    list,

    async addLearner(peerUrl, signal) {
      const add = async () => {
        // etcd refuses an address that it has, but only after it was found to be healthy.
        if ((await list(signal)).some((member) => member.peerUrls.includes(peerUrl))) return;
        const asked = { peerURLs: [peerUrl], isLearner: true };
        await endpoints.ask('MemberAdd', methods.add, asked, changeDeadline, signal);
      };
      try {
        await patiently(add, isUnsettled, signal);
      } catch (error) {
        // One whose answer was lost has done it.
        if (!says(error, 'Peer URLs already exists')) throw error;
      }
    },

    async promote(id, signal) {
      try {
        await endpoints.ask('MemberPromote', methods.promote, { ID: decimal(id) }, changeDeadline, signal);
        return true;
      } catch (error) {
        if (says(error, 'in sync with leader')) return false;
        if (says(error, 'can only promote a learner member')) return true;
        throw error;
      }
    },

    async remove(id, signal) {
      const remove = () =>
        endpoints.ask('MemberRemove', methods.remove, { ID: decimal(id) }, changeDeadline, signal);
      try {
        await patiently(remove, isUnsettled, signal);
      } catch (error) {
        if (!says(error, 'member not found')) throw error;
      }
      // It may have been the leader: the rest has to agree on another before anything else is done to it.
      await patiently(() => list(signal), isEtcd, signal);
    },

    async health(endpoint, signal) {
      const { href } = new URL(endpoint);
      let at = endpoints.all.find(({ url }) => url.href === href) ?? others.get(href);
      if (at === undefined) {
        at = open(endpoint, first.node);
        others.set(href, at);
      }
      try {
        await endpoints.askHealth(at, signal);
        return undefined;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        at.close();
        return isServiceError(error) ? error.details : messageOf(error);
      }
    },

    close() {
      endpoints.close();
      for (const each of others.values()) each.close();
    },
  };
}

/** The ids of those with a vote that answer a linearizable read. All are asked at once. */
export async function healthyMembers(
  etcd: Pick<EtcdMembership, 'health'>,
  members: readonly EtcdMember[],
  signal: AbortSignal,
): Promise<Set<string>> {
  const asked = members.map(async ({ id, learner, clientUrls: [url] }) => {
    if (learner || url === undefined) return [];
    return (await etcd.health(url, signal)) === undefined ? [id] : [];
  });
  return new Set((await Promise.all(asked)).flat());
}

function memberOf({ ID, name, peerURLs, clientURLs, isLearner }: Member): EtcdMember {
  return {
    id: BigInt(ID).toString(16),
    name,
    peerUrls: peerURLs,
    clientUrls: clientURLs,
    learner: isLearner,
  };
}

function decimal(id: string): string {
  return BigInt(`0x${id}`).toString();
}

function isEtcd(error: unknown): boolean {
  return error instanceof TsrkeError && error.code === 'ETCD';
}

/** etcd's words: its codes are shared by many errors, and a member that passes on to the leader keeps only the words. */
function says(error: unknown, words: string): boolean {
  return isEtcd(error) && messageOf(error).includes(words);
}

function isUnsettled(error: unknown): boolean {
  return says(error, 'unhealthy cluster') || says(error, 'no leader') || says(error, 'leader changed');
}
