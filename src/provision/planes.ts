/** The planes of a cluster brought to what cluster.yml says: what to carry them out with, and the loop that does it. */
import { bundleForState, bundleIn, type Bundle } from '../certificates/bundle.ts';
import { certDirReader } from '../certificates/cert-dir.ts';
import { changesFor } from '../certificates/changes.ts';
import { certifiedClusterOf } from '../certificates/cluster.ts';
import { customBundle } from '../certificates/custom.ts';
import { carryOut as issue, unsignable } from '../certificates/issue.ts';
import { differences } from '../config/differences.ts';
import type { ClusterConfig } from '../config/load.ts';
import { secondPass, type RkeConfig, type RkeNode } from '../config/rke-config.ts';
import {
  identity,
  parseProviderFile,
  renderProviderFile,
  writeKeyOf,
  type ProviderFile,
} from '../encryption/configuration.ts';
import { providerFlag, providerPath, providerPathOf } from '../encryption/world.ts';
import { TsrkeError } from '../errors.ts';
import { healthyMembers } from '../etcd/membership.ts';
import type { EtcdMembership, NodeName, Report } from '../ports.ts';
import { carryOut, sightsOf, type NodeObjects } from '../planes/carry-out.ts';
import { lookAtNodes, type LookSources } from '../planes/look.ts';
import { describeMove, stagesOf, type Move, type Stage } from '../planes/plan.ts';
import type { EtcdWorld } from '../planes/join.ts';
import { viewOf } from '../planes/members.ts';
import { hashOf } from '../planes/files.ts';
import { nameOf, type ClusterSight, type NodeSight } from '../planes/sight.ts';
import {
  imageKey,
  serviceKey,
  withUnread,
  type EncryptionPart,
  type PlanesWish,
  type Unread,
} from '../planes/work.ts';
import { wishOf } from '../services/cluster.ts';
import type { ClusterState, JsonObject } from '../state/rkestate.ts';
import type { Links } from './links.ts';
import { recordedBinds } from './record.ts';

/** What has to be known of a cluster to plan its planes. */
export interface Planes {
  readonly rke: RkeConfig;
  readonly wish: PlanesWish;
  /** What was carried out last; undefined: the cluster is made for the first time. */
  readonly recorded: RkeConfig | undefined;
}

export interface PlanesOptions {
  readonly config: ClusterConfig;
  /** Default: what cluster.yml says. */
  readonly rke?: RkeConfig;
  readonly state: ClusterState;
  readonly bundle: Bundle;
  /** What kube-apiservers that are not there yet start with; no entries: without a provider file. */
  readonly file: ProviderFile;
  readonly reloads: boolean;
}

export const recordedConfig = (state: ClusterState): RkeConfig | undefined =>
  state.document.currentState?.rkeConfig as RkeConfig | undefined;

/** Throws UNSUPPORTED. */
export function planesOf({ config, rke: given, state, bundle, file, reloads }: PlanesOptions): Planes {
  const recorded = recordedConfig(state);
  const wish = wishOf(config, false);
  const rke = given ?? withWebhook(wish.rke, recorded);
  const current = bundleIn(state.document.currentState?.certificatesBundle ?? {});
  const encryption: EncryptionPart = {
    first: file.entries.length === 0 ? undefined : firstOf(file, reloads),
    binds: new Set([...config.extraBinds, ...recordedBinds(state)]),
  };
  const changed = recorded === undefined ? [] : changedFiles(current, bundle);
  const unread = rke.nodes.reduce<Unread>((all, node) => withUnread(all, node, changed), new Map());
  return { rke, wish: { wish: { ...wish, rke }, bundle, unread, pulled: new Set(), encryption }, recorded };
}

function firstOf(file: ProviderFile, reloads: boolean): EncryptionPart['first'] {
  const reload = reloads ? [`${providerFlag}-automatic-reload=true`] : [];
  return {
    args: [`${providerFlag}=${providerPath}`, ...reload],
    file: { path: providerPath, text: `${renderProviderFile(file)}\n` },
  };
}

/** RKE fills the webhook's kubeconfig in where cluster.yml has none; from then on it stays. */
function withWebhook(rke: RkeConfig, recorded: RkeConfig | undefined): RkeConfig {
  const configFile = recorded?.authentication?.webhook?.configFile;
  const { authentication } = rke;
  if (configFile === undefined || authentication?.webhook === undefined) return rke;
  return {
    ...rke,
    authentication: { ...authentication, webhook: { configFile, ...authentication.webhook } },
  };
}

