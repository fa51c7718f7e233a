/** What one node needs to be as cluster.yml has it: files, and containers to make, make anew, start, restart, remove. Pure. */
import type { Delivered, NodeName } from '../ports.ts';
import type { Bundle } from '../certificates/bundle.ts';
import type { RkeNode } from '../config/rke-config.ts';
import { providerFlag } from '../encryption/world.ts';
import { dockerHostOf, type ClusterWish } from '../services/cluster.ts';
import { serviceNames } from '../services/container.ts';
import type { Container, ServiceName } from '../services/container.ts';
import { describeDrift, driftOf, type Drift } from '../services/drift.ts';
import { servicesOf } from '../services/services.ts';
import { filesOn, isSameFile, readersOf } from './files.ts';
import { nameOf, type NodeSight } from './sight.ts';

/** Paths by `serviceKey`. */
export type Unread = ReadonlyMap<string, readonly string[]>;

export const serviceKey = (node: NodeName, service: ServiceName): string => `${node}/${service}`;

export const imageKey = (node: NodeName, image: string): string => `${node} ${image}`;

/** With these files, which have come to the node. */
export function withUnread(
  unread: Unread,
  node: Pick<RkeNode, 'address' | 'internalAddress' | 'hostnameOverride'>,
  paths: readonly string[],
): Unread {
  const next = new Map(unread);
  for (const path of paths) {
    for (const reader of readersOf(path, node)) {
      const key = serviceKey(nameOf(node), reader);
      next.set(key, [...new Set([...(next.get(key) ?? []), path])]);
    }
  }
  return next;
}

export interface PlanesWish {
  readonly wish: ClusterWish;
  /** All certificates as they are to be. */
  readonly bundle: Bundle;
  /** Files that came after the start of a service that reads them, by `serviceKey`. */
  readonly unread: Unread;
  /** Images that a node has by now, by `imageKey`. */
  readonly pulled: ReadonlySet<string>;
  readonly encryption: EncryptionPart;
}

/** What of kube-apiserver's container belongs to the encryption of secrets, and is changed by its engine alone. */
export interface EncryptionPart {
  /** Arguments for a kube-apiserver that is made for the first time; undefined: it runs without a provider file. */
  readonly first: { readonly args: readonly string[]; readonly file: Delivered } | undefined;
  /** Nodes whose own provider file stays, whatever it is. */
  readonly keepsFile?: ReadonlySet<NodeName>;
  /** Binds that come and go with it. */
  readonly binds: ReadonlySet<string>;
}

export type ServiceWork =
  | {
      /** All but the first two leave the container as it is. */
      readonly kind: 'create' | 'exchange' | 'start' | 'finish' | 'restart';
      readonly container: Container;
      readonly why: readonly string[];
    }
  | { readonly kind: 'remove'; readonly name: ServiceName; readonly why: readonly string[] };

export interface NodeWork {
  readonly sight: NodeSight;
  /** All that should run there. */
  readonly wanted: readonly Container[];
  /** Images of what is to be made. */
  readonly images: readonly string[];
  readonly files: readonly Delivered[];
  /** In the order in which they are to be done. */
  readonly services: readonly ServiceWork[];
}

export const serviceOf = (work: ServiceWork): ServiceName =>
  'container' in work ? work.container.name : work.name;

