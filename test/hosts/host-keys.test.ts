import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utils } from 'ssh2';
import type { ParsedKey } from 'ssh2';
import { afterAll, describe, expect, test } from 'vitest';
import type { TsrkeError } from '../../src/errors.ts';
import { loadHostKeys } from '../../src/hosts/host-keys.ts';
import type { HostKeyRecords } from '../../src/hosts/host-keys.ts';

const folder = mkdtempSync(join(tmpdir(), 'tsrke-known-hosts-'));
afterAll(() => rmSync(folder, { recursive: true }));

const make = (text: string) => ({ text, blob: (utils.parseKey(text) as ParsedKey).getPublicSSH() });
const ed = make(utils.generateKeyPairSync('ed25519').public);
const otherEd = make(utils.generateKeyPairSync('ed25519').public);
const rsa = make(utils.generateKeyPairSync('rsa', { bits: 2048 }).public);
const ecdsa = make(utils.generateKeyPairSync('ecdsa', { bits: 256 }).public);

const hashed = (name: string) => {
  const salt = Buffer.from('0123456789abcdefghij');
  return `|1|${salt.toString('base64')}|${createHmac('sha1', salt).update(name).digest('base64')}`;
};

let files = 0;
function keys(knownHosts: string, recorded: HostKeyRecords = {}) {
  const file = join(folder, `known_hosts.${files++}`);
  writeFileSync(file, knownHosts);
  return { file, ...loadHostKeys({ recorded, files: [file, join(folder, 'none')] }) };
}
const h1 = { name: 'h1', address: '198.51.100.11', port: 22 };
const odd = { name: 'h1', address: '198.51.100.11', port: 2222 };
const named = { name: 'h1', address: 'cp-1.example.com', port: 22 };

/** `known`, `first contact`, or what the error says. */
function verdict(store: ReturnType<typeof keys>, host: typeof h1, key: Buffer): string {
  try {
    return store.verify(host, key) === undefined ? 'known' : 'first contact';
  } catch (error) {
    return (error as TsrkeError).code;
  }
}

describe('a line of known_hosts', () => {
  test.each([
    ['names the address', `198.51.100.11 ${ed.text}`, h1, 'known'],
    ['holds another key', `198.51.100.11 ${otherEd.text}`, h1, 'HOST_KEY_CHANGED'],
    ['names another address', `198.51.100.12 ${otherEd.text}`, h1, 'first contact'],
    ['is a comment', `# 198.51.100.11 ${otherEd.text}`, h1, 'first contact'],
    ['lists several names', `cp-1,198.51.100.11 ${ed.text} a comment`, h1, 'known'],
    ['is hashed', `${hashed('198.51.100.11')} ${ed.text}`, h1, 'known'],
    ['is hashed and holds another key', `${hashed('198.51.100.11')} ${otherEd.text}`, h1, 'HOST_KEY_CHANGED'],
    ['is hashed with a port', `${hashed('[198.51.100.11]:2222')} ${ed.text}`, odd, 'known'],
    ['names address and port', `[198.51.100.11]:2222 ${ed.text}`, odd, 'known'],
    ['names another port', `[198.51.100.11]:2022 ${otherEd.text}`, odd, 'first contact'],
    ['names the address, and the host has a port of its own', `198.51.100.11 ${ed.text}`, odd, 'known'],
    ["is another machine's behind the same address", `198.51.100.11 ${otherEd.text}`, odd, 'first contact'],
    ['has a star', `198.51.100.* ${ed.text}`, h1, 'known'],
    ['has a star and another key', `198.51.100.* ${otherEd.text}`, h1, 'HOST_KEY_CHANGED'],
    ['has question marks', `198.51.100.?? ${ed.text}`, h1, 'known'],
    ['has a question mark too few', `198.51.100.? ${otherEd.text}`, h1, 'first contact'],
    ['takes the host out', `198.51.100.*,!198.51.100.11 ${otherEd.text}`, h1, 'first contact'],
    ['takes the host out first', `!198.51.100.11,198.51.100.* ${otherEd.text}`, h1, 'first contact'],
    ['takes another host out', `198.51.100.*,!198.51.100.12 ${ed.text}`, h1, 'known'],
    ['has capital letters', `CP-1.Example.COM ${ed.text}`, named, 'known'],
    ['has a dot that is no wildcard', `cp-1xexample.com ${otherEd.text}`, named, 'first contact'],
    ['revokes the key', `@revoked 198.51.100.11 ${ed.text}`, h1, 'HOST_KEY_CHANGED'],
    ['revokes it for all hosts', `198.51.100.11 ${ed.text}\n@revoked * ${ed.text}`, h1, 'HOST_KEY_CHANGED'],
    ['revokes another key', `198.51.100.11 ${ed.text}\n@revoked * ${otherEd.text}`, h1, 'known'],
    ['names a certificate authority', `@cert-authority * ${otherEd.text}`, h1, 'first contact'],
    ['makes no sense', `198.51.100.11 ssh-ed25519\n\n \t`, h1, 'first contact'],
    [
      'is one of several for the host',
      `198.51.100.11 ${otherEd.text}\n198.51.100.11 ${ed.text}`,
      h1,
      'known',
    ],
    ['holds a type that ssh2 cannot speak', `198.51.100.11 ssh-dss AAAAB3NzaC1kc3M=`, h1, 'first contact'],
    // The server was asked for RSA first, so it has none any more: as odd as another key.
    ['holds another type', `198.51.100.11 ${rsa.text}`, h1, 'HOST_KEY_CHANGED'],
  ])('that %s', (_name, line, host, expected) => {
    expect(verdict(keys(line), host, ed.blob)).toBe(expected);
  });
});

