/** DNS of the cluster: CoreDNS, and the autoscaler that keeps as many of it as the cluster is large. */
import type { RkeConfig } from '../config/rke-config.ts';
import type { KubeObject } from '../kube/manifest.ts';
import { imageOf } from '../services/cluster.ts';
import { ownAddon, type Addon } from './addon.ts';
import {
  clusterRole,
  clusterRoleBinding,
  everyTaint,
  onWorkers,
  optionOf,
  podsRun,
  serviceAccount,
  settingsOf,
  strategyOf,
  tolerationsOf,
  type Settings,
} from './settings.ts';

/** Its Service is `kube-dns` whatever serves it: much software looks for that. */
const labels = { 'k8s-app': 'kube-dns' } as const;
const autoscaler = 'coredns-autoscaler';

export function coredns(rke: RkeConfig): Addon {
  const { dns, rbac } = settingsOf(rke);
  const list = ['list', 'watch'];
  const rights = rbac
    ? [
        clusterRole('system:coredns', [
          { apiGroups: [''], resources: ['endpoints', 'services', 'pods', 'namespaces'], verbs: list },
          { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: list },
        ]),
        clusterRoleBinding('system:coredns', 'system:coredns', 'coredns'),
        clusterRole(`system:${autoscaler}`, [
          { apiGroups: [''], resources: ['nodes'], verbs: list },
          { apiGroups: ['apps'], resources: ['deployments/scale'], verbs: ['get', 'update'] },
          { apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'create'] },
        ]),
        clusterRoleBinding(`system:${autoscaler}`, `system:${autoscaler}`, autoscaler),
      ]
    : [];
  return ownAddon({
    name: 'dns',
    title: 'CoreDNS',
    critical: true,
    runs: podsRun(rke),
    objects: [
      serviceAccount('coredns'),
      serviceAccount(autoscaler),
      ...rights,
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'coredns', namespace: 'kube-system' },
        data: { Corefile: corefile(dns, rke.services.kubelet.clusterDomain ?? 'cluster.local') },
      },
      server(rke, dns),
      service(rke),
      scaler(rke, dns),
    ],
  });
}

function corefile(dns: Settings['dns'], domain: string): string {
  const { upstreamnameservers = [], reversecidrs = [], stubdomains = {} } = dns;
  const reverse = reversecidrs.length > 0 ? reversecidrs : ['in-addr.arpa', 'ip6.arpa'];
  const upstream = upstreamnameservers.length > 0 ? upstreamnameservers : ['/etc/resolv.conf'];
  const stubs = Object.entries(stubdomains).flatMap(([name, servers]) => [
    `${name}:53 {`,
    '    errors',
    '    cache 30',
    `    forward . ${servers.join(' ')}`,
    '}',
  ]);
  const lines = [
    '.:53 {',
    '    errors',
    // Still answers while its address is being taken out of the Service.
    '    health {',
    '        lameduck 5s',
    '    }',
    '    ready',
    `    kubernetes ${[domain, ...reverse].join(' ')} {`,
    '        pods insecure',
    '        fallthrough in-addr.arpa ip6.arpa',
    '    }',
    '    prometheus :9153',
    `    forward . ${upstream.join(' ')}`,
    '    cache 30',
    '    loop',
    '    reload',
    '    loadbalance',
    '}',
    ...stubs,
  ];
  return `${lines.join('\n')}\n`;
}

