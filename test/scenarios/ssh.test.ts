/** Every way in that cluster.yml can name, through the real command and the lab's sshd; keys and agents are OpenSSH's. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { dump, load } from 'js-yaml';
import { afterAll, expect, it } from 'vitest';
import { labOfOneHost } from '../lab/open-lab.ts';

const run = promisify(execFile);
const certificate = 'ssh-ed25519-cert-v01@openssh.com';

interface ClusterYaml {
  nodes: { address: string; port?: number; user: string }[];
  bastion_host?: Record<string, unknown>;
  services: Record<string, unknown>;
}

const bed = labOfOneHost({ encryption: 'off', secrets: 20 });
const agents: ChildProcess[] = [];

afterAll(() => {
  for (const agent of agents) agent.kill();
});

/** The lab's one host is its own bastion, too. */
function configure(node: Record<string, unknown>, bastion?: Record<string, unknown>): void {
  const yaml = load(bed.clusterYml) as ClusterYaml;
  const [first] = yaml.nodes;
  if (first === undefined) throw new Error('cluster.yml has no node');
  const { address, port } = first;
  if (bastion !== undefined) {
    yaml.bastion_host = { address, ...(port === undefined ? {} : { port }), ...bastion };
  }
  Object.assign(first, node);
  yaml.services['kube-api'] = { secrets_encryption_config: { enabled: true } };
  writeFileSync(bed.lab.config, dump(yaml));
}

/** Runs tsrke; also who was let in meanwhile: `USER from HOST, KIND OF KEY`. */
async function loggedIn(...args: Parameters<typeof bed.lab.tsrke>) {
  const before = (await bed.host.logins()).length;
  const ran = await bed.lab.tsrke(...args);
  const since = (await bed.host.logins()).slice(before);
  const logins = new Set(since.map(({ user, from, key }) => `${user} from ${from}, ${key}`));
  return { ran, logins: [...logins].toSorted() };
}

/** A key that the hosts know nothing of, with a certificate for `operator`. */
async function certifiedKey(name: string): Promise<string> {
  const key = join(bed.lab.dir, name);
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', key]);
  await run('ssh-keygen', ['-q', '-s', bed.lab.ssh.userCa, '-I', name, '-n', 'operator', `${key}.pub`]);
  return key;
}

/** A running ssh-agent that holds this key; the path of its socket. */
async function agentWith(name: string, key: string): Promise<string> {
  const socket = join(bed.lab.dir, name);
  const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
  agents.push(agent);
  await once(agent, 'spawn');
  while (!existsSync(socket)) await sleep(20);
  await run('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
  return socket;
}

it('a user of the docker group enables encryption through a bastion, where the firewall lets only SSH in', async () => {
  configure({ user: 'operator' }, { user: 'operator', ssh_key_path: bed.lab.ssh.key });
  const open = await bed.host.letOnlySshIn();
  const { ran, logins } = await loggedIn(['up']).finally(open);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toMatch(/^secrets are encrypted /);
  expect(logins).toEqual(['operator from h1, ssh-ed25519', 'operator from outside, ssh-ed25519']);
  expect([...new Set((await bed.lab.etcd.prefixes()).values())]).toEqual([
    expect.stringMatching(/^k8s:enc:aescbc:v1:/),
  ]);
  expect(await bed.host.ownerAndMode('/etc/kubernetes/ssl/encryption.yaml')).toBe('root root 600');
});

interface Way {
  readonly way: string;
  /** Sets cluster.yml up; the environment and further arguments of the command. */
  readonly prepare: () => Promise<{ env?: Record<string, string>; args?: string[] }>;
  readonly logins: readonly string[];
}

const ways: readonly Way[] = [
  {
    way: 'with the key of ssh_key_path',
    prepare() {
      configure({ user: 'root' });
      return Promise.resolve({});
    },
    logins: ['root from outside, ssh-ed25519'],
  },
  {
    way: 'with a key that only ssh-agent has',
    async prepare() {
      configure({ user: 'operator', ssh_key_path: '/nonexistent' });
      const socket = await agentWith('agent', bed.lab.ssh.key);
      return { env: { SSH_AUTH_SOCK: socket }, args: ['--ssh-agent-auth'] };
    },
    logins: ['operator from outside, ssh-ed25519'],
  },
  {
    way: 'with ssh-agent through a bastion, which needs it too',
    async prepare() {
      configure({ user: 'operator', ssh_key_path: '/nonexistent' }, { user: 'root' });
      return {
        env: { SSH_AUTH_SOCK: await agentWith('agent-of-both', bed.lab.ssh.key) },
        args: ['--ssh-agent-auth'],
      };
    },
    logins: ['operator from h1, ssh-ed25519', 'root from outside, ssh-ed25519'],
  },
  {
    way: 'with the user certificate of ssh_cert_path',
    async prepare() {
      const key = await certifiedKey('certified');
      configure({ user: 'operator', ssh_key_path: key, ssh_cert_path: `${key}-cert.pub` });
      return {};
    },
    logins: [`operator from outside, ${certificate}`],
  },
  {
    way: 'with a user certificate that only ssh-agent has',
    async prepare() {
      const socket = await agentWith('agent-with-certificate', await certifiedKey('in-agent'));
      configure({ user: 'operator', ssh_key_path: '/nonexistent' });
      return { env: { SSH_AUTH_SOCK: socket }, args: ['--ssh-agent-auth'] };
    },
    logins: [`operator from outside, ${certificate}`],
  },
];

it.each(ways.map((each) => [each.way, each] as const))(
  'up reaches its node %s',
  async (_way, { prepare, logins }) => {
    const { env = {}, args = [] } = await prepare();
    const { ran, logins: found } = await loggedIn(['up', ...args], { env });
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stdout).toMatch(/^nothing to do: secrets are encrypted/);
    expect(found).toEqual(logins);
  },
);

it('a user who is not of the docker group is told so', async () => {
  const key = await certifiedKey('of-nobody');
  await run('ssh-keygen', ['-q', '-s', bed.lab.ssh.userCa, '-I', 'nobody', '-n', 'games', `${key}.pub`]);
  configure({ user: 'games', ssh_key_path: key, ssh_cert_path: `${key}-cert.pub` });
  const ran = await bed.lab.tsrke(['up']);
  expect(ran, ran.stderr).toMatchObject({ code: 1, stdout: '' });
  expect(ran.stderr).toMatch(/^h1: /m);
  expect(ran.stderr).toMatch(/docker/);
  expect(ran.stderr).toMatch(/^next: .*docker/m);
});
