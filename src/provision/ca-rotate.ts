/**
 * `tsrke cert rotate --rotate-ca`: new CAs for a cluster that runs, in the passes of certificates/ca-rotation.ts. A pass
 * begins when the one before it has reached every node, so nobody ever meets a certificate whose CA it does not trust.
 */
import { setMaxListeners } from 'node:events';
import { bundleIn, type Bundle } from '../certificates/bundle.ts';
import { casIn, expectOwnCas, nextCaPass } from '../certificates/ca-rotation.ts';
import { certifiedClusterOf, leavesOf } from '../certificates/cluster.ts';
import { caPath } from '../certificates/paths.ts';
import { kubeconfigPathOf, loadConfig, statePathOf, type ClusterConfig } from '../config/load.ts';
import type { RkeConfig } from '../config/rke-config.ts';
import { TsrkeError } from '../errors.ts';
import { lookAtNodes } from '../planes/look.ts';
import { describeMove, narrowed, stagesOf, type Move, type Stage } from '../planes/plan.ts';
import { withUnread, type Unread } from '../planes/work.ts';
import type { CaRotation, ClusterState } from '../state/rkestate.ts';
import { fileStore, locked, stateIn, type StateStore } from '../state/store.ts';
import { counted } from '../words.ts';
import { neverUp } from './cert-rotate.ts';
import { renewKubeconfig } from './get-files.ts';
import { withStoredCluster, type Cluster } from './cluster.ts';
import { expectAllReached } from './first-up.ts';
import { linkOverSsh, type Links } from './links.ts';
import {
  fileInForce,
  mayHoldKeys,
  noObjects,
  planesOf,
  recordedConfig,
  runStages,
  sourcesOf,
  withPlanes,
  withStartedAnew,
  type Planes,
} from './planes.ts';
import type { UpOptions, UpSurroundings } from './up.ts';

export interface RotateCasOptions extends UpOptions {
  /** Ends once both CAs are trusted everywhere, so that pods can be started anew before any certificate changes. */
  readonly pauses?: boolean;
}

type Phase = CaRotation['phase'];

const passes: Readonly<Record<Phase, string>> = {
  'trust-both': 'pass 1 of 3: every service trusts the new CAs beside the old ones',
  issue: 'pass 2 of 3: every certificate is issued by the new CAs',
  retire: 'pass 3 of 3: the old CAs are trusted no more',
};

/** Resolves to the sentence for the user. Rejects with TsrkeError. */
export async function rotateCas(
  options: RotateCasOptions,
  { store, link }: UpSurroundings = {
    store: fileStore(statePathOf(options.configPath)),
    link: linkOverSsh,
  },
): Promise<string> {
  const { report, signal } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  return await locked(store, async () => {
    for (let restarts = 0; ;) {
      // Anew for each pass: it needs what the one before it has brought.
      const step = await withStoredCluster({ config, store, report, signal, link }, (cluster, links) =>
        advance({ config, cluster, links, store, options }),
      );
      restarts += step.restarts;
      if (step.said !== undefined) return `${step.said}: ${counted(restarts, 'restart')}`;
    }
  });
}

interface Advancing {
  readonly config: ClusterConfig;
  readonly cluster: Cluster;
  readonly links: Links;
  readonly store: StateStore;
  readonly options: RotateCasOptions;
}

interface Step {
  readonly restarts: number;
  /** undefined: another pass is to follow. */
  readonly said?: string;
}

/** Finishes what was begun, which is nothing where all is as it was recorded; then writes down what comes next. */
async function advance(advancing: Advancing): Promise<Step> {
  const { config, cluster, store, options } = advancing;
  const { world } = cluster;
  const { currentState, desiredState } = cluster.state.document;
  const rke = recordedConfig(cluster.state);
  const bundle = bundleIn(desiredState?.certificatesBundle ?? currentState?.certificatesBundle ?? {});
  if (rke === undefined || Object.keys(bundle).length === 0) throw neverUp(store.where);
  expectRecordedNodes(rke, desiredState?.rkeConfig as RkeConfig | undefined);
  expectNoSigner(rke);
  const open = cluster.state.tsrke.caRotation;
  if (open === undefined) expectOwnCas(bundle);
  const isOpen = open !== undefined && !open.done;
  if (isOpen) options.report.note('info', passes[open.phase]);

  const restarts = await bring(advancing, rke, bundle, isOpen);
  await renewKubeconfig(kubeconfigPathOf(config.path), bundle, options.report);
  if (options.pauses === true && open?.phase === 'trust-both')
    return { restarts, said: 'the new CAs are trusted beside the old ones; nothing else has changed yet' };
  const certified = certifiedClusterOf(rke, config.path);
  const next = await nextCaPass(certified, bundle, open);
  const state = stateIn(store);
  if (next === undefined) {
    const { caRotation: _over, ...tsrke } = state.tsrke;
    await world.save({ ...state, tsrke }, mayHoldKeys(state), options.signal);
    const names = casIn(bundle).map(({ name }) => name);
    const issued = leavesOf(certified).length;
    return {
      restarts,
      said: `${names.join(' and ')} are new, and ${issued} certificates with them; the old ones are trusted no more`,
    };
  }
  const begun = withPlanes(state, ['desiredState'], rke, next.bundle);
  const tsrke = { ...begun.tsrke, caRotation: next.rotation };
  await world.save({ ...begun, tsrke }, mayHoldKeys(state), options.signal);
  return { restarts };
}

