/** Arguments of a service: RKE's own, then those of the version, then what depends on the cluster, then the user's. */
import type { RkeService } from '../config/rke-config.ts';

export type Arguments = Readonly<Record<string, string>>;

export interface ArgumentLayers {
  readonly base: Arguments;
  /** Of the version; an empty value takes an argument of `base` away. */
  readonly options: Arguments | undefined;
  /** What RKE sets after that. It sees what is there so far. */
  readonly computed?: (soFar: Arguments) => Arguments;
  readonly service: RkeService;
  /** What even `extra_args` cannot change. */
  readonly fixed?: Arguments;
}

/**
 * `--name=value`, sorted by name: RKE's order is another one on each run, and it compares them as a set.
 * `extra_args_array` follows by itself, as in RKE: an argument that is there already is given once more.
 */
export function argumentsOf({ base, options = {}, computed, service, fixed }: ArgumentLayers): string[] {
  const known = Object.fromEntries(
    Object.entries({ ...base, ...options }).filter(([name]) => options[name] !== ''),
  );
  const all = { ...known, ...computed?.(known), ...service.extraArgs, ...fixed };
  return [
    ...sorted(all).map(([name, value]) => `--${name}=${value}`),
    ...sorted(service.extraArgsArray ?? {}).flatMap(([name, values]) =>
      values.map((value) => `--${name}=${value}`),
    ),
  ];
}

function sorted<T>(map: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
}
