/** A local door to streams of a host, for clients that make their connections themselves, as grpc-js does. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline, type Duplex } from 'node:stream';

export interface Door {
  /** For gRPC: `unix:PATH`. */
  readonly target: string;
  close(): void;
}

/**
 * A Unix socket in a folder of our own (mode 0700), because a port on 127.0.0.1 would let any local user knock at the
 * cluster's etcd. `name`: the socket's. Rejects where the first stream cannot be opened.
 */
export async function openDoor(dial: () => Promise<Duplex>, name: string): Promise<Door> {
  // Dialled ahead, because a failure behind the door would reach the caller as a closed socket only.
  let ahead: Duplex | undefined = await dial();
  ahead.on('error', () => undefined);
  const folder = await mkdtemp(join(tmpdir(), 'tsrke-'));
  const path = join(folder, name);
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    const dialled = ahead === undefined || ahead.destroyed ? dial() : Promise.resolve(ahead);
    ahead = undefined;
    dialled.then(
      (stream) => {
        pipeline(socket, stream, socket, () => {
          socket.destroy();
          stream.destroy();
        });
      },
      (error: unknown) => {
        socket.destroy(error instanceof Error ? error : undefined);
      },
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  server.unref();
  return {
    target: `unix:${path}`,
    close() {
      ahead?.destroy();
      for (const socket of sockets) socket.destroy();
      server.close();
      void rm(folder, { recursive: true, force: true }).catch(() => undefined);
    },
  };
}