/** `isOpen`: nobody knows which services have read the CAs that lie there. Resolves to the count of restarts. */
async function bring(
  { config, cluster, links, store, options }: Advancing,
  rke: RkeConfig,
  bundle: Bundle,
  isOpen: boolean,
): Promise<number> {
  const { report, signal } = options;
  const { world, state } = cluster;
  const made = planesOf({ config, rke, state, bundle, file: fileInForce(state), reloads: false });
  const planes = isOpen ? withUnreadCas(made) : made;
  const sight = await report.task(`look at ${counted(rke.nodes.length, 'node')}`, () =>
    lookAtNodes(rke, planes.recorded, sourcesOf(planes, links), signal),
  );
  expectAllReached(sight.unreached, reachAgain);
  expectAsRecorded(stagesOf({ planes: planes.wish, sight, recorded: planes.recorded }));
  const run = { planes, links, objects: noObjects, report, signal };
  const hold = (each: AbortSignal) => world.hold(each);
  const { done, sight: last } = await runStages({ ...run, hold }, (stage) => narrowed(stage, isOurs));
  expectAllReached(last.unreached, reachAgain);
  if (!isOpen && done.length === 0) return 0;
  const renewed = withPlanes(stateIn(store), ['currentState'], rke, bundle);
  const brought = await withStartedAnew(renewed, planes, links, done, signal);
  await world.save(withDone(brought), mayHoldKeys(brought), signal);
  return done.filter(({ kind }) => kind === 'restart').length;
}

function withDone(state: ClusterState): ClusterState {
  const { caRotation } = state.tsrke;
  if (caRotation === undefined) return state;
  return { ...state, tsrke: { ...state.tsrke, caRotation: { ...caRotation, done: true } } };
}

/** Every service reads a CA. */
function withUnreadCas(planes: Planes): Planes {
  const unread = planes.rke.nodes.reduce<Unread>(
    (all, node) => withUnread(all, node, [caPath]),
    planes.wish.unread,
  );
  return { ...planes, wish: { ...planes.wish, unread } };
}

const isOurs = ({ kind }: Move) => ['deliver', 'restart', 'start', 'finish'].includes(kind);

/** A service that was to be made anew would not be restarted, and would go on without the new CAs. Throws NOT_AS_WANTED. */
function expectAsRecorded(stages: readonly Stage[]): void {
  const beside = ['pull', 'cordon', 'drain', 'uncordon'];
  const others = stages
    .flatMap(({ lanes }) => lanes.flat())
    .filter((move) => !isOurs(move) && !beside.includes(move.kind));
  if (others.length === 0) return;
  throw new TsrkeError('NOT_AS_WANTED', 'nodes are not as they were made, so no CA can be changed now', {
    details: others.map((move) => `${move.node}: ${describeMove(move)}`),
    next: 'run `tsrke up`, then the same command again; `tsrke plan` shows what it would do',
  });
}

/** A node that is half in the cluster would get none of the new CAs. Throws OUT_OF_ORDER. */
function expectRecordedNodes(recorded: RkeConfig, desired: RkeConfig | undefined): void {
  const list = ({ nodes }: RkeConfig) =>
    nodes.map(({ address, role }) => `${address} ${role.toSorted().join()}`).sort();
  if (desired === undefined || list(recorded).join() === list(desired).join()) return;
  throw new TsrkeError('OUT_OF_ORDER', 'a change of the cluster’s nodes was cut off', {
    next: 'finish it first: run `tsrke up`, then the same command again',
  });
}

/** kube-controller-manager does not start with a CA to sign with whose file holds two. Throws UNSUPPORTED. */
function expectNoSigner({ services }: RkeConfig): void {
  const { extraArgs = {}, extraArgsArray = {} } = services.kubeController;
  const [found] =
    Object.entries<string | readonly string[]>({ ...extraArgsArray, ...extraArgs }).find(
      ([name, value]) => /^cluster-signing-.*cert-file$/.test(name) && [value].flat().includes(caPath),
    ) ?? [];
  if (found === undefined) return;
  throw new TsrkeError(
    'UNSUPPORTED',
    `kube-controller-manager signs with ${caPath} (${found}), and does not start while that file holds two CAs`,
    { next: 'take it out of `services.kube-controller.extra_args` until this is done, and run `tsrke up`' },
  );
}

const reachAgain = {
  next: 'see that it can be reached over SSH, then run the same command again; it goes on from there',
};
