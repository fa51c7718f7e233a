/** A node joins etcd, or leaves it: by the rules of membership-change.ts, asked anew after each change. */
import {
  etcdNodeOf,
  mayRestart,
  nextMembershipChange,
  type MembershipChange,
  type MembershipView,
} from '../etcd/membership-change.ts';
import { TsrkeError } from '../errors.ts';
import type { RkeNode } from '../config/rke-config.ts';
import type { Clock, EtcdMembership, NodeName, TaskReport } from '../ports.ts';
import { nameOf } from './sight.ts';

export interface EtcdWorld {
  readonly membership: EtcdMembership;
  readonly clock: Clock;
  /** As etcd shows it now. */
  view(signal: AbortSignal): Promise<MembershipView>;
}

export interface Joining {
  readonly node: RkeNode;
  /** There is a container of etcd on the node. */
  readonly isThere: boolean;
  /** Nothing is in etcd's data folder. */
  readonly isBlank: boolean;
  /** Makes its container and starts it; it need not be well yet. `initialCluster`: it joins a cluster of these members. */
  start(initialCluster?: readonly string[]): Promise<void>;
  readonly task: TaskReport;
}

/** Milliseconds in which a learner must have caught up, or others must have become well. */
const patience = 180_000;
const pause = 500;

/** Resolves once the node's member has a vote. Throws ETCD. */
export async function join(joining: Joining, etcd: EtcdWorld, signal: AbortSignal): Promise<void> {
  const { node, task } = joining;
  let { isThere, isBlank } = joining;
  const name = nameOf(node);
  const { peerUrl } = etcdNodeOf(node);
  const end = etcd.clock.now().getTime() + patience;
  for (;;) {
    const view = await etcd.view(signal);
    const member = view.members.find(({ peerUrls }) => peerUrls.includes(peerUrl));
    const isMember = member !== undefined && member.name !== '' && !(isBlank && !isThere);
    if (isMember && !isThere) {
      // Its data are there, and it goes on with them.
      await joining.start();
      isThere = true;
      continue;
    }
    const blank = isBlank && !isThere ? new Set([name]) : new Set<NodeName>();
    const change = nextMembershipChange({ ...view, blank });
    if (change === undefined || !isOf(change, name, peerUrl, view)) return;
    switch (change.kind) {
      case 'remove':
        task.progress('its former member leaves etcd: its data are gone');
        await etcd.membership.remove(change.id, signal);
        break;
      case 'add-learner':
        if (!isBlank || isThere) throw notBlank(name);
        task.progress('etcd takes it as a learner');
        await etcd.membership.addLearner(change.peerUrl, signal);
        break;
      case 'start':
        if (isThere) {
          // Started before, and not yet known to the others.
          await etcd.clock.sleep(pause, signal);
          break;
        }
        task.progress('starting etcd');
        await joining.start(change.initialCluster);
        isThere = true;
        isBlank = false;
        break;
      case 'promote':
        task.progress('waiting until it has caught up');
        if (!(await etcd.membership.promote(change.id, signal))) await etcd.clock.sleep(pause, signal);
        break;
    }
    if (etcd.clock.now().getTime() > end) throw late(name, change);
  }
}

function isOf(
  change: MembershipChange,
  name: NodeName,
  peerUrl: string,
  { members }: MembershipView,
): boolean {
  if (change.kind !== 'remove') return change.node === name;
  return members.find(({ id }) => id === change.id)?.peerUrls.includes(peerUrl) === true;
}

/** The member of this address leaves; none there is fine. Throws ETCD where the others could not go on without it. */
export async function expel(peerUrl: string, etcd: EtcdWorld, signal: AbortSignal): Promise<void> {
  const view = await etcd.view(signal);
  const member = view.members.find(({ peerUrls }) => peerUrls.includes(peerUrl));
  if (member === undefined) return;
  const change = nextMembershipChange(view);
  if (change?.kind === 'remove' && change.id === member.id) {
    await etcd.membership.remove(member.id, signal);
    return;
  }
  throw new TsrkeError('ETCD', `${member.name} cannot leave etcd before other members have joined or left`, {
    next: 'run the same command again; it looks at what is there and goes on from it',
  });
}

/** Waits until the node's etcd can be stopped without costing the quorum. Throws ETCD. */
export async function expectSpare(
  node: RkeNode,
  etcd: EtcdWorld,
  task: TaskReport,
  signal: AbortSignal,
): Promise<void> {
  const { peerUrl } = etcdNodeOf(node);
  const end = etcd.clock.now().getTime() + patience;
  for (;;) {
    const view = await etcd.view(signal);
    const member = view.members.find(({ peerUrls }) => peerUrls.includes(peerUrl));
    if (member === undefined || mayRestart(member.id, view)) return;
    if (etcd.clock.now().getTime() > end) break;
    task.progress('waiting until other members of etcd are well');
    await etcd.clock.sleep(pause, signal);
  }
  throw new TsrkeError(
    'ETCD',
    'its etcd cannot be stopped now: others do not answer, and it would cost the quorum',
    {
      node: nameOf(node),
      next: 'bring the other members back, then run the same command again',
    },
  );
}

function notBlank(node: NodeName): TsrkeError {
  return new TsrkeError('NODE_UNFIT', 'it has data of an etcd that belongs to no member of this cluster', {
    node,
    next: 'if nobody needs them, remove the container etcd and empty /var/lib/etcd there, then run the same command again',
  });
}

function late(node: NodeName, change: MembershipChange): TsrkeError {
  const what = change.kind === 'promote' ? 'has not caught up with the others' : 'has not joined';
  return new TsrkeError('ETCD', `etcd ${what} within ${patience / 1000} s`, {
    node,
    next: `see \`docker logs etcd\` on ${node}, then run the same command again; it goes on from there`,
  });
}
