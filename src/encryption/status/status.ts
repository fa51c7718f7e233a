/** From what was seen, what the state says and what cluster.yml asks to what a person wants to know. Pure. */
import { TsrkeError } from '../../errors.ts';
import type { ClusterState } from '../../state/rkestate.ts';
import { noFile, resourcesOf, writeKeyOf, type ProviderFile } from '../configuration.ts';
import { recordedFiles } from '../observe.ts';
import { effectiveFile, strip, type Line, type MemberSeen, type Seen } from '../plan.ts';
import type { NodeSight, Sight } from './sight.ts';
import { censusOf, ourHoldings, storedIn, type StatusCensus } from './census.ts';
import { isBeyond } from '../steps.ts';
import { goalOf, transitionOf, type OpenTransition } from './goal.ts';
import { keyRows, type KeyRow } from './keys.ts';
import { nodeRow, type NodeRow } from './nodes.ts';
import { nextFor, problemsOf, type Problem } from './problems.ts';
import { warningsOf, type Warning } from './warnings.ts';
import type { Wanted } from '../wanted.ts';

export interface StatusRequest {
  readonly sight: Sight;
  readonly state: ClusterState;
  /** What cluster.yml asks. */
  readonly wanted: Wanted;
  /** Its max_key_age in milliseconds; undefined or 0: no limit. */
  readonly maxKeyAge?: number | undefined;
}

export interface EncryptionStatus {
  readonly asItShouldBe: boolean;
  /** As the nodes write Secrets (or, without those, anything) now. */
  readonly encryption: 'on' | 'off' | 'partly' | 'unknown';
  readonly clusterYml: 'on' | 'off';
  /** The keys that nodes write with, by the files on their disks. */
  readonly writeKeys: readonly KeyRow[];
  readonly transition?: OpenTransition;
  /** The run that has the lock. */
  readonly atWork?: string;
  readonly nodes: readonly NodeRow[];
  readonly keys: readonly KeyRow[];
  readonly census: StatusCensus;
  readonly problems: readonly Problem[];
  /** What is still as it should be, and asks for a rotation soon. */
  readonly warnings: readonly Warning[];
  /** What to do next; left out when nothing is. */
  readonly next?: string;
}

/** Throws PROVIDER_FILE_INVALID where the state's own text cannot be read. */
export function statusOf({ sight, state, wanted, maxKeyAge }: StatusRequest): EncryptionStatus {
  const recorded = recordedFiles(state);
  const members = sight.nodes.flatMap((each) => memberOf(each, state) ?? []);
  const files = members.map((each) => effectiveFile(each, recorded));
  const goal = goalOf(state, wanted, sight);
  const stored = storedIn(sight, [...files, ...recorded, goal.file]);
  const lines = remaining(goal.file, { members, stored, recorded });
  const [line] = lines;
  // What a step that was held leaves for another command is missing on no node.
  const due = line === undefined || isBeyond(line.kind, goal.held) ? undefined : line;
  const rows = sight.nodes.map((each) => nodeRow(each, { goal: goal.file, next: due, open: goal.isOpen }));
  const ours = ourHoldings(sight.stored, [goal.file, ...files]);
  const census = censusOf(sight.stored, ours, goal.file);
  const own = members.map(({ node }, index) => ({ node, file: files[index] ?? noFile }));
  const transition = transitionOf(goal, state, lines, own);
  const keys = keyRows({ state, files: own, holdings: ours, now: sight.time });
  const problems = problemsOf({ sight, goal, transition, census, rows });
  const next = nextFor(problems, sight, goal);
  return {
    asItShouldBe: problems.length === 0,
    encryption: onOrOff(files),
    clusterYml: wanted.kind === 'off' ? 'off' : 'on',
    writeKeys: keys.filter((key) => key.writesOn.length > 0 && key.type !== 'identity'),
    ...(transition === undefined ? {} : { transition }),
    ...(sight.atWork === undefined ? {} : { atWork: sight.atWork }),
    nodes: rows.map(({ row }) => row),
    keys,
    census,
    problems,
    warnings: warningsOf(files[0] ?? noFile, state.tsrke, sight, maxKeyAge),
    ...(next === undefined ? {} : { next }),
  };
}

/** What the planner may count on; undefined for a node that was not seen well enough. */
function memberOf(seen: NodeSight, state: ClusterState): MemberSeen | undefined {
  const { node, container, failure, fileProblem, flag, file, readiness, loaded, binds, reloadFlag } = seen;
  if (container === undefined || failure !== undefined || fileProblem !== undefined) return undefined;
  // As observe judges: where tsrke has been before, a start that it does not know of is one in doubt.
  const doubtful = loaded === 'unknown' && state.tsrke.serial > 0;
  return {
    ...{ node, flag, file, ready: readiness?.ready ?? false, binds, reloadFlag },
    loaded: container.interrupted || doubtful ? 'no' : loaded,
  };
}

function remaining(target: ProviderFile, seen: Seen): Line[] {
  if (seen.members.length === 0) return [];
  try {
    return strip(target, seen);
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    return [];
  }
}

function onOrOff(files: readonly ProviderFile[]): EncryptionStatus['encryption'] {
  if (files.length === 0) return 'unknown';
  const writes = files.map((file) => {
    const resources = resourcesOf(file);
    const asked = resources.length === 0 || resources.includes('secrets') ? ['secrets'] : resources;
    return asked.some((each) => writeKeyOf(file, each).id !== 'identity');
  });
  return writes.every(Boolean) ? 'on' : writes.some(Boolean) ? 'partly' : 'off';
}
