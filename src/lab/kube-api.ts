/** kube-apiserver's HTTP API for one request, as system:masters: discovery, health, metrics, objects (1.24 to 1.34). */
import { createHash } from 'node:crypto';
import type { Apiserver } from './apiserver.ts';
import type { EtcdStore } from './etcd-store.ts';
import {
  apiVersionOf,
  budgets,
  kinds,
  namespaces,
  nodes,
  pods,
  secrets,
  type Kind,
  type KubeObject,
} from './kinds.ts';
import {
  badRequest,
  conflict,
  denied,
  internal,
  invalid,
  KubeRefusal,
  type StatusDetails,
} from './kube-status.ts';
import { Objects } from './objects.ts';
import { hashOf } from './kms-client.ts';
import { applied, jsonPatched } from './server-side-apply.ts';
import type { HttpAnswer, HttpAsk } from './surface.ts';
import { letsGo, settled } from './workloads.ts';

export interface KubeContext {
  readonly server: Apiserver;
  readonly hostname: string;
  /** Undefined: no member answers. */
  readonly etcd: EtcdStore | undefined;
  readonly now: Date;
  /** A reason refuses the change, in the name of a validating webhook. */
  readonly admit: (kind: Kind, object: KubeObject) => string | undefined;
}

interface Ask {
  readonly method: string;
  readonly query: URLSearchParams;
  readonly partial: boolean;
  readonly contentType: string;
  readonly body: Record<string, unknown>;
}

interface Target {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string | undefined;
  /** `eviction` alone. */
  readonly subresource: string | undefined;
}

const partialVersion = 'meta.k8s.io/v1';
export const webhookName = 'guard.example.com';

export function answerKube(ask: HttpAsk, context: KubeContext): HttpAnswer {
  const [path = '', query = ''] = ask.path.split('?');
  const date = { date: context.now.toUTCString() };
  try {
    const found = plainAnswer(path, query, context) ?? jsonAnswer(path, query, ask, context);
    return { ...found, headers: { ...found.headers, ...date } };
  } catch (error) {
    if (!(error instanceof KubeRefusal)) throw error;
    const answer = json(error.code, error.body);
    const seconds = error.details?.retryAfterSeconds;
    const wait = seconds === undefined ? {} : { 'retry-after': String(seconds) };
    return { ...answer, headers: { ...answer.headers, ...date, ...wait } };
  }
}

/** Health and metrics are no JSON. */
function plainAnswer(path: string, query: string, context: KubeContext): HttpAnswer | undefined {
  switch (path) {
    case '/healthz':
    case '/livez':
      return text(200, 'ok');
    case '/readyz':
      return readyz(/(^|&)verbose/.test(query), context);
    case '/metrics':
      return text(200, metrics(context));
    default:
      return undefined;
  }
}

function readyz(verbose: boolean, { server, etcd }: KubeContext): HttpAnswer {
  const etcdAnswers = etcd !== undefined;
  const checks: [string, boolean][] = [
    ['ping', true],
    ['log', true],
    ['etcd', etcdAnswers],
    ['etcd-readiness', etcdAnswers],
    ['informer-sync', server.synced],
    ['poststarthook/start-apiextensions-controllers', true],
    ['shutdown', true],
    ...kmsChecks(server),
  ];
  const ready = checks.every(([, passes]) => passes);
  if (ready && !verbose) return text(200, 'ok');
  const lines = checks.map(([name, passes]) =>
    passes ? `[+]${name} ok` : `[-]${name} failed: reason withheld`,
  );
  return text(ready ? 200 : 500, `${lines.join('\n')}\nreadyz check ${ready ? 'passed' : 'failed'}\n`);
}

/** One for all where only KMS v2 is used, or with automatic reload; else one each, in the file's order. */
function kmsChecks({ kms, reloads }: Apiserver): [string, boolean][] {
  if (reloads || (kms.length > 0 && kms.every(({ provider }) => provider.apiVersion === 'v2'))) {
    return [['kms-providers', kms.every(({ client }) => client.healthy)]];
  }
  return kms.map(({ client }, at) => [`kms-provider-${at}`, client.healthy]);
}