function server(rke: RkeConfig, dns: Settings['dns']): KubeObject {
  const strategy = strategyOf(dns);
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      name: 'coredns',
      namespace: 'kube-system',
      labels: { ...labels, 'kubernetes.io/name': 'CoreDNS' },
    },
    // How many replicas is the autoscaler's business.
    spec: {
      ...(strategy === undefined ? {} : { strategy }),
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          serviceAccountName: 'coredns',
          priorityClassName: optionOf(dns, 'coredns_priority_class_name') ?? 'system-cluster-critical',
          nodeSelector: { 'kubernetes.io/os': 'linux', ...dns.nodeSelector },
          tolerations: tolerationsOf(dns, [{ key: 'CriticalAddonsOnly', operator: 'Exists' }, ...everyTaint]),
          affinity: {
            ...onWorkers,
            podAntiAffinity: {
              preferredDuringSchedulingIgnoredDuringExecution: [
                {
                  weight: 100,
                  podAffinityTerm: {
                    topologyKey: 'kubernetes.io/hostname',
                    labelSelector: { matchLabels: labels },
                  },
                },
              ],
            },
          },
          // The node's resolver, else it would ask itself.
          dnsPolicy: 'Default',
          containers: [
            {
              name: 'coredns',
              image: imageOf(rke, 'coredns'),
              imagePullPolicy: 'IfNotPresent',
              args: ['-conf', '/etc/coredns/Corefile'],
              resources: { requests: { cpu: '100m', memory: '70Mi' }, limits: { memory: '170Mi' } },
              ports: [
                { name: 'dns', containerPort: 53, protocol: 'UDP' },
                { name: 'dns-tcp', containerPort: 53, protocol: 'TCP' },
                { name: 'metrics', containerPort: 9153, protocol: 'TCP' },
              ],
              livenessProbe: {
                httpGet: { path: '/health', port: 8080, scheme: 'HTTP' },
                initialDelaySeconds: 60,
                timeoutSeconds: 5,
                failureThreshold: 5,
              },
              readinessProbe: { httpGet: { path: '/ready', port: 8181, scheme: 'HTTP' } },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { add: ['NET_BIND_SERVICE'], drop: ['ALL'] },
                seccompProfile: { type: 'RuntimeDefault' },
              },
              volumeMounts: [{ name: 'config-volume', mountPath: '/etc/coredns', readOnly: true }],
            },
          ],
          volumes: [
            {
              name: 'config-volume',
              configMap: { name: 'coredns', items: [{ key: 'Corefile', path: 'Corefile' }] },
            },
          ],
        },
      },
    },
  };
}

function service(rke: RkeConfig): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: 'kube-dns',
      namespace: 'kube-system',
      labels: { ...labels, 'kubernetes.io/cluster-service': 'true', 'kubernetes.io/name': 'CoreDNS' },
      annotations: { 'prometheus.io/port': '9153', 'prometheus.io/scrape': 'true' },
    },
    spec: {
      // Kubelets give this address to every pod.
      clusterIP: rke.services.kubelet.clusterDnsServer,
      selector: labels,
      ports: [
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'dns-tcp', port: 53, protocol: 'TCP' },
        { name: 'metrics', port: 9153, protocol: 'TCP' },
      ],
    },
  };
}

function scaler(rke: RkeConfig, dns: Settings['dns']): KubeObject {
  const own = { 'k8s-app': autoscaler };
  const priority = optionOf(dns, 'coredns_autoscaler_priority_class_name');
  const probe = { httpGet: { path: '/healthz', port: 8080, scheme: 'HTTP' }, periodSeconds: 10 };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: autoscaler, namespace: 'kube-system', labels: own },
    spec: {
      selector: { matchLabels: own },
      template: {
        metadata: { labels: own },
        spec: {
          serviceAccountName: autoscaler,
          ...(priority === undefined ? {} : { priorityClassName: priority }),
          nodeSelector: { 'kubernetes.io/os': 'linux' },
          tolerations: tolerationsOf(dns, everyTaint),
          affinity: onWorkers,
          containers: [
            {
              name: 'autoscaler',
              image: imageOf(rke, 'corednsAutoscaler'),
              command: [
                '/cluster-proportional-autoscaler',
                '--namespace=kube-system',
                `--configmap=${autoscaler}`,
                '--target=Deployment/coredns',
                `--default-params=${JSON.stringify({ linear: dns.linearAutoscalerParams })}`,
                '--nodelabels=node-role.kubernetes.io/worker=true,kubernetes.io/os=linux',
                '--logtostderr=true',
                '--v=2',
              ],
              resources: { requests: { cpu: '20m', memory: '10Mi' } },
              livenessProbe: { ...probe, initialDelaySeconds: 60, timeoutSeconds: 5, failureThreshold: 5 },
              readinessProbe: probe,
            },
          ],
        },
      },
    },
  };
}
