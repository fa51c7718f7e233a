/** Whether the pods of a DaemonSet or Deployment are those that it now asks for. */
import { nameOfRef, type ObjectRef } from './manifest.ts';
import { askPatiently, type Server } from './patient.ts';
import { expectOk, parseJson } from './status.ts';

export interface RolloutOptions {
  readonly server: Server;
  /** DaemonSets and Deployments of apps/v1. */
  readonly of: readonly ObjectRef[];
  /** Milliseconds until it is given up. */
  readonly limit: number;
  /** Told each look that was not yet the last one. */
  readonly onLook?: (unfinished: readonly string[]) => void;
  readonly signal: AbortSignal;
}

/** Looks until all are rolled out or the limit has passed; what is unfinished then, e.g. `Deployment a/b: 1 of 2 pods`. */
export async function waitRolledOut(options: RolloutOptions): Promise<string[]> {
  const { server, of, limit, onLook, signal } = options;
  const end = server.clock.now().getTime() + limit;
  while (true) {
    const looks = await Promise.all(of.map((ref) => rolledOut(server, ref, signal)));
    const unfinished = looks.flatMap((why, index) => {
      const ref = of[index];
      return why === undefined || ref === undefined ? [] : [`${nameOfRef(ref)}: ${why}`];
    });
    if (unfinished.length === 0 || server.clock.now().getTime() >= end) return unfinished;
    onLook?.(unfinished);
    await server.clock.sleep(1_000, signal);
  }
}

/** undefined: it is; else how far. */
async function rolledOut(server: Server, ref: ObjectRef, signal: AbortSignal): Promise<string | undefined> {
  const resource = ref.kind === 'DaemonSet' ? 'daemonsets' : 'deployments';
  const path = `/apis/apps/v1/namespaces/${ref.namespace}/${resource}/${ref.name}`;
  const answer = await askPatiently(server, { method: 'GET', path }, signal);
  if (answer.status === 404) return 'not there';
  const object = parseJson(expectOk(answer, server.node, `GET ${path}`), server.node, path) as Workload;
  return ref.kind === 'DaemonSet' ? ofDaemonSet(object) : ofDeployment(object);
}

export interface Workload {
  readonly metadata?: { readonly generation?: number };
  readonly spec?: {
    readonly replicas?: number;
    readonly updateStrategy?: { readonly type?: string };
  };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly desiredNumberScheduled?: number;
    readonly updatedNumberScheduled?: number;
    readonly numberAvailable?: number;
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
  };
}

/** A DaemonSet without nodes is rolled out. With OnDelete nobody but its owner replaces the old pods. */
export function ofDaemonSet({ metadata, spec, status = {} }: Workload): string | undefined {
  if ((status.observedGeneration ?? 0) < (metadata?.generation ?? 0)) return 'not begun';
  const wanted = status.desiredNumberScheduled ?? 0;
  const updated = spec?.updateStrategy?.type === 'OnDelete' ? wanted : (status.updatedNumberScheduled ?? 0);
  return progress(Math.min(updated, status.numberAvailable ?? 0), wanted);
}

export function ofDeployment({ metadata, spec, status = {} }: Workload): string | undefined {
  if ((status.observedGeneration ?? 0) < (metadata?.generation ?? 0)) return 'not begun';
  const wanted = spec?.replicas ?? 1;
  const { replicas = 0, updatedReplicas: updated = 0, availableReplicas: available = 0 } = status;
  if (updated >= wanted && replicas > updated) return `${replicas - updated} old pod(s) still there`;
  return progress(Math.min(updated, available), wanted);
}

function progress(done: number, wanted: number): string | undefined {
  return done >= wanted ? undefined : `${done} of ${wanted} pod(s)`;
}
