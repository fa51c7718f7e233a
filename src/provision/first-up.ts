/** A cluster that does not exist yet: its keys and certificates, then etcd and the control plane on bare hosts. */
import { randomUUID } from 'node:crypto';
import { bundleIn, type Bundle } from '../certificates/bundle.ts';
import { caNames } from '../certificates/cluster.ts';
import type { ClusterConfig } from '../config/load.ts';
import type { RkeConfig } from '../config/rke-config.ts';
import { defaultVersion, kubernetesVersion } from '../config/versions.ts';
import { withFinished } from '../encryption/apply.ts';
import { film, noFile, renderProviderFile, type ProviderFile } from '../encryption/configuration.ts';
import { namedKey, newKey } from '../encryption/key.ts';
import { definitionOf } from '../encryption/kms/containers.ts';
import { chooseTarget } from '../encryption/target.ts';
import { validateProviderFile } from '../encryption/validation/validate.ts';
import type { Wanted } from '../encryption/wanted.ts';
import { providerPath } from '../encryption/world.ts';
import { TsrkeError } from '../errors.ts';
import { lookAtNodes } from '../planes/look.ts';
import { nameOf, type ClusterSight, type NodeSight } from '../planes/sight.ts';
import { wishOf } from '../services/cluster.ts';
import type { ClusterState } from '../state/rkestate.ts';
import type { StateStore } from '../state/store.ts';
import { accessOf } from './cluster.ts';
import type { Links } from './links.ts';
import {
  bundleFor,
  noObjects,
  planesOf,
  recordedConfig,
  runStages,
  sourcesOf,
  withPlanes,
  type Planes,
} from './planes.ts';
import { expectFit } from './preflight.ts';
import type { UpOptions } from './up.ts';

export interface BeginOptions {
  readonly config: ClusterConfig;
  readonly wanted: Wanted;
  /** The state file; undefined: there is none. */
  readonly found: ClusterState | undefined;
  readonly store: StateStore;
  readonly options: Pick<UpOptions, 'report' | 'signal' | 'skipsPortCheck' | 'certDir'>;
}

export interface Begun {
  readonly state: ClusterState;
  /** PEM texts: how the cluster's apiservers are known, and who we are to them. */
  readonly access: { readonly ca: string; readonly admin: { readonly cert: string; readonly key: string } };
  readonly bundle: Bundle;
  /** What a new kube-apiserver starts with; no entries: without a provider file. */
  readonly file: ProviderFile;
  /** For a plan: what was recognised. */
  readonly note: string;
  /** Makes etcd and the control plane, and resolves to the state once they are there. */
  first(links: Links): Promise<ClusterState>;
}

/** Whether its control plane was there once: from then on it is taken for a cluster that holds data. */
export const isBegun = (state: ClusterState): boolean => recordedConfig(state) !== undefined;

/**
 * A cluster that exists is left as it is. For a new one keys and certificates are made here, in memory; nothing is
 * written and nobody reached yet. Throws STATE_INVALID, CONFIG_INVALID, CERTIFICATES_INVALID, PROVIDER_FILE_INVALID.
 */