/** Throws UNSUPPORTED. */
export function workOn(sight: NodeSight, planes: PlanesWish): NodeWork {
  const { node, services: seen } = sight;
  const host = dockerHostOf(sight.info, nameOf(node));
  const wanted = servicesOf(node, host, planes.wish).map((container) => adapted(container, sight, planes));
  const files = filesOn(node, host, planes.wish, planes.bundle);
  const { first, keepsFile } = planes.encryption;
  // kube-apiserver finds it at its very first start.
  const isNewServer = node.role.includes('controlplane') && !seen.has('kube-apiserver');
  const needsFile = isNewServer && keepsFile?.has(nameOf(node)) !== true;
  const all = [...files, ...(needsFile && first !== undefined ? [first.file] : [])];
  const missing = all.filter((file) => !isSameFile(file.text, sight.files?.get(file.path)));
  const byDrift = driftOf(wanted, seen).map((drift) => workFor(drift, wanted));
  const cutOff = wanted.flatMap((container): ServiceWork[] =>
    seen.get(container.name)?.interrupted === true &&
    !byDrift.some((work) => serviceOf(work) === container.name)
      ? [{ kind: 'finish', container, why: ['its exchange was cut off'] }]
      : [],
  );
  const coming = withUnread(
    planes.unread,
    node,
    missing.map(({ path }) => path),
  );
  const restarts = restartsFor(coming, sight, wanted, [...byDrift, ...cutOff]);
  const services = [...cutOff, ...byDrift, ...restarts];
  const images = services.flatMap((work) =>
    work.kind === 'create' || work.kind === 'exchange' ? [work.container.image] : [],
  );
  return { sight, wanted, images: [...new Set(images)], files: missing, services: inOrder(services) };
}

function workFor(drift: Drift, wanted: readonly Container[]): ServiceWork {
  const { name, kind } = drift;
  const why = describeDrift(drift).map((line) => line.replace(`${name}: `, ''));
  const container = wanted.find((each) => each.name === name);
  if (kind === 'unwanted' || container === undefined)
    return { kind: 'remove', name, why: ['its role is gone'] };
  if (kind === 'stopped') return { kind: 'start', container, why };
  return { kind: kind === 'missing' ? 'create' : 'exchange', container, why };
}

/** Services that stay as they are but have read something else than what lies there by then. */
function restartsFor(
  unread: Unread,
  { node, services }: NodeSight,
  wanted: readonly Container[],
  others: readonly ServiceWork[],
): ServiceWork[] {
  // One that is made, started or taken away reads them anyway, or never again.
  const settled = new Set(others.filter(({ kind }) => kind !== 'finish').map(serviceOf));
  return wanted.flatMap((container): ServiceWork[] => {
    const { name } = container;
    const paths = unread.get(serviceKey(nameOf(node), name)) ?? [];
    const runs = services.get(name)?.inspect.State.Running === true && !settled.has(name);
    const files = paths.map((path) => path.slice(path.lastIndexOf('/') + 1));
    return runs && files.length > 0
      ? [{ kind: 'restart', container, why: [`it has not read ${files.join(', ')}`] }]
      : [];
  });
}

/** What goes makes room first: nginx-proxy holds the port that kube-apiserver needs. */
function inOrder(works: readonly ServiceWork[]): ServiceWork[] {
  const rank = (work: ServiceWork) => (work.kind === 'remove' ? -1 : serviceNames.indexOf(serviceOf(work)));
  return works.toSorted((a, b) => rank(a) - rank(b));
}

/** kube-apiserver with what belongs to encryption as it is in the container, whatever cluster.yml asks. */
function adapted(container: Container, { services }: NodeSight, { encryption }: PlanesWish): Container {
  if (container.name !== 'kube-apiserver') return container;
  const there = services.get('kube-apiserver')?.inspect;
  const isOwn = (word: string) => word.startsWith(providerFlag);
  const [script = '', component = '', ...args] = container.entrypoint ?? [];
  const kept = args.filter((word) => !isOwn(word));
  if (there === undefined) {
    // cluster.yml's own extra_args may have some of them.
    const first = encryption.first === undefined ? [] : [...args.filter(isOwn), ...encryption.first.args];
    return { ...container, entrypoint: [script, component, ...kept, ...new Set(first)] };
  }
  const words = [...[there.Config.Entrypoint ?? []].flat(), ...(there.Config.Cmd ?? [])];
  const binds = there.HostConfig.Binds ?? [];
  const belongs = (bind: string) => encryption.binds.has(bind);
  return {
    ...container,
    entrypoint: [script, component, ...kept, ...words.filter(isOwn)],
    binds: [...container.binds.filter((each) => !belongs(each)), ...binds.filter(belongs)],
  };
}
