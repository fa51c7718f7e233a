/** The sections of rkeConfig that addons follow from, and what they have in common. */
import type { RkeConfig } from '../config/rke-config.ts';
import { nodesWith } from '../services/cluster.ts';

export interface Toleration {
  readonly key?: string;
  readonly operator?: string;
  readonly value?: string;
  readonly effect?: string;
  readonly tolerationSeconds?: number;
}

interface Common {
  readonly options?: Readonly<Record<string, string>>;
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly tolerations?: readonly Toleration[];
  readonly updateStrategy?: {
    readonly strategy?: string;
    readonly rollingUpdate?: Readonly<Record<string, number | string>>;
  };
}

export interface Settings {
  readonly network: Common & {
    readonly plugin: string;
    readonly flannelNetworkProvider?: { readonly iface?: string };
  };
  readonly dns: Common & {
    readonly provider: string;
    readonly upstreamnameservers?: readonly string[];
    readonly reversecidrs?: readonly string[];
    readonly stubdomains?: Readonly<Record<string, readonly string[]>>;
    readonly linearAutoscalerParams?: Readonly<Record<string, unknown>>;
    readonly nodelocal?: { readonly ipAddress?: string };
  };
  readonly monitoring: Common & {
    readonly provider: string;
    readonly replicas?: number;
    readonly metricsServerPriorityClassName?: string;
  };
  readonly ingress: { readonly provider: string };
  /** Manifests as text. */
  readonly addons: string;
  readonly addonsInclude: readonly string[];
  readonly addonJobTimeout: number;
  /** Whether the cluster authorizes by RBAC. */
  readonly rbac: boolean;
}

/** All defaults are filled in already. */
export function settingsOf(rke: RkeConfig): Settings {
  const {
    network,
    dns,
    monitoring,
    ingress,
    addons = '',
    addonsInclude = [],
    addonJobTimeout,
  } = rke as unknown as Omit<Settings, 'addons' | 'addonsInclude'> & Partial<Settings>;
  const rbac = rke.authorization?.mode === 'rbac';
  return { network, dns, monitoring, ingress, addons, addonsInclude, addonJobTimeout, rbac };
}

/** An option that says nothing is none. */
export function optionOf({ options = {} }: Common, name: string): string | undefined {
  return options[name] === '' ? undefined : options[name];
}

/** Pods that need a worker will run only where there is one, and a network that tsrke knows of. */
export function podsRun(rke: RkeConfig): boolean {
  return nodesWith(rke, 'worker').length > 0 && settingsOf(rke).network.plugin !== 'none';
}

/** Whatever keeps other pods away. */
export const everyTaint: readonly Toleration[] = [
  { operator: 'Exists', effect: 'NoExecute' },
  { operator: 'Exists', effect: 'NoSchedule' },
];

export function tolerationsOf(
  { tolerations = [] }: Common,
  usual: readonly Toleration[],
): readonly Toleration[] {
  return tolerations.length > 0 ? tolerations : usual;
}

/** As Kubernetes spells it. */
export function strategyOf({ updateStrategy: { strategy, rollingUpdate } = {} }: Common) {
  if (strategy === undefined || strategy === '') return undefined;
  return strategy === 'RollingUpdate' && rollingUpdate !== undefined
    ? { type: strategy, rollingUpdate }
    : { type: strategy };
}

/** Only on nodes with this role, as RKE labels them. */
export const onWorkers = {
  nodeAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [
        { matchExpressions: [{ key: 'node-role.kubernetes.io/worker', operator: 'Exists' }] },
      ],
    },
  },
} as const;

export const rbacApi = 'rbac.authorization.k8s.io';

export function serviceAccount(name: string, labels?: Readonly<Record<string, string>>) {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name, namespace: 'kube-system', ...(labels === undefined ? {} : { labels }) },
  };
}

export function clusterRole(
  name: string,
  rules: readonly Readonly<Record<string, readonly string[]>>[],
  labels?: Readonly<Record<string, string>>,
) {
  return {
    apiVersion: `${rbacApi}/v1`,
    kind: 'ClusterRole',
    metadata: { name, ...(labels === undefined ? {} : { labels }) },
    rules,
  };
}

/** Gives a service account of kube-system a ClusterRole. */
export function clusterRoleBinding(
  name: string,
  role: string,
  account: string,
  labels?: Readonly<Record<string, string>>,
) {
  return {
    apiVersion: `${rbacApi}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name, ...(labels === undefined ? {} : { labels }) },
    roleRef: { apiGroup: rbacApi, kind: 'ClusterRole', name: role },
    subjects: [{ kind: 'ServiceAccount', name: account, namespace: 'kube-system' }],
  };
}
