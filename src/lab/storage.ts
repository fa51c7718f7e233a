/**
 * What kube-apiserver puts into etcd and reads back from there: k8s.io/apiserver's value transformers (1.24 to 1.37),
 * byte for byte. A transformer is chosen by prefix at two levels: the provider's, and within it the key's.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes, type CipherGCMTypes } from 'node:crypto';
import { xsalsa20poly1305 } from '@noble/ciphers/salsa.js';
import type { KmsProvider, Provider, ProviderFile } from '../encryption/configuration.ts';
import type { Key } from '../encryption/key.ts';
import { bytesField, fieldsOf, varintField } from './protobuf.ts';

/** A key encryption key as a KMS plugin holds it. */
export interface Kek {
  readonly keyId: string;
  wrap(dataKey: Buffer): Buffer;
  /** Throws while nothing may be written (KMS v2: the plugin has not answered for too long). */
  writable?(): void;
  /** undefined: the plugin refuses. `keyId` is empty for KMS v1, which has none. */
  unwrap(wrapped: Buffer, keyId: string): Buffer | undefined;
}

/** The plugin behind a socket as a server sees it; undefined when nobody listens there. */
export type Keks = (endpoint: string, apiVersion: KmsProvider['apiVersion']) => Kek | undefined;

export interface Read {
  readonly plain: Buffer;
  /** Read by anything but the first provider's first key: an unchanged object is written again. */
  readonly stale: boolean;
}

/** `etcdKey` is the whole key, e.g. `/registry/secrets/default/db`: AES-GCM authenticates it. */
export interface Transformer {
  toStorage(plain: Buffer, etcdKey: string): Buffer;
  /** Throws an Error in kube-apiserver's own words. */
  fromStorage(value: Buffer, etcdKey: string): Read;
}

interface Prefixed {
  readonly prefix: string;
  readonly transformer: Transformer;
}

const marker = Buffer.from('k8s:enc:');

const identity: Transformer = {
  toStorage: (plain) => plain,
  fromStorage(value) {
    if (startsWith(value, marker)) throw new Error('identity transformer tried to read encrypted data');
    return { plain: value, stale: false };
  },
};

/**
 * The transformer of a resource (`secrets`, `widgets.example.com`) by this file: the providers of all entries that
 * name it, one after the other; where none does, those of `*.<group>`, then `*.*`; else identity.
 */
export function transformerFor(file: ProviderFile, resource: string, keks: Keks): Transformer {
  const dot = resource.indexOf('.');
  const group = dot === -1 ? '' : resource.slice(dot + 1);
  for (const name of [resource, `*.${group}`, '*.*']) {
    const entries = file.entries.filter((entry) => entry.resources.includes(name));
    if (entries.length === 0) continue;
    const providers = entries.flatMap((entry) => entry.providers);
    return byPrefix(
      providers.map((provider) => ofProvider(provider, keks)),
      'no matching prefix found',
    );
  }
  return identity;
}

/** The first writes; every one whose prefix fits is tried, and a failure does not end the search. */
function byPrefix(all: readonly Prefixed[], noneFits: string): Transformer {
  const list = all.map((each) => ({ ...each, bytes: Buffer.from(each.prefix) }));
  return {
    toStorage(plain, etcdKey) {
      const [first] = list;
      if (first === undefined) throw new Error(noneFits);
      return Buffer.concat([first.bytes, first.transformer.toStorage(plain, etcdKey)]);
    },
    fromStorage(value, etcdKey) {
      const failures = new Set<string>();
      for (const [at, { bytes, transformer }] of list.entries()) {
        if (!startsWith(value, bytes)) continue;
        try {
          const { plain, stale } = transformer.fromStorage(value.subarray(bytes.length), etcdKey);
          return { plain, stale: stale || at > 0 };
        } catch (error) {
          // Identity's refusal says nothing: the value is another provider's.
          if (bytes.length > 0) failures.add((error as Error).message);
        }
      }
      const [only = noneFits] = failures;
      throw new Error(failures.size > 1 ? `[${[...failures].join(', ')}]` : only);
    },
  };
}

