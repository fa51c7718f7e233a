/** From Node's HTTP server to what the model answers: one for Docker's API and for the kube API. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { messageOf } from '../errors.ts';
import { NoAnswer, type HttpAnswer, type HttpAsk } from './surface.ts';

/**
 * Asks and answers. Where there is no answer the connection is broken off, as by a host or a server that has died;
 * any other error is a bug of the lab's and told with status 500.
 */
export function bridge(ask: (request: HttpAsk) => Promise<HttpAnswer>): RequestListener {
  return (request, response) => {
    void serve(ask, request, response);
  };
}

async function serve(
  ask: (request: HttpAsk) => Promise<HttpAnswer>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let answer: HttpAnswer;
  try {
    const body = await buffer(request);
    answer = await ask({
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      headers: single(request.headers),
      body,
    });
  } catch (error) {
    // A client that went away while it was sending has no use for an answer either.
    if (error instanceof NoAnswer || request.errored !== null || request.destroyed) {
      request.socket.destroy();
      return;
    }
    const text = `bug of the lab: ${messageOf(error)}`;
    response.writeHead(500, { 'content-type': 'text/plain' }).end(text);
    return;
  }
  // Neither may have a body, nor say how long it would be.
  const empty = answer.status === 204 || answer.status === 304;
  response.writeHead(
    answer.status,
    empty ? answer.headers : { ...answer.headers, 'content-length': String(answer.body.length) },
  );
  response.end(empty || request.method === 'HEAD' ? undefined : answer.body);
}

function single(headers: IncomingMessage['headers']): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) result[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return result;
}
