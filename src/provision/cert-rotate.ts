/** `tsrke cert rotate`: new certificates to all nodes, and whoever reads them started again, one node after the other. */
import { setMaxListeners } from 'node:events';
import { bundleIn, type Bundle } from '../certificates/bundle.ts';
import { certifiedClusterOf } from '../certificates/cluster.ts';
import { carryOut as issue } from '../certificates/issue.ts';
import { rotationFor, type Rotation } from '../certificates/rotation.ts';
import { kubeconfigPathOf, loadConfig, statePathOf, type ClusterConfig } from '../config/load.ts';
import { TsrkeError } from '../errors.ts';
import { narrowed, type Move } from '../planes/plan.ts';
import { fileStore, locked, stateIn, type StateStore } from '../state/store.ts';
import { withStoredCluster, type Cluster } from './cluster.ts';
import { expectAllReached } from './first-up.ts';
import { renewKubeconfig } from './get-files.ts';
import { linkOverSsh, type Links } from './links.ts';
import {
  changedFiles,
  fileInForce,
  mayHoldKeys,
  noObjects,
  planesOf,
  recordedConfig,
  runStages,
  withPlanes,
  withStartedAnew,
} from './planes.ts';
import type { UpOptions, UpSurroundings } from './up.ts';

export interface RotateCertificatesOptions extends UpOptions {
  readonly rotation: Rotation;
}

/**
 * By the configuration that was carried out last: what else cluster.yml asks by now is left to `tsrke up`. A rotation
 * that was cut off is finished, and no second one begun. Resolves to the sentence for the user. Throws STATE_INVALID.
 */
export async function rotateCertificates(
  options: RotateCertificatesOptions,
  { store, link }: UpSurroundings = {
    store: fileStore(statePathOf(options.configPath)),
    link: linkOverSsh,
  },
): Promise<string> {
  const { report, signal } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  return await locked(store, () =>
    withStoredCluster({ config, store, report, signal, link }, (cluster, links) =>
      rotate({ config, cluster, links, store, options }),
    ),
  );
}

interface Rotating {
  readonly config: ClusterConfig;
  readonly cluster: Cluster;
  readonly links: Links;
  readonly store: StateStore;
  readonly options: RotateCertificatesOptions;
}

async function rotate({ config, cluster, links, store, options }: Rotating): Promise<string> {
  const { report, signal, rotation } = options;
  const { world } = cluster;
  const { currentState, desiredState } = cluster.state.document;
  const rke = recordedConfig(cluster.state);
  if (rke === undefined) throw neverUp(store.where);
  const [former, held] = [currentState, desiredState].map((half) => bundleIn(half?.certificatesBundle ?? {}));
  if (former === undefined || held === undefined) throw neverUp(store.where);
  const isOpen = changedFiles(former, held).length > 0;
  if (isOpen) {
    report.note('info', 'a change of certificates that was cut off is finished; no new one is begun');
  }
  const certified = certifiedClusterOf(rke, config.path);
  const bundle = isOpen
    ? held
    : await issue(certified, held, rotationFor(certified, held, rotation, world.clock.now()));
  const wanted = withPlanes(cluster.state, ['desiredState'], rke, bundle);
  const state = await world.save(wanted, mayHoldKeys(cluster.state), signal);
  const planes = planesOf({ config, rke, state, bundle, file: fileInForce(state), reloads: false });
  const hold = (each: AbortSignal) => world.hold(each);
  const run = { planes, links, objects: noObjects, report, signal, hold };
  const { done, sight } = await runStages(run, (stage) => narrowed(stage, isOurs));
  await renewKubeconfig(kubeconfigPathOf(config.path), bundle, report);
  const renewed = withPlanes(stateIn(store), ['currentState'], rke, bundle);
  const rotated = await withStartedAnew(renewed, planes, links, done, signal);
  await world.save(rotated, mayHoldKeys(rotated), signal);
  expectAllReached(sight.unreached, bringLater);
  return sentenceOf(former, bundle, done);
}

/** Whatever else differs on the nodes was not asked for. */
const isOurs = ({ kind }: Move): boolean => kind === 'deliver' || kind === 'restart';

/** Of nodes that were not reached: what they have serves until it expires, for the CA is the same. */
const bringLater = {
  outcome: 'all other nodes have the new certificates',
  next: 'make it reachable and run `tsrke up`, which brings them there, or take it out of cluster.yml first',
};

export function neverUp(where: string): TsrkeError {
  return new TsrkeError('STATE_INVALID', `${where} says nothing of a cluster that was ever up`, {
    next: 'run `tsrke up` first; it makes the certificates',
  });
}

function sentenceOf(former: Bundle, bundle: Bundle, done: readonly Move[]): string {
  const names = Object.keys(bundle).filter(
    (name) => bundle[name]?.certificatePEM !== former[name]?.certificatePEM,
  );
  const restarts = done.filter(({ kind }) => kind === 'restart').length;
  return `${names.length} certificates are new (${names.join(', ')}): ${restarts} restarts`;
}
