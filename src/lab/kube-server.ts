/** The kube API of one node: TLS with the lab's certificates over streams, HTTP/1.1 within. */
import { createServer } from 'node:https';
import { bridge } from './http-bridge.ts';
import { StreamConnections, type Connections } from './connections.ts';
import type { HttpAnswer, HttpAsk } from './surface.ts';

/** What a server shows and whom it lets in. */
export interface ServerCertificate {
  /** PEM texts: the CA that clients' certificates must come from, and the server's own pair. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/**
 * The model knows one user, system:masters, so a certificate that kube-ca did not sign is refused in the handshake (a
 * real server would take it for anonymous and answer 401 or 403).
 */
export function kubeServer(
  certificate: ServerCertificate,
  ask: (request: HttpAsk) => Promise<HttpAnswer>,
): Connections {
  const server = createServer(
    {
      ...certificate,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
    },
    bridge(ask),
  );
  Object.assign(server, { keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 });
  server.on('tlsClientError', () => undefined);
  return new StreamConnections((stream) => {
    server.emit('connection', stream);
  });
}