function ofProvider(provider: Provider, keks: Keks): Prefixed {
  switch (provider.kind) {
    case 'identity':
      return { prefix: '', transformer: identity };
    case 'aescbc':
    case 'aesgcm':
      return byKey(provider.kind, provider.keys, 'AES', provider.kind === 'aescbc' ? aesCbc : aesGcm);
    case 'secretbox':
      return byKey(provider.kind, provider.keys, 'Secretbox', secretbox);
    case 'kms':
      return {
        prefix: `k8s:enc:kms:${provider.apiVersion}:${provider.name}:`,
        transformer: provider.apiVersion === 'v1' ? kmsV1(provider, keks) : kmsV2(provider, keks),
      };
  }
}

function byKey(
  kind: string,
  keys: readonly Key[],
  family: string,
  make: (secret: Buffer) => Transformer,
): Prefixed {
  const all = keys.map((key) => ({ prefix: `${key.name}:`, transformer: make(key.secret.bytes()) }));
  const transformer = byPrefix(all, `no matching key was found for the provided ${family} transformer`);
  return { prefix: `k8s:enc:${kind}:v1:`, transformer };
}

/** IV 16 ‖ AES-CBC with PKCS#7. */
function aesCbc(secret: Buffer): Transformer {
  const algorithm = `aes-${secret.length * 8}-cbc`;
  return {
    toStorage(plain) {
      const iv = randomBytes(16);
      const cipher = createCipheriv(algorithm, secret, iv);
      return Buffer.concat([iv, cipher.update(plain), cipher.final()]);
    },
    fromStorage(value) {
      if (value.length < 16) throw new Error('the stored data was shorter than the required size');
      if (value.length % 16 !== 0) throw new Error('the stored data is not a multiple of the block size');
      const decipher = createDecipheriv(algorithm, secret, value.subarray(0, 16)).setAutoPadding(false);
      const padded = Buffer.concat([decipher.update(value.subarray(16)), decipher.final()]);
      const padding = padded.at(-1) ?? 0;
      if (padding === 0 || padding > padded.length) {
        throw new Error('invalid PKCS7 data (empty or not padded)');
      }
      if (padded.subarray(-padding).some((byte) => byte !== padding)) {
        throw new Error('invalid padding on input');
      }
      return { plain: padded.subarray(0, -padding), stale: false };
    },
  };
}

/** Nonce 12 ‖ ciphertext ‖ tag 16, with the etcd key as additional data. */
function aesGcm(secret: Buffer): Transformer {
  const algorithm = `aes-${secret.length * 8}-gcm` as CipherGCMTypes;
  return {
    toStorage(plain, etcdKey) {
      const nonce = randomBytes(12);
      const cipher = createCipheriv(algorithm, secret, nonce).setAAD(Buffer.from(etcdKey));
      return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    },
    fromStorage(value, etcdKey) {
      if (value.length < 28) throw new Error('the stored data was shorter than the required size');
      const decipher = createDecipheriv(algorithm, secret, value.subarray(0, 12), { authTagLength: 16 });
      decipher.setAAD(Buffer.from(etcdKey)).setAuthTag(value.subarray(-16));
      try {
        const plain = Buffer.concat([decipher.update(value.subarray(12, -16)), decipher.final()]);
        return { plain, stale: false };
      } catch {
        throw new Error('cipher: message authentication failed');
      }
    },
  };
}

/** Nonce 24 ‖ Poly1305 tag 16 ‖ XSalsa20 ciphertext (NaCl's secretbox). */
function secretbox(secret: Buffer): Transformer {
  return {
    toStorage(plain) {
      const nonce = randomBytes(24);
      return Buffer.concat([nonce, xsalsa20poly1305(secret, nonce).encrypt(plain)]);
    },
    fromStorage(value) {
      if (value.length < 40) throw new Error('the stored data was shorter than the required size');
      try {
        const plain = xsalsa20poly1305(secret, value.subarray(0, 24)).decrypt(value.subarray(24));
        return { plain: Buffer.from(plain), stale: false };
      } catch {
        // kube-apiserver's words for a value that does not authenticate.
        throw new Error('output array was not large enough for encryption');
      }
    },
  };
}

