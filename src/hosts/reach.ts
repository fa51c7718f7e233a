/** What becomes of a connection from a node to some port, in words. */
import type { Duplex } from 'node:stream';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Dial, Knock, NodeName } from '../ports.ts';
import { abortable } from './docker-client.ts';

export type Reached =
  | { readonly kind: 'accepted'; readonly stream: Duplex }
  | { readonly kind: Exclude<Knock['kind'], 'accepted'>; readonly why: string };

/** `timeout`: milliseconds until it counts as silent. Rejects with the signal's reason only. */
export async function reach(
  dial: Dial,
  to: { readonly node: NodeName; readonly host: string; readonly port: number },
  timeout: number,
  signal: AbortSignal,
): Promise<Reached> {
  signal.throwIfAborted();
  const late = AbortSignal.timeout(timeout);
  const dialled = dial(to.node, to.host, to.port);
  try {
    const stream = await abortable(() => dialled, AbortSignal.any([signal, late]));
    stream.on('error', () => undefined);
    return { kind: 'accepted', stream };
  } catch (error) {
    dialled.then(
      (stream) => stream.destroy(),
      () => undefined,
    );
    signal.throwIfAborted();
    if (late.aborted) return { kind: 'silent', why: `no answer within ${timeout / 1000} s` };
    return whatBecame(error);
  }
}

/** sshd hands on what its system said (RFC 4254, section 5.1: reason 2), or forbids it (reason 1). */
function whatBecame(error: unknown): Reached {
  const { cause } = error as { readonly cause?: unknown };
  const reason = (cause as { readonly reason?: unknown } | undefined)?.reason;
  if (!(error instanceof TsrkeError) || !(cause instanceof Error) || typeof reason !== 'number') {
    return { kind: 'failed', why: messageOf(error) };
  }
  if (reason === 1) {
    return { kind: 'forbidden', why: 'sshd forbids it (see AllowTcpForwarding and PermitOpen)' };
  }
  const said = cause.message.replace(/^\(SSH\) Channel open failure: */, '').trim();
  const why = said === '' ? 'no connection' : said.charAt(0).toLowerCase() + said.slice(1);
  if (/refused/i.test(why)) return { kind: 'refused', why };
  return { kind: /timed out/i.test(why) ? 'silent' : 'failed', why };
}
