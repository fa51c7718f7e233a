/**
 * What a kube-apiserver keeps of a KMS plugin: the key id of its last look at Status, and data keys that it has once had
 * opened (k8s.io/apiserver, encryptionconfig and envelope/kmsv2 of 1.29 and later).
 */
import { createHash } from 'node:crypto';
import type { KmsPlugin } from './kms-plugin.ts';
import type { Kek } from './storage.ts';

const pollEvery = 60_000;
const pollEveryWhileFailing = 10_000;
/** So long after the last good Status a server still writes under the key id it had. */
const writesFor = 180_000;

/** One kube-apiserver's connection to one plugin. Time is only ever looked at (`advance`). */
export class KmsClient {
  readonly #socket: string;
  readonly #plugin: () => KmsPlugin | undefined;
  readonly #opened = new Map<string, Buffer>();
  /** When each key id was last seen in Status. */
  readonly seen = new Map<string, number>();
  #state: { readonly keyId: string; readonly at: number; readonly plugin: KmsPlugin } | undefined;
  #healthy = false;
  #next: number;
  #now: number;

  constructor(endpoint: string, plugin: () => KmsPlugin | undefined, now: number) {
    this.#socket = endpoint.replace('unix://', '');
    this.#plugin = plugin;
    this.#now = now;
    this.#next = now;
    this.advance(now);
  }

  /** The last look at Status went well. */
  get healthy(): boolean {
    return this.#healthy;
  }

  advance(now: number): void {
    this.#now = Math.max(now, this.#now);
    while (this.#next <= now) {
      const at = this.#next;
      const plugin = this.#plugin();
      this.#healthy = plugin?.up === true && plugin.healthy;
      if (plugin !== undefined && this.#healthy) {
        this.seen.set(plugin.keyId, at);
        this.#state = { keyId: plugin.keyId, at, plugin };
      }
      this.#next = at + (this.#healthy ? pollEvery : pollEveryWhileFailing);
    }
  }

  /** KMS v1 has no key ids: each write is encrypted by the plugin as it is now. */
  get v1(): Kek {
    return {
      keyId: '',
      wrap: (dataKey) => this.#reached().encrypt(dataKey),
      unwrap: (wrapped) => this.#open(wrapped),
    };
  }

  /** Throws in kube-apiserver's words while no Status was ever good, or the last good one is too old to write with. */
  get v2(): Kek {
    const state = this.#state;
    if (state === undefined) throw new Error('got unexpected nil transformer');
    const expires = state.at + writesFor;
    return {
      keyId: state.keyId,
      // The seed was encrypted when the key id was seen; that it is made here, later, cannot be told from outside.
      wrap: (seed) => state.plugin.encrypt(seed, state.keyId),
      writable: () => {
        if (this.#now <= expires) return;
        const [now, then] = [this.#now, expires].map((time) => new Date(time).toISOString());
        throw new Error(
          `encryptedDEKSource with keyID hash "${hashOf(state.keyId)}" expired at ${then} (current time is ${now})`,
        );
      },
      unwrap: (wrapped) => this.#open(wrapped),
    };
  }

  #open(wrapped: Buffer): Buffer | undefined {
    const id = wrapped.toString('base64');
    const known = this.#opened.get(id);
    if (known !== undefined) return known;
    const found = this.#reached().decrypt(wrapped);
    if (found !== undefined) this.#opened.set(id, found);
    return found;
  }

  #reached(): KmsPlugin {
    const plugin = this.#plugin();
    if (plugin?.up === true) return plugin;
    throw new Error(
      `connection error: desc = "transport: error while dialing: dial unix ${this.#socket}: connect: no such file or directory"`,
    );
  }
}

/** As metrics have it in their labels. */
export function hashOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}
