/** Node objects: what they carry, what they should carry by cluster.yml, and taking them out of service. */
import type { RkeNode } from '../config/rke-config.ts';
import { TsrkeError } from '../errors.ts';
import { taintText, type NodeMarks, type Taint } from '../services/node.ts';
import { askPatiently, type Server } from './patient.ts';
import { expectOk, parseJson, reasonOf } from './status.ts';

/** As the API has it: `value` may be missing, `timeAdded` be there. */
export interface NodeTaint extends Omit<Taint, 'value'> {
  readonly value?: string;
  readonly timeAdded?: string;
}

export interface KubeNode {
  readonly name: string;
  readonly resourceVersion: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly taints: readonly NodeTaint[];
  readonly addresses: readonly { readonly type: string; readonly address: string }[];
  readonly ready: boolean;
  /** Cordoned. */
  readonly unschedulable: boolean;
  /** Kubelet's, e.g. `v1.30.5`. */
  readonly kubeletVersion: string;
}

const collection = '/api/v1/nodes';

/** Throws KUBE. */
export async function listNodes(server: Server, signal: AbortSignal): Promise<KubeNode[]> {
  const nodes: KubeNode[] = [];
  let token = '';
  do {
    const more = token === '' ? '' : `&continue=${encodeURIComponent(token)}`;
    const path = `${collection}?limit=200${more}`;
    const answer = await askPatiently(server, { method: 'GET', path }, signal);
    if (answer.status === 410) {
      // A page that took too long: from the beginning.
      nodes.length = 0;
      token = '';
      continue;
    }
    const what = 'GET Nodes';
    const list = parseJson(expectOk(answer, server.node, what), server.node, what) as {
      metadata?: { continue?: string };
      items?: RawNode[] | null;
    };
    nodes.push(...(list.items ?? []).map(parsed));
    token = list.metadata?.continue ?? '';
    if (token === '') return nodes;
  } while (true);
}

interface RawNode {
  readonly metadata?: {
    readonly name?: string;
    readonly resourceVersion?: string;
    readonly labels?: Record<string, string>;
    readonly annotations?: Record<string, string>;
  };
  readonly spec?: { readonly taints?: NodeTaint[] | null; readonly unschedulable?: boolean };
  readonly status?: {
    readonly conditions?: { readonly type?: string; readonly status?: string }[] | null;
    readonly addresses?: { readonly type?: string; readonly address?: string }[] | null;
    readonly nodeInfo?: { readonly kubeletVersion?: string };
  };
}

function parsed({ metadata = {}, spec = {}, status = {} }: RawNode): KubeNode {
  return {
    name: metadata.name ?? '',
    resourceVersion: metadata.resourceVersion ?? '',
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    taints: spec.taints ?? [],
    addresses: (status.addresses ?? []).map(({ type = '', address = '' }) => ({ type, address })),
    ready: (status.conditions ?? []).some((each) => each.type === 'Ready' && each.status === 'True'),
    unschedulable: spec.unschedulable === true,
    kubeletVersion: status.nodeInfo?.kubeletVersion ?? '',
  };
}

/**
 * As RKE finds it: by the label of its hostname, in any case; where a cloud names the nodes (external-aws), by internal
 * address too.
 */
export function nodeOf(
  nodes: readonly KubeNode[],
  node: Pick<RkeNode, 'hostnameOverride' | 'internalAddress'>,
  cloud?: string,
): KubeNode | undefined {
  const name = node.hostnameOverride.toLowerCase();
  const byName = nodes.find((each) => each.labels['kubernetes.io/hostname']?.toLowerCase() === name);
  if (byName !== undefined || cloud !== 'external-aws') return byName;
  return nodes.find(({ addresses }) =>
    addresses.some(({ type, address }) => type === 'InternalIP' && address === node.internalAddress),
  );
}

/** What is to change on a Node; null: to be removed. */
export interface MarkChanges {
  readonly labels: Readonly<Record<string, string | null>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** All of them, as they should be; undefined: as they are. */
  readonly taints: readonly NodeTaint[] | undefined;
}

/**
 * undefined: the Node carries all that it should. What neither cluster.yml nor RKE has put there stays; `former`: the
 * marks that cluster.yml asked for last time.
 */
export function marksToSet(
  node: Pick<KubeNode, 'labels' | 'annotations' | 'taints'>,
  marks: NodeMarks,
  former: NodeMarks | undefined,
): MarkChanges | undefined {
  const gone = [...marks.labelsToRemove, ...Object.keys(former?.labels ?? {})].filter(
    (label) => !Object.hasOwn(marks.labels, label) && Object.hasOwn(node.labels, label),
  );
  const labels = {
    ...differing(marks.labels, node.labels),
    ...Object.fromEntries(gone.map((label) => [label, null])),
  };
  const annotations = differing(marks.annotations, node.annotations);
  const taints = taintsToSet(node.taints, marks, former);
  const nothing = Object.keys({ ...labels, ...annotations }).length === 0 && taints === undefined;
  return nothing ? undefined : { labels, annotations, taints };
}

