/** Reading kube-apiserver's answers: JSON bodies, and the Status objects it answers errors with. */
import { TsrkeError } from '../errors.ts';
import type { KubeResponse, NodeName } from '../ports.ts';

/** `metav1.Status`, as far as it is used here. Everything is optional: proxies and webhooks answer other things. */
export interface Status {
  readonly kind?: string;
  readonly message?: string;
  readonly reason?: string;
  readonly metadata?: { readonly continue?: string };
  readonly details?: {
    readonly name?: string;
    /** The resource's plural name, such as `secrets` (sic). */
    readonly kind?: string;
    readonly retryAfterSeconds?: number;
    readonly causes?: readonly {
      readonly field?: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

/** The Status in an answer, or an empty one. */
export function statusOf(response: KubeResponse): Status {
  try {
    const body: unknown = JSON.parse(response.text);
    if (typeof body === 'object' && body !== null && 'kind' in body && body.kind === 'Status')
      return body as Status;
  } catch {
    // Not JSON: a proxy's page, or `404 page not found`.
  }
  return {};
}

/** One line for a person: the Status's message, else the status code. Never the body: it may be an object. */
export function reasonOf(response: KubeResponse): string {
  const message = statusOf(response).message?.replace(/\s+/g, ' ').trim();
  return message === undefined || message === ''
    ? `kube-apiserver answered ${response.status}`
    : message.slice(0, 500);
}

/** The answer if it is 2xx, else TsrkeError KUBE with the server's own message. */
export function expectOk(response: KubeResponse, node: NodeName, what: string): KubeResponse {
  if (response.status >= 200 && response.status < 300) return response;
  throw new TsrkeError('KUBE', `kube-apiserver refused ${what} (${response.status}): ${reasonOf(response)}`, {
    node,
  });
}

/** The body as JSON; the caller names the shape it reads, with every field optional. */
export function parseJson(response: KubeResponse, node: NodeName, what: string): unknown {
  try {
    return JSON.parse(response.text);
  } catch {
    // The parser's own words would quote the body.
    throw new TsrkeError('KUBE', `kube-apiserver answered ${what} with something that is not JSON`, { node });
  }
}
