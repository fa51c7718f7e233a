/** Does what a plan of addons says, and keeps the record of it in the cluster. */
import { messageOf, TsrkeError } from '../errors.ts';
import { applyObjects, deleteObject, fieldManager } from '../kube/apply.ts';
import { nameOfRef, refKey, refOf, type ObjectRef } from '../kube/manifest.ts';
import { askPatiently, type Server } from '../kube/patient.ts';
import { waitRolledOut } from '../kube/rollout.ts';
import { expectOk } from '../kube/status.ts';
import type { Report } from '../ports.ts';
import { hashOf, type AddonName } from './addon.ts';
import { lineOf, type AddonPlan, type AddonStep } from './plan.ts';
import { recordName, type AddonRecord, type Recorded } from './seen.ts';

export interface CarryOutOptions {
  readonly server: Server;
  readonly plan: AddonPlan;
  /** As seen when the plan was made. */
  readonly record: AddonRecord;
  /** `addon_job_timeout`, seconds: for kinds and namespaces that are to come, and for pods. */
  readonly timeout: number;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/**
 * Throws KUBE where a critical addon cannot be applied; others are warned of, and tried again by the next run. Pods that
 * do not run in time are warned of too: with RKE nobody waits for them.
 */
export async function carryOutAddons(options: CarryOutOptions): Promise<void> {
  const { plan, report, timeout, signal } = options;
  const server = { ...options.server, patience: Math.max(1, timeout) * 1000 };
  const ledger = new Ledger(server, options.record);
  for (const { level, text } of plan.notes) report.note(level, text);
  for (const step of plan.steps) {
    try {
      await report.task(lineOf(step), (task) =>
        carryOut(step, server, ledger, (text) => task.progress(text), signal),
      );
    } catch (error) {
      const isFatal =
        !(error instanceof TsrkeError) || error.code !== 'KUBE' || step.addon?.critical === true;
      if (isFatal) throw error;
      report.note('warning', `${messageOf(error)}; the next run tries again`);
    }
    for (const ref of step.stays) {
      report.note(
        'info',
        `${nameOfRef(ref)} is no longer wanted and stays; delete it yourself if it is empty`,
      );
    }
  }
  const pods = plan.steps.flatMap(podsOf);
  if (pods.length === 0) return;
  const unfinished = await report.task('wait for the pods of addons', (task) =>
    waitRolledOut({
      ...{ server, of: pods, limit: timeout * 1000, signal },
      onLook: (left) => task.progress(left.join(', ')),
    }),
  );
  for (const each of unfinished) report.note('warning', `${each} after ${timeout} s`);
}

function podsOf({ addon }: AddonStep): ObjectRef[] {
  if (addon?.runs !== true) return [];
  const refs = addon.manifests.map(({ object }) => refOf(object));
  return refs.filter(({ kind }) => kind === 'DaemonSet' || kind === 'Deployment');
}

async function carryOut(
  step: AddonStep,
  server: Server,
  ledger: Ledger,
  progress: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { name, addon, removes, takesOver } = step;
  const manifests = addon?.manifests ?? [];
  const wanted = manifests.map(({ object }) => refOf(object));
  // Before anything is there: a run that is cut off leaves nothing behind that nobody knows of.
  await ledger.set(name, { sha256: '', objects: distinct([...wanted, ...removes]) }, signal);
  const applied = await applyObjects(
    server,
    manifests,
    {
      adopts: takesOver.length > 0,
      onObject: (ref, done) => progress(`${done} of ${manifests.length}: ${nameOfRef(ref)}`),
    },
    signal,
  );
  for (const ref of removes.toReversed()) {
    progress(`removes ${nameOfRef(ref)}`);
    await deleteObject(server, ref, applied, signal);
  }
  const recorded = addon && { sha256: hashOf(manifests), objects: distinct(wanted) };
  await ledger.set(name, recorded, signal);
  // Last: as long as these are there, so is the list of what RKE has deployed.
  for (const each of takesOver) await removeOfRke(server, each, signal);
}

/** RKE would take its own ConfigMap for what is deployed. */
async function removeOfRke(server: Server, name: string, signal: AbortSignal): Promise<void> {
  const namespace = 'kube-system';
  const job = { apiVersion: 'batch/v1', kind: 'Job', namespace, name: `${name}-deploy-job` };
  await deleteObject(server, job, new Set(), signal);
  await deleteObject(server, { apiVersion: 'v1', kind: 'ConfigMap', namespace, name }, new Set(), signal);
}

function distinct(refs: readonly ObjectRef[]): ObjectRef[] {
  return [...new Map(refs.map((ref) => [refKey(ref), ref])).values()];
}

/** The record as it lies in the cluster: ConfigMap kube-system/tsrke-addons. */
class Ledger {
  readonly #server: Server;
  readonly #record: Map<AddonName, Recorded>;

  constructor(server: Server, record: AddonRecord) {
    this.#server = server;
    this.#record = new Map(record);
  }

  /** undefined: nothing of it is there any more. Throws KUBE. */
  async set(name: AddonName, recorded: Recorded | undefined, signal: AbortSignal): Promise<void> {
    if (recorded === undefined) this.#record.delete(name);
    else this.#record.set(name, recorded);
    const data = [...this.#record].map(([each, { sha256, objects }]) => [
      each,
      JSON.stringify({ sha256, objects }),
    ]);
    const answer = await askPatiently(
      this.#server,
      {
        method: 'PATCH',
        path: `/api/v1/namespaces/kube-system/configmaps/${recordName}?fieldManager=${fieldManager}&force=true`,
        contentType: 'application/apply-patch+yaml',
        body: {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: recordName, namespace: 'kube-system' },
          data: Object.fromEntries(data) as unknown,
        },
      },
      signal,
    );
    expectOk(answer, this.#server.node, `to keep the record of addons (ConfigMap ${recordName})`);
  }
}
