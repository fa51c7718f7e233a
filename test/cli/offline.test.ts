/** What tsrke refuses, and with which exit code, before or without reaching any node: the real command in a real folder. */
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { thisOwner } from '../../src/state/lock.ts';

const root = join(import.meta.dirname, '../..');
const fixtures = join(root, 'test/fixtures/rke-1.6.3');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
const sshKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
  type: 'pkcs1',
  format: 'pem',
});

const good = `nodes:
- address: 127.0.0.1
  port: 1
  user: root
  role: [controlplane, etcd]
  hostname_override: h1
  ssh_key_path: ./id
kubernetes_version: v1.30.5-rancher1-1
network: {plugin: none}
services:
  kube-api:
    secrets_encryption_config:
      enabled: true
`;

let dir = '';
const at = (name: string) => join(dir, name);

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-offline-'));
  const state = JSON.parse(readFileSync(join(fixtures, 'enabled.rkestate'), 'utf8')) as Record<
    'desiredState' | 'currentState',
    { rkeConfig: { nodes: { address: string; port: string }[] } }
  >;
  for (const { rkeConfig } of [state.desiredState, state.currentState]) {
    rkeConfig.nodes = rkeConfig.nodes
      .slice(0, 1)
      .map((node) => ({ ...node, address: '127.0.0.1', port: '1' }));
  }
  writeFileSync(at('cluster.yml'), good.replace('./id', at('id')));
  writeFileSync(at('cluster.rkestate'), JSON.stringify(state, undefined, 2), { mode: 0o600 });
  writeFileSync(at('id'), sshKey, { mode: 0o600 });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const tsrke = (...args: string[]): Promise<Ran> => tsrkeIn({}, ...args);

function tsrkeIn(more: NodeJS.ProcessEnv, ...args: string[]): Promise<Ran> {
  const env = { PATH: process.env['PATH'], HOME: dir, NO_COLOR: '1', ...more };
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [join(root, 'bin/tsrke.js'), ...args],
      { cwd: dir, env },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout, stderr });
      },
    );
  });
}

function edit(change: (text: string) => string): void {
  const text = readFileSync(at('cluster.yml'), 'utf8');
  const changed = change(text);
  expect(changed).not.toBe(text);
  writeFileSync(at('cluster.yml'), changed);
}

