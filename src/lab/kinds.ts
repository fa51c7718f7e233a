/** The resources that the lab's kube-apiservers serve, and how their objects lie in etcd. */
import { etcdPathOf, etcdPathOfKey } from '../etcd/paths.ts';
import { bytesField, fieldsOf } from './protobuf.ts';

export interface Kind {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Of a CustomResourceDefinition: stored as JSON. */
  readonly custom: boolean;
  /** As a provider file calls it: `secrets`, `widgets.example.com`. */
  readonly resource: string;
  /** Below etcd's prefix. */
  readonly path: string;
}

export interface Metadata {
  name: string;
  namespace?: string;
  uid: string;
  /** Never stored: it is the revision of the value. */
  resourceVersion?: string;
  creationTimestamp: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

export interface KubeObject {
  [field: string]: unknown;
  apiVersion: string;
  kind: string;
  metadata: Metadata;
}

const kind = (group: string, plural: string, name: string, namespaced: boolean, custom = false): Kind => ({
  group,
  version: 'v1',
  plural,
  kind: name,
  namespaced,
  custom,
  resource: group === '' ? plural : `${plural}.${group}`,
  path: etcdPathOf(plural, group, custom),
});

export const secrets = kind('', 'secrets', 'Secret', true);
export const configmaps = kind('', 'configmaps', 'ConfigMap', true);
export const namespaces = kind('', 'namespaces', 'Namespace', false);
export const nodes = kind('', 'nodes', 'Node', false);
export const endpoints = kind('', 'endpoints', 'Endpoints', true);
export const leases = kind('coordination.k8s.io', 'leases', 'Lease', true);
export const apiservices = kind('apiregistration.k8s.io', 'apiservices', 'APIService', false);
export const definitions = kind(
  'apiextensions.k8s.io',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  false,
);
export const widgets = kind('example.com', 'widgets', 'Widget', true, true);

export const pods = kind('', 'pods', 'Pod', true);
export const daemonsets = kind('apps', 'daemonsets', 'DaemonSet', true);
export const deployments = kind('apps', 'deployments', 'Deployment', true);
export const budgets = kind('policy', 'poddisruptionbudgets', 'PodDisruptionBudget', true);
const rbac = 'rbac.authorization.k8s.io';
export const roleBindings = kind(rbac, 'clusterrolebindings', 'ClusterRoleBinding', false);

export const kinds: readonly Kind[] = [
  configmaps,
  endpoints,
  namespaces,
  nodes,
  pods,
  secrets,
  kind('', 'serviceaccounts', 'ServiceAccount', true),
  kind('', 'services', 'Service', true),
  apiservices,
  daemonsets,
  deployments,
  kind('batch', 'jobs', 'Job', true),
  budgets,
  roleBindings,
  kind(rbac, 'clusterroles', 'ClusterRole', false),
  kind(rbac, 'rolebindings', 'RoleBinding', true),
  kind(rbac, 'roles', 'Role', true),
  definitions,
  leases,
  widgets,
];

const byPath = new Map(kinds.map((each) => [each.path, each]));

/** The kind that a value of etcd belongs to by its key. */
export function kindOfKey(etcdKey: string): Kind | undefined {
  return byPath.get(etcdPathOfKey(etcdKey.slice(etcdPrefix.length + 1)));
}

export function apiVersionOf({ group, version }: Kind): string {
  return group === '' ? version : `${group}/${version}`;
}

export const etcdPrefix = '/registry';

/** `/registry/secrets/default/db`; without a name, what all of them begin with. */
export function etcdKeyOf({ path }: Kind, namespace: string, name: string): string {
  const parts = [etcdPrefix, path, ...(namespace === '' ? [] : [namespace]), name];
  return parts.join('/');
}

const magic = Buffer.from('k8s\0');

/**
 * JSON for custom resources. Built-in kinds as `k8s\0` and protobuf's runtime.Unknown, as in the real one; what is
 * inside of that is JSON here and protobuf there.
 */
export function serialise({ custom }: Kind, object: KubeObject): Buffer {
  const { resourceVersion: _stored, ...metadata } = object.metadata;
  const json = Buffer.from(JSON.stringify({ ...object, metadata }));
  if (custom) return json;
  const typeMeta = Buffer.concat([
    bytesField(1, Buffer.from(object.apiVersion)),
    bytesField(2, Buffer.from(object.kind)),
  ]);
  const fields = [bytesField(1, typeMeta), bytesField(2, json), bytesField(3, Buffer.alloc(0))];
  return Buffer.concat([magic, ...fields, bytesField(4, Buffer.from('application/json'))]);
}

/** Throws where the bytes are no object: a wrong AES-CBC key passes the padding about once in 256. */
export function deserialise(plain: Buffer, revision: number): KubeObject {
  const stored = plain.subarray(0, 4).equals(magic) ? fieldsOf(plain.subarray(4)).bytes(2) : plain;
  let object: KubeObject;
  try {
    object = JSON.parse(stored?.toString() ?? '') as KubeObject;
  } catch {
    throw new Error("couldn't get version/kind; json parse error");
  }
  object.metadata.resourceVersion = String(revision);
  return object;
}
