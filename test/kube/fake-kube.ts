/**
 * A kube API of secrets that stores what matters to a rewrite: which key each object lies under. Answers as
 * kube-apiserver 1.34 does, in the shapes of its Status objects. Faults and other clients come in by hooks.
 */
import type { KubeApi, KubeRequest, KubeResponse, NodeName } from '../../src/ports.ts';

export interface Stored {
  readonly namespace: string;
  readonly name: string;
  uid: string;
  resourceVersion: number;
  /** Lies under a key that is not the write key. */
  stale: boolean;
  annotations: Map<string, string>;
}

/** What a hook may do instead of the real answer: answer something, or break off (an Error). */
export type Fault = KubeResponse | Error | undefined;

export class FakeKube implements KubeApi {
  readonly objects = new Map<string, Stored>();
  readonly requests: { readonly node: NodeName; readonly request: KubeRequest }[] = [];
  /** Called before each request; an Error breaks it off, an answer replaces the real one. */
  before: (request: KubeRequest, node: NodeName) => Fault | Promise<Fault> = () => undefined;
  /** Called after the effect; an Error here is an answer that got lost. */
  after: (request: KubeRequest, node: NodeName) => Fault = () => undefined;
  /** Admission: a reason refuses the object. */
  refuses: (object: Stored) => string | undefined = () => undefined;
  /** KMS v1: a value is never stale to the server, only a change is written. */
  neverStale = false;
  /** Objects as they were listed, each as often as it was. */
  readonly listed: string[] = [];
  #revision = 1000;
  #snapshots = new Map<number, Stored[]>();
  #uids = 0;

  put(namespace: string, name: string, stale: boolean): Stored {
    const object = {
      namespace,
      name,
      uid: `uid-${(this.#uids += 1)}`,
      resourceVersion: (this.#revision += 1),
      stale,
      annotations: new Map<string, string>(),
    };
    this.objects.set(`${namespace}/${name}`, object);
    return object;
  }

  /** What another client's update does: a new version, under the write key. */
  write(key: string): void {
    const object = this.objects.get(key);
    if (object === undefined) return;
    object.resourceVersion = this.#revision += 1;
    object.stale = false;
  }

  remove(key: string): void {
    this.objects.delete(key);
  }

  /** Forgets all snapshots: tokens from before answer 410 from now on. */
  compact(): void {
    this.#snapshots.clear();
  }

  async request(node: NodeName, request: KubeRequest, signal: AbortSignal): Promise<KubeResponse> {
    signal.throwIfAborted();
    this.requests.push({ node, request });
    const fault = await this.before(request, node);
    if (fault instanceof Error) throw fault;
    if (fault !== undefined) return fault;
    const answer = request.method === 'GET' ? this.#list(request) : this.#patch(request);
    const lost = this.after(request, node);
    if (lost instanceof Error) throw lost;
    if (lost === undefined && answer.status === 200 && request.method === 'GET') {
      const { items } = JSON.parse(answer.text) as { items: { metadata: Stored }[] };
      this.listed.push(...items.map(({ metadata }) => keyOf(metadata)));
    }
    return lost ?? answer;
  }

  #list(request: KubeRequest): KubeResponse {
    const url = new URL(request.path, 'https://fake');
    if (url.pathname !== '/api/v1/secrets') return answer(404, undefined, '404 page not found');
    const limit = Number(url.searchParams.get('limit'));
    const token = url.searchParams.get('continue');
    let from = { revision: this.#revision, behind: '' };
    if (token !== null) from = JSON.parse(token) as typeof from;
    let snapshot = this.#snapshots.get(from.revision);
    if (snapshot === undefined && token !== null && from.revision !== -1) {
      return expired(JSON.stringify({ revision: -1, behind: from.behind }));
    }
    if (snapshot === undefined) {
      snapshot = [...this.objects.values()]
        .map((object) => ({ ...object }))
        .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
      from = { revision: this.#revision, behind: from.behind };
      this.#snapshots.set(from.revision, snapshot);
    }
    const rest = snapshot.filter((object) => keyOf(object) > from.behind);
    const page = rest.slice(0, limit);
    const last = page.at(-1);
    const metadata =
      last !== undefined && rest.length > page.length
        ? {
            continue: JSON.stringify({ ...from, behind: keyOf(last) }),
            remainingItemCount: rest.length - page.length,
          }
        : { resourceVersion: String(from.revision) };
    return answer(200, { kind: 'PartialObjectMetadataList', metadata, items: page.map(partial) });
  }

  #patch(request: KubeRequest): KubeResponse {
    const match = /^\/api\/v1\/namespaces\/([^/]+)\/secrets\/([^/?]+)/.exec(request.path);
    if (match === null || request.method !== 'PATCH') return answer(404, undefined, '404 page not found');
    const [, namespace = '', name = ''] = match;
    const object = this.objects.get(`${namespace}/${name}`);
    const { metadata } = request.body as {
      metadata: { uid: string; resourceVersion?: string; annotations?: Record<string, string | null> };
    };
    if (object === undefined) return status(404, 'NotFound', `secrets "${name}" not found`, name);
    if (
      metadata.resourceVersion !== undefined &&
      metadata.resourceVersion !== String(object.resourceVersion)
    ) {
      return status(409, 'Conflict', `Operation cannot be fulfilled on secrets "${name}": modified`, name);
    }
    if (metadata.uid !== object.uid) return uidImmutable(name);
    const reason = this.refuses(object);
    if (reason !== undefined) {
      return status(
        400,
        'BadRequest',
        `admission webhook "guard.example.com" denied the request: ${reason}`,
        '',
      );
    }
    let changed = false;
    for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
      if ((object.annotations.get(key) ?? null) === value) continue;
      changed = true;
      if (value === null) object.annotations.delete(key);
      else object.annotations.set(key, value);
    }
    if (changed || (object.stale && !this.neverStale)) this.write(keyOf(object));
    return answer(200, { kind: 'PartialObjectMetadata', ...partial(object) });
  }
}

export function answer(code: number, body: unknown, text = JSON.stringify(body)): KubeResponse {
  return { status: code, headers: {}, text };
}

export function status(code: number, reason: string, message: string, name: string): KubeResponse {
  const details = name === '' ? {} : { details: { name, kind: 'secrets' } };
  return answer(code, { kind: 'Status', status: 'Failure', code, reason, message, ...details });
}

export function expired(token: string | undefined): KubeResponse {
  const metadata = token === undefined ? {} : { continue: token };
  const message = 'The provided continue parameter is too old';
  return answer(410, { kind: 'Status', metadata, message, reason: 'Expired', code: 410 });
}

export function uidImmutable(name: string): KubeResponse {
  const cause = { reason: 'FieldValueInvalid', message: 'field is immutable', field: 'metadata.uid' };
  return answer(422, {
    kind: 'Status',
    reason: 'Invalid',
    code: 422,
    message: `Secret "${name}" is invalid: metadata.uid: Invalid value: "uid-1": field is immutable`,
    details: { name, kind: 'Secret', causes: [cause] },
  });
}

function keyOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

function partial({ namespace, name, uid, resourceVersion, annotations }: Stored) {
  const metadata = { namespace, name, uid, resourceVersion: String(resourceVersion) };
  return { metadata: { ...metadata, annotations: Object.fromEntries(annotations) } };
}
