/** What tsrke puts into a cluster beside nodes and services: sets of objects that belong together. */
import { createHash } from 'node:crypto';
import { isMap } from '../config/keys.ts';
import type { KubeObject, Manifest } from '../kube/manifest.ts';

/** In the order in which they are applied; `ingress` and `nodelocal` are only ever removed. */
export const addonNames = [
  'rbac',
  'network',
  'dns',
  'nodelocal',
  'metrics',
  'ingress',
  'addons',
  'includes',
] as const;

export type AddonName = (typeof addonNames)[number];

export interface Addon {
  readonly name: AddonName;
  /** For a person: `flannel`, `CoreDNS`. */
  readonly title: string;
  readonly manifests: readonly Manifest[];
  /** Whether a run that cannot apply it has failed. */
  readonly critical: boolean;
  /** Whether its pods can be expected to run once it is applied. */
  readonly runs: boolean;
}

/** An addon that tsrke has the manifests of. */
export function ownAddon(
  addon: Omit<Addon, 'manifests'> & { readonly objects: readonly KubeObject[] },
): Addon {
  const { objects, ...rest } = addon;
  return { ...rest, manifests: objects.map((object) => ({ place: addon.title, object })) };
}

/** Of what the objects mean, lower-case hex: the order of keys does not matter. */
export function hashOf(manifests: readonly Manifest[]): string {
  const text = JSON.stringify(manifests.map(({ object }) => sorted(object)));
  return createHash('sha256').update(text).digest('hex');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isMap(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}
