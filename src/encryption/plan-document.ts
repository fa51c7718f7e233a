/** A plan as it is written to a file, and whether the world is still the one that it was made for. Pure. */
import { createHash } from 'node:crypto';
import { TsrkeError } from '../errors.ts';
import type { NodeName } from '../ports.ts';
import type { ClusterState } from '../state/rkestate.ts';
import type { WantedReload } from './automatic-reload.ts';
import { outlineOf, type KmsWish } from './kms/containers.ts';
import type { KekSight } from './kms/foresight.ts';
import type { Look } from './observe.ts';
import type { PlannedStep } from './preview.ts';
import type { Wanted } from './wanted.ts';

/** All that the decision rests on, in hashes: no key material. */
export interface PlannedWorld {
  /** Of the state: what tells one save from another. */
  readonly state: { readonly serial: number; readonly lineage?: string; readonly sha256: string };
  /** Of what cluster.yml asks of encryption. */
  readonly wanted: string;
  readonly nodes: readonly {
    readonly node: NodeName;
    readonly flag: boolean;
    /** sha256 of the provider file; left out where there is none. */
    readonly file?: string;
    readonly loaded: string;
    readonly ready: boolean;
    readonly binds: string;
    readonly reloadFlag: string;
  }[];
  /** Keys that etcd holds values under, by resource. */
  readonly stored: Readonly<Record<string, readonly string[]>>;
  /** Key ids of a KMS that a rotation follows, by provider; `''`: the plugins differ. Left out where it follows none. */
  readonly keks?: Readonly<Record<string, string>>;
}

/** Containers, files and objects: what a part of `tsrke up` does. */
export interface PlannedStage {
  readonly title: string;
  /** In the order in which they are done on each node; nodes may go side by side. */
  readonly moves: readonly { readonly node?: NodeName; readonly does: string }[];
}

export interface PlanDocument {
  readonly type: 'plan';
  readonly formatVersion: 1;
  /** RFC 3339. */
  readonly time: string;
  readonly cluster: string;
  /** What `tsrke up --plan` carries out. */
  readonly action: 'up' | 'rotate';
  readonly somethingToDo: boolean;
  /** What was recognised, in a sentence. */
  readonly note?: string;
  /** What changes in the state: from one provider file to another, and what becomes of keys. */
  readonly change?: { readonly kind: string; readonly from: string; readonly to: string };
  readonly keys: readonly {
    readonly key: string;
    readonly becomes: 'made' | 'adopted' | 'in use' | 'retired';
  }[];
  /** Write keys that `max_key_age` says are due; `up` does not rotate them. */
  readonly due: readonly string[];
  /** What else cluster.yml asks for otherwise than the state. */
  readonly differences: readonly string[];
  readonly steps: readonly PlannedStep[];
  /** What is done beside encryption, after it; left out where there is nothing. */
  readonly stages?: readonly PlannedStage[];
  readonly restarts: number;
  readonly objects: number;
  /** How many of the restarts `reload: automatic` in cluster.yml would spare; left out where there are none. */
  readonly sparedByReload?: number;
  /** Seconds; left out where nothing is to be done. */
  readonly estimate?: {
    readonly seconds: number;
    readonly perRestart: number;
    /** Seconds until nodes without a restart have loaded a file; left out where there are none such. */
    readonly perReload?: number;
    /** Objects a second. */
    readonly rewrites: number;
    readonly basis: string;
  };
  readonly world: PlannedWorld;
}

export interface Asked {
  readonly wanted: Wanted;
  /** KMS plugins that tsrke is to run. */
  readonly plugins: readonly KmsWish[];
  readonly reload: WantedReload;
  /** Of a rotation in a KMS. */
  readonly keks?: readonly KekSight[];
}

export function worldOf(
  seen: Look,
  state: ClusterState,
  { wanted, plugins, reload, keks = [] }: Asked,
): PlannedWorld {
  const { serial, lineage } = state.tsrke;
  const { currentState, desiredState } = state.document;
  const texts = [currentState?.encryptionConfig, desiredState?.encryptionConfig, state.tsrke.transition];
  return {
    state: {
      serial,
      // Before tsrke's first save a lineage is made up anew each time.
      ...(serial === 0 ? {} : { lineage }),
      sha256: hashOf(texts),
    },
    wanted: hashOf([wanted, plugins.map(outlineOf), reload]),
    nodes: seen.members.map(({ node, flag, onDisk, loaded, ready, binds, reloadFlag }) => ({
      ...{ node, flag, ...(onDisk === undefined ? {} : { file: onDisk.sha256 }) },
      ...{ loaded, ready, binds, reloadFlag },
    })),
    stored: Object.fromEntries(
      [...seen.stored]
        .map(([resource, refs]) => [resource, [...new Set(refs.map(({ id }) => id))].toSorted()] as const)
        .toSorted(([a], [b]) => a.localeCompare(b)),
    ),
    ...(keks.length === 0
      ? {}
      : { keks: Object.fromEntries(keks.map(({ stored, keyId = '' }) => [stored, keyId])) }),
  };
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}

