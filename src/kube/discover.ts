/** From names in a provider file to resources that can be listed and rewritten. */
import { splitPattern } from '../encryption/pattern.ts';
import { etcdPathOf } from '../etcd/paths.ts';
import type { KubeApi, NodeName } from '../ports.ts';
import type { Resource } from './outcome.ts';
import { expectOk, parseJson } from './status.ts';

export interface Discovered {
  /** As given: `secrets`, `widgets.example.com`, `*.`, `*.apps`, `*.*`. */
  readonly pattern: string;
  /** Those that can be rewritten, by name; a name gives at most one. */
  readonly resources: readonly Resource[];
  /**
   * Those left out, with the reason. 'unknown': no API serves it. 'elsewhere': another server does
   * (an APIService with a Service), so it is not in this etcd. 'fixed': it cannot be listed or patched.
   */
  readonly leftOut: readonly { readonly name: string; readonly why: 'unknown' | 'elsewhere' | 'fixed' }[];
}

/**
 * Looks the patterns up by API discovery at this node, each resource in its group's preferred version or, where
 * that one lacks it, in another. Wildcards are those of kube-apiserver ≥ 1.27: `*.` the core group, `*.<group>`,
 * `*.*` everything. Events of group events.k8s.io are the core group's, as in the provider file. Throws KUBE.
 */
export async function discover(
  kube: KubeApi,
  node: NodeName,
  patterns: readonly string[],
  signal: AbortSignal,
): Promise<Discovered[]> {
  const look = new Look(kube, node, signal);
  const found: Discovered[] = [];
  for (const pattern of patterns) {
    const { resource, group } = splitPattern(pattern);
    if (resource === '*') {
      const groups = group === '*' ? ['', ...(await look.groups()).keys()] : [group];
      const parts = [];
      for (const each of groups) parts.push(await look.wholeGroup(each));
      found.push({
        pattern,
        resources: parts.flatMap((part) => part.resources),
        leftOut: parts.flatMap((part) => part.leftOut),
      });
    } else {
      found.push({ pattern, ...(await look.one(resource, group)) });
    }
  }
  return found;
}

type Part = Omit<Discovered, 'pattern'>;

interface Served {
  readonly version: string;
  readonly name: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
}

/** One discovery: what was asked for once is not asked for again. */
class Look {
  readonly #kube: KubeApi;
  readonly #node: NodeName;
  readonly #signal: AbortSignal;
  #groups: Promise<Map<string, string[]>> | undefined;
  #elsewhere: Promise<Set<string>> | undefined;
  #custom: Promise<Set<string>> | undefined;
  readonly #served = new Map<string, Promise<Served[]>>();

  constructor(kube: KubeApi, node: NodeName, signal: AbortSignal) {
    this.#kube = kube;
    this.#node = node;
    this.#signal = signal;
  }

  /** Versions of each group but the core one, preferred first. */
  groups(): Promise<Map<string, string[]>> {
    return (this.#groups ??= this.#askGroups());
  }

  async one(name: string, group: string): Promise<Part> {
    const versions = group === '' ? ['v1'] : ((await this.groups()).get(group) ?? []);
    for (const version of versions) {
      const elsewhere = group !== '' && (await this.#servedElsewhere()).has(`${version}.${group}`);
      if (elsewhere) return { resources: [], leftOut: [{ name: fullName(name, group), why: 'elsewhere' }] };
      const served = (await this.#resources(group, version)).find((each) => each.name === name);
      if (served !== undefined) return await this.#judge(served, group);
    }
    return { resources: [], leftOut: [{ name: fullName(name, group), why: 'unknown' }] };
  }

  async wholeGroup(group: string): Promise<Part> {
    if (group === 'events.k8s.io') return { resources: [], leftOut: [] };
    const versions = group === '' ? ['v1'] : ((await this.groups()).get(group) ?? []);
    if (versions.length === 0) return { resources: [], leftOut: [{ name: `*.${group}`, why: 'unknown' }] };
    const names = new Set<string>();
    const parts: Part[] = [];
    for (const version of versions) {
      if (group !== '' && (await this.#servedElsewhere()).has(`${version}.${group}`)) {
        return { resources: [], leftOut: [{ name: `*.${group}`, why: 'elsewhere' }] };
      }
      for (const served of await this.#resources(group, version)) {
        if (names.has(served.name)) continue;
        names.add(served.name);
        parts.push(await this.#judge(served, group));
      }
    }
    return {
      resources: parts.flatMap((part) => part.resources),
      leftOut: parts.flatMap((part) => part.leftOut),
    };
  }

  async #judge({ name, version, namespaced, verbs }: Served, group: string): Promise<Part> {
    if (!verbs.includes('list') || !verbs.includes('patch')) {
      return { resources: [], leftOut: [{ name: fullName(name, group), why: 'fixed' }] };
    }
    const custom = group !== '' && (await this.#customResources()).has(fullName(name, group));
    const etcdPath = etcdPathOf(name, group, custom);
    return { resources: [{ group, version, resource: name, namespaced, etcdPath }], leftOut: [] };
  }

  async #askGroups(): Promise<Map<string, string[]>> {
    const list = (await this.#get('/apis')) as {
      groups?: {
        name?: string;
        versions?: { version?: string }[];
        preferredVersion?: { version?: string };
      }[];
    };
    return new Map(
      (list.groups ?? []).map((group) => {
        const versions = [group.preferredVersion, ...(group.versions ?? [])].map(
          (each) => each?.version ?? '',
        );
        return [group.name ?? '', [...new Set(versions)].filter((version) => version !== '')];
      }),
    );
  }

  #resources(group: string, version: string): Promise<Served[]> {
    const path = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    const known = this.#served.get(path) ?? this.#askResources(path, version);
    this.#served.set(path, known);
    return known;
  }

  async #askResources(path: string, version: string): Promise<Served[]> {
    const list = (await this.#get(path)) as {
      resources?: { name?: string; namespaced?: boolean; verbs?: string[] }[] | null;
    };
    return (list.resources ?? [])
      .map(({ name = '', namespaced = false, verbs = [] }) => ({ version, name, namespaced, verbs }))
      .filter(({ name }) => name !== '' && !name.includes('/'));
  }

  /** Names of APIServices (`v1beta1.metrics.k8s.io`) that another server answers for. */
  #servedElsewhere(): Promise<Set<string>> {
    return (this.#elsewhere ??= this.#get('/apis/apiregistration.k8s.io/v1/apiservices').then((list) => {
      const { items } = list as {
        items?: { metadata?: { name?: string }; spec?: { service?: unknown } }[] | null;
      };
      const foreign = (items ?? []).filter(
        (item) => item.spec?.service !== undefined && item.spec.service !== null,
      );
      return new Set(foreign.map((item) => item.metadata?.name ?? ''));
    }));
  }

  /** Names (`widgets.example.com`) of CustomResourceDefinitions: their keys in etcd carry the group. */
  #customResources(): Promise<Set<string>> {
    return (this.#custom ??= this.#get(
      '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
      'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
    ).then((list) => {
      // An empty list of partial objects comes as null.
      const { items } = list as { items?: { metadata?: { name?: string } }[] | null };
      return new Set((items ?? []).map((item) => item.metadata?.name ?? ''));
    }));
  }

  async #get(path: string, accept = 'application/json'): Promise<unknown> {
    const answer = await this.#kube.request(this.#node, { method: 'GET', path, accept }, this.#signal);
    const what = `GET ${path}`;
    return parseJson(expectOk(answer, this.#node, what), this.#node, what);
  }
}

function fullName(name: string, group: string): string {
  return group === '' ? name : `${name}.${group}`;
}
