/** From two looks and what each kube-apiserver could read in between to a verdict. Pure. */
import { seenKeyIds } from '../../kube/metrics.ts';
import type { ReadCount } from '../../kube/read-each.ts';
import type { NodeName } from '../../ports.ts';
import type { ClusterState } from '../../state/rkestate.ts';
import { localKeysOf, parseProviderFile } from '../configuration.ts';
import { keyId, type Key } from '../key.ts';
import { recordedFiles } from '../observe.ts';
import { hashOf } from '../kms/renewal.ts';
import type { NodeSight, Sight } from './sight.ts';
import type { Problem, ProblemKind } from './problems.ts';
import { statusOf, type EncryptionStatus } from './status.ts';
import type { Wanted } from '../wanted.ts';

/** What one kube-apiserver could read of one resource, from all etcds. */
export interface Reading extends ReadCount {
  readonly node: NodeName;
  readonly resource: string;
}

/** Why something is not proved. `kind` is for scripts and stays. */
export interface Finding extends Omit<Problem, 'kind'> {
  readonly kind: FindingKind;
  /** Up to three names of objects that it is about, where they are not in the text. */
  readonly samples?: readonly string[];
}

export type FindingKind =
  | ProblemKind
  | 'load-not-shown'
  | 'key-not-recorded'
  | 'object-unreadable'
  | 'object-refused'
  | 'object-unseen'
  | 'server-silent'
  | 'resource-unserved'
  | 'former-kms-key'
  | 'changed-meanwhile';

export interface ProofRequest {
  readonly first: Sight;
  /** After all that was read. */
  readonly again: Sight;
  readonly state: ClusterState;
  /** As the file says it after all that was read. */
  readonly stateAgain: ClusterState;
  /** What cluster.yml asks. */
  readonly wanted: Wanted;
  readonly readings: readonly Reading[];
  /** Resources of which etcd holds objects and that kube-apiserver does not serve to be read. */
  readonly unserved: readonly { readonly resource: string; readonly count: number }[];
}

/** What was looked at, as it was at the end, and what is not as it should be. Fields are those of EncryptionStatus. */
export interface Proof extends Omit<EncryptionStatus, 'asItShouldBe' | 'problems' | 'next'> {
  /** RFC 3339, UTC: the first and the last look. */
  readonly begun: string;
  readonly ended: string;
  /** `findings` is empty. */
  readonly proved: boolean;
  readonly readings: readonly ReadingRow[];
  readonly findings: readonly Finding[];
}

export interface ReadingRow {
  readonly node: NodeName;
  readonly resource: string;
  readonly read: number;
  /** Deleted while they were read. */
  readonly gone: number;
  readonly failed: number;
}

/** Throws PROVIDER_FILE_INVALID where the state's own text cannot be read. */
export function proofOf(request: ProofRequest): Proof {
  const { first, again, state, wanted, readings } = request;
  const before = statusOf({ sight: first, state, wanted });
  const { asItShouldBe: _, problems, next: __, ...status } = statusOf({ sight: again, state, wanted });
  const known = new Set(problems.map(placeOf));
  const earlier = before.problems.filter((each) => !known.has(placeOf(each)));
  const findings: Finding[] = [
    ...[...problems, ...earlier].map((each) => withPhase(each, status.transition ?? before.transition)),
    ...movedBetween(request),
    ...notShown(again, problems),
    ...ringFindings([first, again], state),
    ...readings.flatMap(readingFindings),
    ...request.unserved.map(unservedFinding),
    ...formerKmsKeys(status, again),
  ];
  return {
    begun: first.time.toISOString(),
    ended: again.time.toISOString(),
    proved: findings.length === 0,
    ...status,
    readings: readings
      .map(({ node, resource, read, gone, failures }) => {
        return { node, resource, read, gone, failed: failures.reduce((sum, { count }) => sum + count, 0) };
      })
      .toSorted(
        (a, b) =>
          a.resource.localeCompare(b.resource) || a.node.localeCompare(b.node, 'en', { numeric: true }),
      ),
    findings,
  };
}

/** The same trouble at both looks is one finding, whatever its figures. */
function placeOf({ kind, node = '', resource = '' }: Problem): string {
  return [kind, node, resource].join(' ');
}

function withPhase(problem: Problem, transition: EncryptionStatus['transition']): Problem {
  const phase = problem.kind === 'transition-open' ? transition?.phase : undefined;
  return phase === undefined ? problem : { ...problem, text: `${problem.text}; the next phase is: ${phase}` };
}

const onceMore = 'run `tsrke encrypt verify` again while nothing else changes the cluster';

/** Between two different looks nothing that was read says anything about the whole. */
function movedBetween({ first, again: last, state, stateAgain }: ProofRequest): Finding[] {
  const next = last.atWork === undefined ? onceMore : `wait for the run that is at work: ${last.atWork}`;
  const moved = (text: string, node?: NodeName): Finding => {
    return { kind: 'changed-meanwhile', ...(node === undefined ? {} : { node }), text, next };
  };
  const seen = new Map(first.nodes.map((each) => [each.node, essence(each)]));
  return [
    ...last.nodes
      .filter((each) => seen.get(each.node) !== essence(each))
      .map(({ node }) => moved('it changed while the objects were read', node)),
    ...(etcdsOf(first) === etcdsOf(last) ? [] : [moved('another etcd answered at the end')]),
    ...(textOf(state) === textOf(stateAgain)
      ? []
      : [moved('the state file was written while the objects were read')]),
  ];
}

