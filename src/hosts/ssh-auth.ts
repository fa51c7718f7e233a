/** With what a user proves herself to a host: the rules of RKE 1.6. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import type { AnyAuthMethod, ParsedKey } from 'ssh2';
import { TsrkeError } from '../errors.ts';
import { fingerprint } from './host-keys.ts';
import { CertificateAgent, certified, parseCertificate } from './ssh-certificate.ts';

// ssh2 is CommonJS: Node finds not all of its names.
const { utils } = ssh2;

/** A host and the user there. Inline texts win over paths; a leading `~/` is the home folder. */
export interface SshTarget {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly sshKey?: string | undefined;
  readonly sshKeyPath?: string | undefined;
  readonly sshCert?: string | undefined;
  readonly sshCertPath?: string | undefined;
  readonly sshAgentAuth: boolean;
}

export interface Credentials {
  readonly methods: AnyAuthMethod[];
  /** What has been offered, for the message when the host refuses it. Fingerprints and paths only. */
  offered(): string;
}

/**
 * Agent alone when it is enabled and SSH_AUTH_SOCK is set, else the key; an inline certificate always, one in a
 * file only when the key comes from a file too. Throws SSH_KEY.
 */
export function credentialsOf(target: SshTarget): Credentials {
  const socket = process.env['SSH_AUTH_SOCK'];
  if (target.sshAgentAuth && socket !== undefined && socket !== '') return agentCredentials(target, socket);

  const inline = target.sshKey !== undefined && target.sshKey !== '';
  const path = expand(target.sshKeyPath ?? '');
  if (!inline && path === '') {
    throw new TsrkeError('SSH_KEY', `no SSH key is set for ${target.user}@${target.address}`, {
      node: target.name,
      next: target.sshAgentAuth
        ? 'start ssh-agent so that SSH_AUTH_SOCK is set, or set `ssh_key_path`'
        : 'set `ssh_key_path`, or load the key into ssh-agent and use --ssh-agent-auth',
    });
  }
  const place = inline ? '`ssh_key`' : path;
  const key = parsePrivateKey(
    target,
    inline ? (target.sshKey ?? '') : readText(target, path, 'SSH key'),
    place,
  );
  const words = `key ${place} (${key.type} ${fingerprint(key.getPublicSSH())})`;

  const certificatePath = inline ? '' : expand(target.sshCertPath ?? '');
  const inlineCertificate = target.sshCert !== undefined && target.sshCert !== '';
  if (!inlineCertificate && certificatePath === '') {
    return { methods: [method(target, key)], offered: () => words };
  }
  const certificatePlace = inlineCertificate ? '`ssh_cert`' : certificatePath;
  const certificate = readCertificate(
    target,
    inlineCertificate ? (target.sshCert ?? '') : readText(target, certificatePath, 'SSH certificate'),
    certificatePlace,
    key,
  );
  const until = certificate.validUntil?.toISOString() ?? 'for ever';
  return {
    methods: [method(target, certified(key, certificate))],
    offered: () =>
      `${words} with certificate ${certificatePlace} ` +
      `(principals ${certificate.principals.join(', ') || 'any'}, valid until ${until})`,
  };
}

function method(target: SshTarget, key: ParsedKey): AnyAuthMethod {
  return { type: 'publickey', username: target.user, key };
}

function agentCredentials(target: SshTarget, socket: string): Credentials {
  let words = `the keys of ssh-agent at ${socket}`;
  const agent = new CertificateAgent(socket, (keys) => {
    const each = keys.map((key) => `${'certified' in key ? 'certificate ' : ''}${key.comment}`.trim());
    words = keys.length === 0 ? `ssh-agent at ${socket}, which holds no key` : `${words}: ${each.join(', ')}`;
  });
  return { methods: [{ type: 'agent', username: target.user, agent }], offered: () => words };
}

function parsePrivateKey(target: SshTarget, text: string, place: string): ParsedKey {
  const parsed = utils.parseKey(text) as ParsedKey | ParsedKey[] | Error;
  const key = Array.isArray(parsed) ? parsed[0] : parsed;
  if (key instanceof Error && /encrypted|passphrase/i.test(key.message)) {
    throw new TsrkeError('SSH_KEY', `the SSH key ${place} is protected by a passphrase`, {
      node: target.name,
      next: 'load it with `ssh-add` and run again with --ssh-agent-auth (or `ssh_agent_auth: true`)',
    });
  }
  if (key === undefined || key instanceof Error || !key.isPrivateKey()) {
    throw new TsrkeError('SSH_KEY', `${place} is not a private SSH key`, {
      node: target.name,
      next: 'give the private key (OpenSSH, PEM or PuTTY format), not its .pub file',
    });
  }
  return key;
}

function readCertificate(target: SshTarget, text: string, place: string, key: ParsedKey) {
  const certificate = parseCertificate(Buffer.from(text.trim().split(/\s+/)[1] ?? '', 'base64'));
  if (certificate === undefined) {
    throw new TsrkeError('SSH_KEY', `${place} is not an SSH user certificate`, {
      node: target.name,
      next: 'give the -cert.pub file that `ssh-keygen -s` made',
    });
  }
  if (!certificate.publicKey.equals(key.getPublicSSH())) {
    throw new TsrkeError('SSH_KEY', `the certificate ${place} belongs to another key`, {
      node: target.name,
      details: [
        `certificate: ${fingerprint(certificate.publicKey)}`,
        `key: ${fingerprint(key.getPublicSSH())}`,
      ],
      next: 'give the certificate that was signed for this key',
    });
  }
  return certificate;
}

function expand(path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : path;
}

function readText(target: SshTarget, path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TsrkeError('SSH_KEY', `the ${what} ${path} cannot be read`, {
      node: target.name,
      cause,
      next: 'correct the path in cluster.yml, or make the file readable',
    });
  }
}
