/** Key material: made here, shown nowhere, revealed only where the provider file and the state are written. */
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { inspect } from 'node:util';

export type LocalProvider = 'aescbc' | 'aesgcm' | 'secretbox';

/** The base64 text of a key as it stands in a provider file. Prints `[redacted]` wherever it is printed. */
export class Secret {
  readonly #base64: string;

  constructor(base64: string) {
    this.#base64 = base64;
  }

  /** The base64 text; only for the provider file and the state file. */
  reveal(): string {
    return this.#base64;
  }

  bytes(): Buffer {
    return Buffer.from(this.#base64, 'base64');
  }

  /** False for a fingerprint that stands in a key's place (copies of the state that carry no keys). */
  get isKey(): boolean {
    return !this.#base64.startsWith('sha256:');
  }

  /** First 12 hex digits of the sha256 of the key's bytes: tells keys apart, says nothing about them. */
  get fingerprint(): string {
    return createHash('sha256').update(this.bytes()).digest('hex').slice(0, 12);
  }

  toString(): string {
    return '[redacted]';
  }

  toJSON(): string {
    return '[redacted]';
  }

  [inspect.custom](): string {
    return '[redacted]';
  }
}

export interface Key {
  readonly provider: LocalProvider;
  readonly name: string;
  readonly secret: Secret;
}

/** A key in the ring of the state file; retired keys stay, because old snapshots need them. */
export interface KeyRecord extends Key {
  /** RFC 3339. */
  readonly created: string;
  readonly retired?: string;
  /** Where it comes from: `enable`, `rotate-key`, or where it was found. */
  readonly why: string;
}

/** Told apart by provider, name and bytes: between resources one name may stand for two keys. */
export function keyId(key: Key): string {
  return `${key.provider}:${key.name}#${key.secret.fingerprint}`;
}

// RKE 1.6 names its keys `k-` and five of these; no vowels, so no words.
const alphabet = 'bcdfghjklmnpqrstvwxz2456789';

/** 32 random bytes (RKE 1.6 has 16, spelled as 32 hex characters), under a name that is not yet taken. */
export function newKey(provider: LocalProvider, taken: ReadonlySet<string>): Key {
  while (true) {
    const letters = Array.from({ length: 5 }, () => alphabet.charAt(randomInt(alphabet.length)));
    const name = `k-${letters.join('')}`;
    if (!taken.has(name)) return namedKey(provider, name);
  }
}

export function namedKey(provider: LocalProvider, name: string): Key {
  return { provider, name, secret: new Secret(randomBytes(32).toString('base64')) };
}
