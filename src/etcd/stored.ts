/** What a value in etcd says about itself: the provider and key that wrote it stand in front, in clear text. */

export type StoredProvider = 'identity' | 'aescbc' | 'aesgcm' | 'secretbox' | 'kms1' | 'kms2' | 'unknown';

export interface StoredKey {
  readonly provider: StoredProvider;
  /** Key name, or the KMS provider's name; empty for identity. */
  readonly name: string;
  /** KMS v2: the id of the key encryption key, as the plugin gave it. */
  readonly keyId?: string;
  /**
   * `identity`, `aescbc:NAME`, `kms1:NAME`, `kms2:NAME`, `unknown:PREFIX`. For kms2 two ids can be equal where
   * `keyId` differs.
   */
  readonly id: string;
}

const marker = Buffer.from('k8s:enc:');
const identity: StoredKey = { provider: 'identity', name: '', id: 'identity' };
const local = new Set(['aescbc', 'aesgcm', 'secretbox']);
/** Key names have no length limit of their own; one that is longer than this is not told from garbage. */
const longestPrefix = 4096;

/**
 * Reads the prefix kube-apiserver (1.13 to 1.37) puts in front of a value; whatever does not begin with
 * `k8s:enc:` is what identity writes. A key name ends at its first colon: names that hold one are ambiguous here,
 * which is why tsrke refuses them in provider files. A KMS v1 name may hold colons (kube-apiserver allows it);
 * it ends at the colon before the two length bytes.
 */
export function storedKeyOf(value: Buffer): StoredKey {
  if (!value.subarray(0, marker.length).equals(marker)) return identity;
  const head = value.toString('latin1', marker.length, marker.length + longestPrefix);
  const [, kind, version] = /^([a-z0-9]+):(v[0-9]+):/.exec(head) ?? [];
  if (kind === undefined || version === undefined) return unknown('malformed');
  const start = kind.length + version.length + 2;
  const end = kind === 'kms' && version === 'v1' ? endOfKmsV1Name(head, start) : head.indexOf(':', start);
  if (end <= start) return unknown(`${kind}:${version}`);
  const name = value.toString('utf8', marker.length + start, marker.length + end);
  if (version === 'v1' && local.has(kind)) {
    return { provider: kind as StoredProvider, name, id: `${kind}:${name}` };
  }
  if (kind === 'kms' && version === 'v1') return { provider: 'kms1', name, id: `kms1:${name}` };
  if (kind === 'kms' && version === 'v2') {
    const keyId = keyIdOf(value.subarray(marker.length + end + 1));
    if (keyId === undefined) return unknown(`kms:v2:${name}`);
    return { provider: 'kms2', name, keyId, id: `kms2:${name}` };
  }
  return unknown(/^[\x20-\x7e]{1,253}$/.test(name) ? `${kind}:${version}:${name}` : `${kind}:${version}`);
}

function unknown(prefix: string): StoredKey {
  return { provider: 'unknown', name: prefix, id: `unknown:${prefix}` };
}

/** The high byte of the length that follows is below 32: an encrypted data key is no 8 KiB long. */
function endOfKmsV1Name(head: string, start: number): number {
  for (let colon = head.indexOf(':', start); colon !== -1; colon = head.indexOf(':', colon + 1)) {
    if (colon + 1 < head.length && head.charCodeAt(colon + 1) < 32) return colon;
  }
  return -1;
}

/** Field 2 of the protobuf message `EncryptedObject`; undefined when that is not what the bytes are. */
function keyIdOf(message: Buffer): string | undefined {
  let at = 0;
  const varint = (): number => {
    let result = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = message[at];
      if (byte === undefined) return NaN;
      at += 1;
      result += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return result;
    }
    return NaN;
  };
  while (at < message.length) {
    const tag = varint();
    const wire = tag % 8;
    if (wire === 0) {
      if (Number.isNaN(varint())) return undefined;
      continue;
    }
    if (wire !== 2) return undefined;
    const length = varint();
    if (!(at + length <= message.length)) return undefined;
    if (Math.floor(tag / 8) === 2)
      return length === 0 ? undefined : message.toString('utf8', at, at + length);
    at += length;
  }
  return undefined;
}
