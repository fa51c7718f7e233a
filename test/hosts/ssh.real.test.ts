import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { imageSources } from '../../src/config/private-registries.ts';
import { loadHostKeys } from '../../src/hosts/host-keys.ts';
import type { HostKeyRecords } from '../../src/hosts/host-keys.ts';
import type { SshTarget } from '../../src/hosts/ssh-auth.ts';
import { connectHosts } from '../../src/hosts/ssh.ts';
import type { Hosts } from '../../src/hosts/ssh.ts';
import { Notes } from './notes.ts';
import { RealSsh } from './real-sshd.ts';

let ssh: RealSsh;
let port: number;
let bastionPort: number;
let dockerSocket: string;
const open: Hosts[] = [];
const { signal } = new AbortController();

beforeAll(async () => {
  ssh = new RealSsh();
  for (const type of ['ed25519', 'rsa', 'ecdsa'] as const) {
    for (const name of ['plain', 'certified', 'agent', 'host']) ssh.key(`${name}-${type}`, type);
    ssh.certify(`certified-${type}`);
  }
  ssh.key('locked', 'ed25519', 'a passphrase');
  ssh.key('stranger', 'ed25519');
  ssh.key('bastion-host', 'ed25519');
  const authorized = ['ed25519', 'rsa', 'ecdsa'].flatMap((type) => [`plain-${type}`, `agent-${type}`]);
  port = await ssh.server('node', authorized, ['host-ed25519', 'host-rsa', 'host-ecdsa']);
  bastionPort = await ssh.server('bastion', ['plain-ed25519'], ['bastion-host']);
  dockerSocket = await ssh.docker();
});
afterEach(() => {
  vi.unstubAllEnvs();
  for (const hosts of open.splice(0)) hosts.close();
});
afterAll(() => ssh.close());

function target(more: Partial<SshTarget>): SshTarget {
  return { name: 'h1', address: '127.0.0.1', port, user: ssh.user, sshAgentAuth: false, ...more };
}

function connect(
  node: Partial<SshTarget>,
  more: { bastion?: SshTarget; recorded?: HostKeyRecords; dialTimeout?: number; socket?: string } = {},
) {
  const report = new Notes();
  const hostKeys = loadHostKeys({ recorded: more.recorded ?? {}, files: [] });
  const hosts = connectHosts({
    nodes: [{ ...target(node), dockerSocket: more.socket ?? dockerSocket }],
    bastion: more.bastion,
    hostKeys,
    report,
    imageSource: imageSources({}),
    dialTimeout: more.dialTimeout ?? 10_000,
  });
  open.push(hosts);
  return { hosts, report, hostKeys };
}

const publicKey = (name: string) => ssh.text(`${name}.pub`).split(' ').slice(0, 2).join(' ');

describe('a user is let in', () => {
  test.each(['ed25519', 'rsa', 'ecdsa'])('with an %s key in a file', async (type) => {
    const { hosts } = connect({ sshKeyPath: ssh.path(`plain-${type}`) });
    expect(await hosts.runtime.version('h1', signal)).toBe('20.10.24');
  });

  test('with a key in cluster.yml itself', async () => {
    const { hosts } = connect({ sshKey: ssh.text('plain-ed25519') });
    await hosts.connect('h1', signal);
  });

  test.each(['ed25519', 'rsa', 'ecdsa'])('with an %s certificate beside the key file', async (type) => {
    const { hosts } = connect({
      sshKeyPath: ssh.path(`certified-${type}`),
      sshCertPath: ssh.path(`certified-${type}-cert.pub`),
    });
    expect(await hosts.runtime.version('h1', signal)).toBe('20.10.24');
  });

  test('with key and certificate in cluster.yml itself', async () => {
    const { hosts } = connect({
      sshKey: ssh.text('certified-rsa'),
      sshCert: ssh.text('certified-rsa-cert.pub'),
    });
    await hosts.connect('h1', signal);
  });

  test.each(['ed25519', 'rsa', 'ecdsa'])('with an %s key that ssh-agent holds', async (type) => {
    vi.stubEnv('SSH_AUTH_SOCK', await ssh.agent(`agent-of-${type}`, ['stranger', `agent-${type}`]));
    const { hosts } = connect({ sshAgentAuth: true, sshKeyPath: '/nowhere' });
    await hosts.connect('h1', signal);
  });

  test.each(['ed25519', 'rsa', 'ecdsa'])('with an %s certificate that ssh-agent holds', async (type) => {
    vi.stubEnv('SSH_AUTH_SOCK', await ssh.agent(`certificates-of-${type}`, [`certified-${type}`]));
    const { hosts } = connect({ sshAgentAuth: true });
    await hosts.connect('h1', signal);
  });

  test('with the key file when the agent is asked for but none runs', async () => {
    vi.stubEnv('SSH_AUTH_SOCK', '');
    const { hosts } = connect({ sshAgentAuth: true, sshKeyPath: ssh.path('plain-ed25519') });
    await hosts.connect('h1', signal);
  });

  test('through a bastion host, whose own key is checked too', async () => {
    const bastion = target({ name: 'bastion', port: bastionPort, sshKeyPath: ssh.path('plain-ed25519') });
    const { hosts, hostKeys } = connect(
      { sshKeyPath: ssh.path('certified-rsa'), sshCertPath: ssh.path('certified-rsa-cert.pub') },
      { bastion },
    );
    expect(await hosts.runtime.version('h1', signal)).toBe('20.10.24');
    expect(hostKeys.seen()).toEqual({
      [`127.0.0.1:${port}`]: publicKey('host-ed25519'),
      [`127.0.0.1:${bastionPort}`]: publicKey('bastion-host'),
    });
  });
});

