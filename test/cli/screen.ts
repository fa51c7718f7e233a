/** A command in a real pseudo-terminal, read off an emulated screen once it has ended. */
import { spawn } from '@lydell/node-pty';
import { Terminal } from '@xterm/headless';
import type { Colours } from '../../src/cli/colours.ts';

export interface Shown {
  /** Lines that are not empty, without blanks at their ends. */
  readonly lines: readonly string[];
  /** Everything that was written, escape sequences and all. */
  readonly written: string;
  readonly code: number;
}

/** A module of tsrke as built, for an import. */
export const moduleOf = (name: string): string => new URL(`../../dist/cli/${name}.js`, import.meta.url).href;

/** No colours. */
export const plain: Colours = {
  bold: (text) => text,
  dim: (text) => text,
  green: (text) => text,
  yellow: (text) => text,
};

/** Runs node with these arguments. */
export async function showNode(
  args: readonly string[],
  { columns = 80, rows = 60, env = {}, cwd = process.cwd() } = {},
): Promise<Shown> {
  const screen = new Terminal({ cols: columns, rows, allowProposedApi: true });
  const { NO_COLOR: _none, FORCE_COLOR: _force, CI: _ci, ...inherited } = process.env;
  const shell = spawn(process.execPath, [...args], {
    ...{ cols: columns, rows, cwd },
    env: { ...inherited, TERM: 'xterm-256color', LANG: 'C.UTF-8', ...env },
  });
  let written = '';
  shell.onData((data) => (written += data));
  const code = await new Promise<number>((resolve) => shell.onExit(({ exitCode }) => resolve(exitCode)));
  await new Promise((resolve) => setTimeout(resolve, 100));
  await new Promise<void>((resolve) => screen.write(written, resolve));
  const { active } = screen.buffer;
  const lines = Array.from(
    { length: active.length },
    (_, row) => active.getLine(row)?.translateToString(true) ?? '',
  );
  return { lines: lines.filter((line) => line !== ''), written, code };
}
