/** Where kube-apiserver keeps what, below etcd's prefix. Read from kube-apiserver's storage factory (to 1.34). */

/** Resources whose keys do not begin with their own name. */
const elsewhere: Readonly<Record<string, string>> = {
  nodes: 'minions',
  services: 'services/specs',
  endpoints: 'services/endpoints',
  replicationcontrollers: 'controllers',
  'ingresses.networking.k8s.io': 'ingress',
};

/** Built-in groups whose keys carry the group, as those of custom resources do: own servers in the chain. */
const groupsInPath = new Set(['apiextensions.k8s.io', 'apiregistration.k8s.io']);

/** Path of a resource's keys below the prefix, such as `secrets`, `services/specs`, `example.com/widgets`. */
export function etcdPathOf(resource: string, group: string, custom: boolean): string {
  if (custom || groupsInPath.has(group)) return `${group}/${resource}`;
  return elsewhere[group === '' ? resource : `${resource}.${group}`] ?? resource;
}

/**
 * The path that a key below the prefix belongs to: its first part, or two where the first is a group
 * (groups of custom resources always hold a dot, names of built-in resources never) or `services`.
 * `rest` is the key without prefix and leading slash, e.g. `secrets/default/db`.
 */
export function etcdPathOfKey(rest: string): string {
  const first = rest.indexOf('/');
  if (first === -1) return rest;
  const head = rest.slice(0, first);
  if (head !== 'services' && !head.includes('.')) return head;
  const second = rest.indexOf('/', first + 1);
  return second === -1 ? rest : rest.slice(0, second);
}

/** Built-in groups (to 1.37) and their resources, as they lie under paths without a group. */
const builtIn: Readonly<Record<string, string>> = {
  'admissionregistration.k8s.io':
    'mutatingwebhookconfigurations validatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicybindings mutatingadmissionpolicies mutatingadmissionpolicybindings',
  apps: 'controllerrevisions daemonsets deployments replicasets statefulsets',
  autoscaling: 'horizontalpodautoscalers',
  batch: 'cronjobs jobs',
  'certificates.k8s.io': 'certificatesigningrequests clustertrustbundles podcertificaterequests',
  'coordination.k8s.io': 'leases leasecandidates',
  'discovery.k8s.io': 'endpointslices',
  'flowcontrol.apiserver.k8s.io': 'flowschemas prioritylevelconfigurations',
  'internal.apiserver.k8s.io': 'storageversions',
  'networking.k8s.io': 'ingress ingressclasses ipaddresses networkpolicies servicecidrs',
  'node.k8s.io': 'runtimeclasses',
  policy: 'poddisruptionbudgets podsecuritypolicy',
  'rbac.authorization.k8s.io': 'clusterrolebindings clusterroles rolebindings roles',
  'resource.k8s.io': 'deviceclasses devicetaintrules resourceclaims resourceclaimtemplates resourceslices',
  'scheduling.k8s.io': 'priorityclasses workloads podgroups',
  'storage.k8s.io':
    'csidrivers csinodes csistoragecapacities storageclasses volumeattachments volumeattributesclasses',
  'storagemigration.k8s.io': 'storageversionmigrations',
};
const groupOf = new Map(
  Object.entries(builtIn).flatMap(([group, names]) => names.split(' ').map((name) => [name, group] as const)),
);
const nameOf = new Map(Object.entries(elsewhere).map(([name, path]) => [path, name]));

/** What kube-apiserver stores past its encryption: allocators, and the leases of its own endpoints. */
const neverEncrypted = new Set(['ranges', 'masterleases', 'peerserverleases']);

/**
 * A provider file's name for what lies under a path: `secrets`, `deployments.apps`, `widgets.example.com`; undefined
 * for what is never encrypted. A path that is not known counts as the core group's.
 */
export function resourceOfPath(path: string): string | undefined {
  if (neverEncrypted.has(path)) return undefined;
  const known = nameOf.get(path);
  if (known !== undefined) return known;
  const [head = '', tail] = path.split('/');
  if (tail !== undefined && head.includes('.')) return `${tail}.${head}`;
  const group = groupOf.get(path);
  return group === undefined ? path : `${path}.${group}`;
}