/** Seconds as Go prints a gauge. */
const seconds = (milliseconds: number) => (milliseconds / 1000).toExponential();

function metrics({ server, hostname }: KubeContext): string {
  const { minor } = server;
  const lines = [`process_start_time_seconds ${seconds(server.startedAt)}`];
  const { sha256 } = server.loaded;
  const id = `sha256:${createHash('sha256').update(hostname).digest('hex')}`;
  const name = 'apiserver_encryption_config_controller';
  if (minor >= 34 && sha256 !== undefined) {
    lines.push(
      `# HELP ${name}_last_config_info [ALPHA] Information about the last applied encryption configuration with hash as label, split by apiserver identity.`,
      `# TYPE ${name}_last_config_info gauge`,
      `${name}_last_config_info{apiserver_id_hash="${id}",hash="sha256:${sha256}"} 1`,
    );
  }
  if (minor >= 28 && server.reloadedAt !== undefined) {
    lines.push(
      `${name}_automatic_reload_last_timestamp_seconds{apiserver_id_hash="${id}",status="success"} ${server.reloadedAt / 1000}`,
    );
  }
  for (const status of ['success', 'failure'] as const) {
    if (minor < 28 || server.counts[status] === 0) continue;
    if (minor < 30) {
      const old = status === 'success' ? 'reload_success' : 'reload_failures';
      lines.push(`${name}_automatic_${old}_total ${server.counts[status]}`);
      continue;
    }
    lines.push(
      `${name}_automatic_reloads_total{apiserver_id_hash="${id}",status="${status}"} ${server.counts[status]}`,
    );
  }
  const seen = 'apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds';
  for (const { provider, client } of server.kms) {
    if (provider.apiVersion === 'v1' || minor < 27) continue;
    for (const [keyId, at] of client.seen) {
      const labels = `apiserver_id_hash="${id}",key_id_hash="${hashOf(keyId)}",provider_name="${provider.name}"`;
      lines.push(`${seen}{${labels}} ${seconds(at)}`);
    }
  }
  for (const [key, count] of server.written) {
    // A key's name counts beside its provider's prefix.
    const [kind = '', keyName] = key.split(':');
    if (keyName === undefined || kind.startsWith('kms')) continue;
    for (const prefix of [`k8s:enc:${kind}:v1:`, `${keyName}:`]) {
      const labels = `resource="",status="OK",transformation_type="to_storage",transformer_prefix="${prefix}"`;
      lines.push(`apiserver_storage_transformation_operations_total{${labels}} ${count}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function jsonAnswer(path: string, query: string, ask: HttpAsk, context: KubeContext): HttpAnswer {
  const discovered = discovery(path, context);
  if (discovered !== undefined) return json(200, discovered);
  const target = targetOf(path);
  if (target === undefined) return text(404, '404 page not found\n');
  if (context.etcd === undefined) throw internal('etcdserver: request timed out');
  const parsed: Ask = {
    method: ask.method,
    query: new URLSearchParams(query),
    partial: /as=PartialObjectMetadata/.test(ask.headers['accept'] ?? ''),
    contentType: (ask.headers['content-type'] ?? '').replace(/;.*/, ''),
    body: bodyOf(ask.body),
  };
  const objects = new Objects(context.etcd, context.server.loaded, () => context.now);
  return new Verbs(objects, context).answer(parsed, target);
}

function discovery(path: string, { server: { minor } }: KubeContext): unknown {
  if (path === '/version') {
    return { major: '1', minor: String(minor), gitVersion: `v1.${minor}.4`, platform: 'linux/amd64' };
  }
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
  const groups = [...new Set(kinds.map(({ group }) => group))].filter((group) => group !== '');
  if (path === '/apis') {
    return {
      kind: 'APIGroupList',
      apiVersion: 'v1',
      groups: groups.map((name) => {
        const version = { groupVersion: `${name}/v1`, version: 'v1' };
        return { name, versions: [version], preferredVersion: version };
      }),
    };
  }
  const group = path === '/api/v1' ? '' : /^\/apis\/([^/]+)\/v1$/.exec(path)?.[1];
  if (group === undefined || (group !== '' && !groups.includes(group))) return undefined;
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? 'v1' : `${group}/v1`,
    resources: kinds
      .filter((kind) => kind.group === group)
      .map(({ plural, kind, namespaced }) => ({
        name: plural,
        singularName: kind.toLowerCase(),
        namespaced,
        kind,
        verbs: ['create', 'delete', 'get', 'list', 'patch', 'update'],
      })),
  };
}

function targetOf(path: string): Target | undefined {
  const [root, ...parts] = path.split('/').slice(1).map(decodeURIComponent);
  const group = root === 'api' ? '' : root === 'apis' ? (parts.shift() ?? '') : undefined;
  const version = parts.shift();
  if (group === undefined) return undefined;
  const namespaced = parts[0] === 'namespaces' && parts.length > 2;
  const namespace = namespaced ? (parts[1] ?? '') : '';
  const [plural, name, ...more] = namespaced ? parts.slice(2) : parts;
  const kind = kinds.find((each) => each.group === group && each.plural === plural);
  const [subresource] = more;
  const isUnknown = more.length > 1 || (more.length === 1 && (kind !== pods || subresource !== 'eviction'));
  if (kind?.version !== version || isUnknown || (namespaced && !kind?.namespaced)) return undefined;
  return kind === undefined ? undefined : { kind, namespace, name, subresource };
}

/** What may be done with objects. */
class Verbs {
  readonly #objects: Objects;
  readonly #context: KubeContext;

  constructor(objects: Objects, context: KubeContext) {
    this.#objects = objects;
    this.#context = context;
  }

  answer(ask: Ask, { kind, namespace, name, subresource }: Target): HttpAnswer {
    if (name === undefined) {
      if (ask.method === 'GET') return this.#list(ask, kind, namespace);
      if (ask.method === 'POST') return this.#create(ask, kind, namespace);
      throw methodNotAllowed();
    }
    if (subresource !== undefined) return this.#evict(ask, namespace, name);
    if (ask.method === 'PATCH' && ask.contentType === applyType)
      return this.#apply(ask, kind, namespace, name);
    const shown = (object: KubeObject): HttpAnswer => json(200, ask.partial ? partialOf(object) : object);
    const found = this.#objects.get(kind, namespace, name);
    switch (ask.method) {
      case 'GET':
        return shown(found.object);
      case 'PUT': {
        const { metadata } = found.object;
        const given = ask.body as unknown as KubeObject;
        const version = given.metadata.resourceVersion ?? '';
        const { uid = '' } = given.metadata as { uid?: string };
        if (uid !== '' && uid !== metadata.uid) throw preconditionFailed(kind, name, uid, metadata.uid);
        if (version !== '' && version !== metadata.resourceVersion) throw conflict(kind, name);
        const { creationTimestamp } = metadata;
        const next: KubeObject = {
          ...given,
          apiVersion: apiVersionOf(kind),
          kind: kind.kind,
          metadata: { ...given.metadata, name, uid: metadata.uid, creationTimestamp },
        };
        if (kind.namespaced) next.metadata.namespace = namespace;
        return shown(this.#change(kind, namespace, found, next));
      }
      case 'PATCH': {
        const next = patched(found.object, ask) as KubeObject;
        const { resourceVersion } = found.object.metadata;
        if (next.metadata.resourceVersion !== resourceVersion) throw conflict(kind, name);
        return shown(this.#change(kind, namespace, found, next));
      }
      case 'DELETE': {
        const { preconditions } = ask.body as {
          preconditions?: { uid?: string; resourceVersion?: string };
        };
        const { uid, resourceVersion } = found.object.metadata;
        if (preconditions?.uid !== undefined && preconditions.uid !== uid) {
          throw preconditionFailed(kind, name, preconditions.uid, uid);
        }
        if (
          preconditions?.resourceVersion !== undefined &&
          preconditions.resourceVersion !== resourceVersion
        ) {
          throw conflict(kind, name);
        }
        this.#objects.delete(found);
        const details: StatusDetails = { name, kind: kind.plural, uid };
        return json(200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details });
      }
      default:
        throw methodNotAllowed();
    }
  }

  #change(
    kind: Kind,
    namespace: string,
    found: { object: KubeObject } & Parameters<Objects['update']>[2],
    next: KubeObject,
  ): KubeObject {
    const { name, uid } = found.object.metadata;
    if (next.metadata.uid !== uid) {
      throw invalid(kind, name, 'metadata.uid', `Invalid value: "${next.metadata.uid}": field is immutable`);
    }
    const written = kind === secrets ? withData(next) : next;
    if (kind === secrets && found.object['immutable'] === true) {
      const same = JSON.stringify(written['data']) === JSON.stringify(found.object['data']);
      if (!same || written['immutable'] !== true) {
        throw invalid(kind, name, 'data', 'Forbidden: field is immutable when `immutable` is set');
      }
    }
    this.#admit(kind, written);
    return this.#objects.update(kind, namespace, found, this.#settled(kind, written, found.object));
  }

  #settled(kind: Kind, object: KubeObject, former: KubeObject | undefined): KubeObject {
    return settled(kind, object, former, () => this.#objects.list(nodes, '', 0, undefined).items.length);
  }

  #apply(ask: Ask, kind: Kind, namespace: string, name: string): HttpAnswer {
    const manager = ask.query.get('fieldManager') ?? '';
    if (manager === '')
      throw badRequest('PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value');
    const found = this.#objects.find(kind, namespace, name);
    const next = applied(found?.object, { manager, object: ask.body, now: this.#context.now }) as KubeObject;
    const shown = (status: number, object: KubeObject) =>
      json(status, ask.partial ? partialOf(object) : object);
    if (found !== undefined) return shown(200, this.#change(kind, namespace, found, next));
    return shown(201, this.#make(kind, namespace, { ...next, metadata: { ...next.metadata, name } }));
  }

  /** A pod goes at once, where its budgets allow it. */
  #evict(ask: Ask, namespace: string, name: string): HttpAnswer {
    if (ask.method !== 'POST') throw methodNotAllowed();
    const found = this.#objects.get(pods, namespace, name);
    const { deleteOptions } = ask.body as { deleteOptions?: { preconditions?: { uid?: string } } };
    const { uid } = found.object.metadata;
    const asked = deleteOptions?.preconditions?.uid ?? uid;
    if (asked !== uid) throw preconditionFailed(pods, name, asked, uid);
    const all = this.#objects.list(pods, namespace, 0, undefined).items;
    const { items } = this.#objects.list(budgets, namespace, 0, undefined);
    if (!items.every((budget) => letsGo(budget, found.object, all))) {
      throw new KubeRefusal(
        429,
        'TooManyRequests',
        "Cannot evict pod as it would violate the pod's disruption budget.",
      );
    }
    this.#objects.delete(found);
    return json(201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' });
  }

  #admit(kind: Kind, object: KubeObject): void {
    const reason = this.#context.admit(kind, object);
    if (reason !== undefined) throw denied(webhookName, reason);
  }

  #create(ask: Ask, kind: Kind, namespace: string): HttpAnswer {
    const object = ask.body as unknown as KubeObject;
    const { name } = (object.metadata as KubeObject['metadata'] | undefined) ?? {};
    if (name === undefined || name === '') {
      throw invalid(kind, '', 'metadata.name', 'Required value: name or generateName is required');
    }
    const made = this.#make(kind, namespace, object);
    return json(201, ask.partial ? partialOf(made) : made);
  }

  #make(kind: Kind, namespace: string, object: KubeObject): KubeObject {
    if (kind.namespaced) this.#objects.get(namespaces, '', namespace);
    const written = kind === secrets ? withData(object) : object;
    this.#admit(kind, written);
    return this.#objects.create(kind, namespace, this.#settled(kind, written, undefined));
  }

  #list(ask: Ask, kind: Kind, namespace: string): HttpAnswer {
    const limit = Number(ask.query.get('limit') ?? '0');
    const token = ask.query.get('continue') ?? undefined;
    const page = this.#objects.list(kind, namespace, limit, token);
    const selected = selector(ask.query.get('labelSelector'));
    const chosen = fieldSelector(ask.query.get('fieldSelector'));
    const items = page.items.filter((object) => selected(object) && chosen(object));
    const metadata = {
      resourceVersion: String(page.revision),
      ...(page.token === undefined ? {} : { continue: page.token, remainingItemCount: page.remaining }),
    };
    if (ask.partial) {
      const shown = items.length === 0 ? null : items.map(partialOf);
      return json(200, {
        kind: 'PartialObjectMetadataList',
        apiVersion: partialVersion,
        metadata,
        items: shown,
      });
    }
    const shown = kind.custom ? items : items.map(({ apiVersion: _v, kind: _k, ...rest }) => rest);
    return json(200, { kind: `${kind.kind}List`, apiVersion: apiVersionOf(kind), metadata, items: shown });
  }
}

function partialOf({ metadata }: KubeObject): unknown {
  return { kind: 'PartialObjectMetadata', apiVersion: partialVersion, metadata };
}

/** `a=b,c`: equality and presence, which is all that tsrke asks for. */
function selector(text: string | null): (object: KubeObject) => boolean {
  const terms = (text ?? '').split(',').filter((term) => term !== '');
  return ({ metadata }) =>
    terms.every((term) => {
      const [key = '', value] = term.split(/==?/);
      const found = metadata.labels?.[key];
      return value === undefined ? found !== undefined : found === value;
    });
}

/** `spec.nodeName=a,metadata.name=b`: what tsrke asks for. */
function fieldSelector(text: string | null): (object: KubeObject) => boolean {
  const terms = (text ?? '').split(',').filter((term) => term !== '');
  return (object) =>
    terms.every((term) => {
      const [path = '', value] = term.split(/==?/);
      const found = path
        .split('.')
        .reduce<unknown>((tree, key) => (tree as Record<string, unknown> | undefined)?.[key], object);
      return found === value;
    });
}

const applyType = 'application/apply-patch+yaml';

function patched(object: KubeObject, { contentType, body }: Ask): unknown {
  if (contentType === 'application/merge-patch+json') return merged(object, body);
  if (contentType === 'application/json-patch+json') {
    return jsonPatched(object, body as unknown as Record<string, unknown>[]);
  }
  throw new KubeRefusal(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, ${applyType}`,
  );
}

/** stringData goes into data and is not stored. */
function withData(secret: KubeObject): KubeObject {
  const { stringData, ...rest } = secret as KubeObject & { stringData?: Record<string, string> };
  if (stringData === undefined) return rest;
  const encoded = Object.entries(stringData).map(([key, text]) => [
    key,
    Buffer.from(text).toString('base64'),
  ]);
  return { ...rest, data: { ...(rest['data'] as object | undefined), ...Object.fromEntries(encoded) } };
}

/** RFC 7386. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> =
    typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(result, key);
    else result[key] = merged(result[key], value);
  }
  return result;
}

function bodyOf(body: Buffer): Record<string, unknown> {
  if (body.length === 0) return {};
  try {
    return JSON.parse(body.toString()) as Record<string, unknown>;
  } catch {
    throw badRequest('the object provided is unrecognized (must be of type JSON)');
  }
}

function methodNotAllowed(): KubeRefusal {
  return new KubeRefusal(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
  );
}

function preconditionFailed(kind: Kind, name: string, asked: string, uid: string): KubeRefusal {
  return conflict(
    kind,
    name,
    `Precondition failed: UID in precondition: ${asked}, UID in object meta: ${uid}`,
  );
}

function json(status: number, body: unknown): HttpAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(body)),
  };
}

function text(status: number, body: string): HttpAnswer {
  return { status, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: Buffer.from(body) };
}