/** Paths of what a certificate change that was cut off may have brought to nodes; all of it stands in desiredState. */
export function changedFiles(current: Bundle, wanted: Bundle): string[] {
  return Object.values(wanted).flatMap((element) => {
    const { certificatePEM, keyPEM, config, path, keyPath, configPath } = element;
    const had = current[element.name];
    if (had === undefined || element.name === 'kube-admin') return [];
    return [
      ...(had.certificatePEM.trim() === certificatePEM.trim() ? [] : [path]),
      ...(had.keyPEM.trim() === keyPEM.trim() ? [] : [keyPath]),
      ...(had.config.trim() === config.trim() ? [] : [configPath]),
    ];
  });
}

/** A folder with certificates of the user's own CA (`--custom-certs`); undefined: those that there are go on. */
export interface CertificateOptions {
  readonly certDir?: string | undefined;
}

export interface BundleAsk extends CertificateOptions {
  readonly rke: RkeConfig;
  readonly configPath: string;
  readonly state: ClusterState;
  readonly now: Date;
}

export interface WantedBundle {
  readonly bundle: Bundle;
  /** It is another one than the state's. */
  readonly isNew: boolean;
  readonly warnings: readonly string[];
}

/**
 * All certificates as they are to be; what must be issued is issued here, in memory. Throws STATE_INVALID, and
 * CERTIFICATES_INVALID for what is wrong with the user's own or what only her CA could issue.
 */
export async function bundleFor({ rke, configPath, state, now, certDir }: BundleAsk): Promise<WantedBundle> {
  const { desiredState, currentState } = state.document;
  const had = bundleIn(desiredState?.certificatesBundle ?? currentState?.certificatesBundle ?? {});
  const cluster = certifiedClusterOf(rke, configPath);
  const bundle = Object.keys(had).length === 0 ? undefined : had;
  if (certDir !== undefined) {
    const custom = customBundle({ cluster, where: certDir, read: certDirReader(certDir), bundle, now });
    return { ...custom, isNew: bundle === undefined || !isSameBundle(custom.bundle, bundle) };
  }
  const all = changesFor(cluster, bundle, now);
  const waiting = unsignable(cluster, bundle, all).filter(({ canWait }) => canWait === true);
  const changes = all.filter((change) => !waiting.includes(change));
  const warnings = waiting.map(
    ({ name, why }) =>
      `certificate ${name}: ${why}, and only your own CA can issue it again (\`tsrke cert generate-csr\`, then \`tsrke up --custom-certs\`)`,
  );
  if (bundle !== undefined && changes.every(({ what }) => what === 'kubeconfig'))
    return { bundle, isNew: false, warnings };
  return { bundle: await issue(cluster, bundle, changes), isNew: true, warnings };
}

function isSameBundle(a: Bundle, b: Bundle): boolean {
  return JSON.stringify(bundleForState(a)) === JSON.stringify(bundleForState(b));
}

/**
 * Both halves of the state, or one of them, with this configuration and these certificates. What belongs to encryption
 * stays as its engine has written it, which is not always what cluster.yml says: see record.ts.
 */
export function withPlanes(
  state: ClusterState,
  halves: readonly ('desiredState' | 'currentState')[],
  rke: RkeConfig,
  bundle: Bundle,
): ClusterState {
  const { document } = state;
  const next = Object.fromEntries(
    halves.map((half) => {
      const { rkeConfig, certificatesBundle: _former, ...rest } = document[half] ?? {};
      // RKE's order of fields.
      return [
        half,
        {
          rkeConfig: withEncryptionOf(rkeConfig, half === 'currentState' ? secondPass(rke) : rke),
          certificatesBundle: bundleForState(bundle),
          ...rest,
        },
      ];
    }),
  );
  return { ...state, document: { ...document, ...next } };
}

function withEncryptionOf(former: JsonObject | undefined, rke: RkeConfig): JsonObject {
  const wanted = rke as unknown as JsonObject;
  const before = kubeApiOf(former);
  if (before === undefined) return wanted;
  const { secretsEncryptionConfig: _asked, extraBinds: _binds, ...others } = kubeApiOf(wanted) ?? {};
  const { secretsEncryptionConfig, extraBinds } = before;
  const kubeApi: JsonObject = {
    ...others,
    ...(secretsEncryptionConfig !== undefined && { secretsEncryptionConfig }),
    ...(extraBinds !== undefined && { extraBinds }),
  };
  return { ...wanted, services: { ...(wanted['services'] as JsonObject), kubeApi } };
}

