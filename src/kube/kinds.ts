/** Where the API serves objects of a kind, by discovery of just the versions that are named. */
import type { ObjectRef } from './manifest.ts';
import { askPatiently, type Server } from './patient.ts';
import { expectOk, parseJson } from './status.ts';

interface Served {
  readonly kind: string;
  /** Plural, lower-case. */
  readonly resource: string;
  readonly namespaced: boolean;
}

export interface Location {
  /** `/apis/apps/v1/namespaces/kube-system/daemonsets/kube-flannel`. */
  readonly path: string;
  /** Empty when the kind is not namespaced. */
  readonly namespace: string;
  /** The same for all versions of the API that serve this object. */
  readonly identity: string;
}

/** One discovery: a version that was asked for once is asked again only when a kind is missing from it. */
export class Kinds {
  readonly #server: Server;
  readonly #served = new Map<string, readonly Served[]>();

  constructor(server: Server) {
    this.#server = server;
  }

  /** Resolves to undefined while no API serves this kind: its CustomResourceDefinition may be about to. */
  async locate(ref: ObjectRef, signal: AbortSignal): Promise<Location | undefined> {
    const { apiVersion, kind } = ref;
    const known = this.#served.get(apiVersion)?.find((each) => each.kind === kind);
    const served = known ?? (await this.#ask(apiVersion, signal)).find((each) => each.kind === kind);
    if (served === undefined) return undefined;
    const namespace = !served.namespaced ? '' : ref.namespace === '' ? 'default' : ref.namespace;
    const within =
      (namespace === '' ? '' : `/namespaces/${encodeURIComponent(namespace)}`) +
      `/${served.resource}/${encodeURIComponent(ref.name)}`;
    const group = apiVersion.includes('/') ? apiVersion.replace(/\/.*$/, '') : '';
    return { path: `${baseOf(apiVersion)}${within}`, namespace, identity: `${group}${within}` };
  }

  async #ask(apiVersion: string, signal: AbortSignal): Promise<readonly Served[]> {
    const path = baseOf(apiVersion);
    const answer = await askPatiently(this.#server, { method: 'GET', path }, signal);
    if (answer.status === 404) return [];
    const { node } = this.#server;
    const list = parseJson(expectOk(answer, node, `GET ${path}`), node, `GET ${path}`) as {
      resources?: { name?: string; kind?: string; namespaced?: boolean }[] | null;
    };
    const served = (list.resources ?? [])
      .map(({ name = '', kind = '', namespaced = false }) => ({ resource: name, kind, namespaced }))
      .filter(({ resource }) => resource !== '' && !resource.includes('/'));
    this.#served.set(apiVersion, served);
    return served;
  }
}

function baseOf(apiVersion: string): string {
  const [group = '', version] = apiVersion.split('/');
  return version === undefined
    ? `/api/${encodeURIComponent(group)}`
    : `/apis/${encodeURIComponent(group)}/${encodeURIComponent(version)}`;
}
