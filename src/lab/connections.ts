/** Connections that a lab's server has taken over: streams of an SSH channel, or sockets of a port. */
import type { Duplex } from 'node:stream';

export interface Connections {
  /** Serves this stream from here on. */
  take(stream: Duplex): void;
  /** Breaks off all of them. */
  close(): void;
}

/** Keeps the streams that `serve` was given until they end. */
export class StreamConnections implements Connections {
  readonly #serve: (stream: Duplex) => void;
  readonly #streams = new Set<Duplex>();

  constructor(serve: (stream: Duplex) => void) {
    this.#serve = serve;
  }

  take(stream: Duplex): void {
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    // A peer that breaks off is no trouble of the server's.
    stream.on('error', () => undefined);
    this.#serve(stream);
  }

  close(): void {
    for (const stream of this.#streams) stream.destroy();
  }
}