describe.each(['up', 'encrypt rotate-key'])('tsrke %s', (words) => {
  const command = words.split(' ');

  /** Runs it and sees to it that nothing in the folder has changed, and that no stack is shown. */
  async function refused(code: number, ...messages: RegExp[]): Promise<void> {
    // A run that has reached out keeps its log.
    const kept = () =>
      readdirSync(dir).filter((name) => code === 3 || code === 4 || name !== 'cluster.tsrke.log');
    const snapshot = () => kept().map((name) => [name, readFileSync(at(name), 'utf8')]);
    const before = snapshot();
    const ran = await tsrke(...command);
    expect(ran).toMatchObject({ code, stdout: '' });
    for (const message of messages) expect(ran.stderr).toMatch(message);
    expect(ran.stderr).not.toMatch(/^ {4}at |bug of tsrke/m);
    expect(snapshot()).toEqual(before);
  }

  it('needs a cluster.yml', async () => {
    rmSync(at('cluster.yml'));
    await refused(3, /cluster\.yml cannot be read \(CONFIG_UNREADABLE\)/, /^next: .*--config/m);
  });

  it('tells line and column of broken YAML', async () => {
    edit((text) => text.replace('[controlplane, etcd]', '[controlplane, etcd'));
    await refused(3, /^cluster\.yml:\d+:\d+: .*\(CONFIG_SYNTAX\)/m);
  });

  it('names the nearest known key for an unknown one', async () => {
    edit((text) => text.replace('hostname_override', 'hostname_overide'));
    await refused(3, /^cluster\.yml:6:3: .*`?hostname_overide`?.*`hostname_override`.*\(CONFIG_INVALID\)/m);
  });

  it('refuses a value of the wrong type', async () => {
    edit((text) => text.replace('enabled: true', 'enabled: [1]'));
    await refused(3, /^cluster\.yml:13:7: .*enabled.*\(CONFIG_INVALID\)/m);
  });

  it('refuses a cluster without a controlplane node', async () => {
    edit((text) => text.replace('[controlplane, etcd]', '[etcd, worker]'));
    await refused(3, /no node has the role `controlplane`/);
  });

  it('refuses an address given twice', async () => {
    edit((text) =>
      text.replace('nodes:\n', 'nodes:\n- {address: 127.0.0.1, user: root, role: [worker], port: 2}\n'),
    );
    await refused(3, /^cluster\.yml:3:3: nodes\[1\] has the same `address` 127\.0\.0\.1 as nodes\[0\]/m);
  });

  it('refuses rotate_encryption_key, and says what to run instead', async () => {
    edit((text) => `rotate_encryption_key: true\n${text}`);
    await refused(3, /^cluster\.yml:1:1: `rotate_encryption_key`/m, /^next: .*tsrke encrypt rotate-key/m);
  });

  it('refuses a state file that was cut off', async () => {
    const text = readFileSync(at('cluster.rkestate'), 'utf8');
    writeFileSync(at('cluster.rkestate'), text.slice(0, text.length / 2));
    await refused(3, /cluster\.rkestate is not a usable state file: .*cut off \(STATE_INVALID\)/, /^next: /m);
  });

  it(
    words === 'up'
      ? 'looks at the hosts where there is no state file, and writes none when it cannot'
      : 'refuses to start without a state file',
    async () => {
      rmSync(at('cluster.rkestate'));
      if (words === 'up') await refused(1, /^h1: .*\(NODE_UNREACHABLE\)/m, /^next: .*nothing was touched/m);
      else await refused(4, /there is no state file .*cluster\.rkestate \(STATE_MISSING\)/, /^next: /m);
      expect(existsSync(at('cluster.rkestate'))).toBe(false);
    },
  );

  it('leaves a state alone that a living run holds, and names that run', async () => {
    const owner = thisOwner(new Date());
    writeFileSync(at('cluster.rkestate.lock'), JSON.stringify(owner));
    await refused(
      4,
      new RegExp(`locked by process ${process.pid} on ${owner.host} since ${owner.since} \\(LOCKED\\)`),
      /^next: .*cluster\.rkestate\.lock/m,
    );
  });

  it('refuses an SSH key that cannot be read', async () => {
    rmSync(at('id'));
    await refused(3, /\(SSH_KEY\)/, /\/id\b/, /^next: /m);
  });

  it('refuses an SSH key that is none', async () => {
    writeFileSync(at('id'), 'no key at all\n', { mode: 0o600 });
    await refused(3, /\(SSH_KEY\)/, /^next: /m);
  });

  it('fails on a node that cannot be reached, with the state as it was', async () => {
    await refused(1, /^h1: .*\(NODE_UNREACHABLE\)/m, /ECONNREFUSED/);
  });

  it('names each node that cannot be reached', async () => {
    edit((text) => {
      const [node] = /^- address[^]*?(?=^\w)/m.exec(text) ?? [''];
      return text.replace(node, node + node.replace('127.0.0.1', '127.0.0.2').replace('h1', 'h2'));
    });
    await refused(1, /^h1: .*\(NODE_UNREACHABLE\)/m, /^h2: .*\(NODE_UNREACHABLE\)/m);
  });

  it('takes the path of cluster.yml from RKE_CONFIG', async () => {
    const { code, stderr } = await tsrkeIn({ RKE_CONFIG: 'other.yml' }, ...command);
    expect(code).toBe(3);
    expect(stderr).toMatch(/^other\.yml cannot be read/m);
  });

  it('shows its help', async () => {
    const { code, stdout, stderr } = await tsrke(...command, '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`Usage: tsrke ${words} [options]`);
    for (const flag of [
      '--config',
      '--ssh-agent-auth',
      '--ignore-docker-version',
      '--ignore-unknown-keys',
      '--output',
      '--debug',
    ]) {
      expect(stdout).toContain(flag);
    }
    expect(stdout).toMatch(/^Examples:\n {2}tsrke /m);
    expect(stdout).toMatch(/^Exit codes:\n {2}0 .*\n {2}1 .*\n( {2}2 .*\n)? {2}3 .*\n {2}4 .*\n {2}130 /m);
    expect(stdout).toMatch(/^Environment:\n {2}RKE_CONFIG .*\n {2}SSH_AUTH_SOCK .*\n {2}NO_COLOR /m);
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
  });
});

it.each([[['--help']], [['encrypt', '--help']], [['version', '--help']], [['help']]])(
  'tsrke %j shows help and succeeds',
  async (args) => {
    const { code, stdout, stderr } = await tsrke(...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^Usage: tsrke /);
  },
);

it.each([[['version']], [['--version']], [['-v']]])('tsrke %j tells the version', async (args) => {
  expect(await tsrke(...args)).toEqual({ code: 0, stdout: `tsrke ${version}\n`, stderr: '' });
});

it.each([[['destroy']], [['encrypt', 'everything']], [['up', '--force']], [['up', '--config']], [[]]])(
  'tsrke %j is wrong input',
  async (args) => {
    const { code, stdout, stderr } = await tsrke(...args);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).not.toBe('');
  },
);

