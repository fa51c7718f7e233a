/** kube-apiserver's HTTP API for one request, as system:masters: discovery, health, metrics, objects (1.24 to 1.34). */
import { createHash } from 'node:crypto';
import type { Apiserver } from './apiserver.ts';
import type { EtcdStore } from './etcd-store.ts';
import { apiVersionOf, kinds, namespaces, secrets, type Kind, type KubeObject } from './kinds.ts';
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
import type { HttpAnswer, HttpAsk } from './surface.ts';

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
}

const partialVersion = 'meta.k8s.io/v1';
const applyType = 'application/apply-patch+yaml';
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
  if (kind?.version !== version || more.length > 0 || (namespaced && !kind?.namespaced)) return undefined;
  return kind === undefined ? undefined : { kind, namespace, name };
}

/** What may be done with objects. */
class Verbs {
  readonly #objects: Objects;
  readonly #context: KubeContext;

  constructor(objects: Objects, context: KubeContext) {
    this.#objects = objects;
    this.#context = context;
  }

  answer(ask: Ask, { kind, namespace, name }: Target): HttpAnswer {
    if (name === undefined) {
      if (ask.method === 'GET') return this.#list(ask, kind, namespace);
      if (ask.method === 'POST') return this.#create(ask, kind, namespace);
      throw methodNotAllowed();
    }
    const shown = (object: KubeObject): HttpAnswer => json(200, ask.partial ? partialOf(object) : object);
    if (ask.method === 'PATCH' && ask.contentType === applyType)
      return this.#apply(ask, kind, namespace, name);
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
        if (ask.contentType !== 'application/merge-patch+json') {
          throw new KubeRefusal(
            415,
            'UnsupportedMediaType',
            'the body of the request was in an unknown format - accepted media types include: application/merge-patch+json, application/apply-patch+yaml',
          );
        }
        const next = merged(found.object, ask.body) as KubeObject;
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
    return this.#objects.update(kind, namespace, found, written);
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
    if (kind.namespaced) this.#objects.get(namespaces, '', namespace);
    const written = kind === secrets ? withData(object) : object;
    this.#admit(kind, written);
    const made = this.#objects.create(kind, namespace, written);
    return json(201, ask.partial ? partialOf(made) : made);
  }

  /** The body is JSON, which is YAML too. */
  #apply(ask: Ask, kind: Kind, namespace: string, name: string): HttpAnswer {
    if (!ask.query.has('fieldManager')) throw badRequest('fieldManager: Required value');
    const given = ask.body as unknown as KubeObject;
    const found = this.#objects.find(kind, namespace, name);
    if (found === undefined) return this.#create(ask, kind, namespace);
    const { labels, annotations } = found.object.metadata;
    const metadata = {
      ...found.object.metadata,
      labels: { ...labels, ...given.metadata.labels },
      annotations: { ...annotations, ...given.metadata.annotations },
    };
    const kept = Object.entries(metadata).filter(([, value]) => Object.keys(value).length > 0);
    const next = {
      ...found.object,
      ...given,
      metadata: Object.fromEntries(kept) as unknown as KubeObject['metadata'],
    };
    return json(200, this.#change(kind, namespace, found, next));
  }

  #list(ask: Ask, kind: Kind, namespace: string): HttpAnswer {
    const limit = Number(ask.query.get('limit') ?? '0');
    const token = ask.query.get('continue') ?? undefined;
    const page = this.#objects.list(kind, namespace, limit, token);
    const selected = selector(ask.query.get('labelSelector'));
    const items = page.items.filter(selected);
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
