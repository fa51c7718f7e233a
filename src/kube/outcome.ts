/** What one answer to a rewriting patch means. Pure, because data hang on every line of it. */
import type { KubeResponse } from '../ports.ts';
import { reasonOf, statusOf, type Status } from './status.ts';

/** A resource as the API serves it and etcd stores it. */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  /** Plural, lower-case. */
  readonly resource: string;
  readonly namespaced: boolean;
  /** Path of its keys below etcd's prefix: `secrets`, `services/specs`, `example.com/widgets`. */
  readonly etcdPath: string;
}

/** An object as it stood in the list. */
export interface Listed {
  /** Empty when the resource is not namespaced. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
}

export type Outcome =
  /** The resourceVersion moved: it lay under another key and now lies under the write key. */
  | { readonly kind: 'rewritten'; readonly resourceVersion: string }
  /** The resourceVersion did not move: it already lay under the write key. */
  | { readonly kind: 'current' }
  /** Deleted, re-created or written by somebody else since it was listed: whatever is there now is new. */
  | { readonly kind: 'gone' }
  | { readonly kind: 'failed'; readonly reason: string }
  /** Try again, no sooner than after `wait` milliseconds. All but 'error' mean: go slower with this server. */
  | {
      readonly kind: 'again';
      readonly reason: string;
      readonly why: 'busy' | 'error' | 'unanswered';
      readonly wait?: number;
    };

/**
 * Conflict, not found and re-created are done only because every apiserver already writes with the new key
 * when the list is made. They count as such only when kube-apiserver itself says so of this very object: a
 * webhook can refuse with any status, and a server that is starting answers 404 for APIs it has yet to load.
 */
export function outcomeOf(resource: Resource, object: Listed, response: KubeResponse): Outcome {
  const { status } = response;
  if (status === 200) return moved(object, response);
  const said = statusOf(response);
  const reason = reasonOf(response);
  if (deniedByAdmission(said)) return { kind: 'failed', reason };
  const aboutIt = said.details?.kind === resource.resource && said.details.name === object.name;
  if (status === 409 && said.reason === 'Conflict' && aboutIt) return { kind: 'gone' };
  if (status === 404 && said.reason === 'NotFound' && aboutIt) return { kind: 'gone' };
  if (status === 422 && uidIsImmutable(said)) return { kind: 'gone' };
  if (status === 429 || status === 503 || status === 504) {
    const wait = retryAfter(response, said);
    return { kind: 'again', reason, why: 'busy', ...(wait === undefined ? {} : { wait }) };
  }
  if (status >= 500 || status === 404 || status === 409 || status === 408) {
    return { kind: 'again', reason, why: 'error' };
  }
  return { kind: 'failed', reason };
}

const longestWait = 60_000;

/** Milliseconds the server asks us to wait: the Retry-After header (seconds), else the Status's own field. */
export function retryAfter(response: KubeResponse, said: Status): number | undefined {
  const seconds = Number.parseFloat(response.headers['retry-after'] ?? '');
  if (Number.isFinite(seconds) && seconds >= 0) return Math.min(longestWait, seconds * 1000);
  const own = said.details?.retryAfterSeconds;
  return own === undefined || own <= 0 ? undefined : Math.min(longestWait, own * 1000);
}

function moved(object: Listed, response: KubeResponse): Outcome {
  let resourceVersion: unknown;
  try {
    const body = JSON.parse(response.text) as { metadata?: { resourceVersion?: unknown } };
    resourceVersion = body.metadata?.resourceVersion;
  } catch {
    // Falls through: an answer that cannot be read proves nothing.
  }
  if (typeof resourceVersion !== 'string' || resourceVersion === '') {
    return { kind: 'again', reason: 'the answer holds no resourceVersion', why: 'error' };
  }
  return resourceVersion === object.resourceVersion
    ? { kind: 'current' }
    : { kind: 'rewritten', resourceVersion };
}

/** Webhooks (`admission webhook "x" denied the request`) and ValidatingAdmissionPolicies. */
function deniedByAdmission(said: Status): boolean {
  const message = said.message ?? '';
  return (
    /admission webhook ".*" denied the request/s.test(message) ||
    /ValidatingAdmissionPolicy '.*' with binding '.*' denied request/s.test(message)
  );
}

function uidIsImmutable(said: Status): boolean {
  return (
    said.reason === 'Invalid' &&
    (said.details?.causes ?? []).some((cause) => cause.field === 'metadata.uid') &&
    /metadata\.uid.*immutable/s.test(said.message ?? '')
  );
}
