/** User certificates at the memory lab's sshd, offered by tsrke's own client. `ssh-keygen` makes those of scenarios. */
import ssh2 from 'ssh2';
import type { ParsedKey, PublicKeyAuthMethod } from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { certified, parseCertificate, teachCertificates } from '../../src/hosts/ssh-certificate.ts';
import { sshString } from '../../src/hosts/ssh-wire.ts';
import { createSshKey } from '../../src/lab/ssh-keys.ts';
import { json, signal, wire, type Wired } from './stand-in.ts';

const ca = createSshKey();
const users = {
  ed25519: createSshKey().private,
  rsa: ssh2.utils.generateKeyPairSync('rsa', { bits: 2048 }).private,
};

interface Content {
  readonly signer?: string;
  /** 1: a user's; 2: a host's. */
  readonly kind?: number;
  readonly principals?: readonly string[];
  /** Seconds from now. */
  readonly validFrom?: number;
  readonly validUntil?: number;
  readonly critical?: Buffer;
}

const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const uint64 = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
const text = (value: string) => sshString(Buffer.from(value));

function parsed(key: string): ParsedKey {
  const found = ssh2.utils.parseKey(key);
  if (found instanceof Error) throw found;
  return found;
}

/** PROTOCOL.certkeys of OpenSSH, field by field; as the text of a -cert.pub file. */
function certificate(key: string, content: Content = {}): string {
  const { kind = 1, principals = ['operator'], validFrom = -60, validUntil = 60 } = content;
  const { signer = ca.private, critical = Buffer.alloc(0) } = content;
  const own = parsed(key);
  const by = parsed(signer);
  const now = Math.floor(Date.now() / 1000);
  const type = `${own.type}-cert-v01@openssh.com`;
  const body = Buffer.concat([
    text(type),
    sshString(Buffer.alloc(32, 7)),
    own.getPublicSSH().subarray(4 + own.type.length),
    uint64(1),
    uint32(kind),
    text('of a test'),
    sshString(Buffer.concat(principals.map(text))),
    uint64(now + validFrom),
    uint64(now + validUntil),
    sshString(critical),
    sshString(Buffer.alloc(0)),
    sshString(Buffer.alloc(0)),
    sshString(by.getPublicSSH()),
  ]);
  const signature = Buffer.concat([text('ssh-ed25519'), sshString(by.sign(body))]);
  return `${type} ${Buffer.concat([body, sshString(signature)]).toString('base64')} of-a-test`;
}

let lab: Wired;
beforeAll(async () => {
  const docker = () =>
    Promise.resolve(json({ Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12' }));
  const none = () => Promise.reject(new Error('asked for nothing but Docker'));
  const etcd = { range: none, compact: none, size: none };
  lab = await wire({ docker, kube: none, etcd }, { userCa: ca.public, outsiders: ['games'] });
});
afterAll(() => lab.close());

const hosts = (user: string, sshKey: string, sshCert: string) => lab.hosts({ user, sshKey, sshCert });

describe("a user's certificate", () => {
  it.each([
    ['ed25519', users.ed25519, 'ssh-ed25519-cert-v01@openssh.com'],
    ['RSA', users.rsa, /^rsa-sha2-(256|512)-cert-v01@openssh.com$/],
  ])('of an %s key lets in whom it names', async (_type, key, algorithm) => {
    const opened = hosts('operator', key, certificate(key, { principals: ['somebody', 'operator'] }));
    await expect(opened.runtime.version('cp-1', signal)).resolves.toBe('20.10.24');
    const last = lab.servers.logins.at(-1);
    expect(last).toMatchObject({ host: 'cp-1', user: 'operator', from: '127.0.0.1' });
    expect(last?.algorithm).toMatch(algorithm);
  });

  const refusals: readonly [string, Content][] = [
    ['names another user', { principals: ['somebody'] }],
    ['names nobody', { principals: [] }],
    ['is not valid yet', { validFrom: 30 }],
    ['is no longer valid', { validUntil: -1 }],
    ["is a host's", { kind: 2 }],
    ['was signed by another CA', { signer: createSshKey().private }],
    [
      'has an option that the lab does not know',
      { critical: Buffer.concat([text('force-command'), text('')]) },
    ],
  ];
  it.each(refusals)('that %s does not let in', async (_why, content) => {
    const opened = hosts('operator', users.ed25519, certificate(users.ed25519, content));
    await expect(opened.connect('cp-1', signal)).rejects.toThrow('operator@127.0.0.11');
  });

  it('whose signature is of another text does not let in', async () => {
    const [type = '', blob = ''] = certificate(users.ed25519).split(' ');
    const changed = Buffer.from(blob, 'base64');
    changed.writeUInt8(8, 4 + type.length + 4);
    const opened = hosts('operator', users.ed25519, `${type} ${changed.toString('base64')}`);
    await expect(opened.connect('cp-1', signal)).rejects.toThrow('operator@127.0.0.11');
  });

  it('whose key its owner does not have does not let in', async () => {
    const blob = Buffer.from(certificate(users.ed25519).split(' ')[1] ?? '', 'base64');
    const read = parseCertificate(blob);
    if (read === undefined) throw new Error('not a certificate');
    const key = certified(parsed(createSshKey().private), read);
    const method: PublicKeyAuthMethod = { type: 'publickey', username: 'operator', key };
    const client = new ssh2.Client();
    const refused = new Promise((resolve, reject) => {
      client.on('error', resolve).on('ready', () => reject(new Error('let in')));
    });
    client.connect({
      ...{ host: lab.nodes[0]?.address ?? '', port: lab.servers.ports.get('cp-1') ?? 0 },
      username: 'operator',
      authHandler: [method],
    });
    teachCertificates(client);
    await expect(refused).resolves.toMatchObject({ level: 'client-authentication' });
  });

  it('of a user who is not of the group docker does not lead to Docker', async () => {
    const opened = hosts('games', users.ed25519, certificate(users.ed25519, { principals: ['games'] }));
    await opened.connect('cp-1', signal);
    await expect(opened.runtime.version('cp-1', signal)).rejects.toThrow('/var/run/docker.sock');
  });
});
