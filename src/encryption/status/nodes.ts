/** One node as a row: what runs there, and why it is not in step. Pure. */
import type { NodeName } from '../../ports.ts';
import { film, noFile, sameMeaning, type ProviderFile } from '../configuration.ts';
import type { PluginSight, PluginState } from '../kms/containers.ts';
import type { Line } from '../plan.ts';
import type { NodeSight } from './sight.ts';

export interface NodeRow {
  readonly node: NodeName;
  readonly address: string;
  /** SSH and Docker answered. */
  readonly reachable: boolean;
  readonly ready: boolean;
  /** kube-apiserver runs with --encryption-provider-config. */
  readonly flag: boolean;
  /** As the server says it; left out while it does not serve. */
  readonly version?: string;
  /** sha256 of the file on its disk, with owner and mode. */
  readonly onDisk?: { readonly sha256: string; readonly owner: number; readonly mode: string };
  /** sha256 of what it says it has loaded (from 1.34). */
  readonly loaded?: string;
  /** `unknown`: it does not say, and tsrke did not record this start. */
  readonly hasLoaded: 'yes' | 'no' | 'unknown';
  /** What its file holds, without key material. */
  readonly file?: string;
  /** KMS plugins that tsrke runs; left out where neither cluster.yml nor the state has one. */
  readonly plugins?: readonly PluginSight[];
  /** No more is to be done here for now. */
  readonly inStep: boolean;
  /** Why not, or what else is worth knowing: one line each. */
  readonly why: readonly string[];
}

export interface JudgedNode {
  readonly row: NodeRow;
  /** Those of `why` that are not as they should be. */
  readonly problems: readonly NodeProblem[];
}

export interface NodeProblem {
  readonly kind:
    | 'node-unreachable'
    | 'node-without-apiserver'
    | 'node-not-ready'
    | 'node-not-in-step'
    | 'kms-plugin'
    | 'file-exposed';
  readonly text: string;
}

export interface RowContext {
  /** Where the cluster is on its way to. */
  readonly goal: ProviderFile;
  /** The next line of work, as far as the nodes that were seen tell. */
  readonly next: Line | undefined;
  readonly open: boolean;
}

export function nodeRow(seen: NodeSight, context: RowContext): JudgedNode {
  const { onDisk, file, version, reported } = seen;
  const problems = problemsOf(seen, context);
  const remarks = remarksOf(seen);
  const inStep = problems.every(({ kind }) => kind === 'file-exposed') && !isGone(seen);
  const row: NodeRow = {
    ...{ node: seen.node, address: seen.address, reachable: seen.reachable },
    ...{ ready: seen.readiness?.ready ?? false, flag: seen.flag },
    ...(version === undefined ? {} : { version }),
    ...(onDisk === undefined
      ? {}
      : {
          onDisk: {
            sha256: onDisk.sha256,
            owner: onDisk.uid,
            mode: onDisk.mode.toString(8).padStart(4, '0'),
          },
        }),
    ...(reported === undefined ? {} : { loaded: reported }),
    hasLoaded: seen.loaded,
    ...(file === undefined ? {} : { file: film(file) }),
    ...(seen.plugins.length === 0 ? {} : { plugins: seen.plugins }),
    inStep,
    why: [...problems.map(({ text }) => text), ...remarks],
  };
  return { row, problems };
}

/** Taken out of cluster.yml, and there no more: the cluster itself would say if it still served. */
function isGone({ named, reachable, container }: NodeSight): boolean {
  return (!named && !reachable) || (reachable && container === undefined);
}

function remarksOf({ named, recorded, reachable, container }: NodeSight): string[] {
  if (!named && !reachable) return ['is not in cluster.yml and cannot be reached: taken for gone'];
  if (reachable && container === undefined && !recorded) return ['runs no kube-apiserver yet'];
  return [];
}

