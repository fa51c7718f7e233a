/** What a run would do, told before it is done: the lines to come, per node, without key material. Pure. */
import type { NodeName } from '../ports.ts';
import { keysOf, resourcesOf, sameMeaning, type ProviderFile } from './configuration.ts';
import { Secret, type Key } from './key.ts';
import { after, type Line, type MemberSeen, type Push, type Seen } from './plan.ts';

/** What happens on one node in one line. */
export interface NodeStep {
  readonly node: NodeName;
  readonly providerFile: 'written' | 'removed' | 'as it is';
  readonly apiserver: 'restarted' | 'recreated' | 'left alone';
}

export interface FileStep {
  readonly line: 'read' | 'write' | 'prune' | 'remake';
  /** What the nodes then have, as `film` prints it, each local key with its fingerprint. */
  readonly file: string;
  /** One after the other, in this order. */
  readonly nodes: readonly NodeStep[];
}

export interface RewriteStep {
  readonly line: 'rewrite';
  readonly resources: readonly { readonly resource: string; readonly objects?: number }[];
}

/** One after the other, in this order. */
export interface PluginStep {
  readonly line: 'plugins' | 'unplug';
  readonly nodes: readonly {
    readonly node: NodeName;
    /** Where the plugin listens. */
    readonly socket: string;
    readonly container: 'created' | 'recreated' | 'started' | 'removed';
  }[];
}

/** Of a line of the engine. */
export type LineStep = FileStep | RewriteStep;

export type PlannedStep = LineStep | PluginStep;

const stillToBeMade = new Secret(Buffer.alloc(32).toString('base64'));

/** Stands for a key that only the run itself will make; a plan tells it from others by its bytes. */
export function plannedKey(provider: Key['provider'], name = '(new key)'): Key {
  return { provider, name: name.replaceAll(':', '-'), secret: stillToBeMade };
}

export function isPlanned({ secret }: Key): boolean {
  return secret.fingerprint === stillToBeMade.fingerprint;
}

/**
 * The lines as steps. `objects`: how many a resource has that lie elsewhere than under the wanted key; `reloads`: nodes
 * that load a changed file by themselves.
 */
export function stepsOf(
  lines: readonly Line[],
  target: ProviderFile,
  seen: Seen,
  objects: (resource: string) => number | undefined,
  reloads: ReadonlySet<NodeName>,
): LineStep[] {
  const steps: LineStep[] = [];
  let now = seen;
  for (const line of lines) {
    if (line.kind === 'done') break;
    if (line.kind === 'rewrite') {
      steps.push({
        line: 'rewrite',
        resources: line.resources.map((resource) => {
          const count = objects(resource);
          return { resource, ...(count === undefined ? {} : { objects: count }) };
        }),
      });
    } else {
      const members = new Map(now.members.map((member) => [member.node, member]));
      steps.push({
        line: line.kind,
        file: filmWithPrints(line.state),
        nodes: line.pushes.flatMap((push) => {
          const member = members.get(push.node);
          const reload = reloads.has(push.node);
          return member === undefined ? [] : [nodeStep(push, member, line.kind === 'remake', reload)];
        }),
      });
    }
    now = after(line, target, now);
  }
  return steps;
}

/** As deploy does it. */
function nodeStep({ node, file }: Push, member: MemberSeen, remake: boolean, reload: boolean): NodeStep {
  const rebinds = member.binds === 'lacking' || (remake && member.binds === 'spare');
  if (file === undefined) {
    return {
      node,
      providerFile: member.file === undefined ? 'as it is' : 'removed',
      apiserver: member.flag || rebinds ? 'recreated' : member.ready ? 'left alone' : 'restarted',
    };
  }
  const same = member.file !== undefined && sameMeaning(member.file, file);
  const loads = reload && member.ready && !remake ? 'left alone' : 'restarted';
  return {
    node,
    providerFile: same ? 'as it is' : 'written',
    apiserver: member.flag && !rebinds ? loads : 'recreated',
  };
}

/** `secrets: aescbc:k-1#3c5a6f0a1b2c,identity`; no entries: `no file`. */
export function filmWithPrints(file: ProviderFile): string {
  if (file.entries.length === 0) return 'no file';
  const groups = new Map<string, string[]>();
  for (const resource of resourcesOf(file)) {
    const keys = keysOf(file, resource).map(({ id, stored, provider }) => {
      const [key] = provider.kind === 'identity' || provider.kind === 'kms' ? [] : provider.keys;
      if (key === undefined || !isPlanned(key)) return id;
      return key.name === '(new key)' ? stored : `${stored} (new)`;
    });
    const text = keys.join(',');
    groups.set(text, [...(groups.get(text) ?? []), resource]);
  }
  return [...groups].map(([keys, resources]) => `${resources.join('+')}: ${keys}`).join('; ');
}

export function restartsOf(steps: readonly PlannedStep[]): number {
  const nodes = steps.flatMap((step) => ('file' in step ? step.nodes : []));
  return nodes.filter(({ apiserver }) => apiserver !== 'left alone').length;
}

export function objectsOf(steps: readonly PlannedStep[]): number {
  return steps
    .flatMap((step) => (step.line === 'rewrite' ? step.resources : []))
    .reduce((sum, { objects = 0 }) => sum + objects, 0);
}
