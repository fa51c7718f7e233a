/** Every way in that cluster.yml can name, through the real command and a real sshd. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { dump, load } from 'js-yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { closeHosts, openRealLab, type RealHost, type RealLab } from '../lab/real-lab.ts';

const run = promisify(execFile);
const sshdLog = '/var/lib/tsrke-lab/h1/sshd.log';
/** This machine, and the host itself where it is its own bastion. */
const outside = '198.51.100.1';
const inside = '198.51.100.11';

interface ClusterYaml {
  nodes: Record<string, unknown>[];
  bastion_host?: Record<string, unknown>;
  services: Record<string, unknown>;
}

let opened: RealLab | undefined;
let lab: RealLab;
let host: RealHost;
let original: string;
const agents: ChildProcess[] = [];

beforeAll(async () => {
  opened = lab = await openRealLab({ hosts: 1, encryption: 'off', secrets: 20 });
  const [first] = lab.hosts;
  if (first === undefined) throw new Error('the lab has no host');
  host = first;
  original = readFileSync(lab.config, 'utf8');
});

afterAll(async () => {
  for (const agent of agents) agent.kill();
  await opened?.close();
  await closeHosts();
});

function configure(node: Record<string, unknown>, bastion?: Record<string, unknown>): void {
  const yaml = load(original) as ClusterYaml;
  Object.assign(yaml.nodes[0] ?? {}, node);
  if (bastion !== undefined) yaml.bastion_host = { address: inside, ...bastion };
  yaml.services['kube-api'] = { secrets_encryption_config: { enabled: true } };
  writeFileSync(lab.config, dump(yaml));
}

/** `USER from ADDRESS, KIND OF KEY` of every login since the mark. */
function loginsSince(mark: number): string[] {
  const lines = readFileSync(sshdLog, 'utf8').slice(mark).split('\n');
  const found = lines.flatMap((line) => {
    const [, user, from, kind] =
      /Accepted publickey for (\S+) from (\S+) port \d+ ssh2: (\S+)/.exec(line) ?? [];
    return user === undefined ? [] : [`${user} from ${from ?? ''}, ${kind ?? ''}`];
  });
  return [...new Set(found)].toSorted();
}

const mark = () => readFileSync(sshdLog, 'utf8').length;

/** A key that the hosts know nothing of, with a certificate for `operator`. */
async function certifiedKey(name: string): Promise<string> {
  const key = join(lab.dir, name);
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', key]);
  await run('ssh-keygen', ['-q', '-s', lab.ssh.userCa, '-I', name, '-n', 'operator', `${key}.pub`]);
  return key;
}

/** A running ssh-agent that holds this key; the path of its socket. */
async function agentWith(name: string, key: string): Promise<string> {
  const socket = join(lab.dir, name);
  const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
  agents.push(agent);
  await once(agent, 'spawn');
  while (!existsSync(socket)) await sleep(20);
  await run('ssh-add', ['-q', key], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
  return socket;
}

it('a user of the docker group enables encryption through a bastion, where the firewall lets only SSH in', async () => {
  configure({ user: 'operator' }, { user: 'operator', ssh_key_path: lab.ssh.key });
  const firewall = (action: string) =>
    host.sh(`iptables -${action} INPUT -p tcp -s ${outside} -m multiport --dports 2379,6443 -j DROP`);
  const before = mark();
  const closed = await firewall('I');
  expect(closed.code, closed.stderr).toBe(0);
  const ran = await lab.tsrke(['up']).finally(() => firewall('D'));
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toMatch(/^secrets are encrypted /);
  expect(loginsSince(before)).toEqual([
    `operator from ${outside}, ED25519`,
    `operator from ${inside}, ED25519`,
  ]);
  expect([...new Set((await lab.etcd.prefixes()).values())]).toEqual([
    expect.stringMatching(/^k8s:enc:aescbc:v1:/),
  ]);
  const owner = await host.sh("stat -c '%U %G %a' /etc/kubernetes/ssl/encryption.yaml");
  expect(owner.stdout.trim()).toBe('root root 600');
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
      configure({});
      return Promise.resolve({});
    },
    logins: [`root from ${outside}, ED25519`],
  },
  {
    way: 'with a key that only ssh-agent has',
    async prepare() {
      configure({ user: 'operator', ssh_key_path: '/nonexistent' });
      const socket = await agentWith('agent', lab.ssh.key);
      return { env: { SSH_AUTH_SOCK: socket }, args: ['--ssh-agent-auth'] };
    },
    logins: [`operator from ${outside}, ED25519`],
  },
  {
    way: 'with ssh-agent through a bastion, which needs it too',
    async prepare() {
      configure({ user: 'operator', ssh_key_path: '/nonexistent' }, { user: 'root' });
      return {
        env: { SSH_AUTH_SOCK: await agentWith('agent-of-both', lab.ssh.key) },
        args: ['--ssh-agent-auth'],
      };
    },
    logins: [`operator from ${inside}, ED25519`, `root from ${outside}, ED25519`],
  },
  {
    way: 'with the user certificate of ssh_cert_path',
    async prepare() {
      const key = await certifiedKey('certified');
      configure({ user: 'operator', ssh_key_path: key, ssh_cert_path: `${key}-cert.pub` });
      return {};
    },
    logins: [`operator from ${outside}, ED25519-CERT`],
  },
  {
    way: 'with a user certificate that only ssh-agent has',
    async prepare() {
      const socket = await agentWith('agent-with-certificate', await certifiedKey('in-agent'));
      configure({ user: 'operator', ssh_key_path: '/nonexistent' });
      return { env: { SSH_AUTH_SOCK: socket }, args: ['--ssh-agent-auth'] };
    },
    logins: [`operator from ${outside}, ED25519-CERT`],
  },
];

it.each(ways.map((each) => [each.way, each] as const))(
  'up reaches its node %s',
  async (_way, { prepare, logins }) => {
    const { env = {}, args = [] } = await prepare();
    const before = mark();
    const ran = await lab.tsrke(['up', ...args], { env });
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stdout).toMatch(/^nothing to do: secrets are encrypted/);
    expect(loginsSince(before)).toEqual(logins);
  },
);

it('a user who is not of the docker group is told so', async () => {
  const key = await certifiedKey('of-nobody');
  await run('ssh-keygen', ['-q', '-s', lab.ssh.userCa, '-I', 'nobody', '-n', 'games', `${key}.pub`]);
  configure({ user: 'games', ssh_key_path: key, ssh_cert_path: `${key}-cert.pub` });
  const ran = await lab.tsrke(['up']);
  expect(ran, ran.stderr).toMatchObject({ code: 1, stdout: '' });
  expect(ran.stderr).toMatch(/^h1: /m);
  expect(ran.stderr).toMatch(/docker/);
  expect(ran.stderr).toMatch(/^next: .*docker/m);
});
