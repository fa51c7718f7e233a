/** Server-side apply of any objects, and their removal. */
import { withoutQuotes } from '../config/excerpt.ts';
import { TsrkeError } from '../errors.ts';
import type { KubeResponse } from '../ports.ts';
import { Kinds, type Location } from './kinds.ts';
import { nameOfRef, refOf, type KubeObject, type Manifest, type ObjectRef } from './manifest.ts';
import { askPatiently, defaultPatience, type Server } from './patient.ts';
import { expectOk, parseJson, reasonOf, statusOf } from './status.ts';

export const fieldManager = 'tsrke';

export interface ApplyOptions {
  /** Fields that kubectl has applied become ours first, so that those no longer wanted go (RKE used kubectl). */
  readonly adopts?: boolean;
  /** Told before each object. */
  readonly onObject?: (object: ObjectRef, done: number) => void;
}

/**
 * Namespaces and CustomResourceDefinitions first, the others in their order. A kind that no API serves yet, or a
 * namespace that is not there yet, is waited for (the server's patience): what was applied before may bring it. Resolves
 * to the identities of all objects. Throws KUBE, naming the object and the server's reason; objects before it are applied.
 */
export async function applyObjects(
  server: Server,
  manifests: readonly Manifest[],
  options: ApplyOptions,
  signal: AbortSignal,
): Promise<Set<string>> {
  const kinds = new Kinds(server);
  const applied = new Set<string>();
  const patience = server.patience ?? defaultPatience;
  let left = inOrder(manifests);
  let end: number | undefined;
  while (left.length > 0) {
    const early: { manifest: Manifest; why: string }[] = [];
    for (const manifest of left) {
      options.onObject?.(refOf(manifest.object), applied.size);
      const result = await applyOne(server, kinds, manifest, options, signal);
      if ('why' in result) early.push({ manifest, why: result.why });
      else applied.add(result.identity);
    }
    const now = server.clock.now().getTime();
    if (early.length < left.length) end = now + patience;
    const [first] = early;
    if (first !== undefined && now >= (end ??= now + patience)) {
      throw refused(server, first.manifest, first.why);
    }
    left = early.map(({ manifest }) => manifest);
    if (first !== undefined) await server.clock.sleep(1_000, signal);
  }
  return applied;
}

/** What others in the set may need: their namespaces and their kinds. */
function inOrder(manifests: readonly Manifest[]): readonly Manifest[] {
  const rank = ({ object }: Manifest) =>
    ['Namespace', 'CustomResourceDefinition'].includes(object.kind) ? 0 : 1;
  return manifests.toSorted((a, b) => rank(a) - rank(b));
}

async function applyOne(
  server: Server,
  kinds: Kinds,
  manifest: Manifest,
  { adopts = false }: ApplyOptions,
  signal: AbortSignal,
): Promise<Location | { why: string }> {
  const { object } = manifest;
  const location = await kinds.locate(refOf(object), signal);
  if (location === undefined) return { why: `no API serves ${object.kind} of ${object.apiVersion}` };
  if (adopts) await adopt(server, location, signal);
  const answer = await askPatiently(
    server,
    {
      method: 'PATCH',
      path: `${location.path}?fieldManager=${fieldManager}&force=true`,
      contentType: 'application/apply-patch+yaml',
      body: within(object, location.namespace),
    },
    signal,
  );
  if (answer.status >= 200 && answer.status < 300) return location;
  if (comesTooEarly(answer)) return { why: reasonOf(answer) };
  throw refused(server, manifest, `${reasonOf(answer)} (${answer.status})`);
}

/** In the namespace that its place says; what only a server may set is left out. */
function within(object: KubeObject, namespace: string): KubeObject {
  const { namespace: written, managedFields, ...metadata } = object.metadata;
  return { ...object, metadata: { ...metadata, ...(namespace === '' ? {} : { namespace }) } };
}

/**
 * Its namespace, the namespace's own service account or its kind is not there yet: an apply creates what it does not
 * find, so 404 is never about the object itself.
 */
function comesTooEarly(answer: KubeResponse): boolean {
  if (answer.status === 404) return true;
  return answer.status === 403 && /serviceaccount ".*" not found/.test(statusOf(answer).message ?? '');
}

function refused({ node }: Server, { place, object }: Manifest, why: string): TsrkeError {
  // The server quotes values that it does not like.
  const reason = object.kind === 'Secret' ? withoutQuotes(why) : why;
  return new TsrkeError('KUBE', `${place}: ${nameOfRef(refOf(object))} could not be applied: ${reason}`, {
    node,
  });
}

/** kubectl apply's own names: since 1.18, and before. */
const kubectl = ['kubectl-client-side-apply', 'kubectl'];

/**
 * Makes the fields that `kubectl apply` owns of an object ours, once. Without it they would stay for ever: server-side
 * apply removes only what its own manager has applied before.
 */
async function adopt(server: Server, { path }: Location, signal: AbortSignal): Promise<void> {
  for (let tries = 1; tries <= 3; tries += 1) {
    const answer = await askPatiently(server, { method: 'GET', path }, signal);
    if (answer.status === 404) return;
    const { metadata } = parseJson(expectOk(answer, server.node, `GET ${path}`), server.node, path) as {
      metadata?: { resourceVersion?: string; managedFields?: ManagedFields[] };
    };
    const fields = metadata?.managedFields ?? [];
    const theirs = fields.find(
      ({ manager = '', operation, subresource = '' }) =>
        operation === 'Update' && subresource === '' && kubectl.includes(manager),
    );
    const isOurs = fields.some(({ manager, operation }) => manager === fieldManager && operation === 'Apply');
    if (theirs === undefined || isOurs) return;
    const ours = fields.map((each) =>
      each === theirs ? { ...each, manager: fieldManager, operation: 'Apply' } : each,
    );
    const body = [
      { op: 'replace', path: '/metadata/managedFields', value: ours },
      { op: 'replace', path: '/metadata/resourceVersion', value: metadata?.resourceVersion },
    ];
    const contentType = 'application/json-patch+json';
    const patched = await askPatiently(server, { method: 'PATCH', path, contentType, body }, signal);
    if (patched.status === 404) return;
    if (patched.status !== 409) {
      expectOk(patched, server.node, `PATCH ${path}`);
      return;
    }
  }
}

interface ManagedFields {
  readonly manager?: string;
  readonly operation?: string;
  readonly subresource?: string;
  readonly [key: string]: unknown;
}

/**
 * Removes it, and by and by what belongs to it. One that is not there, or whose kind is gone, is fine. `except`: objects
 * (by identity) that stay. Resolves to whether there was anything to do. Throws KUBE.
 */
export async function deleteObject(
  server: Server,
  ref: ObjectRef,
  except: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<boolean> {
  const location = await new Kinds(server).locate(ref, signal);
  if (location === undefined || except.has(location.identity)) return false;
  const body = { apiVersion: 'v1', kind: 'DeleteOptions', propagationPolicy: 'Background' };
  const answer = await askPatiently(server, { method: 'DELETE', path: location.path, body }, signal);
  if (answer.status === 404) return false;
  expectOk(answer, server.node, `to delete ${nameOfRef(ref)}`);
  return true;
}