export async function beginCluster(begin: BeginOptions): Promise<Begun> {
  const { config, found, store, options } = begin;
  const { rke } = wishOf(config, false);
  const ask = { rke, configPath: config.path, now: new Date(), certDir: options.certDir };
  if (found !== undefined && isBegun(found)) {
    // What a CA of the user's own must do is said before encryption is changed.
    if (options.certDir !== undefined || hasForeignCa(found)) await bundleFor({ ...ask, state: found });
    return {
      ...{ state: found, access: accessOf(found, store.where), bundle: {}, file: noFile, note: '' },
      first: () => Promise.resolve(found),
    };
  }
  const empty = found ?? newState();
  const { bundle, warnings } = await bundleFor({ ...ask, state: empty });
  for (const text of warnings) options.report.note('warning', text);
  const { file, state } = chosenFile(begin, empty, ask.now);
  const known = withPlanes(state, ['desiredState'], rke, bundle);
  const text = file.entries.length === 0 ? {} : { encryptionConfig: renderProviderFile(file) };
  const { encryptionConfig: _old, ...desired } = known.document.desiredState ?? {};
  const prepared: ClusterState = {
    ...known,
    document: { ...known.document, desiredState: { ...desired, ...text } },
  };
  return {
    state: prepared,
    access: accessOf(prepared, store.where),
    ...{ bundle, file },
    note:
      file.entries.length === 0
        ? 'a new cluster, whose secrets are not encrypted'
        : 'a new cluster, whose secrets are encrypted from the first one on',
    first: (links) => makeControlPlane(begin, prepared, { rke, bundle, file }, links),
  };
}

/** The user's own, which has kept its key. */
function hasForeignCa({ document: { desiredState, currentState } }: ClusterState): boolean {
  const bundle = bundleIn(desiredState?.certificatesBundle ?? currentState?.certificatesBundle ?? {});
  return caNames.some((name) => bundle[name]?.keyPEM === '');
}

function newState(): ClusterState {
  return {
    document: { desiredState: {}, currentState: {} },
    tsrke: { formatVersion: 1, serial: 0, lineage: randomUUID(), keyRing: [], loaded: {}, hostKeys: {} },
  };
}

/** The provider file that the very first kube-apiserver starts with: nothing is ever stored in plain form. */
function chosenFile(
  { config, wanted }: BeginOptions,
  state: ClusterState,
  now: Date,
): { readonly file: ProviderFile; readonly state: ClusterState } {
  if (wanted.kind === 'off') return { file: noFile, state };
  const chosen = chooseTarget({ action: 'up', wanted, state, onNodes: [], now, newKey, namedKey });
  const minor = kubernetesVersion(config.kubernetesVersion ?? defaultVersion)?.minor ?? 30;
  const { verdict, serverMessage = '' } = validateProviderFile(renderProviderFile(chosen.file), {
    minor,
    reload: config.encryption.reload === 'automatic',
  });
  if (verdict === 'accepted') return { file: chosen.file, state: chosen.state };
  throw new TsrkeError(
    'PROVIDER_FILE_INVALID',
    `kube-apiserver 1.${minor} would not start with this provider file (${film(chosen.file)}): ${serverMessage}`,
    {
      next: 'change `secrets_encryption_config`; `tsrke encrypt validate` judges it offline. Nothing was touched',
    },
  );
}

async function makeControlPlane(
  { config, found, store, options }: BeginOptions,
  prepared: ClusterState,
  { rke, bundle, file }: { readonly rke: RkeConfig; readonly bundle: Bundle; readonly file: ProviderFile },
  links: Links,
): Promise<ClusterState> {
  const { report, signal } = options;
  const reloads = config.encryption.reload === 'automatic';
  const planes = planesOf({ config, state: prepared, bundle, file, reloads });
  const sight = await report.task(`look at ${rke.nodes.length} host(s)`, () =>
    lookAtNodes(rke, undefined, sourcesOf(planes, links), signal),
  );
  expectPlannable(found, sight, store.where);
  await expectFit({ planes, sight, links, isFirst: found === undefined, options });

  let state = await saved(prepared, store, links);
  await makePlugins(config, rke, links, report, signal);
  const run = { planes, links, objects: noObjects, report, signal, hold: () => Promise.resolve() };
  const firstPlanes = new Set(['all', 'etcd', 'controlplane']);
  await runStages(run, (stage) => (firstPlanes.has(stage.plane) ? stage : undefined));
  state = withFinished(file, withPlanes(state, ['currentState'], rke, bundle), links.clock.now());
  if (file.entries.length > 0) {
    state = { ...state, tsrke: { ...state.tsrke, loaded: await loadedOn(planes, links, signal) } };
  }
  return await saved(state, store, links);
}

