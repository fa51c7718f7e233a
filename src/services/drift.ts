/** What on a node is not as cluster.yml has it: containers that are missing, stopped, others, or too many. */
import { serviceNames } from './container.ts';
import type { Container, ServiceName } from './container.ts';
import { describeDifference, differencesOf } from './differences.ts';
import type { ContainerDifference, InspectedContainer } from './differences.ts';

export type Drift =
  | { readonly kind: 'missing' | 'stopped' | 'unwanted'; readonly name: ServiceName }
  | {
      readonly kind: 'differs';
      readonly name: ServiceName;
      /** At least one; the container has to be made anew. */
      readonly differences: readonly ContainerDifference[];
    };

export interface SeenContainer {
  readonly inspect: InspectedContainer & { readonly State: { readonly Running: boolean } };
  /** The environment that its image brings. */
  readonly imageEnv: readonly string[];
}

/**
 * `seen`: the node's containers by name; those that are none of RKE's services are passed over. Unwanted ones come
 * first (nginx-proxy holds the port that kube-apiserver needs), the others in the order in which they start. A stopped
 * one is compared as well: RKE would start it as it is.
 */
export function driftOf(wanted: readonly Container[], seen: ReadonlyMap<string, SeenContainer>): Drift[] {
  const unwanted = serviceNames.filter(
    (name) => seen.has(name) && !wanted.some((each) => each.name === name),
  );
  return [
    ...unwanted.map((name) => ({ kind: 'unwanted' as const, name })),
    ...wanted.flatMap((container) => driftOfOne(container, seen.get(container.name)) ?? []),
  ];
}

function driftOfOne(container: Container, seen: SeenContainer | undefined): Drift | undefined {
  const { name } = container;
  if (seen === undefined) return { kind: 'missing', name };
  const differences = differencesOf(container, seen.inspect, seen.imageEnv);
  if (differences.length > 0) return { kind: 'differs', name, differences };
  const isDown = container.restart !== undefined && !seen.inspect.State.Running;
  return isDown ? { kind: 'stopped', name } : undefined;
}

const words = { missing: 'is missing', stopped: 'is stopped', unwanted: 'is not wanted here' } as const;

/** A line for each thing, e.g. `kubelet: argument --v: 4 in the container, 2 wanted`. */
export function describeDrift(drift: Drift): string[] {
  if (drift.kind === 'differs')
    return drift.differences.map((each) => `${drift.name}: ${describeDifference(each)}`);
  return [`${drift.name} ${words[drift.kind]}`];
}
