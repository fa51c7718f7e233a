/** A run's story where nobody watches it: plain lines. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { plainReport } from '../../src/cli/report.ts';
import type { Report } from '../../src/ports.ts';

async function linesOf(
  run: (report: Report) => Promise<void>,
  options: { debug?: boolean; every?: number } = {},
): Promise<string[]> {
  const lines: string[] = [];
  await run(plainReport({ write: (line) => lines.push(line), debug: false, ...options }));
  return lines;
}

test('tasks inside tasks are indented, and say how they ended', async () => {
  const lines = await linesOf(async (report) => {
    report.note('info', 'state saved (serial 2)');
    const whole = report.task('write with the new key', async () => {
      await report.task('h1', (task) => {
        report.note('warning', 'is slow', 'h1');
        task.done('h1 is ready');
        return Promise.resolve();
      });
      await report.task('h2', () => Promise.reject(new Error('no')));
    });
    await expect(whole).rejects.toThrow('no');
  });
  expect(lines).toEqual([
    'state saved (serial 2)',
    'write with the new key',
    '  h1',
    '    warning: h1: is slow',
    '    h1 is ready',
    '  h2',
    '    failed',
    '  failed',
  ]);
});

test('progress that differs in its figures only is thinned out', async () => {
  const lines = await linesOf((report) =>
    report.task('rewrite', (task) => {
      for (let done = 1; done <= 100; done += 1) task.progress(`${done}/100, 800/s`);
      task.progress('paused');
      task.progress('paused');
      return Promise.resolve();
    }),
  );
  expect(lines).toEqual(['rewrite', '  1/100, 800/s', '  paused']);
});

test('and comes again after a while', async () => {
  const lines = await linesOf(
    (report) =>
      report.task('rewrite', async (task) => {
        task.progress('1/100');
        await sleep(30);
        task.progress('2/100');
        await sleep(30);
        task.progress('2/100');
      }),
    { every: 20 },
  );
  expect(lines).toEqual(['rewrite', '  1/100', '  2/100']);
});

test('tasks side by side keep their own lines apart', async () => {
  const lines = await linesOf((report) =>
    report.task('restart', async () => {
      await Promise.all(
        ['h1', 'h2'].map((node) =>
          report.task(node, async (task) => {
            await sleep(1);
            report.note('info', 'said inside', node);
            task.done(`${node} is ready`);
          }),
        ),
      );
    }),
  );
  expect(lines.filter((line) => line.startsWith('    '))).toHaveLength(4);
  expect(lines.slice(0, 3)).toEqual(['restart', '  h1', '  h2']);
});

test.each([
  [true, ['connect', '  debug: h1: GET /readyz 200 in 3 ms']],
  [false, ['connect']],
])('calls are shown with --debug only (%s)', async (debug, wanted) => {
  const lines = await linesOf(
    (report) =>
      report.task('connect', () => {
        report.debug('GET /readyz 200 in 3 ms', 'h1');
        return Promise.resolve();
      }),
    { debug },
  );
  expect(lines).toEqual(wanted);
});