describe('the state', () => {
  test.each([
    ['has the key', { '198.51.100.11:22': ed.text }, h1, 'known'],
    ['has it in a list', { '198.51.100.11:22': [rsa.text, ed.text] }, h1, 'known'],
    ['has another key', { '198.51.100.11:22': otherEd.text }, h1, 'HOST_KEY_CHANGED'],
    ['has the key of another port', { '198.51.100.11:22': otherEd.text }, odd, 'first contact'],
    ['has an IPv6 address', { '[2001:db8::1]:22': ed.text }, { ...h1, address: '2001:db8::1' }, 'known'],
    ['holds nonsense', { '198.51.100.11:22': 'ssh-ed25519' }, h1, 'first contact'],
  ])('that %s', (_name, recorded: HostKeyRecords, host, expected) => {
    expect(verdict(keys('', recorded), host, ed.blob)).toBe(expected);
  });
});

test('a first contact is remembered for the run and handed to the state', () => {
  const store = keys('');
  expect(store.verify(h1, ed.blob)).toMatch(/^host key SHA256:\S{43} recorded at first contact$/);
  expect(store.verify(h1, ed.blob)).toBeUndefined();
  expect(verdict(store, h1, otherEd.blob)).toBe('HOST_KEY_CHANGED');
  expect(store.seen()).toEqual({ '198.51.100.11:22': ed.text.trim() });
});

test('a host known from known_hosts is not recorded', () => {
  const store = keys(`198.51.100.11 ${ed.text}`);
  expect(store.verify(h1, ed.blob)).toBeUndefined();
  expect(store.seen()).toEqual({});
});

test("a key that the user has put into known_hosts replaces the state's", () => {
  const store = keys(`198.51.100.11 ${ed.text}`, { '198.51.100.11:22': otherEd.text });
  expect(store.verify(h1, ed.blob)).toContain('replaces the one in the state');
  expect(store.verify(h1, ed.blob)).toBeUndefined();
  expect(store.seen()).toEqual({ '198.51.100.11:22': ed.text.trim() });
});

test('a stale line in known_hosts does not outweigh the right key in the state', () => {
  const store = keys(`198.51.100.11 ${otherEd.text}`, { '198.51.100.11:22': ed.text });
  expect(verdict(store, h1, ed.blob)).toBe('known');
});

test('a changed key is shown beside all that are known, with where they stand and what to do', () => {
  const store = keys(`\n198.51.100.11 ${otherEd.text}`, { '198.51.100.11:22': rsa.text });
  let error: TsrkeError | undefined;
  try {
    store.verify(h1, ed.blob);
  } catch (thrown) {
    error = thrown as TsrkeError;
  }
  expect(error?.exitCode).toBe(3);
  expect(error?.message).toContain(`${store.file}:2 and the state`);
  expect(error?.details).toEqual([
    expect.stringMatching(/^shown: ssh-ed25519 SHA256:/),
    expect.stringMatching(/^known: ssh-ed25519 SHA256:.*:2\)$/),
    expect.stringMatching(/^known: ssh-rsa SHA256:.*\(the state\)$/),
  ]);
  expect(error?.next).toContain("ssh-keygen -R '198.51.100.11'");
});

test.each([
  ['unknown host', '', 'ssh-ed25519'],
  ['RSA known', `198.51.100.11 ${rsa.text}`, 'rsa-sha2-512'],
  ['ECDSA known', `198.51.100.11 ${ecdsa.text}`, 'ecdsa-sha2-nistp256'],
  ['ECDSA and Ed25519 known', `198.51.100.11 ${ecdsa.text}\n198.51.100.11 ${ed.text}`, 'ssh-ed25519'],
])('%s: asked for first is what can be compared', (_name, line, first) => {
  const algorithms = keys(line).algorithms(h1);
  expect(algorithms[0]).toBe(first);
  expect(new Set(algorithms).size).toBe(7);
});

test('known_hosts that cannot be read ends the run rather than counting as empty', () => {
  expect(() => loadHostKeys({ recorded: {}, files: [folder] })).toThrow(
    expect.objectContaining({ code: 'SSH_KEY' }) as Error,
  );
});
