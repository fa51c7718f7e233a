/** The key encryption keys of a KMS: what every plugin of one cluster has in common. */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import type { Kek } from './storage.ts';

/**
 * Two of the same seed know the same keys by the same ids, as two plugins of one KMS do; of another seed they do not,
 * whatever the ids. Whoever was made after a rotation must be told of the ids before it.
 */
export class KmsKeys implements Kek {
  readonly #seed: string;
  readonly #ids: string[];

  constructor(seed: string, keyId = 'kek-1') {
    this.#seed = seed;
    this.#ids = [keyId];
  }

  get keyId(): string {
    return this.#ids[0] ?? '';
  }

  /** Wraps with the key of this id from now on; the others stay to unwrap with. */
  rotate(keyId: string): void {
    this.#ids.splice(0, this.#ids.length, keyId, ...this.#ids.filter((each) => each !== keyId));
  }

  /** The key of this id is destroyed: nothing that it wrapped can be read any more. */
  destroy(keyId: string): void {
    if (keyId === this.keyId) throw new Error(`${keyId} is the current key`);
    this.#ids.splice(0, this.#ids.length, ...this.#ids.filter((each) => each !== keyId));
  }

  wrap(dataKey: Buffer): Buffer {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#secret(this.keyId), nonce);
    return Buffer.concat([nonce, cipher.update(dataKey), cipher.final(), cipher.getAuthTag()]);
  }

  unwrap(wrapped: Buffer, keyId: string): Buffer | undefined {
    const candidates = keyId === '' ? this.#ids : this.#ids.filter((each) => each === keyId);
    for (const each of candidates) {
      const options = { authTagLength: 16 };
      const decipher = createDecipheriv('aes-256-gcm', this.#secret(each), wrapped.subarray(0, 12), options);
      try {
        decipher.setAuthTag(wrapped.subarray(-16));
        return Buffer.concat([decipher.update(wrapped.subarray(12, -16)), decipher.final()]);
      } catch {
        // Not this one.
      }
    }
    return undefined;
  }

  #secret(keyId: string): Buffer {
    return createHash('sha256').update(`${this.#seed}\0${keyId}`).digest();
  }
}