function essence({ reachable, failure, flag, onDisk, reported, container, readiness }: NodeSight): string {
  const { running, startedAt } = container ?? {};
  return JSON.stringify([
    ...[reachable, failure === undefined, flag, onDisk, reported, running, startedAt, readiness?.ready],
  ]);
}

function etcdsOf({ stored }: Sight): string {
  return 'unavailable' in stored ? '' : stored.at.map(({ clusterId }) => clusterId).join();
}

function textOf({ document, tsrke }: ClusterState): string {
  return JSON.stringify([tsrke.serial, document.currentState?.encryptionConfig, tsrke.transition]);
}

/** Of a cluster that tsrke has never touched status takes it for granted; a proof does not. */
function notShown({ nodes }: Sight, problems: readonly Problem[]): Finding[] {
  const told = new Set(problems.flatMap(({ kind, node }) => (kind === 'node-not-in-step' ? [node] : [])));
  return nodes
    .filter(({ node, flag, loaded }) => flag && loaded === 'unknown' && !told.has(node))
    .map(({ node }) => ({
      kind: 'load-not-shown',
      node,
      text: 'nothing shows that it has loaded its file (kube-apiserver says so from 1.34 on)',
      next: '`tsrke encrypt rotate-key` restarts it and keeps what it has loaded',
    }));
}

/** Old snapshots need every key that was ever in use: the state must have those that are now. */
function ringFindings(sights: readonly Sight[], state: ClusterState): Finding[] {
  const { keyRing, transition } = state.tsrke;
  const open = [transition?.target, transition?.from]
    .filter((text) => text !== undefined && text !== '')
    .map((text) => parseProviderFile(text ?? '', "the state's open transition"));
  const kept = [...keyRing, ...[...recordedFiles(state), ...open].flatMap(localKeysOf)].filter(
    ({ secret }) => secret.isKey,
  );
  const ids = new Set(kept.map(keyId));
  const names = new Set(kept.map(nameOf));
  const lacking = new Map<string, { key: Key; nodes: Set<NodeName> }>();
  for (const { node, file } of sights.flatMap(({ nodes }) => nodes)) {
    for (const key of file === undefined ? [] : localKeysOf(file)) {
      if (ids.has(keyId(key))) continue;
      const found = lacking.get(keyId(key)) ?? { key, nodes: new Set<NodeName>() };
      lacking.set(keyId(key), found);
      found.nodes.add(node);
    }
  }
  return [...lacking].map(([id, { key, nodes }]) => {
    const other = names.has(nameOf(key)) ? ', but another one of that name' : '';
    return {
      kind: 'key-not-recorded',
      text: `the state does not hold ${id}, which ${[...nodes].join(', ')} has${other}`,
      next:
        other === ''
          ? '`tsrke up` takes it into the key ring before it does anything else'
          : 'find out which of the two is right before anything is restarted; `tsrke encrypt status` shows what lies under which',
    };
  });
}

function nameOf({ provider, name }: Key): string {
  return `${provider}:${name}`;
}

function readingFindings({ node, resource, failures, silent }: Reading): Finding[] {
  const found = failures.map(({ kind, reason, count, samples }): Finding => {
    const such = `${count} ${resource} (e.g. ${samples.slice(0, 2).join(', ')})`;
    const about = { node, resource, count, samples };
    switch (kind) {
      case 'unreadable':
        return {
          ...{ kind: 'object-unreadable', ...about, text: `cannot decrypt ${such}: ${reason}` },
          next: '`tsrke up` gives it the keys that it lacks, and touches nothing where nobody has them',
        };
      case 'refused':
        return {
          ...{ kind: 'object-refused', ...about, text: `does not hand out ${such}: ${reason}` },
          next: 'remove the cause, then run `tsrke encrypt verify` again',
        };
      case 'unseen':
        return {
          ...{ kind: 'object-unseen', ...about, text: `does not see ${such}, which etcd holds` },
          next: 'compare its --etcd-servers and --etcd-prefix with those of the other nodes',
        };
    }
  });
  if (silent === undefined) return found;
  const text = `stopped answering while ${resource} were read: ${silent}`;
  const next = 'find out what is wrong with it, then run `tsrke encrypt verify` again';
  return [...found, { kind: 'server-silent', node, resource, text, next }];
}

function unservedFinding({ resource, count }: ProofRequest['unserved'][number]): Finding {
  return {
    ...{ kind: 'resource-unserved', resource, count },
    text: `etcd holds ${count} ${resource}, which no API serves to be read`,
    next: 'bring their API back (a CustomResourceDefinition, an old version), or delete them in etcd',
  };
}

/** The provider's name stays when the KMS has a new key: only the key id tells, which each server has from its plugin. */
function formerKmsKeys({ census }: Pick<Proof, 'census'>, { nodes }: Sight): Finding[] {
  if ('unavailable' in census) return [];
  const newest = nodes.flatMap(({ node, metrics = '' }) =>
    [...seenKeyIds(metrics)].map(([name, { hash }]) => ({ node, name, hash })),
  );
  return census.resources.flatMap(({ resource, provider, name, count, kmsKeyId, asWanted }): Finding[] => {
    if (provider !== 'kms2' || kmsKeyId === undefined || !asWanted) return [];
    const others = newest.filter((each) => each.name === name && each.hash !== hashOf(kmsKeyId));
    if (others.length === 0) return [];
    const nodes = others.map(({ node }) => node).join(', ');
    return [
      {
        ...{ kind: 'former-kms-key', resource, count },
        text: `${count} ${resource} lie under ${kmsKeyId} of kms2:${name}, and ${nodes} has another key from its plugin by now`,
        next: '`tsrke encrypt rotate-key` stores them again under the newest one',
      },
    ];
  });
}