function pluginOf(provider: KmsProvider, keks: Keks): Kek {
  const kek = keks(provider.endpoint, provider.apiVersion);
  if (kek === undefined) {
    const socket = provider.endpoint.replace('unix://', '');
    throw new Error(`connection error: desc = "transport: error while dialing: dial unix ${socket}"`);
  }
  return kek;
}

/** Length of the wrapped key in two bytes ‖ wrapped key ‖ AES-GCM's body (1.25 and later). Never stale. */
function kmsV1(provider: KmsProvider, keks: Keks): Transformer {
  return {
    toStorage(plain, etcdKey) {
      const dataKey = randomBytes(32);
      const wrapped = pluginOf(provider, keks).wrap(dataKey);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(wrapped.length);
      return Buffer.concat([length, wrapped, aesGcm(dataKey).toStorage(plain, etcdKey)]);
    },
    fromStorage(value, etcdKey) {
      const end = 2 + (value.length < 2 ? Infinity : value.readUInt16BE(0));
      if (end > value.length) throw new Error('invalid data encountered by envelope transformer');
      const dataKey = pluginOf(provider, keks).unwrap(value.subarray(2, end), '');
      if (dataKey === undefined) throw new Error('failed to decrypt DEK, error: the plugin refused');
      return aesGcm(dataKey).fromStorage(value.subarray(end), etcdKey);
    },
  };
}

/** EncryptedObject with a seed (type 1, from 1.29 on): info 32 ‖ AES-GCM's body under HKDF-Expand(seed, info). */
function kmsV2(provider: KmsProvider, keks: Keks): Transformer {
  let source: { readonly keyId: string; readonly seed: Buffer; readonly wrapped: Buffer } | undefined;
  const current = () => {
    const kek = pluginOf(provider, keks);
    kek.writable?.();
    if (source?.keyId !== kek.keyId) {
      const seed = randomBytes(32);
      source = { keyId: kek.keyId, seed, wrapped: kek.wrap(seed) };
    }
    return source;
  };
  return {
    toStorage(plain, etcdKey) {
      const { keyId, seed, wrapped } = current();
      const info = randomBytes(32);
      const data = Buffer.concat([info, aesGcm(expand(seed, info)).toStorage(plain, etcdKey)]);
      const fields = [bytesField(1, data), bytesField(2, Buffer.from(keyId)), bytesField(3, wrapped)];
      return Buffer.concat([...fields, varintField(5, 1)]);
    },
    fromStorage(value, etcdKey) {
      const fields = fieldsOf(value);
      const [data, id, wrapped] = [fields.bytes(1), fields.bytes(2), fields.bytes(3)];
      if (data === undefined || id === undefined || wrapped === undefined) {
        throw new Error('failed to validate encrypted object');
      }
      const keyId = id.toString();
      const seed = pluginOf(provider, keks).unwrap(wrapped, keyId);
      if (seed === undefined) throw new Error('failed to decrypt DEK, error: the plugin refused');
      const seeded = fields.varint(5) === 1;
      const key = seeded ? expand(seed, data.subarray(0, 32)) : seed;
      const { plain } = aesGcm(key).fromStorage(seeded ? data.subarray(32) : data, etcdKey);
      return { plain, stale: keyId !== pluginOf(provider, keks).keyId || !seeded };
    },
  };
}

/** The second half of HKDF alone; one block of SHA-256 is all that is needed. */
function expand(seed: Buffer, info: Buffer): Buffer {
  return createHmac('sha256', seed).update(info).update(Buffer.of(1)).digest();
}

function startsWith(value: Buffer, prefix: Buffer): boolean {
  return value.length >= prefix.length && value.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}
