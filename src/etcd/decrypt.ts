/** A trial read: whether a value opens with a key, checked as kube-apiserver's decoder would. Nothing is kept. */
import { createDecipheriv, type CipherGCMTypes } from 'node:crypto';
import type { StoredKey } from './stored.ts';

export interface LocalKey {
  readonly provider: 'aescbc' | 'aesgcm' | 'secretbox';
  readonly name: string;
  /** 16, 24 or 32 bytes. */
  readonly secret: Uint8Array;
}

/**
 * Whether one of the keys of the value's provider and name opens it; undefined when this cannot be told here
 * (identity, KMS, secretbox, or none of that name is given). The etcd key is part of what AES-GCM authenticates.
 */
export function decryptable(
  value: Buffer,
  etcdKey: string,
  stored: StoredKey,
  keys: readonly LocalKey[],
): boolean | undefined {
  const { provider, name } = stored;
  if (provider !== 'aescbc' && provider !== 'aesgcm') return undefined;
  const candidates = keys.filter((key) => key.provider === provider && key.name === name);
  if (candidates.length === 0) return undefined;
  const body = value.subarray(Buffer.byteLength(`k8s:enc:${provider}:v1:${name}:`));
  const open = provider === 'aescbc' ? openCbc : openGcm;
  return candidates.some(({ secret }) => {
    try {
      return isObject(open(body, secret, etcdKey));
    } catch {
      return false;
    }
  });
}

/** IV 16, then AES-CBC with PKCS#7 padding. A wrong key passes the padding about once in 256. */
function openCbc(body: Buffer, secret: Uint8Array): Buffer {
  const decipher = createDecipheriv(`aes-${secret.length * 8}-cbc`, secret, body.subarray(0, 16));
  return Buffer.concat([decipher.update(body.subarray(16)), decipher.final()]);
}

/** Nonce 12, ciphertext, tag 16; additional data: the etcd key. */
function openGcm(body: Buffer, secret: Uint8Array, etcdKey: string): Buffer {
  const algorithm = `aes-${secret.length * 8}-gcm` as CipherGCMTypes;
  const decipher = createDecipheriv(algorithm, secret, body.subarray(0, 12), { authTagLength: 16 });
  decipher.setAAD(Buffer.from(etcdKey));
  decipher.setAuthTag(body.subarray(-16));
  return Buffer.concat([decipher.update(body.subarray(12, -16)), decipher.final()]);
}

/** Kubernetes' protobuf envelope (`k8s` and a zero byte), or JSON, as custom resources are stored. */
function isObject(plain: Buffer): boolean {
  const found = plain.subarray(0, 4).equals(Buffer.from('k8s\0')) || plain[0] === '{'.charCodeAt(0);
  plain.fill(0);
  return found;
}
