/** Moves the pods of a node elsewhere by eviction, so that PodDisruptionBudgets are kept, as `kubectl drain` does. */
import { messageOf, TsrkeError } from '../errors.ts';
import { answerOf, askPatiently, type Server } from './patient.ts';
import { expectOk, parseJson, reasonOf } from './status.ts';

/** `upgrade_strategy.node_drain_input`, with RKE's names in rkeConfig. */
export interface DrainInput {
  /** Also pods that nothing will start again elsewhere. */
  readonly force?: boolean;
  readonly ignoreDaemonSets?: boolean;
  /** Also pods that keep data in an emptyDir. */
  readonly deleteLocalData?: boolean;
  /** Seconds; negative: what each pod asks for. */
  readonly gracePeriod?: number;
  /** Seconds for the whole node. */
  readonly timeout?: number;
}

export interface DrainOptions {
  readonly server: Server;
  /** Of the Node object; cordoned already. */
  readonly name: string;
  readonly input: DrainInput;
  /** Told while pods are left. */
  readonly onLook?: (left: readonly string[]) => void;
  readonly signal: AbortSignal;
}

interface Pod {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ownerReferences?: readonly { readonly kind?: string; readonly controller?: boolean }[];
  };
  readonly spec?: { readonly volumes?: readonly { readonly emptyDir?: unknown }[] | null };
  readonly status?: { readonly phase?: string };
}

interface Leaving {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

const defaultTimeout = 120;

/**
 * Resolves once all pods that have to go are gone. Throws DRAIN before anything is evicted where a pod may not be, or
 * with what is left, and why, when the time is over; KUBE.
 */
export async function drain(options: DrainOptions): Promise<void> {
  const { server, name, input, onLook, signal } = options;
  const { timeout = defaultTimeout } = input;
  const end = server.clock.now().getTime() + timeout * 1000;
  const { leaving, kept } = chooseLeaving(await podsOn(server, name, signal), input);
  if (kept.length > 0) {
    throw new TsrkeError('DRAIN', `Node ${name} holds ${kept.length} pod(s) that may not be moved`, {
      node: server.node,
      details: kept,
      next: 'move them yourself, or let them go with `upgrade_strategy.node_drain_input` in cluster.yml',
    });
  }
  const asked = new Set<string>();
  let left: readonly Leaving[] = leaving;
  while (left.length > 0) {
    const why = new Map<string, string>();
    for (const pod of left.filter(({ uid }) => !asked.has(uid))) {
      const refusal = await evict(server, pod, input, signal);
      if (refusal === undefined) asked.add(pod.uid);
      else why.set(pod.uid, refusal);
    }
    const there = new Set((await podsOn(server, name, signal)).map(({ metadata }) => metadata?.uid));
    left = left.filter(({ uid }) => there.has(uid));
    if (left.length === 0) return;
    const texts = left.map((pod) => `${pod.namespace}/${pod.name}: ${why.get(pod.uid) ?? 'is ending'}`);
    if (server.clock.now().getTime() >= end) {
      throw new TsrkeError('DRAIN', `Node ${name} was not drained within ${timeout} s`, {
        node: server.node,
        details: texts,
        next: 'see why these pods stay, or give it longer with `upgrade_strategy.node_drain_input.timeout`',
      });
    }
    onLook?.(texts);
    await server.clock.sleep(why.size > 0 ? 5_000 : 1_000, signal);
  }
}

/** Pods to evict, and those that the input does not let go, with the reason. */
export function chooseLeaving(
  pods: readonly Pod[],
  input: DrainInput,
): { leaving: Leaving[]; kept: string[] } {
  const leaving: Leaving[] = [];
  const kept: string[] = [];
  for (const { metadata = {}, spec, status } of pods) {
    const { namespace = '', name = '', uid = '', annotations = {} } = metadata;
    // Kubelet's own, from a file on the node.
    if (Object.hasOwn(annotations, 'kubernetes.io/config.mirror')) continue;
    const controller = (metadata.ownerReferences ?? []).find((owner) => owner.controller === true);
    const isOver = status?.phase === 'Succeeded' || status?.phase === 'Failed';
    if (controller?.kind === 'DaemonSet' && !isOver) {
      if (input.ignoreDaemonSets !== true) {
        kept.push(`${namespace}/${name} belongs to a DaemonSet (ignore_daemonsets)`);
      }
      continue;
    }
    const local = (spec?.volumes ?? []).some((volume) => volume.emptyDir !== undefined);
    if (!isOver && controller === undefined && input.force !== true) {
      kept.push(`${namespace}/${name} has no controller that starts it elsewhere (force)`);
    } else if (!isOver && local && input.deleteLocalData !== true) {
      kept.push(`${namespace}/${name} keeps data in an emptyDir (delete_local_data)`);
    } else leaving.push({ namespace, name, uid });
  }
  return { leaving, kept };
}

/** undefined: it goes, or is gone; else why not yet. Throws KUBE. */
async function evict(
  server: Server,
  { namespace, name, uid }: Leaving,
  { gracePeriod = -1 }: DrainInput,
  signal: AbortSignal,
): Promise<string | undefined> {
  const body = {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { namespace, name },
    deleteOptions: {
      preconditions: { uid },
      ...(gracePeriod < 0 ? {} : { gracePeriodSeconds: gracePeriod }),
    },
  };
  const path = `/api/v1/namespaces/${namespace}/pods/${name}/eviction`;
  const answer = await answerOf(server.kube.request(server.node, { method: 'POST', path, body }, signal));
  if (answer instanceof TsrkeError) return messageOf(answer);
  // 409: another pod of this name by now.
  if (answer.status === 404 || answer.status === 409) return undefined;
  if (answer.status === 429 || answer.status >= 500) return reasonOf(answer);
  if (answer.status === 403 && /is being terminated/.test(reasonOf(answer))) return reasonOf(answer);
  expectOk(answer, server.node, `to evict ${namespace}/${name}`);
  return undefined;
}

async function podsOn(server: Server, name: string, signal: AbortSignal): Promise<readonly Pod[]> {
  const what = `GET the pods of Node ${name}`;
  const path = `/api/v1/pods?fieldSelector=${encodeURIComponent(`spec.nodeName=${name}`)}`;
  const answer = await askPatiently(server, { method: 'GET', path }, signal);
  const list = parseJson(expectOk(answer, server.node, what), server.node, what) as { items?: Pod[] | null };
  return list.items ?? [];
}