/** Each server's file was there before its container was made. */
async function loadedOn(
  planes: Planes,
  links: Links,
  signal: AbortSignal,
): Promise<ClusterState['tsrke']['loaded']> {
  const controlplane = planes.rke.nodes.filter(({ role }) => role.includes('controlplane'));
  const loaded = await Promise.all(
    controlplane.map(async (node) => {
      const name = nameOf(node);
      const [container, onDisk] = await Promise.all([
        links.runtime.apiserver(name, signal),
        links.files.read(name, providerPath, signal),
      ]);
      if (container === undefined || onDisk === undefined) return [];
      return [[name, { startedAt: container.startedAt, sha256: onDisk.sha256 }] as const];
    }),
  );
  return Object.fromEntries(loaded.flat());
}

async function saved(state: ClusterState, store: StateStore, links: Links): Promise<ClusterState> {
  const hostKeys = { ...state.tsrke.hostKeys, ...links.hostKeysSeen() };
  const next = { ...state, tsrke: { ...state.tsrke, serial: state.tsrke.serial + 1, hostKeys } };
  await store.write(next);
  return next;
}

/** kube-apiserver waits for its plugin, so that comes first. */
export async function makePlugins(
  config: ClusterConfig,
  rke: RkeConfig,
  links: Links,
  report: UpOptions['report'],
  signal: AbortSignal,
): Promise<void> {
  const definitions = config.kmsPlugins.map(definitionOf);
  if (definitions.length === 0) return;
  await report.task('KMS plugins', () =>
    Promise.all(
      rke.nodes
        .filter(({ role }) => role.includes('controlplane'))
        .map(async (node) => {
          const name = nameOf(node);
          const there = new Set((await links.kmsContainers.list(name, signal)).map(({ socket }) => socket));
          for (const definition of definitions) {
            if (there.has(definition.socket))
              await links.kmsContainers.finish(name, definition.socket, signal);
            else {
              await links.kmsContainers.needImage(name, definition.image, signal);
              await links.kmsContainers.create(name, definition, signal);
            }
          }
        }),
    ),
  );
}

/** Throws NODE_UNREACHABLE and STATE_MISSING. */
export function expectPlannable(found: ClusterState | undefined, sight: ClusterSight, where: string): void {
  expectAllReached(sight.unreached, reachFirst);
  if (found === undefined) expectBare(sight.nodes, where);
}

/** `outcome`: what became of all else. Throws NODE_UNREACHABLE. */
export function expectAllReached(
  unreached: ReadonlyMap<string, string>,
  { outcome, next }: { readonly outcome?: string; readonly next: string },
): void {
  const errors = [...unreached].map(
    ([node, why]) =>
      new TsrkeError('NODE_UNREACHABLE', outcome === undefined ? why : `${why}; ${outcome}`, { node, next }),
  );
  const [first, ...others] = errors;
  if (first === undefined) return;
  throw others.length === 0 ? first : new AggregateError(errors);
}

export const reachFirst = {
  next: 'see that it can be reached over SSH, then run the same command again; nothing was touched',
};

/** Without a state file nobody has the keys and certificates of what runs there. Throws STATE_MISSING. */
function expectBare(nodes: readonly NodeSight[], where: string): void {
  const inUse = nodes.filter(({ services }) => services.size > 0);
  const [first] = inUse;
  if (first === undefined) return;
  throw new TsrkeError('STATE_MISSING', `there is no state file ${where}, and a cluster is there already`, {
    node: nameOf(first.node),
    details: inUse.map(({ node, services }) => `${nameOf(node)} has ${[...services.keys()].join(', ')}`),
    next: 'bring the cluster.rkestate of this cluster here, or run `tsrke util get-state-file`; for a new cluster empty these hosts first (RKE: `rke remove`). Nothing was touched',
  });
}
