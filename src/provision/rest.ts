/** After encryption: whatever else of the cluster differs from cluster.yml, and what Kubernetes is told of it. */
import { existsSync } from 'node:fs';
import { bundleIn } from '../certificates/bundle.ts';
import { kubeconfigPathOf, type ClusterConfig } from '../config/load.ts';
import { lookAtNodes } from '../planes/look.ts';
import { stagesOf } from '../planes/plan.ts';
import { previewOf } from '../planes/preview.ts';
import { stateIn, type StateStore } from '../state/store.ts';
import type { Cluster } from './cluster.ts';
import { expectAllReached } from './first-up.ts';
import { renewKubeconfig, writeKubeconfig } from './get-files.ts';
import type { Links } from './links.ts';
import { addObjects, grantNodes, lookAtObjects, nodeObjects } from './objects.ts';
import {
  bundleFor,
  fileInForce,
  isRecordedConfig,
  mayHoldKeys,
  planesOf,
  runStages,
  sourcesOf,
  withPlanes,
  withStartedAnew,
  type BundleAsk,
  type Planes,
} from './planes.ts';
import { expectFit } from './preflight.ts';
import type { UpOptions } from './up.ts';
import { counted } from '../words.ts';

export interface RestOptions {
  readonly config: ClusterConfig;
  readonly cluster: Cluster;
  readonly links: Links;
  readonly store: StateStore;
  readonly options: UpOptions;
  /** Its control plane was made just now: nobody uses it yet, so that all of its nodes can go side by side. */
  readonly isNew: boolean;
}

/** Resolves to a sentence for the user, or undefined where there was nothing to do. Rejects with TsrkeError. */
export async function bringUpRest(rest: RestOptions): Promise<string | undefined> {
  const { config, cluster, links, store, options, isNew } = rest;
  const { report, signal } = options;
  const { world } = cluster;
  let state = stateIn(store);
  const { certDir } = options;
  const { planes, issues, warnings } = await planesFor({ config, state, now: world.clock.now(), certDir });
  // A new cluster's were told when they were made.
  if (!isNew) for (const text of warnings) report.note('warning', text);
  const former = bundleIn(state.document.currentState?.certificatesBundle ?? {});
  const bundle = planes.wish.bundle;
  const asNew: Planes = isNew ? { ...planes, recorded: undefined } : planes;
  const sight = await report.task(`look at ${counted(planes.rke.nodes.length, 'node')}`, () =>
    lookAtNodes(planes.rke, asNew.recorded, sourcesOf(planes, links), signal),
  );
  const stages = stagesOf({ planes: planes.wish, sight, recorded: asNew.recorded });
  const objects = await lookAtObjects({ config, planes, links, sight, signal });
  const isKnown = isRecordedConfig(config, planes.recorded ?? planes.rke);
  const isIdle = stages.length === 0 && objects.length === 0 && isKnown && !issues;
  if (isIdle && !isNew) {
    options.approveStages?.([]);
    expectAllReached(sight.unreached, reachLater);
    return undefined;
  }
  // A new cluster's hosts were all checked, and its state saved, before the first of them was touched.
  if (!isNew) {
    const does = objects.map((each) => each.does);
    options.approveStages?.(previewOf(stages, does));
    await expectFit({ planes, sight, links, isFirst: false, options });
    state = await world.save(
      withPlanes(state, ['desiredState'], planes.rke, bundle),
      mayHoldKeys(state),
      signal,
    );
  }
  const run = {
    planes: asNew,
    links,
    objects: nodeObjects({ config, planes, links, sight, signal }),
    report,
    signal,
    hold: (each: AbortSignal) => world.hold(each),
  };
  const granted = await grantNodes({ config, planes, links, sight, report, signal });
  const { done, sight: last } = await runStages(run, (stage) => stage);
  const told = await addObjects({ config, planes, links, sight: last, report, signal });
  state = withPlanes(stateIn(store), ['desiredState', 'currentState'], planes.rke, bundle);
  state = await withStartedAnew(state, planes, links, done, signal);
  await world.save(state, mayHoldKeys(state), signal);
  await keepKubeconfig(config, planes);
  const hasNewAdmin = former['kube-admin']?.certificatePEM !== bundle['kube-admin']?.certificatePEM;
  if (hasNewAdmin) await renewKubeconfig(kubeconfigPathOf(config.path), bundle, report);
  expectAllReached(last.unreached, reachLater);
  const nodes = counted(planes.rke.nodes.length, 'node');
  if (isNew) return `cluster ${config.name} is there: ${nodes}`;
  const changes = granted + done.length + told;
  // What cluster.yml says otherwise than the state may be the way to a node, which changes nothing there.
  return changes === 0 ? undefined : `${counted(changes, 'change')} on ${nodes}`;
}

export interface PlanesAsk extends Pick<BundleAsk, 'state' | 'now' | 'certDir'> {
  readonly config: ClusterConfig;
}

/** What a run and a look ahead plan with. */
export async function planesFor({ config, state, ...more }: PlanesAsk): Promise<{
  readonly planes: Planes;
  readonly issues: boolean;
  readonly warnings: readonly string[];
}> {
  const ask = { config, state, file: fileInForce(state), reloads: config.encryption.reload === 'automatic' };
  const { rke } = planesOf({ ...ask, bundle: {} });
  const { bundle, isNew, warnings } = await bundleFor({ rke, configPath: config.path, state, ...more });
  return { planes: planesOf({ ...ask, bundle }), issues: isNew, warnings };
}

/** As RKE leaves it beside cluster.yml; one that is there stays as long as it serves. */
async function keepKubeconfig(config: ClusterConfig, { wish: { bundle } }: Planes): Promise<void> {
  const path = kubeconfigPathOf(config.path);
  const text = bundle['kube-admin']?.config ?? '';
  if (text === '' || existsSync(path)) return;
  await writeKubeconfig(path, text);
}

/** Of nodes of cluster.yml on which nothing could be done. */
const reachLater = {
  outcome: 'all other nodes are as cluster.yml has them',
  next: 'make it reachable and run the same command again, or take it out of cluster.yml to remove it from the cluster',
};
