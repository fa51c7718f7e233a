import { spawn } from '@lydell/node-pty';
import { Terminal } from '@xterm/headless';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const report = new URL('../../dist/cli/terminal-report.js', import.meta.url).href;

/** What a person sees at the end, on a screen of 80 columns. */
async function screenOf(script: string): Promise<string[]> {
  const file = join(mkdtempSync(join(tmpdir(), 'tsrke-terminal-')), 'run.mjs');
  writeFileSync(
    file,
    `import { terminalReport } from '${report}';\nconst report = terminalReport(process.stderr);\n${script}`,
  );
  const screen = new Terminal({ cols: 80, rows: 24, allowProposedApi: true });
  const shell = spawn(process.execPath, [file], {
    cols: 80,
    rows: 24,
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  });
  const writes: Promise<void>[] = [];
  shell.onData((data) => writes.push(new Promise((resolve) => screen.write(data, resolve))));
  await new Promise<void>((resolve) => shell.onExit(() => resolve()));
  await new Promise((resolve) => setTimeout(resolve, 100));
  await Promise.all(writes);
  const lines = Array.from(
    { length: 24 },
    (_, row) => screen.buffer.active.getLine(row)?.translateToString(true) ?? '',
  );
  return lines.filter((line) => line !== '');
}

test('tasks stay as a list, warnings below the task they came from', async () => {
  const seen = await screenOf(`
    await report.task('connect to 1 controlplane node(s)', async () => report.note('warning', 'is gone', 'h9'));
    await report.task('write with the wanted key', async () => {
      await report.task('h1', async (task) => { task.progress('restarting'); task.done('h1 is ready'); });
    });
    report.note('info', 'state saved');
    await report.task('rewrite', async () => { throw new Error('no'); }).catch(() => undefined);
  `);
  expect(seen).toEqual([
    '✔ connect to 1 controlplane node(s)',
    'warning: h9: is gone',
    '✔ write with the wanted key',
    'state saved',
    '✖ rewrite',
  ]);
});
