/**
 * Host keys: those of known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), those recorded in the state, and
 * those met for the first time in this run. A host that is known must show a key that is known; a host that is
 * not is believed once, and its key recorded.
 */
import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ServerHostKeyAlgorithm } from 'ssh2';
import { TsrkeError } from '../errors.ts';

/** Keys by `<address>:<port>` (IPv6 in brackets), each `ssh-ed25519 AAAA…` or a list of such. */
export type HostKeyRecords = Readonly<Record<string, string | readonly string[]>>;

export interface HostAddress {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

export interface HostKeys {
  /** What to ask a host for, types of its known keys first (as ssh does), so that a known key is shown if there is one. */
  algorithms(host: HostAddress): ServerHostKeyAlgorithm[];
  /**
   * Judges the key (SSH wire format) that a host has shown. Returns a line for the user when it was not known
   * before and is now; throws HOST_KEY_CHANGED when the host is known by other keys only, or the key is revoked.
   */
  verify(host: HostAddress, key: Buffer): string | undefined;
  /** Keys that belong in the state after this run; to be merged over the records it began with. */
  seen(): Record<string, string | string[]>;
}

/** A key and where it stands, in words for the user: `~/.ssh/known_hosts:12`, `the state`. */
interface KnownKey {
  readonly type: string;
  readonly base64: string;
  readonly where: string;
}

interface KnownHostsLine extends KnownKey {
  readonly revoked: boolean;
  readonly names: readonly string[];
}

const algorithmsByType = new Map<string, readonly ServerHostKeyAlgorithm[]>([
  ['ssh-ed25519', ['ssh-ed25519']],
  ['ecdsa-sha2-nistp256', ['ecdsa-sha2-nistp256']],
  ['ecdsa-sha2-nistp384', ['ecdsa-sha2-nistp384']],
  ['ecdsa-sha2-nistp521', ['ecdsa-sha2-nistp521']],
  ['ssh-rsa', ['rsa-sha2-512', 'rsa-sha2-256', 'ssh-rsa']],
]);

/** Reads known_hosts once. `files` are for tests; missing ones are fine, unreadable ones are SSH_KEY. */
export function loadHostKeys(options: {
  readonly recorded: HostKeyRecords;
  readonly files?: readonly string[];
}): HostKeys {
  const files = options.files ?? [
    join(homedir(), '.ssh', 'known_hosts'),
    join(homedir(), '.ssh', 'known_hosts2'),
    '/etc/ssh/ssh_known_hosts',
  ];
  const lines = files.flatMap((file) => parseKnownHosts(readIfThere(file), displayPath(file)));
  const firstMet = new Map<string, KnownKey>();

  const known = (host: HostAddress) => {
    const id = recordName(host);
    const inRun = firstMet.get(id);
    const recorded = options.recorded[id] ?? [];
    return {
      listed: lines.filter((line) => !line.revoked && matches(line.names, knownHostsName(host))),
      // A key that this run has taken down replaces the state's: known_hosts, the user's own word, has vouched for it.
      recorded: inRun
        ? [inRun]
        : (typeof recorded === 'string' ? [recorded] : recorded).flatMap((text) =>
            parseKey(text, 'the state'),
          ),
    };
  };

  return {
    algorithms(host) {
      const { listed, recorded } = known(host);
      const types = new Set([...listed, ...recorded].map((key) => key.type));
      const all = [...algorithmsByType];
      return [
        ...all.filter(([type]) => types.has(type)),
        ...all.filter(([type]) => !types.has(type)),
      ].flatMap(([, algorithms]) => algorithms);
    },

    verify(host, key) {
      const shown = { type: keyType(key), base64: key.toString('base64') };
      const same = (other: KnownKey) => other.base64 === shown.base64;
      // As ssh: a key of the plain name is good for any port of it, but its absence proves nothing.
      const named = (line: KnownHostsLine) =>
        matches(line.names, knownHostsName(host)) || matches(line.names, host.address);

      const revoked = lines.find((line) => line.revoked && named(line) && same(line));
      if (revoked !== undefined) {
        throw new TsrkeError(
          'HOST_KEY_CHANGED',
          `${endpoint(host)} shows a host key that ${revoked.where} marks as revoked (${shown.type} ${fingerprint(key)})`,
          { node: host.name, next: 'find out what answers at this address; nothing was sent to it' },
        );
      }
      const { listed, recorded } = known(host);
      if (recorded.some(same)) return undefined;
      const vouched = lines.find((line) => !line.revoked && named(line) && same(line));
      if (vouched !== undefined) {
        if (recorded.length === 0) return undefined;
        firstMet.set(recordName(host), { ...shown, where: vouched.where });
        return `host key ${fingerprint(key)} is in ${vouched.where} and replaces the one in the state`;
      }
      // Types ssh2 cannot speak (DSA, say) can neither confirm nor contradict.
      const contradicting = [...listed, ...recorded].filter((other) => algorithmsByType.has(other.type));
      if (contradicting.length > 0) throw changed(host, shown.type, key, contradicting);
      firstMet.set(recordName(host), { ...shown, where: 'an earlier connection of this run' });
      return `host key ${fingerprint(key)} recorded at first contact`;
    },

    seen() {
      return Object.fromEntries([...firstMet].map(([id, key]) => [id, `${key.type} ${key.base64}`]));
    },
  };
}

function changed(host: HostAddress, type: string, key: Buffer, known: readonly KnownKey[]): TsrkeError {
  const where = [...new Set(known.map((other) => other.where))];
  const sameType = known.some((other) => other.type === type);
  return new TsrkeError(
    'HOST_KEY_CHANGED',
    sameType
      ? `${endpoint(host)} shows another ${type} host key than the one known from ${where.join(' and ')}`
      : `${endpoint(host)} shows a ${type} host key, and none of those known from ${where.join(' and ')}`,
    {
      node: host.name,
      details: [
        `shown: ${type} ${fingerprint(key)}`,
        ...known.map(
          (other) =>
            `known: ${other.type} ${fingerprint(Buffer.from(other.base64, 'base64'))} (${other.where})`,
        ),
      ],
      next:
        `if the host was set up anew, compare the shown fingerprint on its console, then ` +
        `\`ssh-keygen -R '${knownHostsName(host)}'\` and ` +
        `\`ssh-keyscan -p ${host.port} ${host.address} >> ~/.ssh/known_hosts\` (a key there outranks the state's); ` +
        `if not, somebody may be in between`,
    },
  );
}

/** `SHA256:…`, as ssh prints it. */
export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

/** The name of a host in the state's records. */
export function recordName(host: { readonly address: string; readonly port: number }): string {
  return host.address.includes(':') ? `[${host.address}]:${host.port}` : `${host.address}:${host.port}`;
}

function knownHostsName(host: HostAddress): string {
  return host.port === 22 ? host.address : `[${host.address}]:${host.port}`;
}

function endpoint(host: HostAddress): string {
  return recordName(host);
}

function keyType(key: Buffer): string {
  return key.length < 4 ? '' : key.subarray(4, 4 + key.readUInt32BE(0)).toString('latin1');
}

function parseKey(text: string, where: string): KnownKey[] {
  const [type, base64] = text.trim().split(/\s+/);
  return type === undefined || base64 === undefined ? [] : [{ type, base64: canonical(base64), where }];
}

const canonical = (base64: string) => Buffer.from(base64, 'base64').toString('base64');

/**
 * `@cert-authority` lines are left out: ssh2 cannot ask for host certificates, so such a host shows a plain key,
 * which those lines say nothing about. Lines that make no sense are skipped, as ssh does.
 */
function parseKnownHosts(text: string, file: string): KnownHostsLine[] {
  return text.split('\n').flatMap((line, index) => {
    const words = line.trim().split(/\s+/);
    const marker = words[0]?.startsWith('@') === true ? words.shift() : undefined;
    const [names, type, base64] = words;
    if (names === undefined || names.startsWith('#') || type === undefined || base64 === undefined) return [];
    if (marker !== undefined && marker !== '@revoked') return [];
    return [
      {
        type,
        base64: canonical(base64),
        where: `${file}:${index + 1}`,
        revoked: marker !== undefined,
        names: names.split(','),
      },
    ];
  });
}

/** Patterns with `*` and `?`; one that begins with `!` and fits rules the whole line out; `|1|salt|hash` is HMAC-SHA1. */
function matches(patterns: readonly string[], name: string): boolean {
  const wanted = name.toLowerCase();
  let found = false;
  for (const pattern of patterns) {
    if (pattern.startsWith('|1|')) {
      const [, , salt = '', hash = ''] = pattern.split('|');
      const digest = createHmac('sha1', Buffer.from(salt, 'base64')).update(wanted).digest('base64');
      found ||= digest === canonical(hash);
      continue;
    }
    const negated = pattern.startsWith('!');
    if (!glob(negated ? pattern.slice(1) : pattern).test(wanted)) continue;
    if (negated) return false;
    found = true;
  }
  return found;
}

function glob(pattern: string): RegExp {
  const escaped = pattern.toLowerCase().replace(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replace(/\*/g, '.*').replace(/\?/g, '.')}$`);
}

function displayPath(file: string): string {
  return file.startsWith(`${homedir()}/`) ? `~${file.slice(homedir().length)}` : file;
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new TsrkeError('SSH_KEY', `${file} cannot be read, so no host key can be checked`, {
      cause,
      next: `make ${file} readable, or remove it`,
    });
  }
}