/** Throws PLAN_STALE with what has changed since. */
export function expectSameWorld(plan: PlanDocument, now: PlannedWorld): void {
  const then = plan.world;
  const differs = (a: unknown, b: unknown) => JSON.stringify(a) !== JSON.stringify(b);
  const details: string[] = [];
  if (differs(then.wanted, now.wanted)) details.push('cluster.yml asks for another encryption');
  if (differs(then.state, now.state)) {
    details.push(`the state is another: serial ${now.state.serial}, the plan is of ${then.state.serial}`);
  }
  const names = [...new Set([...then.nodes, ...now.nodes].map(({ node }) => node))];
  for (const name of names) {
    const [a, b] = [then, now].map(({ nodes }) => nodes.find(({ node }) => node === name));
    if (a === undefined) details.push(`${name}: was not there`);
    else if (b === undefined) details.push(`${name}: is there no more`);
    else {
      const fields = (['flag', 'file', 'loaded', 'ready', 'binds', 'reloadFlag'] as const).filter(
        (each) => a[each] !== b[each],
      );
      for (const each of fields) {
        details.push(`${name}: ${each} was ${String(a[each] ?? 'none')}, is ${String(b[each] ?? 'none')}`);
      }
    }
  }
  const list = (keys: readonly string[] | undefined) => keys?.join(', ') ?? 'nothing';
  for (const resource of new Set([...Object.keys(then.stored), ...Object.keys(now.stored)])) {
    const [a, b] = [then.stored[resource], now.stored[resource]];
    if (differs(a, b)) details.push(`${resource} lay under ${list(a)}, lie under ${list(b)}`);
  }
  for (const name of new Set([then.keks, now.keks].flatMap((each) => Object.keys(each ?? {})))) {
    const [a, b] = [then.keks?.[name], now.keks?.[name]];
    const told = (keyId = 'not asked') => (keyId === '' ? 'not the same everywhere' : keyId);
    if (a !== b) details.push(`the key of ${name} was ${told(a)}, is ${told(b)}`);
  }
  if (details.length > 0) throw planStale(details);
}

function planStale(details: readonly string[]): TsrkeError {
  return new TsrkeError('PLAN_STALE', 'the cluster is not the one any more that the plan was made for', {
    details,
    next: 'make a new plan and have it approved; nothing was touched',
  });
}

/** Throws PLAN_STALE where something else is to be done beside encryption than was planned. */
export function expectSameStages(plan: PlanDocument, now: readonly PlannedStage[]): void {
  const linesOf = (stages: readonly PlannedStage[]) =>
    stages.flatMap(({ moves }) =>
      moves.map(({ node, does }) => (node === undefined ? does : `${node}: ${does}`)),
    );
  const [then, present] = [linesOf(plan.stages ?? []), linesOf(now)];
  const details = [
    ...present.filter((line) => !then.includes(line)).map((line) => `not planned: ${line}`),
    ...then.filter((line) => !present.includes(line)).map((line) => `not to be done any more: ${line}`),
  ];
  if (details.length > 0) throw planStale(details);
}

/** Throws CONFIG_INVALID. */
export function parsePlan(text: string, where: string): PlanDocument {
  const invalid = (what: string) =>
    new TsrkeError('CONFIG_INVALID', `${where} is no plan of tsrke: ${what}`, {
      next: 'make one with `tsrke plan --out FILE`',
    });
  let document: Partial<PlanDocument>;
  try {
    document = JSON.parse(text) as Partial<PlanDocument>;
  } catch {
    throw invalid('it is not JSON');
  }
  if (document.type !== 'plan') throw invalid('its type is another one');
  if (document.formatVersion !== 1) throw invalid('it was made by another version of tsrke');
  if (document.action !== 'up' && document.action !== 'rotate') throw invalid('it names no action');
  if (!Array.isArray(document.world?.nodes)) throw invalid('it says nothing of the nodes');
  return document as PlanDocument;
}
