/** etcd's part of a plan: who joins, who has to go, and the containers of members one after the other. Pure. */
import type { RkeConfig, RkeNode } from '../config/rke-config.ts';
import {
  etcdNodeOf,
  nextMembershipChange,
  type EtcdNode,
  type MembershipView,
} from '../etcd/membership-change.ts';
import type { EtcdMember } from '../ports.ts';
import { nodesWith } from '../services/cluster.ts';
import type { Move } from './plan.ts';
import { nameOf, type ClusterSight, type EtcdSight } from './sight.ts';
import { serviceOf, type NodeWork } from './work.ts';

export interface MembersAsk {
  readonly works: readonly NodeWork[];
  readonly rke: RkeConfig;
  readonly recorded: RkeConfig;
  readonly sight: ClusterSight;
  /** What else is to be done to a node's containers of etcd. */
  readonly movesOf: (work: NodeWork) => readonly Move[];
}

/** What etcd's own rules decide by. `reachable`: wanted nodes that were looked at. */
export function viewOf(
  rke: RkeConfig,
  recorded: RkeConfig,
  { members, healthy }: EtcdSight,
  reachable: ReadonlySet<string>,
): MembershipView {
  const etcdNodes = (config: RkeConfig): EtcdNode[] =>
    nodesWith(config, 'etcd').map((node) => etcdNodeOf(node));
  return { wanted: etcdNodes(rke), recorded: etcdNodes(recorded), members, healthy, reachable };
}

/**
 * All in one lane: who is dead and wanted no more goes first, as etcd takes no new member beside it; then who is new
 * joins; then containers, each while the others hold the quorum. Members that are well go at the very end: see
 * `expulsions`. Throws ETCD and UNSUPPORTED (see nextMembershipChange).
 */
export function planOfMembers({ works, rke, recorded, sight, movesOf }: MembersAsk): Move[] {
  const etcd = sight.etcd;
  const reachable = new Set(sight.nodes.map(({ node }) => nameOf(node)));
  // Says what cannot be, whatever comes first.
  if (etcd !== undefined) nextMembershipChange(viewOf(rke, recorded, etcd, reachable));
  const dead = etcd === undefined ? [] : leavingMembers(rke, etcd).filter(({ id }) => !etcd.healthy.has(id));
  const moves = works.flatMap((work) => {
    const own = movesOf(work);
    const creates = work.services.find((each) => serviceOf(each) === 'etcd');
    const makes = creates?.kind === 'create' ? creates.container : undefined;
    const joins = makes ?? (isJoining(work.sight.node, etcd) ? containerOf(work) : undefined);
    if (joins === undefined) return own;
    const others = own.filter((move) => !('container' in move) || move.container.name !== 'etcd');
    return [{ kind: 'join' as const, node: nameOf(work.sight.node), container: joins }, ...others];
  });
  return [...dead.map((member) => expulsionOf(member, recorded)), ...moves];
}

/** Members that answer, of nodes that are to be no members any more: once whoever reads from them has other ones. */
export function expulsions(rke: RkeConfig, recorded: RkeConfig, etcd: EtcdSight | undefined): Move[] {
  if (etcd === undefined) return [];
  return leavingMembers(rke, etcd)
    .filter(({ id }) => etcd.healthy.has(id))
    .map((member) => expulsionOf(member, recorded));
}

function leavingMembers(rke: RkeConfig, { members }: EtcdSight): EtcdMember[] {
  const wanted = new Set(nodesWith(rke, 'etcd').map((node) => etcdNodeOf(node).peerUrl));
  return members.filter(({ peerUrls }) => !peerUrls.some((url) => wanted.has(url)));
}

function expulsionOf({ name, peerUrls }: EtcdMember, recorded: RkeConfig): Move {
  const [peerUrl = ''] = peerUrls;
  const node = recorded.nodes.find((each) => peerUrls.includes(etcdNodeOf(each).peerUrl));
  return { kind: 'expel', node: node === undefined ? name : nameOf(node), peerUrl };
}

/** It was added and has not started, or has no vote yet. */
function isJoining(node: RkeNode, etcd: EtcdSight | undefined): boolean {
  if (etcd === undefined || !node.role.includes('etcd')) return false;
  const { peerUrl } = etcdNodeOf(node);
  const member = etcd.members.find(({ peerUrls }) => peerUrls.includes(peerUrl));
  return member === undefined || member.name === '' || member.learner;
}

function containerOf({ wanted }: NodeWork) {
  return wanted.find(({ name }) => name === 'etcd');
}