function kubeApiOf(rke: JsonObject | undefined): JsonObject | undefined {
  return (rke?.['services'] as JsonObject | undefined)?.['kubeApi'] as JsonObject | undefined;
}

/** Where Kubernetes is not to be told of anything. */
export const noObjects: NodeObjects = {
  cordon: () => Promise.resolve(),
  uncordon: () => Promise.resolve(),
  drain: () => Promise.resolve(),
  forget: () => Promise.resolve(),
};

export interface StageRun {
  readonly planes: Planes;
  readonly links: Links;
  readonly objects: NodeObjects;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly hold: (signal: AbortSignal) => Promise<void>;
}

export function sourcesOf({ wish: { bundle }, rke }: Planes, links: Links): LookSources {
  const [ca, client] = [bundle['kube-ca'], bundle['kube-node']];
  const isOurs = (rke.services.etcd.externalUrls ?? []).length === 0;
  const membership = (nodes: readonly RkeNode[]): EtcdMembership =>
    links.membership({
      endpoints: nodes.map((node) => ({ url: `https://${node.internalAddress}:2379`, node: nameOf(node) })),
      ...(ca === undefined ? {} : { ca: ca.certificatePEM }),
      ...(client === undefined ? {} : { cert: client.certificatePEM, key: client.keyPEM }),
    });
  return { ...links, membership: isOurs ? membership : undefined };
}

/** etcd of a cluster that is there, by way of its members that run. */
function etcdWorld(
  { rke, recorded }: Planes,
  { nodes, leaving }: ClusterSight,
  { membership }: LookSources,
  { clock }: Links,
): EtcdWorld | undefined {
  const running = [...nodes, ...leaving].filter(({ services }) => services.has('etcd'));
  if (recorded === undefined || membership === undefined || running.length === 0) return undefined;
  const asked = membership(running.map(({ node }) => node));
  const reachable = new Set(nodes.map(({ node }) => nameOf(node)));
  return {
    membership: asked,
    clock,
    async view(signal) {
      const members = await asked.list(signal);
      const healthy = await healthyMembers(asked, members, signal);
      return viewOf(rke, recorded, { members, healthy }, reachable);
    },
  };
}

/**
 * Looks, carries out the first stage, looks again, until nothing is left. Resolves to what was done. Throws NOT_AS_WANTED where a stage changes nothing. `narrow`: what of a stage is to be done.
 */
export async function runStages(
  { planes, links, objects, report, signal, hold }: StageRun,
  narrow: (stage: Stage) => Stage | undefined,
): Promise<{ readonly done: readonly Move[]; readonly sight: ClusterSight }> {
  const done: Move[] = [];
  const tried = new Set<string>();
  const sources = sourcesOf(planes, links);
  let unread = planes.wish.unread;
  const pulled = new Set<string>();
  const forgotten = new Set<NodeName>();
  const delivered = new Map<NodeName, Map<string, string>>();
  for (;;) {
    signal.throwIfAborted();
    const looked = await lookAtNodes(planes.rke, planes.recorded, sources, signal);
    const sight = {
      ...looked,
      nodes: looked.nodes.map((each) => withDelivered(each, delivered)),
      // The state names them until all is done.
      leaving: looked.leaving.filter(({ node }) => !forgotten.has(nameOf(node))),
      gone: looked.gone.filter((node) => !forgotten.has(nameOf(node))),
    };
    const stages = stagesOf({ planes: { ...planes.wish, unread, pulled }, sight, recorded: planes.recorded });
    const [stage] = stages.flatMap((each) => narrow(each) ?? []);
    if (stage === undefined) return { done, sight };
    const lines = stage.lanes.flatMap((lane) => lane.map((move) => `${move.node}: ${describeMove(move)}`));
    if (tried.has(lines.join('\n'))) throw notAsWanted(stage, lines);
    tried.add(lines.join('\n'));
    const { services, hostFiles, health, kube, clock } = links;
    const etcd = etcdWorld(planes, sight, sources, links);
    const world = { services, hostFiles, health, kube, clock, objects, report, hold, etcd };
    try {
      const { wish, bundle } = planes.wish;
      const sights = sightsOf([...sight.nodes, ...sight.leaving]);
      await carryOut(stage, { wish, bundle, sights, world }, signal);
    } finally {
      etcd?.membership.close();
    }
    unread = unreadAfter(stage, unread, planes.rke);
    for (const move of stage.lanes.flat()) {
      if (move.kind === 'pull') for (const image of move.images) pulled.add(imageKey(move.node, image));
      if (move.kind === 'forget') forgotten.add(move.node);
      if (move.kind === 'deliver') {
        const files = delivered.get(move.node) ?? new Map<string, string>();
        for (const { path, text } of move.files) files.set(path, hashOf(text));
        delivered.set(move.node, files);
      }
    }
    done.push(...stage.lanes.flat());
  }
}

