/** All objects of one resource, page by page, metadata only: payloads never leave the server. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, KubeResponse, NodeName } from '../ports.ts';
import { retryAfter, type Listed, type Resource } from './outcome.ts';
import { backOff } from './pace.ts';
import { reasonOf, statusOf } from './status.ts';

export interface ListOptions {
  readonly kube: KubeApi;
  /** The first serves until it fails; then the next one is asked. */
  readonly nodes: readonly NodeName[];
  readonly resource: Resource;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly random: () => number;
  /** Objects a page at most. */
  readonly pageSize: number;
  /** Milliseconds without any answer from any node after which it is given up. */
  readonly patience: number;
}

export interface Page {
  readonly objects: readonly Listed[];
  /** Objects behind this page, as the server counts them. */
  readonly remaining: number;
  /** The list had to be started anew: objects of earlier pages come again. */
  readonly restarted: boolean;
}

/** More than this and the next page asks for half as many: annotations can be 256 KiB an object. */
const pageBytes = 8 * 1024 * 1024;

/** How often an answer that is no page is put up with: a server error, and a server that is only busy. */
const triesOnError = 4;
const triesWhenBusy = 12;

/** Throws TsrkeError KUBE with the server's reason when the resource cannot be listed (to the end). */
export async function* listPages(options: ListOptions): AsyncGenerator<Page> {
  const { resource } = options;
  let limit = options.pageSize;
  let token = '';
  let restarted = false;
  const turn = { at: 0 };
  while (true) {
    const path =
      `${pathOf(resource, '')}?limit=${limit}` +
      (token === '' ? '' : `&continue=${encodeURIComponent(token)}`);
    const { response, node } = await ask(options, path, turn);
    if (response.status === 410) {
      // The rest of the list at a newer revision: objects written meanwhile already lie under the new key.
      token = statusOf(response).metadata?.continue ?? '';
      restarted ||= token === '';
      continue;
    }
    const page = parsePage(response, resource, node);
    yield { objects: page.objects, remaining: page.remaining, restarted };
    restarted = false;
    token = page.token;
    if (token === '') return;
    if (response.text.length > pageBytes) limit = Math.max(10, Math.ceil(limit / 2));
    else if (response.text.length < pageBytes / 4) limit = Math.min(options.pageSize, limit * 2);
  }
}

/** The API path of a resource in all namespaces, or of one in `namespace`. */
export function pathOf(resource: Resource, namespace: string): string {
  const base =
    resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  return namespace === ''
    ? `${base}/${resource.resource}`
    : `${base}/namespaces/${encodeURIComponent(namespace)}/${resource.resource}`;
}

/** As people write it: `secrets`, `widgets.example.com`. */
export function resourceName(resource: Pick<Resource, 'group' | 'resource'>): string {
  return resource.group === '' ? resource.resource : `${resource.resource}.${resource.group}`;
}

/** One page or a 410, whatever it takes within the bounds. `turn` remembers which apiserver served last. */
async function ask(
  options: ListOptions,
  path: string,
  turn: { at: number },
): Promise<{ response: KubeResponse; node: NodeName }> {
  const { kube, nodes, clock, signal, random } = options;
  const what = `list ${resourceName(options.resource)}`;
  const accept = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
  let spent = 0;
  let silentSince: number | undefined;
  for (let tries = 1; ; tries += 1, turn.at += 1) {
    const node = nodes[turn.at % nodes.length];
    if (node === undefined) throw new TsrkeError('KUBE', `cannot ${what}: no kube-apiserver serves`);
    let wait: number | undefined;
    const answer = await answerOf(
      kube.request(node, { method: 'GET', path, accept, timeout: 60_000 }, signal),
    );
    if (answer instanceof TsrkeError) {
      const now = clock.now().getTime();
      silentSince ??= now;
      if (now - silentSince >= options.patience) {
        throw new TsrkeError('KUBE', `cannot ${what}: ${messageOf(answer)}`, { node, cause: answer });
      }
    } else {
      const { status } = answer;
      if (status === 200 || status === 410) return { response: answer, node };
      silentSince = undefined;
      const busy = status === 429 || status === 503 || status === 504;
      spent += 1 / (busy ? triesWhenBusy : triesOnError);
      // 404 as well: an apiserver that is starting has yet to load some APIs.
      if (spent > 0.999 || !(busy || status >= 500 || status === 404)) {
        throw new TsrkeError('KUBE', `cannot ${what} (${status}): ${reasonOf(answer)}`, { node });
      }
      wait = retryAfter(answer, statusOf(answer));
    }
    await clock.sleep(wait ?? backOff(Math.ceil(tries / nodes.length), random), signal);
  }
}

/** The answer, or the KUBE error that there was none. */
async function answerOf(asked: Promise<KubeResponse>): Promise<KubeResponse | TsrkeError> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof TsrkeError && error.code === 'KUBE') return error;
    throw error;
  }
}

function parsePage(
  response: KubeResponse,
  resource: Resource,
  node: NodeName,
): { objects: Listed[]; remaining: number; token: string } {
  const what = `the list of ${resourceName(resource)}`;
  let list: {
    kind?: string;
    metadata?: { continue?: string; remainingItemCount?: number };
    items?:
      { metadata?: { namespace?: string; name?: string; uid?: string; resourceVersion?: string } }[] | null;
  };
  try {
    list = JSON.parse(response.text) as typeof list;
  } catch {
    throw new TsrkeError('KUBE', `${what} is not JSON`, { node });
  }
  // Anything else would carry payloads, or is not the list at all.
  if (list.kind !== 'PartialObjectMetadataList') {
    throw new TsrkeError('KUBE', `${what} came as ${String(list.kind)}, not as PartialObjectMetadataList`, {
      node,
    });
  }
  const objects = (list.items ?? []).map(({ metadata }): Listed => {
    const { namespace = '', name, uid, resourceVersion } = metadata ?? {};
    if (name === undefined || uid === undefined || resourceVersion === undefined) {
      throw new TsrkeError('KUBE', `${what} holds an object without name, uid or resourceVersion`, { node });
    }
    return { namespace, name, uid, resourceVersion };
  });
  return { objects, remaining: list.metadata?.remainingItemCount ?? 0, token: list.metadata?.continue ?? '' };
}
