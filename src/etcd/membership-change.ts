/**
 * What to change next about who belongs to etcd, one thing at a time. Decided from what is seen, so a run that was cut
 * off is simply continued. No change ever costs the quorum, and none depends on a host that cannot be reached.
 */
import type { RkeNode } from '../config/rke-config.ts';
import { TsrkeError } from '../errors.ts';
import type { EtcdMember, NodeName } from '../ports.ts';

/** A node with role etcd, as etcd is to know it. */
export interface EtcdNode {
  readonly node: NodeName;
  /** `etcd-<hostname_override>`. */
  readonly name: string;
  /** What tells members apart: `https://<internal_address>:2380`. */
  readonly peerUrl: string;
}

export interface MembershipView {
  /** What cluster.yml asks for, in its order. */
  readonly wanted: readonly EtcdNode[];
  /** Of `currentState`. */
  readonly recorded: readonly EtcdNode[];
  readonly members: readonly EtcdMember[];
  /** Ids of the members with a vote that answer a linearizable read (`healthyMembers`). */
  readonly healthy: ReadonlySet<string>;
  /** Wanted nodes that SSH and Docker reach. */
  readonly reachable: ReadonlySet<NodeName>;
  /** Reachable nodes with nothing in etcd's data folder: a member whose data are gone must not start as itself. */
  readonly blank?: ReadonlySet<NodeName>;
}

export type MembershipChange =
  /** First whatever etcd has left on that node has to go, container and data: it belongs to no member. */
  | { readonly kind: 'add-learner'; readonly node: NodeName; readonly peerUrl: string }
  /**
   * Make its container with `initial-cluster-state=existing` and this `initial-cluster`: etcd refuses to join with any
   * list but exactly the members of this moment.
   */
  | { readonly kind: 'start'; readonly node: NodeName; readonly initialCluster: readonly string[] }
  /** It takes as long as the learner needs to catch up; its container has to run. */
  | { readonly kind: 'promote'; readonly node: NodeName; readonly id: string }
  | { readonly kind: 'remove'; readonly name: string; readonly id: string; readonly why: string };

export function etcdNodeOf(node: RkeNode, name: NodeName = node.hostnameOverride): EtcdNode {
  return {
    node: name,
    name: `etcd-${node.hostnameOverride}`,
    peerUrl: `https://${node.internalAddress}:2380`,
  };
}

/**
 * Undefined: membership is as wanted, as far as hosts can be reached. Throws UNSUPPORTED where no etcd node of before
 * would remain, and ETCD where the quorum is lost already or the next change would cost it; nothing was touched then.
 */
export function nextMembershipChange(view: MembershipView): MembershipChange | undefined {
  const { wanted, members, healthy, reachable, blank = new Set() } = view;
  const nodeOf = (member: EtcdMember) => wanted.find(({ peerUrl }) => member.peerUrls.includes(peerUrl));
  const within = (node: EtcdNode | undefined, set: ReadonlySet<NodeName>) =>
    node !== undefined && set.has(node.node);
  const isWell = ({ id }: EtcdMember) => healthy.has(id);

  const leaving = members.filter((member) => nodeOf(member) === undefined);
  const lost = members.filter(
    (member) => member.name !== '' && within(nodeOf(member), blank) && !isWell(member),
  );
  const missing = wanted.filter(({ peerUrl }) => !members.some(({ peerUrls }) => peerUrls.includes(peerUrl)));
  const unstarted = members.filter(({ name }) => name === '');
  const learners = members.filter(({ learner }) => learner);
  if ([leaving, lost, missing, unstarted, learners].every(({ length }) => length === 0)) return undefined;
  refuseReplacement(view);
  refuseWithoutQuorum(view);

  // Without a vote that counts, leaving costs nothing, and etcd takes no new member beside one that is down.
  const dead = leaving.find((member) => !isWell(member));
  if (dead !== undefined) return remove(dead, 'it does not answer and is not in cluster.yml');
  const [emptied] = lost;
  if (emptied !== undefined) return remove(emptied, 'its data are gone');

  for (const member of [...unstarted, ...learners]) {
    const node = nodeOf(member);
    if (node === undefined || !reachable.has(node.node)) continue;
    if (member.name === '')
      return { kind: 'start', node: node.node, initialCluster: initialCluster(view, node) };
    return { kind: 'promote', node: node.node, id: member.id };
  }

  // The same host with another address: its container is still a member, which has to leave before it can join anew.
  const isTaken = ({ name }: EtcdNode) => leaving.some((member) => member.name === name);
  const joining = missing.find((node) => reachable.has(node.node) && !isTaken(node));
  if (joining !== undefined) {
    refuseToAdd(view, joining);
    return { kind: 'add-learner', node: joining.node, peerUrl: joining.peerUrl };
  }
  const renumbered = leaving.find((member) => missing.some(({ name }) => name === member.name));
  if (renumbered !== undefined) return removeLive(view, renumbered, 'its node has another internal address');
  const [goes] = leaving;
  return goes && removeLive(view, goes, 'it is not in cluster.yml');
}

