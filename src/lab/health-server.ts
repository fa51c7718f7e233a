/** The health check of a service that the lab does not model: always well. */
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { selfSigned } from './certificates.ts';
import { StreamConnections, type Connections } from './connections.ts';
import { bridge } from './http-bridge.ts';

/** With `tls` behind a certificate of its own, as kube-scheduler makes itself one. */
export function healthServer(tls: boolean): Connections {
  const answer = bridge(({ path }) =>
    Promise.resolve({
      status: path === '/healthz' ? 200 : 404,
      headers: { 'content-type': 'text/plain; charset=utf-8' },
      body: Buffer.from(path === '/healthz' ? 'ok' : '404 page not found\n'),
    }),
  );
  if (!tls) {
    const server = createServer(answer);
    return new StreamConnections((stream) => {
      server.emit('connection', stream);
    });
  }
  const server = selfSigned().then((pair) => {
    const made = createTlsServer(pair, answer);
    made.on('tlsClientError', () => undefined);
    return made;
  });
  return new StreamConnections((stream) => {
    void server.then((made) => made.emit('connection', stream));
  });
}
