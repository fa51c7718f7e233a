/** Docker's API of one node over streams: what stands behind the node's Docker socket. */
import { createServer } from 'node:http';
import { bridge } from './http-bridge.ts';
import type { Connections } from './connections.ts';
import { StreamConnections } from './connections.ts';
import type { HttpAnswer, HttpAsk } from './surface.ts';

/** Streamed answers (logs, the output of an exec) are sent whole: tsrke asks for none that goes on for ever. */
export function dockerServer(ask: (request: HttpAsk) => Promise<HttpAnswer>): Connections {
  const server = createServer(bridge(ask));
  // A client may keep a connection for as long as it likes, as Docker lets it.
  Object.assign(server, { keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 });
  return new StreamConnections((stream) => {
    server.emit('connection', stream);
  });
}
