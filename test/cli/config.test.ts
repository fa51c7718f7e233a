/** `tsrke config`: the real command, where there is no cluster.yml. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const bin = join(import.meta.dirname, '../../bin/tsrke.js');
let folder = '';
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-config-'))));
// Fails where a command has left something there.
afterAll(() => {
  rmdirSync(folder);
});

function run(...args: string[]): Promise<{ code: number; lines: string[]; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [bin, ...args], { cwd: folder }, (error, stdout, stderr) => {
      const code = error === null ? 0 : Number(error.code);
      resolve({ code, lines: stdout.split('\n').slice(0, -1), stderr });
    });
  });
}

describe('the images of a version', () => {
  test('one a line, each once, as RKE 1.6.3 lists them', async () => {
    const { code, lines, stderr } = await run('config', '--system-images');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    // RKE's state of a cluster of this version names them in the same order.
    const { desiredState } = JSON.parse(
      readFileSync(join(import.meta.dirname, '../fixtures/rke-1.6.3/enabled.rkestate'), 'utf8'),
    ) as { desiredState: { rkeConfig: { systemImages: Record<string, string> } } };
    expect(lines).toEqual([...new Set(Object.values(desiredState.rkeConfig.systemImages))]);
  });

  test.each([['--version', 'v1.24.17-rancher1-1'], ['--version=v1.24.17-rancher1-1']])(
    '%s names the version of Kubernetes, not that of tsrke',
    async (...version) => {
      const { code, lines } = await run('config', '-s', ...version);
      expect(code).toBe(0);
      expect(lines).toContain('rancher/hyperkube:v1.24.17-rancher1');
      expect(lines).not.toContain('rancher/hyperkube:v1.30.5-rancher1');
    },
  );

  test('with --all of the newest version of each minor version', async () => {
    const { lines } = await run('config', '-s', '-a');
    const servers = lines.filter((image) => image.startsWith('rancher/hyperkube:'));
    expect(servers.map((image) => image.split('.')[1])).toEqual(['24', '25', '26', '27', '28', '29', '30']);
    expect(new Set(lines).size).toBe(lines.length);
  });

  test('of a version that nobody knows are not made up', async () => {
    const { code, lines, stderr } = await run('config', '-s', '--version', 'v1.31.1-rancher1-1');
    expect({ code, lines }).toEqual({ code: 3, lines: [] });
    expect(stderr).toMatch(
      /"v1\.31\.1-rancher1-1" are not known \(UNSUPPORTED\)\nnext: .*v1\.30\.5-rancher1-1/,
    );
  });
});

describe('the versions', () => {
  test('the one that is taken', async () => {
    expect(await run('config', '--list-version')).toEqual({
      code: 0,
      lines: ['v1.30.5-rancher1-1'],
      stderr: '',
    });
  });

  test('and all', async () => {
    const { lines } = await run('config', '-l', '-a');
    expect(lines).toHaveLength(7);
    expect(lines.at(-1)).toBe('v1.30.5-rancher1-1');
  });
});

test.each<[string[], RegExp]>([
  [['config', '-a'], /none is asked for \(CONFIG_INVALID\)\nnext: add --system-images or --list-version/],
  [['config', '-s', '--empty'], /cannot be used with option/],
  [['config', '-s', '-l'], /cannot be used with option/],
  [['config', '-s', '-a', '--version', 'v1.30.5-rancher1-1'], /cannot be used with option/],
])('%j is a wrong command line', async (args, message) => {
  const { code, lines, stderr } = await run(...args);
  expect({ code, lines }).toEqual({ code: 3, lines: [] });
  expect(stderr).toMatch(message);
});

test.each([['--version'], ['-v'], ['up', '--version'], ['version']])(
  'tsrke %s still prints the version of tsrke',
  async (...args) => {
    expect((await run(...args)).lines).toEqual([expect.stringMatching(/^tsrke \d+\.\d+\.\d+$/)]);
  },
);

test('its --help names the version of Kubernetes', async () => {
  const { code, lines } = await run('config', '--help');
  expect(code).toBe(0);
  expect(lines.join('\n')).toMatch(/--version <version> .*Kubernetes/);
});
