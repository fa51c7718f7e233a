/**
 * A KMS plugin: the gRPC services that kube-apiserver asks to wrap and unwrap its data keys, v2 and v1beta1, on a Unix
 * socket or over streams.
 */
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import type { ServiceDefinition } from '@grpc/proto-loader';
import { StreamConnections, type Connections } from './connections.ts';
import { kmsPackage } from '../kms/proto.ts';
import type { KmsPlugin } from './kms-plugin.ts';

/** A call of one method: what it is asked to what it answers. Throws a Refusal. */
type Handler = (request: Record<string, unknown>) => object;

class Refusal extends Error {
  readonly code: status;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

function kmsGrpc(plugin: KmsPlugin): Server {
  const server = new Server();
  for (const [name, handlers] of Object.entries({ v2: v2Of(plugin), v1beta1: v1Of(plugin) })) {
    const implementation = Object.entries(handlers).map(([method, handler]) => [method, unary(handler)]);
    server.addService(
      kmsPackage[`${name}.KeyManagementService`] as ServiceDefinition,
      Object.fromEntries(implementation) as Record<string, ReturnType<typeof unary>>,
    );
  }
  return server;
}

function unary(handler: Handler) {
  return (
    { request }: ServerUnaryCall<Record<string, unknown>, unknown>,
    answer: sendUnaryData<unknown>,
  ): void => {
    try {
      answer(null, handler(request));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      answer({ code: error.code, details: error.message });
    }
  };
}

function v2Of(plugin: KmsPlugin): Record<string, Handler> {
  return {
    Status: () => ({ version: 'v2', healthz: plugin.healthy ? 'ok' : unwell, key_id: plugin.keyId }),
    Encrypt: ({ plaintext }) => ({ ciphertext: wrap(plugin, plaintext), key_id: plugin.keyId }),
    Decrypt: ({ ciphertext }) => ({ plaintext: unwrap(plugin, ciphertext) }),
  };
}

function v1Of(plugin: KmsPlugin): Record<string, Handler> {
  return {
    Version: () => ({ version: 'v1beta1', runtime_name: 'tsrke lab', runtime_version: '1.0.0' }),
    Encrypt: ({ plain }) => ({ cipher: wrap(plugin, plain) }),
    Decrypt: ({ cipher }) => ({ plain: unwrap(plugin, cipher) }),
  };
}

function wrap(plugin: KmsPlugin, dataKey: unknown): Buffer {
  refuseUnlessHealthy(plugin);
  return plugin.encrypt(dataKey as Buffer);
}

/** What is wrapped names its key itself, so the key id of v2 is not needed. */
function unwrap(plugin: KmsPlugin, wrapped: unknown): Buffer {
  refuseUnlessHealthy(plugin);
  const dataKey = plugin.decrypt(wrapped as Buffer);
  if (dataKey !== undefined) return dataKey;
  throw new Refusal(status.INVALID_ARGUMENT, 'the KMS has no key for this ciphertext');
}

const unwell = 'the KMS does not answer';

function refuseUnlessHealthy({ healthy }: KmsPlugin): void {
  if (!healthy) throw new Refusal(status.UNAVAILABLE, unwell);
}

/** Over streams: a lab's own, or the sockets of a listener. */
export function kmsServer(plugin: KmsPlugin): Connections {
  const injector = kmsGrpc(plugin).createConnectionInjector(ServerCredentials.createInsecure());
  return new StreamConnections((stream) => {
    injector.injectConnection(stream);
  });
}

/**
 * On a Unix socket, in the place of whatever was there; a path that begins with a null byte is an abstract one. Resolves
 * to what ends it and breaks off its connections.
 */
export async function listenAsKms(plugin: KmsPlugin, socketPath: string): Promise<() => void> {
  // The socket of a plugin that was killed stays behind, and keeps the next one from listening.
  if (!socketPath.startsWith('\0')) rmSync(socketPath, { force: true });
  const connections = kmsServer(plugin);
  const listener = createServer((stream) => {
    connections.take(stream);
  });
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject).listen(socketPath, resolve);
  });
  return () => {
    listener.close();
    connections.close();
  };
}
