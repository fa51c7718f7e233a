/** Requests that may be asked again: a server that is busy, starting or away for a moment is no failure yet. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, KubeRequest, KubeResponse, NodeName } from '../ports.ts';
import { retryAfter } from './outcome.ts';
import { backOff } from './pace.ts';
import { statusOf } from './status.ts';

/** One kube-apiserver, and how long it is put up with. */
export interface Server {
  readonly kube: KubeApi;
  readonly node: NodeName;
  readonly clock: Clock;
  readonly random: () => number;
  /** Milliseconds; default 60 000. */
  readonly patience?: number;
}

export const defaultPatience = 60_000;

/**
 * The first answer that is not 429 or 5xx; once patience is over, the last one there was. Only for requests that may
 * happen twice. Throws KUBE when the server cannot be reached all that time.
 */
export async function askPatiently(
  server: Server,
  request: KubeRequest,
  signal: AbortSignal,
): Promise<KubeResponse> {
  const { kube, node, clock, random, patience = defaultPatience } = server;
  const end = clock.now().getTime() + patience;
  for (let tries = 1; ; tries += 1) {
    const answer = await answerOf(kube.request(node, request, signal));
    const failed = answer instanceof TsrkeError;
    if (!failed && answer.status !== 429 && answer.status < 500) return answer;
    const wait = (failed ? undefined : retryAfter(answer, statusOf(answer))) ?? backOff(tries, random);
    if (clock.now().getTime() + wait >= end) {
      if (!failed) return answer;
      const what = `${request.method} ${request.path.replace(/\?.*/s, '')}`;
      throw new TsrkeError('KUBE', `cannot ${what}: ${messageOf(answer)}`, { node, cause: answer });
    }
    await clock.sleep(wait, signal);
  }
}

/** The answer, or the KUBE error that there was none. */
export async function answerOf(asked: Promise<KubeResponse>): Promise<KubeResponse | TsrkeError> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof TsrkeError && error.code === 'KUBE') return error;
    throw error;
  }
}
