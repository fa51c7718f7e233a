/** `tsrke plan`: what `tsrke up` would do to the whole cluster, and in a cluster that is not there yet. */
import { setMaxListeners } from 'node:events';
import { describeCaRotation } from '../certificates/ca-rotation.ts';
import { loadConfig, statePathOf, type ClusterConfig } from '../config/load.ts';
import type { PlanDocument, PlannedStage } from '../encryption/plan-document.ts';
import { lookAtNodes } from '../planes/look.ts';
import { stagesOf } from '../planes/plan.ts';
import { previewOf } from '../planes/preview.ts';
import type { ClusterState } from '../state/rkestate.ts';
import { fileStore } from '../state/store.ts';
import { lookForLost, previewOfLost } from './bring-back.ts';
import { connectCluster } from './cluster.ts';
import { beginCluster, expectPlannable, isBegun } from './first-up.ts';
import { lent, linkOverSsh, withLinks } from './links.ts';
import { everyNode } from './members.ts';
import { lookAtObjects, objectsOfNew } from './objects.ts';
import { planChange, type PlanOptions } from './plan.ts';
import { planesOf, sourcesOf } from './planes.ts';
import { quiet } from './quiet.ts';
import { planesFor } from './rest.ts';
import type { UpSurroundings } from './up.ts';
import { wantedOf } from './wanted.ts';

/** Rejects with whatever would stop the run before it touches anything. */
export async function planUp(
  options: Omit<PlanOptions, 'action'>,
  { store, link }: UpSurroundings = {
    store: fileStore(statePathOf(options.configPath)),
    link: linkOverSsh,
  },
): Promise<PlanDocument> {
  const { report, signal } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  const wanted = wantedOf(config);
  const found = store.read();
  const begun = await beginCluster({ config, wanted, found, store, options });
  const { state, access, file } = begun;
  const nodes = everyNode(config, state);
  const linked = { config, nodes, ...access, hostKeys: state.tsrke.hostKeys, report: quiet(report) };
  return await withLinks(link, linked, async (links) => {
    const now = links.clock.now();
    if (isBegun(state)) {
      const lost = await lookForLost({ config, state, where: store.where, links, options });
      if (lost !== undefined) return planWithout({ config, state, now }, previewOfLost(lost), lostNote);
      const connect: typeof connectCluster = (to) => connectCluster(to, () => lent(links));
      const change = await planChange({ ...options, action: 'up' }, { store, connect });
      const { caRotation } = state.tsrke;
      const plan =
        caRotation === undefined
          ? change
          : { ...change, note: [change.note, describeCaRotation(caRotation)].filter(Boolean).join('; ') };
      const { planes, warnings } = await planesFor({ config, state, now, certDir: options.certDir });
      for (const text of warnings) report.note('warning', text);
      const sight = await report.task('look at the containers of all nodes', () =>
        lookAtNodes(planes.rke, planes.recorded, sourcesOf(planes, links), signal),
      );
      const stages = stagesOf({ planes: planes.wish, sight, recorded: planes.recorded });
      const objects = await lookAtObjects({ config, planes, links, sight, signal });
      const planned = previewOf(
        stages,
        objects.map(({ does }) => does),
      );
      if (planned.length === 0) return plan;
      return { ...plan, somethingToDo: true, stages: planned };
    }
    const reloads = config.encryption.reload === 'automatic';
    const planes = planesOf({ config, state, bundle: begun.bundle, file, reloads });
    const sight = await report.task('look at the hosts', () =>
      lookAtNodes(planes.rke, undefined, sourcesOf(planes, links), signal),
    );
    expectPlannable(found, sight, store.where);
    const stages = stagesOf({ planes: planes.wish, sight, recorded: undefined });
    const objects = await objectsOfNew({ config, planes, signal });
    return planWithout({ config, state, now }, previewOf(stages, objects), begun.note);
  });
}

const lostNote =
  'containers of this cluster are lost: they are made again first, as they were; what else there is to do can be told once they run';

/** Where no kube-apiserver can be asked. */
function planWithout(
  {
    config,
    state,
    now,
  }: { readonly config: ClusterConfig; readonly state: ClusterState; readonly now: Date },
  stages: readonly PlannedStage[],
  note: string,
): PlanDocument {
  return {
    type: 'plan',
    formatVersion: 1,
    time: now.toISOString(),
    cluster: config.name,
    action: 'up',
    somethingToDo: true,
    note,
    keys: [],
    due: [],
    differences: [],
    steps: [],
    stages,
    restarts: 0,
    objects: 0,
    world: { state: { serial: state.tsrke.serial, sha256: '' }, wanted: '', nodes: [], stored: {} },
  };
}