describe('a user is told', () => {
  const failure = async (node: Partial<SshTarget>, more: Parameters<typeof connect>[1] = {}) => {
    const { hosts } = connect(node, more);
    return hosts.connect('h1', signal).then(
      () => 'connected',
      (error: unknown) => error,
    );
  };

  test('which key the host refused', async () => {
    expect(await failure({ sshKeyPath: ssh.path('stranger') })).toMatchObject({
      code: 'NODE_UNREACHABLE',
      node: 'h1',
      message: `${ssh.user}@127.0.0.1:${port} was refused by the host`,
      details: [expect.stringMatching(/^offered: key .*stranger \(ssh-ed25519 SHA256:/)],
    });
  });

  test('which certificate the host refused, for whom it is and until when it was valid', async () => {
    ssh.key('expired', 'ed25519');
    const sshCertPath = ssh.certify('expired', 'nobody', '20200101:20200201');
    expect(await failure({ sshKeyPath: ssh.path('expired'), sshCertPath })).toMatchObject({
      code: 'NODE_UNREACHABLE',
      details: [expect.stringMatching(/certificate .*principals nobody, valid until 2020-0/)],
    });
  });

  test('that the agent holds no key', async () => {
    const socket = await ssh.agent('empty', []);
    vi.stubEnv('SSH_AUTH_SOCK', socket);
    expect(await failure({ sshAgentAuth: true })).toMatchObject({
      code: 'NODE_UNREACHABLE',
      details: [`offered: ssh-agent at ${socket}, which holds no key`],
    });
  });

  test('that the agent cannot be reached', async () => {
    vi.stubEnv('SSH_AUTH_SOCK', ssh.path('no-agent'));
    expect(await failure({ sshAgentAuth: true })).toMatchObject({
      code: 'NODE_UNREACHABLE',
      details: [expect.stringContaining('no-agent'), expect.stringMatching(/^ssh-agent: .*ENOENT/)],
    });
  });

  test.each([
    ['a missing key file', () => ({ sshKeyPath: '/nowhere/id' }), /\/nowhere\/id cannot be read/],
    ['a passphrase', () => ({ sshKeyPath: ssh.path('locked') }), /passphrase/],
    ['a public key', () => ({ sshKeyPath: ssh.path('plain-rsa.pub') }), /not a private SSH key/],
    ['no key at all', () => ({}), /no SSH key/],
    [
      "another key's certificate",
      () => ({ sshKeyPath: ssh.path('plain-rsa'), sshCertPath: ssh.path('certified-rsa-cert.pub') }),
      /belongs to another key/,
    ],
    [
      'a certificate that is none',
      () => ({ sshKeyPath: ssh.path('plain-rsa'), sshCertPath: ssh.path('plain-rsa.pub') }),
      /not an SSH user certificate/,
    ],
  ])('of %s, before anything is touched', async (_name, node, message) => {
    const error = await failure(node());
    expect(error).toMatchObject({
      code: 'SSH_KEY',
      exitCode: 3,
      message: expect.stringMatching(message) as string,
    });
  });

  test('that nothing listens', async () => {
    expect(await failure({ sshKeyPath: ssh.path('plain-rsa'), port: 1 })).toMatchObject({
      code: 'NODE_UNREACHABLE',
      cause: { code: 'ECONNREFUSED' },
    });
  });

  test('that the host does not answer in time', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const silent = (server.address() as AddressInfo).port;
    expect(
      await failure({ sshKeyPath: ssh.path('plain-rsa'), port: silent }, { dialTimeout: 300 }),
    ).toMatchObject({
      code: 'NODE_UNREACHABLE',
      message: expect.stringContaining('within 300 ms') as string,
    });
    server.close();
  });

  test('that the bastion host cannot reach the node', async () => {
    const bastion = target({ name: 'bastion', port: bastionPort, sshKeyPath: ssh.path('plain-ed25519') });
    expect(await failure({ sshKeyPath: ssh.path('plain-rsa'), port: 1 }, { bastion })).toMatchObject({
      code: 'NODE_UNREACHABLE',
      node: 'h1',
      message: expect.stringContaining('through the bastion host') as string,
    });
  });

  test("that the bastion host's key has changed", async () => {
    const bastion = target({ name: 'bastion', port: bastionPort, sshKeyPath: ssh.path('plain-ed25519') });
    const recorded = { [`127.0.0.1:${bastionPort}`]: publicKey('stranger') };
    expect(await failure({ sshKeyPath: ssh.path('plain-rsa') }, { bastion, recorded })).toMatchObject({
      code: 'HOST_KEY_CHANGED',
      node: 'bastion',
    });
  });

  test("that Docker's socket cannot be opened", async () => {
    const { hosts } = connect({ sshKeyPath: ssh.path('plain-rsa') }, { socket: ssh.path('nothing.sock') });
    await expect(hosts.runtime.version('h1', signal)).rejects.toMatchObject({
      code: 'NODE_UNREACHABLE',
      message: expect.stringContaining('nothing.sock') as string,
      next: expect.stringContaining('group docker') as string,
    });
  });
});