/**
 * Whether a member's container may be stopped and started now: the others hold the quorum without it, or all others are
 * well (of one or two members a restart costs the quorum for a moment, whatever one does), or it is down anyway.
 */
export function mayRestart(
  id: string,
  { members, healthy }: Pick<MembershipView, 'members' | 'healthy'>,
): boolean {
  const voters = members.filter(({ learner }) => !learner);
  if (!voters.some((member) => member.id === id) || !healthy.has(id)) return true;
  const others = voters.filter((member) => member.id !== id);
  const well = others.filter((member) => healthy.has(member.id));
  return well.length === others.length || well.length >= quorumOf(voters.length);
}

function quorumOf(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

function remove(member: EtcdMember, why: string): MembershipChange {
  return { kind: 'remove', name: nameOf(member), id: member.id, why };
}

/** One that answers goes only where the others hold the quorum of those that are left. */
function removeLive(view: MembershipView, member: EtcdMember, why: string): MembershipChange {
  const left = votersOf(view).filter((voter) => voter !== member);
  const down = left.filter(({ id }) => !view.healthy.has(id));
  const well = left.length - down.length;
  if (well >= quorumOf(left.length)) return remove(member, why);
  throw new TsrkeError(
    'ETCD',
    `${nameOf(member)} cannot leave etcd: of the ${left.length} others ${well} answered, and ${quorumOf(left.length)} must`,
    {
      next:
        down.length === 0
          ? 'add another etcd node to cluster.yml, or reach the one that is there; then run the same command again'
          : `bring ${names(down)} back; then run the same command again`,
    },
  );
}

function refuseReplacement({ wanted, recorded, members }: MembershipView): void {
  const before = recorded.length > 0 ? recorded.map(({ peerUrl }) => peerUrl) : members.flatMap(urlsOf);
  if (before.length === 0 || wanted.some(({ peerUrl }) => before.includes(peerUrl))) return;
  throw new TsrkeError(
    'UNSUPPORTED',
    wanted.length === 0
      ? 'cluster.yml has no etcd node any more'
      : 'cluster.yml has none of the etcd nodes that the cluster had before: all at once cannot be replaced',
    { next: 'keep at least one of them until the new ones have joined' },
  );
}

function refuseWithoutQuorum(view: MembershipView): void {
  const voters = votersOf(view);
  const down = voters.filter(({ id }) => !view.healthy.has(id));
  const well = voters.length - down.length;
  if (well >= quorumOf(voters.length)) return;
  throw new TsrkeError(
    'ETCD',
    `etcd has no quorum: ${well} of ${voters.length} members answered, and ${quorumOf(voters.length)} must`,
    { next: `bring ${names(down)} back, or restore etcd from a snapshot; no member was added or removed` },
  );
}

/** etcd itself refuses as well: one learner at a time, and (to 3.5) none beside a member that is down. */
function refuseToAdd(view: MembershipView, joining: EtcdNode): void {
  const learners = view.members.filter((member) => member.learner);
  const down = votersOf(view).filter(({ id }) => !view.healthy.has(id));
  const [one] = learners;
  if (one === undefined && down.length === 0) return;
  throw new TsrkeError(
    'ETCD',
    one === undefined
      ? `${joining.name} cannot join etcd: ${names(down)} did not answer`
      : `${joining.name} cannot join etcd before ${nameOf(one)} has: its node cannot be reached`,
    {
      next: `bring ${names([...learners, ...down])} back, or take what is gone for good out of cluster.yml; then run the same command again`,
    },
  );
}

function names(members: readonly EtcdMember[]): string {
  return members.map(nameOf).join(', ');
}

function votersOf({ members }: MembershipView): EtcdMember[] {
  return members.filter(({ learner }) => !learner);
}

function urlsOf({ peerUrls }: EtcdMember): readonly string[] {
  return peerUrls;
}

function nameOf({ name, id, peerUrls }: EtcdMember): string {
  return name === '' ? (peerUrls[0] ?? id) : name;
}

/**
 * The others are told apart by their addresses, their names count for nothing; but two of one name would be read as one
 * member with two addresses.
 */
function initialCluster({ members }: MembershipView, own: EtcdNode): string[] {
  return members.flatMap(({ id, name, peerUrls }) => {
    if (peerUrls.includes(own.peerUrl)) return [`${own.name}=${own.peerUrl}`];
    const isClear = name !== '' && name !== own.name && !members.some((m) => m.id !== id && m.name === name);
    return peerUrls.map((url) => `${isClear ? name : `member-${id}`}=${url}`);
  });
}
