/** What is not as the state and cluster.yml say, and what to do about it. Pure. */
import type { NodeName } from '../../ports.ts';
import { keysOf, resourcesOf } from '../configuration.ts';
import type { Sight } from './sight.ts';
import { heldAt, nextStep } from '../steps.ts';
import type { Goal, OpenTransition } from './goal.ts';
import type { StatusCensus } from './census.ts';
import type { JudgedNode } from './nodes.ts';

/** Something that is not as the state and cluster.yml say. `kind` is for scripts and stays. */
export interface Problem {
  readonly kind: ProblemKind;
  readonly node?: NodeName;
  readonly resource?: string;
  /** Objects that it is about. */
  readonly count?: number;
  readonly text: string;
  /** What to do about this one, as an instruction. */
  readonly next: string;
}

type Found = Omit<Problem, 'next'>;

export type ProblemKind =
  | 'node-unreachable'
  | 'node-without-apiserver'
  | 'node-not-ready'
  | 'node-not-in-step'
  | 'kms-plugin'
  | 'file-exposed'
  | 'member-unknown'
  | 'transition-open'
  | 'cluster-yml-differs'
  | 'state-stale'
  | 'plaintext'
  | 'under-other-key'
  | 'key-missing'
  | 'value-unreadable'
  | 'etcd-unread';

export interface ProblemsRequest {
  readonly sight: Sight;
  readonly goal: Goal;
  readonly transition: OpenTransition | undefined;
  readonly census: StatusCensus;
  readonly rows: readonly JudgedNode[];
}

export function problemsOf({ sight, goal, transition, census, rows }: ProblemsRequest): Problem[] {
  const one = (kind: ProblemKind, text: string | undefined): Found[] =>
    text === undefined ? [] : [{ kind, text }];
  const found = [
    ...one('state-stale', sight.stale),
    ...rows.flatMap(({ row, problems }) =>
      problems.map(({ kind, text }): Found => ({ kind, node: row.node, text })),
    ),
    ...sight.strangers.flatMap((each) =>
      one('member-unknown', `the cluster has a kube-apiserver that cluster.yml does not name: ${each}`),
    ),
    ...one('transition-open', transition === undefined ? undefined : openText(transition)),
    ...one('cluster-yml-differs', goal.differs),
    ...storedProblems(sight, census, goal.isOpen),
  ];
  return found.map((each) => ({ ...each, next: adviceFor([each], sight, goal) }));
}

function openText({ kind, found, held }: OpenTransition): string {
  if (held !== undefined) return `a rotation in steps waits: ${heldAt[held]}`;
  return found ?? `a change is open: ${kind}`;
}

/** While a change is open it is no news that values lie under its old key. */
function storedProblems(sight: Sight, census: StatusCensus, isOpen: boolean): Found[] {
  if ('unavailable' in census) {
    return [{ kind: 'etcd-unread', text: `etcd could not be read: ${census.unavailable}` }];
  }
  const known = new Set('unavailable' in sight.stored ? [] : knownIds(sight));
  return census.resources.flatMap((row): Found[] => {
    const { resource, count, refused, samples } = row;
    const under = `${row.provider}:${row.name}`;
    const such = `(e.g. ${samples.slice(0, 2).join(', ')})`;
    const local = row.provider === 'aescbc' || row.provider === 'aesgcm' || row.provider === 'secretbox';
    if (refused > 0) {
      const text = `${refused} ${resource} under ${under} do not open with the key of that name ${such}`;
      return [{ kind: 'value-unreadable', resource, count: refused, text }];
    }
    const isMissing = local
      ? row.fingerprint === undefined
      : row.provider !== 'identity' && !known.has(under);
    if (isMissing) {
      const text = `${count} ${resource} under ${under}, a key that neither the state nor any node holds ${such}`;
      return [{ kind: 'key-missing', resource, count, text }];
    }
    if (row.asWanted || isOpen) return [];
    return row.provider === 'identity'
      ? [{ kind: 'plaintext', resource, count, text: `${count} ${resource} lie in plain text ${such}` }]
      : [
          {
            kind: 'under-other-key',
            resource,
            count,
            text: `${count} ${resource} lie under ${under}, which is not the write key ${such}`,
          },
        ];
  });
}

/** KMS providers that some node's file names. */
function knownIds({ nodes }: Sight): string[] {
  const files = nodes.flatMap(({ file }) => file ?? []);
  return files.flatMap((file) =>
    resourcesOf(file).flatMap((each) => keysOf(file, each).map(({ stored }) => stored)),
  );
}

/** The one thing to do first about all of them; undefined where there is nothing. */
export function nextFor(problems: readonly Problem[], sight: Sight, goal: Goal): string | undefined {
  return problems.length === 0 ? undefined : adviceFor(problems, sight, goal);
}

function adviceFor(
  problems: readonly Found[],
  { atWork }: Sight,
  { file, isOpen, isProved, differs, held }: Goal,
): string {
  if (atWork !== undefined) return `wait for the run that is at work: ${atWork}`;
  const has = (kind: ProblemKind) => problems.find((each) => each.kind === kind);
  const nodes = (kind: ProblemKind) =>
    [
      ...new Set(
        problems.flatMap((each) => (each.kind === kind && each.node !== undefined ? [each.node] : [])),
      ),
    ].join(', ');
  if (has('state-stale') !== undefined) {
    return 'bring the newest state file here, or run `tsrke util get-state-file`';
  }
  if (has('key-missing') !== undefined || has('value-unreadable') !== undefined) {
    return 'look for an older state file (its .backup, a snapshot) that holds the key; restart no kube-apiserver until then';
  }
  if (has('member-unknown') !== undefined) return 'add that host to `nodes:` of cluster.yml, or stop it';
  if (has('node-unreachable') !== undefined) {
    return `make ${nodes('node-unreachable')} reachable; \`tsrke up\` then does what is left`;
  }
  if (has('node-without-apiserver') !== undefined) {
    return `find out why ${nodes('node-without-apiserver')} has no kube-apiserver any more`;
  }
  if (problems.every(({ kind }) => kind === 'file-exposed')) {
    return `on ${nodes('file-exposed')}: chown root and chmod 600 that file`;
  }
  if (problems.every(({ kind }) => kind === 'etcd-unread')) {
    return 'make etcd reachable from here or from a controlplane node, and ask again';
  }
  if (held !== undefined && differs === undefined) {
    return `${nextStep(held)} is the next step, \`tsrke encrypt rotate-key\` does all that is left, \`tsrke encrypt abort\` goes back`;
  }
  if (isOpen) {
    return differs === undefined
      ? '`tsrke encrypt resume` finishes the open change, `tsrke encrypt abort` goes back'
      : '`tsrke up` goes where cluster.yml says, `tsrke encrypt resume` finishes the open change';
  }
  // `up` does not count what lies in etcd while nodes and state are as they were when it was last proved.
  const isBehindBack =
    isProved && problems.every(({ kind }) => kind === 'plaintext' || kind === 'under-other-key');
  return isBehindBack && file.entries.length > 0
    ? '`tsrke encrypt rotate-key` stores everything anew; find out who wrote to etcd past kube-apiserver'
    : '`tsrke up` does what is left';
}