function differing(
  wanted: Readonly<Record<string, string>>,
  there: Readonly<Record<string, string>>,
): Record<string, string> {
  return Object.fromEntries(Object.entries(wanted).filter(([key, value]) => there[key] !== value));
}

function taintsToSet(
  there: readonly NodeTaint[],
  marks: NodeMarks,
  former: NodeMarks | undefined,
): readonly NodeTaint[] | undefined {
  const old = [...marks.taintsToRemove, ...(former?.taints ?? [])];
  const wanted = (taint: NodeTaint) => marks.taints.find((each) => isSame(each, taint));
  const kept = there.filter((taint) => {
    const mine = wanted(taint);
    return mine === undefined ? !old.some((each) => isSame(each, taint)) : mine.value === (taint.value ?? '');
  });
  const added = marks.taints.filter((taint) => !kept.some((each) => isSame(each, taint)));
  return added.length === 0 && kept.length === there.length ? undefined : [...kept, ...added];
}

function isSame(a: Pick<Taint, 'key' | 'effect'>, b: Pick<Taint, 'key' | 'effect'>): boolean {
  return a.key === b.key && a.effect === b.effect;
}

/** For a person: `label a=b`, `no label c`, `annotation …`, `taint …`. */
export function describeMarks(changes: MarkChanges, node: Pick<KubeNode, 'taints'>): string[] {
  const now = node.taints.map(textOf);
  const wanted = (changes.taints ?? node.taints).map(textOf);
  return [
    ...Object.entries(changes.labels).map(([key, value]) =>
      value === null ? `no label ${key}` : `label ${key}=${value}`,
    ),
    ...Object.entries(changes.annotations).map(([key, value]) => `annotation ${key}=${value}`),
    ...wanted.filter((taint) => !now.includes(taint)).map((taint) => `taint ${taint}`),
    ...now.filter((taint) => !wanted.includes(taint)).map((taint) => `no taint ${taint}`),
  ];
}

function textOf({ key, value = '', effect }: NodeTaint): string {
  return taintText({ key, value, effect });
}

/** Six, as RKE has it: kubelet and controllers write Nodes all the time. */
const tries = 6;

/** Looks, and changes what differs, until nothing does. Resolves to whether anything was changed. Throws KUBE. */
export async function setMarks(
  server: Server,
  name: string,
  marks: NodeMarks,
  former: NodeMarks | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    const node = await getNode(server, name, signal);
    const changes = marksToSet(node, marks, former);
    if (changes === undefined) return false;
    // The list of taints is replaced as a whole: never over one that was not seen.
    const body = {
      metadata: {
        resourceVersion: node.resourceVersion,
        labels: changes.labels,
        annotations: changes.annotations,
      },
      ...(changes.taints === undefined ? {} : { spec: { taints: changes.taints } }),
    };
    const answer = await patchNode(server, name, body, signal);
    if (answer.status !== 409) {
      expectOk(answer, server.node, `to change Node ${name}`);
      return true;
    }
    if (attempt === tries) {
      throw new TsrkeError('KUBE', `Node ${name} could not be changed: ${reasonOf(answer)}`, {
        node: server.node,
      });
    }
  }
}

/** Cordons it (no new pods), or makes it take pods again. Throws KUBE. */
export async function setSchedulable(
  server: Server,
  name: string,
  schedulable: boolean,
  signal: AbortSignal,
): Promise<void> {
  const answer = await patchNode(
    server,
    name,
    { spec: { unschedulable: schedulable ? null : true } },
    signal,
  );
  expectOk(answer, server.node, `to ${schedulable ? 'uncordon' : 'cordon'} Node ${name}`);
}

/** Removes the Node object; one that is not there is fine. Throws KUBE. */
export async function deleteNode(server: Server, name: string, signal: AbortSignal): Promise<void> {
  const answer = await askPatiently(server, { method: 'DELETE', path: pathOf(name) }, signal);
  if (answer.status !== 404) expectOk(answer, server.node, `to delete Node ${name}`);
}

async function getNode(server: Server, name: string, signal: AbortSignal): Promise<KubeNode> {
  const answer = await askPatiently(server, { method: 'GET', path: pathOf(name) }, signal);
  const what = `GET Node ${name}`;
  return parsed(parseJson(expectOk(answer, server.node, what), server.node, what) as RawNode);
}

function patchNode(server: Server, name: string, body: unknown, signal: AbortSignal) {
  const contentType = 'application/merge-patch+json';
  return askPatiently(server, { method: 'PATCH', path: pathOf(name), contentType, body }, signal);
}

function pathOf(name: string): string {
  return `${collection}/${encodeURIComponent(name)}`;
}
