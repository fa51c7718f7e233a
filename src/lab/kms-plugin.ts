/** A KMS plugin as it runs on one node: what it wraps and unwraps data keys with. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

/** Key encryption keys by their ids; what the plugins of one KMS share. A key that is taken out is destroyed. */
export type Vault = Map<string, Buffer>;

export class KmsPlugin {
  /** Somebody listens on its socket. */
  up = true;
  /** Status says `ok`. */
  healthy = true;
  /** Of the key that it encrypts with. */
  keyId: string;
  readonly #vault: Vault;

  constructor(vault: Vault, keyId: string) {
    this.#vault = vault;
    this.rotate((this.keyId = keyId));
  }

  /** Encrypts with this key from now on; it is made where the KMS has none of that id. */
  rotate(keyId: string): void {
    if (!this.#vault.has(keyId)) this.#vault.set(keyId, randomBytes(32));
    this.keyId = keyId;
  }

  /** For every plugin of the same KMS. What it has encrypted can never be read again. */
  destroy(keyId: string): void {
    this.#vault.delete(keyId);
  }

  /** The key id in clear (so that a test can tell what KMS v1 wrote), a nonce of 12 bytes, the data key, the tag. */
  encrypt(dataKey: Buffer, keyId = this.keyId): Buffer {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key(keyId), nonce);
    const head = Buffer.from(`${keyId}\0`);
    return Buffer.concat([head, nonce, cipher.update(dataKey), cipher.final(), cipher.getAuthTag()]);
  }

  /** undefined: it does not have that key. */
  decrypt(wrapped: Buffer): Buffer | undefined {
    const end = wrapped.indexOf(0);
    const body = wrapped.subarray(end + 1);
    try {
      const key = this.#key(wrapped.toString('utf8', 0, end));
      const decipher = createDecipheriv('aes-256-gcm', key, body.subarray(0, 12), { authTagLength: 16 });
      decipher.setAuthTag(body.subarray(-16));
      return Buffer.concat([decipher.update(body.subarray(12, -16)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  #key(keyId: string): Buffer {
    const key = this.#vault.get(keyId);
    if (key === undefined) throw new Error(`the KMS has no key ${keyId}`);
    return key;
  }
}