function problemsOf(seen: NodeSight, context: RowContext): NodeProblem[] {
  const { named, recorded, reachable, failure, container, onDisk, path } = seen;
  if (!reachable) {
    return named ? [{ kind: 'node-unreachable', text: `cannot be reached: ${failure ?? ''}` }] : [];
  }
  if (failure !== undefined) return [{ kind: 'node-unreachable', text: failure }];
  if (container === undefined) {
    return recorded ? [{ kind: 'node-without-apiserver', text: 'runs no kube-apiserver any more' }] : [];
  }
  const exposed = onDisk !== undefined && (onDisk.uid !== 0 || (onDisk.mode & 0o077) !== 0);
  return [
    ...readiness(seen),
    ...seen.plugins.flatMap(pluginProblem),
    ...step(seen, context),
    ...(exposed
      ? [
          {
            kind: 'file-exposed' as const,
            text: `${path} has owner ${onDisk.uid} and mode ${onDisk.mode.toString(8)}: others than root can read the keys`,
          },
        ]
      : []),
  ];
}

function readiness({ container, readiness: said }: NodeSight): NodeProblem[] {
  if (container?.interrupted === true) {
    return [
      { kind: 'node-not-ready', text: 'the recreation of kube-apiserver is under way, or was cut off' },
    ];
  }
  if (container?.running !== true) return [{ kind: 'node-not-ready', text: 'kube-apiserver does not run' }];
  if (said?.serves !== true)
    return [{ kind: 'node-not-ready', text: 'kube-apiserver runs but does not answer' }];
  if (said.ready) return [];
  return [
    { kind: 'node-not-ready', text: `kube-apiserver is not ready: ${said.failing.slice(0, 3).join(', ')}` },
  ];
}

const pluginTexts: Readonly<Record<Exclude<PluginState, 'running'>, string>> = {
  stopped: 'its container does not run',
  missing: 'it has no container',
  unfinished: 'the exchange of its container is under way, or was cut off',
  'other-definition': 'its container is of another definition than the one in cluster.yml',
  'not-wanted': 'cluster.yml does not name it any more',
};

function pluginProblem({ socket, state }: PluginSight): NodeProblem[] {
  if (state === 'running') return [];
  return [{ kind: 'kms-plugin', text: `KMS plugin at ${socket}: ${pluginTexts[state]}` }];
}

/** At most one: the first that explains the others. */
function step(seen: NodeSight, { goal, next, open }: RowContext): NodeProblem[] {
  const { node, flag, file, fileProblem, path, loaded, container, onDisk } = seen;
  const not = (text: string): NodeProblem[] => [{ kind: 'node-not-in-step', text }];
  if (fileProblem !== undefined) return not(`its next start would fail: ${fileProblem}`);
  if (flag && file === undefined) return not(`its next start would fail: ${path} is gone`);
  if (flag && loaded === 'no' && container?.running === true && seen.readiness?.serves === true) {
    return not('has loaded another file than the one on its disk');
  }
  const pushed = next !== undefined && 'pushes' in next && next.pushes.some((push) => push.node === node);
  if (!pushed) return [];
  if (flag && loaded === 'unknown') {
    return not('nothing shows that it has loaded its file (kube-apiserver says so from 1.34 on)');
  }
  const own = flag ? (file ?? noFile) : noFile;
  if (!sameMeaning(own, goal)) {
    if (open) return not(`has ${film(own)}; its next file is still to come`);
    return not(`its file is not the one of the state: ${film(own)}`);
  }
  if (onDisk !== undefined && !flag) return not('has a provider file that no flag names');
  if (seen.binds !== 'as wanted') {
    return not('its container has other binds than the extra_binds of cluster.yml');
  }
  switch (seen.reloadFlag) {
    case 'as wanted':
      return [];
    case 'lacking':
      return not('its kube-apiserver runs without automatic reload, which cluster.yml asks for');
    case 'spare':
      return not('its kube-apiserver runs with automatic reload, which cluster.yml does not ask for');
  }
}
