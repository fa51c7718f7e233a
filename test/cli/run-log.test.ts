/** What a run leaves behind of its story, beside the state. */
import { mkdtempSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { plainReport } from '../../src/cli/report.ts';
import { logPathOf, runLog } from '../../src/cli/run-log.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-log-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const pathIn = () => logPathOf(join(dir, 'prod.rkestate'));

function begin(path: string) {
  const shown: string[] = [];
  const warnings: string[] = [];
  const report = plainReport({ write: (line) => shown.push(line), debug: false });
  const log = runLog(path, 'tsrke up', { debug: false, warn: (text) => warnings.push(text) });
  report.also(log.view);
  return { report, log, shown, warnings };
}

test('it has each line that is shown, with time and process, for its owner alone', async () => {
  const { report, log, shown } = begin(pathIn());
  await report.task('look at the nodes', async () => {
    report.note('warning', 'is slow', 'h1');
    report.debug('GET /readyz');
    await Promise.resolve();
  });
  log.end('nothing to do');
  const path = join(dir, 'prod.tsrke.log');
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  const head = new RegExp(`^\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z \\[${process.pid}\\] `);
  for (const line of lines) expect(line).toMatch(head);
  const texts = lines.map((line) => line.replace(head, ''));
  expect(texts).toEqual(['tsrke up', ...shown, 'nothing to do']);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('a run that is refused before its first task is done leaves nothing', async () => {
  const { report, log } = begin(pathIn());
  await expect(report.task('connect', () => Promise.reject(new Error('no key')))).rejects.toThrow('no key');
  report.note('warning', 'a word');
  log.end('cluster.yml:3:1: unknown key `foo` (CONFIG_INVALID)');
  expect(existsSync(pathIn())).toBe(false);
});

test('a long one makes room; three former ones are kept', async () => {
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    const { report } = begin(pathIn());
    await report.task(`run ${name}`, () => Promise.resolve());
    writeFileSync(pathIn(), 'x'.repeat(1_000_000), { flag: 'a' });
  }
  const runs = ['', '.1', '.2', '.3', '.4'].map((end) => {
    const path = `${pathIn()}${end}`;
    return existsSync(path) ? /run \w/.exec(readFileSync(path, 'utf8'))?.[0] : undefined;
  });
  expect(runs).toEqual(['run e', 'run d', 'run c', 'run b', undefined]);
});

test('one that cannot be written is told once, and stops nothing', async () => {
  const { report, log, shown, warnings } = begin(join(dir, 'none', 'prod.tsrke.log'));
  await report.task('one', () => Promise.resolve());
  await report.task('two', () => Promise.resolve());
  log.end('done');
  expect(shown).toEqual(['one', 'two']);
  expect(warnings).toEqual([expect.stringMatching(/^the log of this run is not kept: ENOENT/)]);
});
