/** What a person sees: the real report in a real pseudo-terminal, read off an emulated screen. */
import { spawn, type IPty } from '@lydell/node-pty';
import { Terminal } from '@xterm/headless';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { moduleOf } from './screen.ts';

let folder = '';
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-terminal-'))));
afterAll(() => rmSync(folder, { recursive: true }));

interface Screen {
  /** What stands on the screen now; scrolled-off lines first, empty ones left out. */
  lines(): string[];
  /** Everything that was written, escape sequences and all. */
  readonly written: () => string;
  /** Resolves once the screen shows it. */
  until(text: RegExp): Promise<void>;
  resize(columns: number): void;
  /** Lets the work go on after its `gate()`. */
  open(): void;
  type(text: string): void;
  readonly ended: Promise<number>;
}

/** Runs work as `tsrke` does: `report` and `signal` are there. `await gate()` waits for `open`. */
function show(work: string, { columns = 80, rows = 24, env = {} } = {}): Screen {
  const file = join(folder, `run-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(
    file,
    `import { run } from '${moduleOf('run')}';
     const gates = [];
     const gate = () => new Promise((open) => gates.push(open));
     process.on('SIGUSR2', () => { for (const open of gates.splice(0)) open(); });
     const living = setInterval(() => undefined, 1_000);
     await run({ command: 'up', version: '1', output: 'text', debug: false }, async (report, signal) => {
       ${work}
     });
     clearInterval(living);`,
  );
  const screen = new Terminal({ cols: columns, rows, allowProposedApi: true });
  const { NO_COLOR: _none, FORCE_COLOR: _force, CI: _ci, ...inherited } = process.env;
  const shell: IPty = spawn(process.execPath, [file], {
    cols: columns,
    rows,
    env: { ...inherited, TERM: 'xterm-256color', LANG: 'C.UTF-8', ...env },
  });
  let written = '';
  let drawn = Promise.resolve();
  shell.onData((data) => {
    written += data;
    drawn = drawn.then(() => new Promise((resolve) => screen.write(data, resolve)));
  });
  const ended = new Promise<number>((resolve) =>
    shell.onExit(({ exitCode, signal }) => resolve(signal ? -1 : exitCode)),
  ).then(async (code) => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    await drawn;
    return code;
  });
  const lines = () =>
    Array.from({ length: screen.buffer.active.length }, (_, row) =>
      (screen.buffer.active.getLine(row)?.translateToString(true) ?? '').replace(/[⠀-⣿]/, '~'),
    ).filter((line) => line !== '');
  return {
    lines,
    written: () => written,
    async until(text) {
      const limit = Date.now() + 10_000;
      while (!text.test(lines().join('\n'))) {
        if (Date.now() > limit) throw new Error(`${text} is not on the screen:\n${lines().join('\n')}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    resize(to) {
      screen.resize(to, rows);
      shell.resize(to, rows);
    },
    open: () => shell.kill('SIGUSR2'),
    type: (text) => shell.write(text),
    ended,
  };
}

/** A rotation as the engine tells it, at a gate in the middle of h2. */
const rotation = `
  await report.task('connect to 3 controlplane node(s)', async () =>
    report.note('warning', 'is not in cluster.yml and cannot be reached: taken for gone', 'h9'));
  report.note('info', 'state saved (serial 6)');
  await report.task('make every key readable on every node: secrets: aescbc:k-zd4x6,aescbc:k-r7t5l,identity', async (task) => {
    task.expects(['h1', 'h2', 'h3']);
    for (const node of ['h1', 'h2', 'h3']) await report.task(node, async (task) => {
      task.progress('waiting for kube-apiserver ([-]etcd failed, [-]poststarthook/start-apiextensions-controllers failed)');
      if (node === 'h2') await gate();
      task.done(node + ' is ready');
    });
  });
  await report.task('rewrite secrets', async (task) => {
    task.progress('500/1000, 812/s, 1 s left', { done: 500, total: 1000, rate: 812, eta: 1 });
    await gate();
    task.done('rewrote 1000 of 1000 secrets');
  });
  return 'secrets are encrypted';
`;

const wrapped = [
  '✔ make every key readable on every node: secrets:',
  '  aescbc:k-zd4x6,aescbc:k-r7t5l,identity',
];
const nodes = ['  ✔ h1 is ready', '  ✔ h2 is ready', '  ✔ h3 is ready'];
const head = [
  '✔ connect to 3 controlplane node(s)',
  '  ⚠ h9: is not in cluster.yml and cannot be reached: taken for gone',
  '› state saved (serial 6)',
];

