/** What controllers would do at once: DaemonSets and Deployments are rolled out as soon as they are written. */
import { isDeepStrictEqual } from 'node:util';
import { daemonsets, deployments, type Kind, type KubeObject } from './kinds.ts';

/** Generation as kube-apiserver counts it, and the status that controllers would come to. `nodes`: how many there are. */
export function settled(
  kind: Kind,
  object: KubeObject,
  former: KubeObject | undefined,
  nodes: () => number,
): KubeObject {
  if (kind !== daemonsets && kind !== deployments) return object;
  const before = (former?.metadata as { generation?: number } | undefined)?.generation ?? 0;
  const changed = former === undefined || !isDeepStrictEqual(former['spec'], object['spec']);
  const generation = changed ? before + 1 : before;
  const wanted =
    kind === daemonsets
      ? nodes()
      : ((object['spec'] as { readonly replicas?: number } | undefined)?.replicas ?? 1);
  const status =
    kind === daemonsets
      ? {
          ...{ currentNumberScheduled: wanted, desiredNumberScheduled: wanted, numberReady: wanted },
          ...{ numberAvailable: wanted, updatedNumberScheduled: wanted, numberMisscheduled: 0 },
        }
      : { replicas: wanted, updatedReplicas: wanted, readyReplicas: wanted, availableReplicas: wanted };
  return {
    ...object,
    metadata: { ...object.metadata, generation } as KubeObject['metadata'],
    status: { observedGeneration: generation, ...status },
  };
}

/** Whether a PodDisruptionBudget lets one more of its pods go; `pods`: all of its namespace. */
export function letsGo(budget: KubeObject, pod: KubeObject, pods: readonly KubeObject[]): boolean {
  const { selector, minAvailable, maxUnavailable } = (budget['spec'] ?? {}) as {
    readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
    readonly minAvailable?: number | string;
    readonly maxUnavailable?: number | string;
  };
  const wanted = Object.entries(selector?.matchLabels ?? {});
  const isMeant = ({ metadata }: KubeObject) =>
    wanted.length > 0 && wanted.every(([key, value]) => metadata.labels?.[key] === value);
  if (!isMeant(pod)) return true;
  const count = pods.filter(isMeant).length;
  const numberOf = (value: number | string) =>
    typeof value === 'number' ? value : Math.ceil((Number.parseFloat(value) / 100) * count);
  if (maxUnavailable !== undefined) return numberOf(maxUnavailable) > 0;
  return count - 1 >= numberOf(minAvailable ?? 1);
}
