/**
 * Every test there is (`npm run test:all`). What keeps processors busy for long runs beside what mostly waits for real
 * hosts; the quick part before them, with all processors. Of the long ones a run takes its part (part.ts), and scenarios
 * that show the same on both labs need one of them (scenarios/labs.ts). The sum of it all is in the last line.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realLabUnavailable } from './availability.ts';
import { closingLines, nothing, type Totals } from './reporter.ts';
import { besideReal, realNow } from './scenarios/labs.ts';

const folder = mkdtempSync(join(tmpdir(), 'tsrke-test-'));
const file = join(folder, 'totals');
writeFileSync(file, '');
const running = new Set<ReturnType<typeof spawn>>();
let isOver = false;

/**
 * `beside`: gives way to whatever else there is to do, and what it prints is shown in one piece once it is over. Resolves
 * to its exit code.
 */
function vitest(args: readonly string[], beside = false): Promise<number> {
  return new Promise((resolve, reject) => {
    // Not through npx, which would end at a signal and leave vitest behind.
    const command = [process.execPath, 'node_modules/vitest/vitest.mjs', 'run', ...args];
    const [program = '', ...all] = beside ? ['nice', '-n', '5', ...command] : command;
    const stdio = beside ? 'pipe' : 'inherit';
    const child = spawn(program, all, {
      stdio: ['ignore', stdio, stdio],
      env: { ...process.env, TSRKE_TOTALS: file },
    });
    running.add(child);
    const printed: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (text: Buffer) => printed.push(text));
    child.once('error', reject).once('close', (code) => {
      running.delete(child);
      for (const text of printed) process.stdout.write(text);
      if (isOver && running.size === 0) process.exit(130);
      resolve(code ?? 1);
    });
  });
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    isOver = true;
    for (const child of running) child.kill(signal);
  });
}

const projects = (...names: readonly string[]) => names.flatMap((name) => ['--project', name]);
const codes = [await vitest(projects('unit', 'oracle'))];
if (realLabUnavailable() === undefined) {
  const real = vitest([...projects('real'), ...realNow]);
  codes.push(await vitest(projects('exhaustive'), true));
  codes.push(await vitest([...projects('memory'), ...besideReal], true), await real);
} else codes.push(await vitest(projects('exhaustive')), await vitest(projects('memory')));

const totals = { ...nothing };
const parts = readFileSync(file, 'utf8')
  .split('\n')
  .filter((line) => line !== '');
for (const part of parts) {
  for (const [name, count] of Object.entries(JSON.parse(part) as Totals) as [keyof Totals, number][])
    totals[name] += count;
}
rmSync(folder, { recursive: true });
// One that ended without its totals, or badly with none failed, did not get to its tests.
const broken = codes.length - parts.length + Number(codes.some((code) => code !== 0) && totals.failed === 0);
totals.failed += broken;
process.stdout.write(closingLines(totals));
process.exitCode = totals.failed === 0 ? 0 : 1;
