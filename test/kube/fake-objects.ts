/**
 * A kube API that keeps any objects: discovery, server-side apply, JSON and merge patches of a node, DELETE. Answers in
 * kube-apiserver's shapes. A CustomResourceDefinition brings its kind, a Namespace its place, as many looks later as
 * `slow` says.
 */
import type { KubeApi, KubeRequest, KubeResponse, NodeName } from '../../src/ports.ts';

export type Stored = Record<string, unknown> & {
  metadata: Record<string, unknown> & { name: string; namespace?: string };
};

interface Kind {
  readonly api: string;
  readonly resource: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

const kinds: readonly Kind[] = [
  ['v1', 'namespaces', 'Namespace', false],
  ['v1', 'nodes', 'Node', false],
  ['v1', 'configmaps', 'ConfigMap', true],
  ['v1', 'secrets', 'Secret', true],
  ['v1', 'services', 'Service', true],
  ['v1', 'serviceaccounts', 'ServiceAccount', true],
  ['v1', 'persistentvolumeclaims', 'PersistentVolumeClaim', true],
  ['apps/v1', 'deployments', 'Deployment', true],
  ['apps/v1', 'daemonsets', 'DaemonSet', true],
  ['batch/v1', 'jobs', 'Job', true],
  ['rbac.authorization.k8s.io/v1', 'clusterroles', 'ClusterRole', false],
  ['rbac.authorization.k8s.io/v1', 'clusterrolebindings', 'ClusterRoleBinding', false],
  ['rbac.authorization.k8s.io/v1', 'rolebindings', 'RoleBinding', true],
  ['apiregistration.k8s.io/v1', 'apiservices', 'APIService', false],
  ['apiextensions.k8s.io/v1', 'customresourcedefinitions', 'CustomResourceDefinition', false],
].map(([api, resource, kind, namespaced]) => ({ api, resource, kind, namespaced }) as Kind);

export class FakeObjects implements KubeApi {
  /** By path. */
  readonly objects = new Map<string, Stored>();
  readonly requests: KubeRequest[] = [];
  /** An answer here replaces the real one, an Error breaks it off. */
  before: (request: KubeRequest) => KubeResponse | Error | undefined = () => undefined;
  /** How often a new kind is asked for before it is served. */
  slow = 0;
  readonly #kinds: (Kind & { asked: number })[] = kinds.map((kind) => ({ ...kind, asked: 0 }));
  #version = 100;

  constructor() {
    for (const name of ['default', 'kube-system']) this.put('/api/v1/namespaces', { metadata: { name } });
  }

  put(collection: string, object: Stored): Stored {
    const stored = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String((this.#version += 1)) },
    };
    this.objects.set(`${collection}/${object.metadata.name}`, stored);
    return stored;
  }

  configMap(name: string, data: Record<string, string>): void {
    this.put('/api/v1/namespaces/kube-system/configmaps', { metadata: { name }, data });
  }

  get(path: string): Stored | undefined {
    return this.objects.get(path);
  }

  /** Of the objects, all but namespaces: `configmaps/a`, in the order in which they came. */
  get names(): string[] {
    return [...this.objects.keys()]
      .filter((path) => !/^\/api\/v1\/namespaces\/[^/]+$/.test(path))
      .map((path) => path.split('/').slice(-2).join('/'));
  }

  /** Names of applied objects, in their order. */
  get applied(): string[] {
    return this.requests
      .filter(({ contentType }) => contentType === 'application/apply-patch+yaml')
      .map(({ path }) => path.replace(/\?.*/, '').split('/').slice(-2).join('/'));
  }

  request(_: NodeName, request: KubeRequest, signal: AbortSignal): Promise<KubeResponse> {
    signal.throwIfAborted();
    this.requests.push(request);
    const given = this.before(request);
    if (given instanceof Error) return Promise.reject(given);
    return Promise.resolve(given ?? this.#answer(request));
  }

  #answer({ method, path: whole, contentType, body }: KubeRequest): KubeResponse {
    const path = whole.replace(/\?.*/s, '');
    const discovered = /^\/(api|apis)\/([^/]+(\/[^/]+)?)$/.exec(path);
    if (method === 'GET' && discovered !== null) return this.#discovery(discovered[2] ?? '');
    const found = this.objects.get(path);
    if (contentType === 'application/apply-patch+yaml') return this.#apply(path, body as Stored);
    if (method === 'GET' && found === undefined) {
      const items = [...this.objects].filter(([key]) => key.slice(0, key.lastIndexOf('/')) === path);
      if (items.length > 0 || path.endsWith('daemonsets')) {
        return answer(200, { items: items.map(([, item]) => item) });
      }
    }
    if (found === undefined) return status(404, 'NotFound', `${path} not found`);
    if (method === 'DELETE') this.objects.delete(path);
    if (contentType === 'application/json-patch+json') return this.#jsonPatch(path, found, body);
    return answer(200, found);
  }

  #discovery(api: string): KubeResponse {
    const served = this.#kinds.filter((kind) => kind.api === api && (kind.asked += 1) > 0);
    const there = served.filter(
      (kind) => kinds.some(({ kind: known }) => known === kind.kind) || kind.asked > this.slow,
    );
    if (there.length === 0) return answer(404, undefined, '404 page not found');
    const resources = there.flatMap(({ resource: name, kind, namespaced }) => [
      { name, kind, namespaced },
      { name: `${name}/status`, kind, namespaced },
    ]);
    return answer(200, { resources });
  }

  #apply(path: string, object: Stored): KubeResponse {
    const namespace = /\/namespaces\/([^/]+)\/[^/]+\/[^/]+$/.exec(path)?.[1];
    if (namespace !== undefined && !this.objects.has(`/api/v1/namespaces/${namespace}`)) {
      return status(404, 'NotFound', `namespaces "${namespace}" not found`);
    }
    if ((object.metadata.namespace ?? undefined) !== namespace) {
      return status(
        400,
        'BadRequest',
        'the namespace of the object does not match the namespace on the request',
      );
    }
    if (object['kind'] === 'CustomResourceDefinition') {
      const { group, names, versions } = object['spec'] as {
        group: string;
        names: { plural: string; kind: string };
        versions: { name: string }[];
      };
      for (const { name } of versions) {
        const more = { api: `${group}/${name}`, resource: names.plural, kind: names.kind };
        this.#kinds.push({ ...more, namespaced: true, asked: 0 });
      }
    }
    const isNew = !this.objects.has(path);
    const metadata = { ...object.metadata, generation: 1 };
    const stored = this.put(path.slice(0, path.lastIndexOf('/')), { ...object, metadata });
    return answer(isNew ? 201 : 200, stored);
  }

  #jsonPatch(path: string, object: Stored, body: unknown): KubeResponse {
    const metadata = { ...object.metadata };
    for (const { path: field, value } of body as { path: string; value: unknown }[]) {
      const key = field.replace('/metadata/', '');
      if (key === 'resourceVersion' && value !== metadata['resourceVersion']) {
        return status(409, 'Conflict', 'the object has been modified');
      }
      metadata[key] = value;
    }
    return answer(200, this.put(path.slice(0, path.lastIndexOf('/')), { ...object, metadata }));
  }
}

export function answer(code: number, body: unknown, text = JSON.stringify(body)): KubeResponse {
  return { status: code, headers: {}, text };
}

export function status(code: number, reason: string, message: string): KubeResponse {
  return answer(code, { kind: 'Status', code, reason, message });
}
