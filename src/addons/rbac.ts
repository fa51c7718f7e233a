/** What RKE's certificates may do beyond Kubernetes' own roles. */
import type { RkeConfig } from '../config/rke-config.ts';
import { ownAddon, type Addon } from './addon.ts';
import { rbacApi, settingsOf } from './settings.ts';

/** Kubelets are in this group by their certificate. */
export const nodesGroup = { apiGroup: rbacApi, kind: 'Group', name: 'system:nodes' } as const;

const proxyRole = 'proxy-clusterrole-kubeapiserver';

/** undefined where the cluster does not authorize by RBAC. */
export function rbac(rke: RkeConfig): Addon | undefined {
  if (!settingsOf(rke).rbac) return undefined;
  const bind = (name: string, role: string, subject: object) => ({
    apiVersion: `${rbacApi}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name },
    roleRef: { apiGroup: rbacApi, kind: 'ClusterRole', name: role },
    subjects: [subject],
  });
  return ownAddon({
    name: 'rbac',
    title: 'RBAC',
    critical: true,
    runs: false,
    objects: [
      bind('system:node', 'system:node', nodesGroup),
      {
        apiVersion: `${rbacApi}/v1`,
        kind: 'ClusterRole',
        metadata: { name: proxyRole },
        rules: [
          {
            apiGroups: [''],
            resources: ['nodes/metrics', 'nodes/proxy', 'nodes/stats', 'nodes/log', 'nodes/spec'],
            verbs: ['get', 'list', 'watch', 'create'],
          },
        ],
      },
      // kube-apiserver asks kubelets for logs, exec and port-forward under its own name.
      bind('proxy-role-binding-kubernetes-master', proxyRole, {
        apiGroup: rbacApi,
        kind: 'User',
        name: 'kube-apiserver',
      }),
    ],
  });
}
