/** What one kube-apiserver says about itself: whether it serves, whether it is ready, what it has loaded. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, NodeName } from '../ports.ts';
import { expectOk, parseJson } from './status.ts';

export interface Readiness {
  /** It answered the request at all, with whatever status. */
  readonly serves: boolean;
  /** `/readyz` answered 200. `/healthz` would not do: a server that lacks a key is healthy and never ready. */
  readonly ready: boolean;
  /** Names of the checks that fail, such as `informer-sync`; when it does not serve, why. */
  readonly failing: readonly string[];
}

const probeTimeout = 5_000;

/** Looks once. Not reaching the server is an answer, not an error; a server of another cluster is WRONG_CLUSTER. */
export async function readiness(kube: KubeApi, node: NodeName, signal: AbortSignal): Promise<Readiness> {
  try {
    const { status, text } = await kube.request(
      node,
      { method: 'GET', path: '/readyz?verbose', timeout: probeTimeout },
      signal,
    );
    const failing = [...text.matchAll(/^\[-\](\S+)/gm)].map((match) => match[1] ?? '');
    if (status === 200) return { serves: true, ready: true, failing: [] };
    return { serves: true, ready: false, failing: failing.length > 0 ? failing : [`status ${status}`] };
  } catch (error) {
    if (error instanceof TsrkeError && error.code === 'KUBE') {
      return { serves: false, ready: false, failing: [messageOf(error)] };
    }
    throw error;
  }
}

export interface WaitReadyOptions {
  readonly kube: KubeApi;
  readonly node: NodeName;
  /** Milliseconds until it is given up. */
  readonly limit: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Milliseconds between looks; default 150. */
  readonly every?: number;
  /** Told each look that was not yet the last one. */
  readonly onLook?: (seen: Readiness) => void;
}

/**
 * Looks again and again until the server is ready or the limit has passed, and resolves with the last look.
 * The caller decides what not being ready means.
 */
export async function waitReady(options: WaitReadyOptions): Promise<Readiness> {
  const { kube, node, limit, clock, signal } = options;
  const end = clock.now().getTime() + limit;
  while (true) {
    const seen = await readiness(kube, node, signal);
    if (seen.ready || clock.now().getTime() >= end) return seen;
    options.onLook?.(seen);
    await clock.sleep(options.every ?? 150, signal);
  }
}

export interface ServerVersion {
  readonly major: number;
  readonly minor: number;
  /** As the server prints it, e.g. `v1.30.14`. */
  readonly gitVersion: string;
}

/** The live server's own version. Throws KUBE. */
export async function serverVersion(
  kube: KubeApi,
  node: NodeName,
  signal: AbortSignal,
): Promise<ServerVersion> {
  const answer = expectOk(
    await kube.request(node, { method: 'GET', path: '/version' }, signal),
    node,
    'GET /version',
  );
  const version = parseJson(answer, node, 'GET /version') as {
    major?: string;
    minor?: string;
    gitVersion?: string;
  };
  // Some builds print a plus sign (`30+`).
  const major = Number.parseInt(version.major ?? '', 10);
  const minor = Number.parseInt(version.minor ?? '', 10);
  if (Number.isNaN(major) || Number.isNaN(minor) || version.gitVersion === undefined) {
    throw new TsrkeError('KUBE', 'kube-apiserver answered GET /version without a version', { node });
  }
  return { major, minor, gitVersion: version.gitVersion };
}
