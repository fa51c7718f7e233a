/** What a run would do, told before it is done: the lines to come, per node, without key material. Pure. */
import type { NodeName } from '../ports.ts';
import { keysOf, resourcesOf, sameMeaning, type ProviderFile } from './configuration.ts';
import { Secret, type Key } from './key.ts';
import { after, type Fit, type Line, type MemberSeen, type Push, type Seen } from './plan.ts';

/** What happens on one node in one line. */
export interface NodeStep {
  readonly node: NodeName;
  readonly providerFile: 'written' | 'removed' | 'as it is';
  readonly apiserver: 'restarted' | 'recreated' | 'left alone';
  /** It comes with the recreation, or goes with it; left out where that stays as it is. */
  readonly automaticReload?: 'added' | 'removed';
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

/** Until every kube-apiserver works with the key that its KMS plugin has by now. */
export interface WaitStep {
  readonly line: 'wait';
  readonly keys: readonly {
    /** The KMS provider's name. */
    readonly provider: string;
    /** What all is to lie under; left out where the plugins differ. */
    readonly keyId?: string;
    readonly nodes: readonly {
      readonly node: NodeName;
      /** The key id that its kube-apiserver was told last (its hash, where nobody knows it); left out: none yet. */
      readonly apiserver?: string;
      /** The key id that its plugin has; left out where it cannot be asked. */
      readonly plugin?: string;
    }[];
  }[];
}

/** Of a line of the engine. */
export type LineStep = FileStep | RewriteStep;

export type PlannedStep = LineStep | PluginStep | WaitStep;

const stillToBeMade = new Secret(Buffer.alloc(32).toString('base64'));

/** Stands for a key that only the run itself will make; a plan tells it from others by its bytes. */
export function plannedKey(provider: Key['provider'], name = '(new key)'): Key {
  return { provider, name: name.replaceAll(':', '-'), secret: stillToBeMade };
}

export function isPlanned({ secret }: Key): boolean {
  return secret.fingerprint === stillToBeMade.fingerprint;
}

/** Which nodes load a changed file by themselves, so that it can be told when they have. */
export interface Reloading {
  readonly now: ReadonlySet<NodeName>;
  /** Once recreated with automatic reload. */
  readonly then: ReadonlySet<NodeName>;
  /** cluster.yml asks for it. */
  readonly isWanted: boolean;
}

/** The lines as steps. `objects`: how many a resource has that lie elsewhere than under the wanted key. */
export function stepsOf(
  lines: readonly Line[],
  target: ProviderFile,
  seen: Seen,
  objects: (resource: string) => number | undefined,
  reloading: Reloading,
): LineStep[] {
  const steps: LineStep[] = [];
  let now = seen;
  const reloads = new Set(reloading.now);
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
      const nodes = line.pushes.flatMap((push) => {
        const member = members.get(push.node);
        const how = {
          remake: line.kind === 'remake',
          reloads: reloads.has(push.node),
          isWanted: reloading.isWanted,
        };
        return member === undefined ? [] : [nodeStep(push, member, how)];
      });
      steps.push({ line: line.kind, file: filmWithPrints(line.state), nodes });
      for (const { node, automaticReload } of nodes) {
        if (automaticReload === 'added' && reloading.then.has(node)) reloads.add(node);
        if (automaticReload === 'removed') reloads.delete(node);
      }
    }
    now = after(line, target, now);
  }
  return steps;
}

/** As deploy does it. */
function nodeStep(
  { node, file }: Push,
  member: MemberSeen,
  { remake, reloads, isWanted }: { remake: boolean; reloads: boolean; isWanted: boolean },
): NodeStep {
  const differs = (fit: Fit) => fit === 'lacking' || (remake && fit === 'spare');
  const remade = differs(member.binds) || differs(member.reloadFlag);
  if (file === undefined) {
    return {
      node,
      providerFile: member.file === undefined ? 'as it is' : 'removed',
      apiserver: member.flag || remade ? 'recreated' : member.ready ? 'left alone' : 'restarted',
    };
  }
  const same = member.file !== undefined && sameMeaning(member.file, file);
  const loads = reloads && member.ready && !remake ? 'left alone' : 'restarted';
  const isAdded = member.reloadFlag === 'lacking' || (!member.flag && isWanted);
  const isRemoved = remake && member.reloadFlag === 'spare';
  return {
    node,
    providerFile: same ? 'as it is' : 'written',
    apiserver: member.flag && !remade ? loads : 'recreated',
    ...(isAdded ? { automaticReload: 'added' } : isRemoved ? { automaticReload: 'removed' } : {}),
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

/** How often a file is waited for that nodes load by themselves: in each line the first alone, then the rest together. */
export function loadsOf(steps: readonly PlannedStep[]): number {
  return steps.reduce((sum, step) => {
    const loads = ({ providerFile, apiserver }: NodeStep) =>
      providerFile === 'written' && apiserver === 'left alone';
    return sum + ('file' in step ? Math.min(2, step.nodes.filter(loads).length) : 0);
  }, 0);
}

/** Whether some kube-apiserver has yet to hear of the key of a KMS. */
export function isWaitNeeded(steps: readonly PlannedStep[]): boolean {
  const keys = steps.flatMap((step) => (step.line === 'wait' ? step.keys : []));
  return keys.some(({ keyId, nodes }) => nodes.some(({ apiserver }) => apiserver !== keyId));
}

export function objectsOf(steps: readonly PlannedStep[]): number {
  return steps
    .flatMap((step) => (step.line === 'rewrite' ? step.resources : []))
    .reduce((sum, { objects = 0 }) => sum + objects, 0);
}
