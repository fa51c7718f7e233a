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
