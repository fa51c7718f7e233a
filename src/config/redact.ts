/** Which keys hold secrets, in cluster.yml and in RKE's JSON form alike, and texts and values without them. */

const redacted = '[redacted]';

/** Keys of whole texts that can hold anything: manifests, cloud configurations, kubeconfigs, certificates. */
const opaque = new Set(['addons', 'customcloudprovider', 'cloudconfig', 'configfile', 'sshkey', 'sshcert']);
/** Lists of NAME=VALUE: values such as a proxy's address can hold passwords. */
const environments = new Set(['extraenv', 'winextraenv']);

const secretWords = /password|passwd|passphrase|secret|token|privatekey|accesskey|credential|userkey|clientkey/;
/** They contain one of the words, and hold settings or names. */
const notSecret = /path$|file$|secretsencryptionconfig$|imagepullsecret$|authenticationtoken|tokens?cachettl$|^addonsinclude$/;

/** `parent` is the key around it: `key` is a private key in `etcd` and a name in a taint. */
function isSecret(key: string, parent: string | undefined): boolean {
  const word = key.toLowerCase().replaceAll(/[-_]/g, '');
  if (opaque.has(word)) return true;
  if (word === 'key') return parent === 'etcd';
  return secretWords.test(word) && !notSecret.test(word);
}

/** Whether what `path` (keys and indices) names is a secret, or lies within one. */
export function isSecretPath(path: readonly (string | number)[]): boolean {
  const keys = path.filter((part): part is string => typeof part === 'string');
  return keys.some((key, index) => isSecret(key, keys[index - 1]));
}

/** The value with `[redacted]` in place of each secret. `path` is where it stands. */
export function redact(value: unknown, path: readonly (string | number)[]): unknown {
  if (value === undefined || value === null) return value;
  if (isSecretPath(path)) return redacted;
  const key = String(path.at(-1)).toLowerCase().replaceAll('_', '');
  if (Array.isArray(value)) {
    return value.map((item: unknown, index) =>
      environments.has(key) && typeof item === 'string'
        ? item.replace(/=.*/s, `=${redacted}`)
        : redact(item, [...path, index]),
    );
  }
  if (typeof value !== 'object') return value;
  // A container's environment in Kubernetes' form: [{ name, value }].
  const hidden = String(path.findLast((part) => typeof part === 'string')).toLowerCase() === 'extraenvs';
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      hidden && name === 'value' ? redacted : redact(item, [...path, name]),
    ]),
  );
}

const keyPattern = /(["']?)([A-Za-z][\w-]*)\1[ \t]*:(?=\s|$)/;
const allKeys = new RegExp(keyPattern, 'g');

/** Whether line `index` (from 0) of a YAML text, broken as it may be, belongs to a secret. In doubt it does. */
export function secretsAt(lines: readonly string[], index: number): boolean {
  const line = lines[index] ?? '';
  const keys = [...line.matchAll(allKeys)].map((match) => match[2] ?? '');
  if (keys.some((key) => key === 'key' || isSecret(key, undefined))) return true;
  if (/-----|[A-Za-z0-9+/_-]{24,}={0,2}/.test(line.replaceAll(allKeys, ''))) return true;
  // The line goes on with the text of a key further up, such as a private key in a block.
  for (let above = index - 1; above >= 0; above -= 1) {
    const before = lines[above] ?? '';
    const key = keyPattern.exec(before);
    if (key === null) {
      if (/-----/.test(before)) return true;
      continue;
    }
    return isSecret(key[2] ?? '', undefined) || key[2] === 'key';
  }
  return false;
}

/** Line `index` (from 0) for a message: when a secret may be on it, what follows its first key is hidden. */
export function withoutSecrets(lines: readonly string[], index: number): string {
  const line = lines[index] ?? '';
  if (!secretsAt(lines, index)) return line;
  const key = keyPattern.exec(line);
  return key === null ? redacted : `${line.slice(0, key.index + key[0].length)} ${redacted}`;
}