/** As long as no container shows the files of a host, those that this run has written count. */
function withDelivered(
  sight: NodeSight,
  delivered: ReadonlyMap<NodeName, ReadonlyMap<string, string>>,
): NodeSight {
  const files = sight.files ?? delivered.get(nameOf(sight.node));
  return { ...sight, files };
}

/** Whoever was started after a file had come has read it. */
function unreadAfter(stage: Stage, before: Unread, { nodes }: RkeConfig): Unread {
  let unread = new Map(before);
  for (const move of stage.lanes.flat()) {
    const node = nodes.find(({ hostnameOverride }) => hostnameOverride === move.node);
    if (move.kind === 'deliver' && node !== undefined) {
      unread = new Map(
        withUnread(
          unread,
          node,
          move.files.map(({ path }) => path),
        ),
      );
    }
    // What an exchange that was cut off has left may have started before the file came.
    if (!('container' in move) || move.kind === 'finish') continue;
    unread.delete(serviceKey(move.node, move.container.name));
  }
  return unread;
}

function notAsWanted({ title }: Stage, lines: readonly string[]): TsrkeError {
  return new TsrkeError('NOT_AS_WANTED', `${title}: what was done has not led to what cluster.yml asks`, {
    details: lines,
    next: 'see who else changes these nodes, then run the same command again',
  });
}

/**
 * What the state says of files that servers have loaded, also for those that stages have started anew: one that found
 * the bytes of before on its disk, or those that it was made with, has loaded them. `done`: what stages have done.
 */
export async function withStartedAnew(
  state: ClusterState,
  { rke, wish: { encryption } }: Planes,
  { runtime, files }: Pick<Links, 'runtime' | 'files'>,
  done: readonly Move[],
  signal: AbortSignal,
): Promise<ClusterState> {
  const servers = done.filter((move) => 'container' in move && move.container.name === 'kube-apiserver');
  const started = rke.nodes.map(nameOf).filter((name) => servers.some(({ node }) => node === name));
  const made = encryption.first && hashOf(encryption.first.file.text);
  const records = await Promise.all(
    started.map(async (name) => {
      const container = await runtime.apiserver(name, signal);
      const path = container && providerPathOf(container.args);
      const sha256 = path === undefined ? undefined : (await files.read(name, path, signal))?.sha256;
      const known = state.tsrke.loaded[name]?.sha256 ?? made;
      if (container === undefined || sha256 === undefined || sha256 !== known) return [];
      return [[name, { startedAt: container.startedAt, sha256 }] as const];
    }),
  );
  const loaded = { ...state.tsrke.loaded, ...Object.fromEntries(records.flat()) };
  return { ...state, tsrke: { ...state.tsrke, loaded } };
}

/** What is in force, as the state has it; no entries: off. */
export function fileInForce(state: ClusterState): ProviderFile {
  const text = state.document.currentState?.encryptionConfig ?? '';
  return text === '' ? { entries: [] } : parseProviderFile(text, 'currentState.encryptionConfig');
}

/** Whether the state says something else than cluster.yml, beside encryption. */
export function isRecordedConfig(config: ClusterConfig, recorded: RkeConfig): boolean {
  return differences(config, recorded).length === 0;
}

/** Whether the copy in the cluster is itself stored encrypted, so that it may carry keys. */
export function mayHoldKeys(state: ClusterState): boolean {
  const { transition } = state.tsrke;
  const settles = transition === undefined || transition.kind === 'rotate';
  const file = fileInForce(state);
  return settles && file.entries.length > 0 && writeKeyOf(file, 'secrets').id !== identity.id;
}
