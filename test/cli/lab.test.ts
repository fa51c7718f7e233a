/** `tsrke lab` as a user starts and ends it. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const bin = join(import.meta.dirname, '../../bin/tsrke.js');
let dir = '';
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'tsrke-lab-test-'))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs it; as soon as it is up `use` is called with what it says, and then it is interrupted. */
function lab(
  args: readonly string[],
  use: (said: string) => Promise<void> | void = () => undefined,
): Promise<Ended> {
  const env = { PATH: process.env['PATH'], HOME: dir, TMPDIR: dir };
  const child = spawn(process.execPath, [bin, 'lab', ...args], { cwd: dir, env });
  let stdout = '';
  let stderr = '';
  let used = false;
  return new Promise((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (used || !stdout.includes('Ctrl-C ends the lab')) return;
      used = true;
      Promise.resolve(use(stdout))
        .catch(reject)
        .finally(() => child.kill('SIGINT'));
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

const configIn = (said: string) => /^cluster\.yml\s+(\S+)$/m.exec(said)?.[1] ?? '';

function tsrke(cwd: string, ...args: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [bin, ...args], {
    cwd,
    env: { PATH: process.env['PATH'], HOME: dir },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

describe('tsrke lab', () => {
  it('serves a cluster that tsrke can use, tells what changes in etcd, and leaves nothing behind', async () => {
    let folder = '';
    const ended = await lab(['--controlplane', '1', '--secrets', '5'], async (said) => {
      const config = configIn(said);
      folder = dirname(config);
      expect(said).toContain('6 Secrets in the clear');
      writeFileSync(config, readFileSync(config, 'utf8').replace('enabled: false', 'enabled: true'));
      const up = await tsrke(folder, 'up');
      expect(up.code, up.stderr).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 1_500));
    });
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stdout).toMatch(/\d\d:\d\d:\d\d {2}6 Secrets encrypted with aescbc key \S+/);
    expect(ended.stderr).toBe('');
    expect(existsSync(folder)).toBe(false);
    expect(readdirSync(dir).filter((name) => name.startsWith('tsrke'))).toEqual([]);
  });

  it('makes a twin of a cluster.yml and the state beside it', async () => {
    const file = join(import.meta.dirname, '../fixtures/rke-1.6.3/cluster.yml');
    const ended = await lab(['--secrets', '2', '--rehearse', file], (said) => {
      expect(said).toContain(`A twin of the cluster in ${file} is up: h1, h2, h3.`);
    });
    expect(ended.code, ended.stderr).toBe(0);
  });

  it('leaves a folder alone in which somebody has a cluster.yml of her own', async () => {
    writeFileSync(join(dir, 'cluster.yml'), 'nodes: []\n');
    const ended = await lab(['--dir', dir]);
    expect(ended).toMatchObject({ code: 3, stdout: '' });
    expect(ended.stderr).toContain("cluster.yml is there already and is not a lab's (CONFIG_INVALID)");
    expect(readFileSync(join(dir, 'cluster.yml'), 'utf8')).toBe('nodes: []\n');
  });

  it.each([
    [['--controlplane', '0'], '--controlplane 0 is not a whole number from 1 to 100'],
    [['--secrets', 'many'], '--secrets many is not a whole number'],
  ])('refuses %j', async (args, words) => {
    const ended = await lab(args);
    expect(ended).toMatchObject({ code: 3, stdout: '' });
    expect(ended.stderr).toContain(words);
  });
});