describe('host keys', () => {
  test('a first contact is noted, shown once and recorded', async () => {
    const { hosts, report, hostKeys } = connect({ sshKeyPath: ssh.path('plain-rsa') });
    await hosts.connect('h1', signal);
    expect(report.notes).toEqual([
      expect.stringMatching(/^h1: host key SHA256:\S{43} recorded at first contact$/),
    ]);
    expect(hostKeys.seen()).toEqual({ [`127.0.0.1:${port}`]: publicKey('host-ed25519') });
  });

  test('a host known by its RSA key alone is asked for that one', async () => {
    const recorded = { [`127.0.0.1:${port}`]: publicKey('host-rsa') };
    const { hosts, report, hostKeys } = connect({ sshKeyPath: ssh.path('plain-rsa') }, { recorded });
    await hosts.connect('h1', signal);
    expect(report.notes).toEqual([]);
    expect(hostKeys.seen()).toEqual({});
  });

  test('another key than the recorded one ends the run before the user proves herself', async () => {
    const recorded = { [`127.0.0.1:${port}`]: publicKey('stranger') };
    const { hosts } = connect({ sshKeyPath: ssh.path('plain-rsa') }, { recorded });
    await expect(hosts.connect('h1', signal)).rejects.toMatchObject({
      code: 'HOST_KEY_CHANGED',
      exitCode: 3,
      node: 'h1',
    });
  });
});

test('many streams share one connection', async () => {
  const { hosts, report } = connect({ sshKeyPath: ssh.path('plain-ed25519') });
  await Promise.all(Array.from({ length: 50 }, () => hosts.runtime.version('h1', signal)));
  expect(report.debugs.filter((line) => line.includes('ssh connect'))).toHaveLength(1);
});

test('a port of the host is reached as the host sees it', async () => {
  const server = createServer((socket) => socket.end('hello'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { hosts } = connect({ sshKeyPath: ssh.path('plain-ed25519') });
  const stream = await hosts.dial('h1', '127.0.0.1', (server.address() as AddressInfo).port);
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  expect(Buffer.concat(chunks).toString()).toBe('hello');
  server.close();
});

test('a port of the host where nobody listens, and what sshd says of it', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: free } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const { hosts } = connect({ sshKeyPath: ssh.path('plain-ed25519') });
  const url = `http://localhost:${free}/healthz`;
  expect(await hosts.health.ask('h1', { url }, undefined, signal)).toBe('connection refused');
});

test('waiting for a connection ends with the signal, in its own reason', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { hosts } = connect({
    sshKeyPath: ssh.path('plain-rsa'),
    port: (server.address() as AddressInfo).port,
  });
  const reason = new Error('enough');
  await expect(hosts.connect('h1', AbortSignal.abort(reason))).rejects.toBe(reason);
  const abort = new AbortController();
  const waiting = hosts.runtime.version('h1', abort.signal);
  setTimeout(() => abort.abort(reason), 50);
  await expect(waiting).rejects.toBe(reason);
  server.close();
});