describe('files of the cluster', () => {
  const commands = [
    ['cert', 'generate-csr'],
    ['util', 'get-state-file'],
    ['util', 'get-kubeconfig'],
  ];

  it.each(commands)('tsrke %s %s shows its help, and needs a cluster.yml', async (...command) => {
    const help = await tsrke(...command, '--help');
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toContain(`Usage: tsrke ${command.join(' ')} [options]`);
    expect(help.stdout).toMatch(/^Examples:\n {2}tsrke /m);
    const ran = await tsrke(...command, '--config', 'other.yml');
    expect(ran).toMatchObject({ code: 3, stdout: '' });
    expect(ran.stderr).toMatch(/^other\.yml cannot be read \(CONFIG_UNREADABLE\)/m);
  });

  it('requests for certificates are made without reaching a node', async () => {
    const ran = await tsrke('cert', 'generate-csr', '--cert-dir', 'own');
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout).toMatch(/^8 requests and 8 new keys in own: kube-apiserver, /);
    expect(readdirSync(at('own'))).toHaveLength(16);
  });

  it('the kubeconfig comes out of the state without reaching a node', async () => {
    const ran = await tsrke('util', 'get-kubeconfig');
    expect(ran).toMatchObject({
      code: 0,
      stdout: 'kube_config_cluster.yml leads to https://127.0.0.1:6443\n',
    });
    expect(statSync(at('kube_config_cluster.yml')).mode & 0o777).toBe(0o600);
  });

  it.each([
    ['get-state-file', 'without a state'],
    ['get-kubeconfig', 'without a state'],
    ['get-state-file', 'with a state'],
  ] as const)('%s %s fails on nodes that cannot be reached, and writes nothing', async (command, has) => {
    if (has === 'without a state') rmSync(at('cluster.rkestate'));
    const files = readdirSync(dir);
    const ran = await tsrke('util', command);
    expect(ran).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(/^h1: .*\(NODE_UNREACHABLE\)/m);
    expect(readdirSync(dir)).toEqual(files);
  });

  it('the state is left alone while a living run holds it', async () => {
    writeFileSync(at('cluster.rkestate.lock'), JSON.stringify(thisOwner(new Date())));
    expect(await tsrke('util', 'get-state-file')).toMatchObject({ code: 4, stdout: '' });
  });
});
