/** The catalogue of Kubernetes versions: what RKE 1.6.3 deploys for each (schemas/k8s-versions.json). */
import { readFileSync } from 'node:fs';

type Delta = Readonly<Record<string, string | null>>;

interface Catalogue {
  readonly default: string;
  /** By version, oldest first; each entry names what differs from the one before it (null: no longer there). */
  readonly systemImages: Readonly<Record<string, Delta>>;
  /** By minor version, likewise. */
  readonly dockerVersions: Readonly<Record<string, readonly string[]>>;
  readonly serviceOptions: Readonly<Record<string, Readonly<Record<string, Delta>>>>;
}

const catalogue = JSON.parse(
  readFileSync(new URL('../../schemas/k8s-versions.json', import.meta.url), 'utf8'),
) as Catalogue;

/** What RKE 1.6.3 takes when cluster.yml names no version. */
export const defaultVersion = catalogue.default;

/** Oldest first, e.g. `v1.24.2-rancher1-1`. */
export const knownVersions: readonly string[] = Object.keys(catalogue.systemImages);

export interface KubernetesVersion {
  readonly version: string;
  readonly major: number;
  readonly minor: number;
  /** Whether the catalogue has it. RKE refuses other versions; a cluster that runs one must still be taken over. */
  readonly known: boolean;
  /** By RKE's JSON keys; empty for a version that is not known. */
  readonly systemImages: Readonly<Record<string, string>>;
}

/** A version in RKE's form, `vX.Y.Z-rancherN…`; undefined when it is not of that form. */
export function kubernetesVersion(version: string): KubernetesVersion | undefined {
  const match = /^v(\d+)\.(\d+)\.\d+-rancher\d[0-9A-Za-z.-]*$/.exec(version);
  if (match === null) return undefined;
  const known = Object.hasOwn(catalogue.systemImages, version);
  return {
    version,
    major: Number(match[1]),
    minor: Number(match[2]),
    known,
    systemImages: known ? upTo(catalogue.systemImages, version) : {},
  };
}

/** The newest of each minor version, oldest first. */
export function newestVersions(): string[] {
  const newest = new Map(knownVersions.map((known) => [known.split('.', 2).join('.'), known]));
  return [...newest.values()];
}

/** True when `version` is 1.`minor` or later. */
export function atLeast(version: KubernetesVersion, minor: number): boolean {
  return version.major > 1 || (version.major === 1 && version.minor >= minor);
}

/**
 * Whether RKE runs this Kubernetes version (undefined: the default one) on this version of Docker, e.g. `20.10.24`. Of a
 * minor version that is not in the catalogue nobody can say: true.
 */
export function runsOnDocker(kubernetes: string | undefined, docker: string): boolean {
  const version = kubernetesVersion(kubernetes ?? defaultVersion);
  const supported = version === undefined ? undefined : dockerVersions(version);
  return supported?.some((each) => docker.startsWith(each.replace(/x$/, ''))) ?? true;
}

/** As `20.10.x`; undefined for a minor version that is not in the catalogue. */
function dockerVersions(version: KubernetesVersion): readonly string[] | undefined {
  if (!hasMinor(version)) return undefined;
  const minors = Object.keys(catalogue.dockerVersions).filter((key) => minorOf(key) <= version.minor);
  return catalogue.dockerVersions[minors.at(-1) ?? ''];
}

/**
 * RKE's own arguments per service (`etcd`, `kubeapi`, `kubelet`, `kubeproxy`, `kubeController`, `scheduler`);
 * undefined for a minor version that is not in the catalogue.
 */
export function serviceOptions(
  version: KubernetesVersion,
): Readonly<Record<string, Readonly<Record<string, string>>>> | undefined {
  if (!hasMinor(version)) return undefined;
  const minors = Object.keys(catalogue.serviceOptions).filter((key) => minorOf(key) <= version.minor);
  const services = new Set(minors.flatMap((key) => Object.keys(catalogue.serviceOptions[key] ?? {})));
  return Object.fromEntries(
    [...services].map((service) => [
      service,
      merged(minors.map((key) => catalogue.serviceOptions[key]?.[service])),
    ]),
  );
}

function hasMinor(version: KubernetesVersion): boolean {
  return Object.hasOwn(catalogue.serviceOptions, `v${version.major}.${version.minor}`);
}

function minorOf(key: string): number {
  return Number(key.split('.')[1]);
}

function upTo(entries: Readonly<Record<string, Delta>>, last: string): Record<string, string> {
  const keys = Object.keys(entries);
  return merged(keys.slice(0, keys.indexOf(last) + 1).map((key) => entries[key]));
}

function merged(deltas: readonly (Delta | undefined)[]): Record<string, string> {
  const all = Object.entries(Object.assign({}, ...deltas) as Delta);
  return Object.fromEntries(all.filter((entry): entry is [string, string] => entry[1] !== null));
}
