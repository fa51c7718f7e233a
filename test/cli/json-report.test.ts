/** `--output json`: every event of docs/output.md, as a script would read it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { emitErrors, emitter, jsonReport, type Emit } from '../../src/cli/json-report.ts';
import { TsrkeError } from '../../src/errors.ts';
import type { Report } from '../../src/ports.ts';

const root = join(import.meta.dirname, '../..');
const at = new Date('2026-11-25T09:00:00Z');
const time = at.toISOString();

function recording(): { events: unknown[]; emit: Emit } {
  const events: unknown[] = [];
  return {
    events,
    emit: emitter(
      (line) => {
        expect(line).not.toContain('\n');
        events.push(JSON.parse(line));
      },
      () => at,
    ),
  };
}

async function eventsOf(run: (report: Report) => Promise<void>, debug = false): Promise<unknown[]> {
  const { events, emit } = recording();
  await run(jsonReport({ emit, debug }));
  return events;
}

const seconds = expect.any(Number) as number;

test('task-started, note, task-done', async () => {
  const events = await eventsOf(async (report) => {
    report.note('info', 'state saved (serial 2)');
    await report.task('write with the new key', async () => {
      await report.task('h1', (task) => {
        report.note('warning', 'is slow', 'h1');
        task.done('h1 is ready');
        return Promise.resolve();
      });
    });
  });
  expect(events).toEqual([
    { type: 'note', time, level: 'info', text: 'state saved (serial 2)' },
    { type: 'task-started', time, task: 1, title: 'write with the new key' },
    { type: 'task-started', time, task: 2, parent: 1, title: 'h1' },
    { type: 'note', time, level: 'warning', text: 'is slow', node: 'h1', task: 2 },
    { type: 'task-done', time, task: 2, title: 'h1', seconds, outcome: 'h1 is ready' },
    { type: 'task-done', time, task: 1, title: 'write with the new key', seconds },
  ]);
});

test('task-failed names what was not started', async () => {
  const events = await eventsOf(async (report) => {
    const whole = report.task('write with the new key', async (task) => {
      task.expects?.(['h1', 'h2']);
      await report.task('h1', () => Promise.reject(new Error('no')));
    });
    await expect(whole).rejects.toThrow('no');
  });
  expect(events.slice(2)).toEqual([
    { type: 'task-failed', time, task: 2, title: 'h1', seconds, notStarted: [] },
    { type: 'task-failed', time, task: 1, title: 'write with the new key', seconds, notStarted: ['h2'] },
  ]);
});

test('progress is thinned out, and carries figures where there are some', async () => {
  const events = await eventsOf((report) =>
    report.task('rewrite', (task) => {
      task.progress('listing');
      for (let done = 1; done <= 100; done += 1) {
        task.progress(`${done}/100`, { done, total: 100, rate: 812.345, eta: 9.2 });
      }
      task.progress('waiting', { done: 100, total: 100, rate: 0, eta: undefined });
      return Promise.resolve();
    }),
  );
  expect(events.slice(1, -1)).toEqual([
    { type: 'progress', time, task: 1, text: 'listing' },
    { type: 'progress', time, task: 1, text: '1/100', done: 1, total: 100, rate: 812.3, secondsLeft: 10 },
    { type: 'progress', time, task: 1, text: 'waiting', done: 100, total: 100, rate: 0 },
  ]);
});

test('debug, with --debug only', async () => {
  const run = (report: Report) => {
    report.debug('GET /readyz 200 in 3 ms', 'h1');
    return Promise.resolve();
  };
  expect(await eventsOf(run)).toEqual([]);
  expect(await eventsOf(run, true)).toEqual([
    { type: 'debug', time, text: 'GET /readyz 200 in 3 ms', node: 'h1' },
  ]);
});

test('error, one for each thing that went wrong', () => {
  const { events, emit } = recording();
  const failed = new TsrkeError('APISERVER_NOT_READY', 'kube-apiserver did not come up', {
    node: 'h2',
    cause: new Error('etcd failed'),
    details: ['E1125 no such file'],
    next: 'run it again',
  });
  emitErrors(emit, new AggregateError([failed, new TsrkeError('LOCKED', 'locked')]), false);
  emitErrors(emit, new TypeError('no'), true);
  expect(events).toEqual([
    {
      type: 'error',
      time,
      exitCode: 1,
      code: 'APISERVER_NOT_READY',
      node: 'h2',
      message: 'kube-apiserver did not come up',
      details: ['E1125 no such file'],
      cause: 'etcd failed',
      next: 'run it again',
    },
    { type: 'error', time, exitCode: 1, code: 'LOCKED', message: 'locked', details: [] },
    { type: 'error', time, exitCode: 130, code: 'BUG', message: 'no', details: [] },
  ]);
});

test('run-started is the first event of the real command, an error the last, and stderr stays quiet', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tsrke-json-'));
  try {
    const args = [join(root, 'bin/tsrke.js'), 'encrypt', 'rotate-key', '--output', 'json'];
    const ran = await new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
      execFile(process.execPath, args, { cwd: folder }, (error, stdout, stderr) =>
        resolve({ code: error?.code, stdout, stderr }),
      );
    });
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    expect(ran).toMatchObject({ code: 3, stderr: '' });
    const some = expect.any(String) as string;
    expect(
      ran.stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      { type: 'run-started', time: some, command: 'encrypt rotate-key', version },
      expect.objectContaining({ type: 'error', time: some, exitCode: 3, code: 'CONFIG_UNREADABLE' }),
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('result is the last event of a run that succeeded', async () => {
  const script = `import { run } from '${new URL('../../dist/cli/run.js', import.meta.url).href}';
    await run({ command: 'up', version: '1.2.3', output: 'json', debug: false }, async () => 'nothing to do');`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '-e',
    script,
  ]);
  const some = expect.any(String) as string;
  expect(stderr).toBe('');
  expect(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
  ).toEqual([
    { type: 'run-started', time: some, command: 'up', version: '1.2.3' },
    { type: 'result', time: some, exitCode: 0, text: 'nothing to do' },
  ]);
});

test('docs/output.md describes each event and each of its fields', () => {
  const source = readFileSync(join(root, 'src/cli/json-report.ts'), 'utf8');
  const union = source.slice(source.indexOf('export type Event'), source.indexOf('export type Emit'));
  const types = [...union.matchAll(/readonly type: ([^;}]+)/g)].flatMap(([, names]) =>
    [...(names ?? '').matchAll(/'([a-z-]+)'/g)].map(([, name]) => `\`${name ?? ''}\``),
  );
  const fields = [...union.matchAll(/readonly (\w+)\??:/g)].map(([, name]) => `\`${name ?? ''}\``);
  const page = readFileSync(join(root, 'docs/output.md'), 'utf8');
  expect(types.length).toBeGreaterThan(8);
  expect([...types, ...fields].filter((name) => !page.includes(name))).toEqual([]);
});
