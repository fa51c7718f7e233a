/** Metrics of nodes and pods, for `kubectl top` and autoscaling: metrics-server. */
import type { RkeConfig } from '../config/rke-config.ts';
import type { KubeObject } from '../kube/manifest.ts';
import { imageOf } from '../services/cluster.ts';
import { ownAddon, type Addon } from './addon.ts';
import {
  clusterRole,
  clusterRoleBinding,
  everyTaint,
  onWorkers,
  podsRun,
  rbacApi,
  serviceAccount,
  settingsOf,
  strategyOf,
  tolerationsOf,
  type Settings,
} from './settings.ts';

const name = 'metrics-server';
const labels = { 'k8s-app': name } as const;
const port = 10250;

export function metricsServer(rke: RkeConfig): Addon {
  const { monitoring, rbac } = settingsOf(rke);
  return ownAddon({
    name: 'metrics',
    title: name,
    critical: true,
    runs: podsRun(rke),
    objects: [
      serviceAccount(name, labels),
      ...(rbac ? rights() : []),
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace: 'kube-system', labels },
        spec: {
          selector: labels,
          ports: [{ name: 'https', port: 443, protocol: 'TCP', targetPort: 'https' }],
        },
      },
      deployment(rke, monitoring),
      {
        apiVersion: 'apiregistration.k8s.io/v1',
        kind: 'APIService',
        metadata: { name: 'v1beta1.metrics.k8s.io', labels },
        spec: {
          group: 'metrics.k8s.io',
          version: 'v1beta1',
          groupPriorityMinimum: 100,
          versionPriority: 100,
          // It makes a certificate of its own at each start.
          insecureSkipTLSVerify: true,
          service: { name, namespace: 'kube-system' },
        },
      },
    ],
  });
}

function rights(): KubeObject[] {
  const read = ['get', 'list', 'watch'];
  const everyone = ['admin', 'edit', 'view'].map((role) => [`${rbacApi}/aggregate-to-${role}`, 'true']);
  return [
    clusterRole(
      'system:aggregated-metrics-reader',
      [{ apiGroups: ['metrics.k8s.io'], resources: ['pods', 'nodes'], verbs: read }],
      { ...labels, ...(Object.fromEntries(everyone) as Record<string, string>) },
    ),
    clusterRole(
      `system:${name}`,
      [
        { apiGroups: [''], resources: ['nodes/metrics'], verbs: ['get'] },
        { apiGroups: [''], resources: ['pods', 'nodes'], verbs: read },
      ],
      labels,
    ),
    clusterRoleBinding(`system:${name}`, `system:${name}`, name, labels),
    clusterRoleBinding(`${name}:system:auth-delegator`, 'system:auth-delegator', name, labels),
    {
      apiVersion: `${rbacApi}/v1`,
      kind: 'RoleBinding',
      metadata: { name: `${name}-auth-reader`, namespace: 'kube-system', labels },
      roleRef: { apiGroup: rbacApi, kind: 'Role', name: 'extension-apiserver-authentication-reader' },
      subjects: [{ kind: 'ServiceAccount', name, namespace: 'kube-system' }],
    },
  ];
}

function deployment(rke: RkeConfig, monitoring: Settings['monitoring']): KubeObject {
  const strategy = strategyOf(monitoring);
  const probe = (path: string) => ({
    httpGet: { path, port: 'https', scheme: 'HTTPS' },
    periodSeconds: 10,
    failureThreshold: 3,
  });
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: 'kube-system', labels },
    spec: {
      replicas: monitoring.replicas ?? 1,
      ...(strategy === undefined ? {} : { strategy }),
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          serviceAccountName: name,
          priorityClassName: monitoring.metricsServerPriorityClassName ?? 'system-cluster-critical',
          nodeSelector: { 'kubernetes.io/os': 'linux', ...monitoring.nodeSelector },
          tolerations: tolerationsOf(monitoring, everyTaint),
          affinity: onWorkers,
          containers: [
            {
              name,
              image: imageOf(rke, 'metricsServer'),
              imagePullPolicy: 'IfNotPresent',
              args: [
                '--cert-dir=/tmp',
                `--secure-port=${port}`,
                // Kubelets serve with certificates that they have signed themselves.
                '--kubelet-insecure-tls',
                '--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname',
                '--metric-resolution=15s',
                ...Object.entries(monitoring.options ?? {}).map(([key, value]) => `--${key}=${value}`),
              ],
              ports: [{ name: 'https', containerPort: port, protocol: 'TCP' }],
              resources: { requests: { cpu: '100m', memory: '200Mi' } },
              livenessProbe: probe('/livez'),
              readinessProbe: { ...probe('/readyz'), initialDelaySeconds: 20 },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                runAsNonRoot: true,
                runAsUser: 1000,
                capabilities: { drop: ['ALL'] },
                seccompProfile: { type: 'RuntimeDefault' },
              },
              volumeMounts: [{ name: 'tmp-dir', mountPath: '/tmp' }],
            },
          ],
          volumes: [{ name: 'tmp-dir', emptyDir: {} }],
        },
      },
    },
  };
}
