/** `tsrke config` that makes a cluster.yml: the real command, answered from a pipe and in a pseudo-terminal. */
import { spawn as spawnInTerminal } from '@lydell/node-pty';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';

const bin = join(import.meta.dirname, '../../bin/tsrke.js');
const docs = readFileSync(join(import.meta.dirname, '../../docs/config.md'), 'utf8');
const block = (kind: string) => new RegExp(`^\`\`\`${kind}\\n(.*?)^\`\`\`$`, 'ms').exec(docs)?.[1] ?? '';

let folder = '';
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-new-config-'))));
afterEach(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

/** An address, and what is usual for everything else. */
const shortest = `\n1\n192.0.2.11\n${'\n'.repeat(19)}`;

async function pipe(answers: string, ...args: string[]) {
  const tsrke = spawn(process.execPath, [bin, 'config', ...args], { cwd: folder });
  // One that ends before it has read all of them.
  tsrke.stdin.on('error', () => undefined);
  tsrke.stdin.end(answers);
  const [stdout, stderr, [code]] = await Promise.all([
    text(tsrke.stdout),
    text(tsrke.stderr),
    once(tsrke, 'close') as Promise<[number]>,
  ]);
  return { code, stdout, stderr };
}

describe('from a pipe', () => {
  test('the answers of docs/config.md make the file that it shows', async () => {
    const { code, stdout, stderr } = await pipe(block('text'), '--name', 'prod.yml');
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: '' });
    const written = readFileSync(at('prod.yml'), 'utf8');
    expect(written).toMatch(/^# .*\n# .*\n\n/);
    expect(written.slice(written.indexOf('\n\n') + 2)).toBe(block('yaml'));
    expect(statSync(at('prod.yml')).mode & 0o777).toBe(0o640);
    expect(loadConfig(at('prod.yml')).nodes.map(({ name }) => name)).toEqual(['cp-1', 'worker-1']);
    expect(stderr).toMatch(/prod\.yml is written: .*`tsrke up --config prod\.yml`\n$/);
  });

  test("answers for RKE do: what is asked beyond RKE's questions is usual where they end", async () => {
    expect(await pipe(shortest)).toMatchObject({ code: 0 });
    expect(loadConfig(at('cluster.yml')).encryption.enabled).toBe(true);
  });

  test('answers that end before name the question, and nothing is written', async () => {
    const { code, stderr } = await pipe('\n1\n192.0.2.11\n\n');
    expect(code).toBe(3);
    expect(stderr).toMatch(/the answers end before this one: path of the private SSH key of 192\.0\.2\.11/);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('a wrong answer ends it with its line, since the next one answers something else', async () => {
    const { code, stderr } = await pipe('\n1\n192.0.2.11\n99999\n22\n');
    expect(code).toBe(3);
    expect(stderr).toContain(
      'line 4 of the answers is "99999", to "SSH port of 192.0.2.11": a port is a number from 1 to 65535',
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test('a file that is there stays', async () => {
    writeFileSync(at('cluster.yml'), 'mine');
    for (const args of [[], ['--empty']]) {
      const { code, stderr } = await pipe(shortest, ...args);
      expect(code).toBe(3);
      expect(stderr).toMatch(
        /cluster\.yml is there already.*\nnext: take another name with --name, or --print/,
      );
    }
    expect(readFileSync(at('cluster.yml'), 'utf8')).toBe('mine');
  });

  test('--print writes to stdout alone', async () => {
    writeFileSync(at('cluster.yml'), 'mine');
    const { code, stdout } = await pipe(shortest, '--print', '--version', 'v1.26.15-rancher1-1');
    expect(code).toBe(0);
    expect(stdout).toContain('kubernetes_version: v1.26.15-rancher1-1\n');
    expect(readFileSync(at('cluster.yml'), 'utf8')).toBe('mine');
  });

  test('--empty asks nothing', async () => {
    const { code, stderr } = await pipe('', '--empty');
    expect(code).toBe(0);
    expect(stderr).toBe(
      'cluster.yml is written: look it through, then run `tsrke up --config cluster.yml`\n',
    );
    expect(readFileSync(at('cluster.yml'), 'utf8')).toContain('\n#nodes:\n');
    const printed = await pipe('', '--empty', '--print');
    expect(printed).toEqual({ code: 0, stdout: readFileSync(at('cluster.yml'), 'utf8'), stderr: '' });
  });

  test('a version that nobody knows is refused before anything is asked', async () => {
    const { code, stderr } = await pipe(shortest, '--version', 'v1.31.1-rancher1-1');
    expect(code).toBe(3);
    expect(stderr).toMatch(/^Kubernetes "v1\.31\.1-rancher1-1" is not known \(UNSUPPORTED\)/);
  });

  test('a private key lies in a file that nobody else reads, and is nowhere else', async () => {
    const { privateKey } = generateKeyPairSync('rsa', {
      ...{ modulusLength: 2048, publicKeyEncoding: { type: 'spki', format: 'pem' } },
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    });
    const answers = `\n1\n192.0.2.11\n\n\n${privateKey}${'\n'.repeat(17)}`;
    const { code, stderr } = await pipe(answers);
    expect(code, stderr).toBe(0);
    expect(stderr).not.toContain(privateKey.split('\n')[1]);
    expect(statSync(at('cluster.yml')).mode & 0o777).toBe(0o600);
    expect(loadConfig(at('cluster.yml')).nodes[0]?.sshKey).toBe(privateKey);
    const wrong = await pipe('\n1\n192.0.2.11\n\n\nhunter2\n', '--print');
    expect(wrong.code).toBe(3);
    expect(wrong.stderr).toMatch(/line 6 of the answers, to .* is not a private SSH key/);
    expect(wrong.stderr).not.toContain('hunter2');
  });

  test('an interrupt writes nothing', async () => {
    const tsrke = spawn(process.execPath, [bin, 'config'], { cwd: folder });
    tsrke.stdin.write('\n1\n');
    let stderr = '';
    tsrke.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
      if (stderr.endsWith('address of host 1 for SSH: \n')) tsrke.kill('SIGINT');
    });
    const [code] = (await once(tsrke, 'close')) as [number];
    expect(code).toBe(130);
    expect(stderr).toContain('interrupted, and nothing was written (INTERRUPTED)');
    expect(readdirSync(folder)).toEqual([]);
  });
});

/** A person: waits for each question and types an answer. */
function sit(...args: string[]) {
  const shell = spawnInTerminal(process.execPath, [bin, 'config', ...args], {
    ...{ cols: 100, rows: 30, cwd: folder },
    env: { ...process.env, TERM: 'xterm-256color' },
  });
  let written = '';
  let seen = 0;
  shell.onData((data) => (written += data));
  const ended = new Promise<number>((resolve) => shell.onExit(({ exitCode }) => resolve(exitCode)));
  return {
    written: () => written,
    ended,
    /** Looks only at what came since the last answer. */
    answer: async (question: string, answer: string) => {
      const asks = () => written.indexOf(question, seen);
      await expect.poll(asks, { timeout: 20_000 }).toBeGreaterThan(-1);
      seen = asks() + question.length;
      shell.write(answer);
    },
  };
}

describe('in a terminal', () => {
  test('a wrong answer is asked again, what is typed can be corrected, and a file that is there is asked about', async () => {
    writeFileSync(at('cluster.yml'), 'mine', { mode: 0o644 });
    const person = sit();
    await person.answer('cluster.yml is there already: replace it (y/n) [n]: ', 'yes\r');
    await person.answer('SSH key [~/.ssh/id_rsa]: ', '\r');
    await person.answer('how many hosts [1]: ', 'many\r');
    await person.answer('a number from 1 to 1000', '');
    await person.answer('how many hosts [1]: ', '1\r');
    await person.answer('host 1 for SSH: ', '\r');
    await person.answer('an answer is needed', '');
    await person.answer('host 1 for SSH: ', '192.0.2.12\u007f1\r');
    await person.answer('SSH port of 192.0.2.11 [22]: ', '\r');
    await person.answer('path of the private SSH key', '~/.ssh/id\r');
    await person.answer('SSH user', '\r');
    for (const role of ['controlplane', 'worker', 'etcd']) await person.answer(`the role ${role}`, '\r');
    await person.answer('name of 192.0.2.11', 'cp-1\r');
    for (const question of ['inside', 'socket', 'plugin', 'authentication', 'authorization', 'version']) {
      await person.answer(question, '\r');
    }
    for (const question of ['domain', 'of services', 'of pods', 'DNS', 'manifests']) {
      await person.answer(question, '\r');
    }
    await person.answer('encrypt secrets at rest (y/n) [y]: ', 'n\r');
    expect(await person.ended).toBe(0);
    const { nodes, encryption } = loadConfig(at('cluster.yml'));
    expect(nodes).toMatchObject([{ name: 'cp-1', address: '192.0.2.11', sshKeyPath: '~/.ssh/id' }]);
    expect(encryption.enabled).toBe(false);
    expect(statSync(at('cluster.yml')).mode & 0o777).toBe(0o640);
  });

  test('a file that is there stays unless somebody says so', async () => {
    writeFileSync(at('cluster.yml'), 'mine');
    const person = sit('--empty');
    await person.answer('replace it (y/n) [n]: ', '\r');
    expect(await person.ended).toBe(0);
    expect(person.written()).toContain('cluster.yml stays as it is');
    expect(readFileSync(at('cluster.yml'), 'utf8')).toBe('mine');
  });

  test('Ctrl-C ends it with exit code 130 and nothing written', async () => {
    const person = sit('--name', 'new.yml');
    await person.answer('[~/.ssh/id_rsa]: ', '\r');
    await person.answer('how many hosts', '\u0003');
    expect(await person.ended).toBe(130);
    expect(existsSync(at('new.yml'))).toBe(false);
  });

  test('a key that is pasted is not shown', async () => {
    const { privateKey } = generateKeyPairSync('rsa', {
      ...{ modulusLength: 2048, publicKeyEncoding: { type: 'spki', format: 'pem' } },
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    });
    const person = sit('--print');
    await person.answer('[~/.ssh/id_rsa]: ', '\r');
    await person.answer('how many hosts', '\r');
    await person.answer('host 1 for SSH: ', '192.0.2.11\r');
    await person.answer('[22]: ', '\r');
    await person.answer('(empty: the key itself)', '\r');
    await person.answer("(empty: the cluster's): ", privateKey.replaceAll('\n', '\r'));
    await person.answer('SSH user', '\u0003');
    expect(await person.ended).toBe(130);
    const [, second = ''] = privateKey.split('\n');
    expect(person.written()).not.toContain(second.slice(0, 20));
    expect(person.written()).not.toContain('BEGIN');
  });
});