test('80 columns: what is done, in hand and to come while it runs; all nodes at the end', async () => {
  const screen = show(rotation);
  await screen.until(/h2 · waiting/);
  expect(screen.lines()).toEqual([
    ...head,
    '❯ make every key readable on every node: secrets:',
    '  aescbc:k-zd4x6,aescbc:k-r7t5l,identity',
    '  ✔ h1 is ready',
    '  ~ h2 · waiting for kube-apiserver ([-]etcd failed, [-]poststarthook/start-a…',
    '  ◼ h3',
  ]);
  screen.open();
  await screen.until(/~ rewrite secrets ·/);
  expect(screen.lines().at(-1)).toBe('~ rewrite secrets · ━━━━━━━━──────── 500/1000, 812/s, 1 s left');
  screen.open();
  expect(await screen.ended).toBe(0);
  expect(screen.lines().map(withoutTime)).toEqual([
    ...head,
    ...wrapped,
    ...nodes,
    '✔ rewrote 1000 of 1000 secrets',
    'secrets are encrypted',
  ]);
  expect(screen.written()).toContain('\u001B[32m✔');
  // Colours of the terminal's own palette, none of them black, white, bright or a background: light and dark both do.
  const styles = [...screen.written().matchAll(/\u001B\[([\d;]*)m/g)].map(([, code]) => code);
  expect(
    [...new Set(styles)].filter((code) => !['2', '22', '31', '32', '33', '36', '39'].includes(code ?? '')),
  ).toEqual([]);
  expect(screen.written()).toMatch(/\u001B\[\?25h[^\u001B]*$/);
});

test('a wide terminal: one line for each', async () => {
  const screen = show(rotation, { columns: 160 });
  await screen.until(/h2 · waiting/);
  screen.open();
  await screen.until(/rewrite secrets ·/);
  screen.open();
  await screen.ended;
  expect(screen.lines().map(withoutTime)).toEqual([
    ...head,
    wrapped.map((line) => line.trim()).join(' '),
    ...nodes,
    '✔ rewrote 1000 of 1000 secrets',
    'secrets are encrypted',
  ]);
});

test.each([[50], [40], [120]])(
  'resized to %d columns in the middle: no line is torn or doubled',
  async (to) => {
    const screen = show(rotation);
    await screen.until(/h2 · waiting/);
    screen.resize(to);
    await new Promise((resolve) => setTimeout(resolve, 300));
    screen.open();
    await screen.until(/rewrite secrets ·/);
    screen.open();
    expect(await screen.ended).toBe(0);
    const text = screen
      .lines()
      .map((line) => line.trim())
      .join('');
    for (const once of [
      '✔ connect',
      '› state saved',
      'make every',
      'h1',
      'h2 is ready',
      'h3',
      'rewrote',
      '⚠',
    ]) {
      expect(text.split(once), once).toHaveLength(2);
    }
    expect(text).not.toMatch(/[~❯◼]|waiting/);
  },
);

test('NO_COLOR: no colours, the same words', async () => {
  const screen = show(rotation, { env: { NO_COLOR: '1' } });
  await screen.until(/h2 · waiting/);
  screen.open();
  await screen.until(/rewrite secrets ·/);
  screen.open();
  await screen.ended;
  expect(screen.written()).not.toMatch(/\u001B\[\d*(;\d+)*m/);
  expect(screen.lines().map(withoutTime)).toEqual([
    ...head,
    ...wrapped,
    ...nodes,
    '✔ rewrote 1000 of 1000 secrets',
    'secrets are encrypted',
  ]);
});

test('a failure: the list keeps what was done and not, the error stands below it', async () => {
  const screen = show(`
    await report.task('write with the wanted key', async (task) => {
      task.expects(['h1', 'h2', 'h3']);
      await report.task('h1', async (task) => task.done('h1 is ready'));
      await report.task('h2', async (task) => { task.progress('restarting'); throw new AggregateError([]); });
    });
  `);
  expect(await screen.ended).toBe(1);
  expect(screen.lines().slice(0, 5)).toEqual([
    '✖ write with the wanted key',
    '  ✔ h1 is ready',
    '  ✖ h2 · restarting',
    '  ◼ h3: not started',
    'AggregateError',
  ]);
  expect(screen.lines().slice(-3)).toEqual([
    'done:        write with the wanted key: h1 is ready',
    'failed:      write with the wanted key: h2',
    'not started: write with the wanted key: h3',
  ]);
});

test('Ctrl-C is said in the list and does not tear it; a second one ends at once, with the cursor back', async () => {
  const screen = show(rotation);
  await screen.until(/h2 · waiting/);
  screen.type('\u0003');
  await screen.until(/interrupted/);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(screen.lines()).toEqual([
    ...head,
    '❯ make every key readable on every node: secrets:',
    '  aescbc:k-zd4x6,aescbc:k-r7t5l,identity',
    '  ⚠ interrupted: finishing the step in hand (again: stop at once)',
    '  ✔ h1 is ready',
    '  ~ h2 · waiting for kube-apiserver ([-]etcd failed, [-]poststarthook/start-a…',
    '  ◼ h3',
  ]);
  screen.type('\u0003');
  expect(await screen.ended).toBe(130);
  expect(screen.written()).toMatch(/\u001B\[\?25h[^\u001B]*$/);
});

test('tasks side by side each have their own line', async () => {
  const screen = show(`
    await report.task('restart all', async () => {
      await Promise.all(['h1', 'h2'].map((node) => report.task(node, async (task) => {
        task.progress('restarting');
        await gate();
        task.done(node + ' is ready');
      })));
    });
    return 'done';
  `);
  await screen.until(/h2 · restarting/);
  expect(screen.lines()).toEqual(['❯ restart all', '  ~ h1 · restarting', '  ~ h2 · restarting']);
  screen.open();
  expect(await screen.ended).toBe(0);
  expect(screen.lines().map(withoutTime)).toEqual([
    '✔ restart all',
    '  ✔ h1 is ready',
    '  ✔ h2 is ready',
    'done',
  ]);
});

test('a terminal that cannot move its cursor gets plain lines', async () => {
  const screen = show(`await report.task('connect', async () => undefined); return 'done';`, {
    env: { TERM: 'dumb' },
  });
  await screen.ended;
  expect(screen.lines()).toEqual(['connect', 'done']);
  expect(screen.written()).not.toContain('\u001B');
});

test('no terminal: plain lines on stderr, the result alone on stdout', async () => {
  const script = `import { run } from '${moduleOf('run')}';
    await run({ command: 'up', version: '1', output: 'text', debug: false }, async (report) => {
      await report.task('connect', async (task) => task.done('connected'));
      return 'nothing to do';
    });`;
  const ran = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  expect(ran).toEqual({ stdout: 'nothing to do\n', stderr: 'connect\n  connected\n' });
});

/** How long a task took, where that was a second or more. */
function withoutTime(line: string): string {
  return line.replace(/ \[[\dms]+\]$/, '');
}
