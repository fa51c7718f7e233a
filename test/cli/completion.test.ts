/** `tsrke completion`, tried in the shells themselves: bash, and zsh and fish where they are installed. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const bin = join(import.meta.dirname, '../../bin/tsrke.js');
const tsrke = (...args: string[]) => execFileSync(process.execPath, [bin, ...args], { encoding: 'utf8' });

let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-completion-'));
  writeFileSync(join(dir, 'my cluster.yml'), '');
  mkdirSync(join(dir, 'my folder'));
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Scripts that print what the shell offers for $1, one a line. */
const drivers = {
  bash: {
    file: 'drive.bash',
    text: `source script.bash
words=()
while IFS= read -r word; do words+=("$word"); done <<< "$1"
COMP_WORDS=("\${words[@]}") COMP_CWORD=$((\${#words[@]} - 1))
_tsrke
printf '%s\\n' "\${COMPREPLY[@]}"`,
    // bash parts words at = as well.
    words: (line: string) => line.split(/ |(?<==)|(?==)/).join('\n'),
    options: ['--norc'],
  },
  zsh: {
    file: 'drive.zsh',
    // Its completion system needs a terminal; these stand in for the parts of it that the script calls.
    text: `compdef() { }
_describe() { local each; for each in "\${(@P)2}"; do print -r -- "\${each%%:*}"; done }
compadd() { shift; print -rl -- "$@" }
_files() { if [ "$1" = -/ ]; then print -rl -- *(/); else print -rl -- *(N); fi }
_message() { }
compset() { case "\${words[CURRENT]}" in *=*) IPREFIX="\${words[CURRENT]%%=*}=" ;; *) return 1 ;; esac }
source script.zsh
words=("\${(@f)1}") CURRENT=\${#words}
_tsrke`,
    words: (line: string) => line.split(' ').join('\n'),
    options: ['-f'],
  },
  fish: {
    file: 'drive.fish',
    text: `source script.fish
complete -C "$argv[1]" | string replace -r '\\t.*' ''
# string fails where it has nothing to replace.
true`,
    words: (line: string) => line,
    options: ['--no-config'],
  },
} as const;

type Shell = keyof typeof drivers;
const isInstalled = (shell: string) => spawnSync(shell, ['--version']).error === undefined;
const shells = (['bash', 'zsh', 'fish'] as const).filter(isInstalled);

function offered(shell: Shell, line: string): string[] {
  const { file, words, options } = drivers[shell];
  const typed = line.split(/[ =]/).at(-1) ?? '';
  return execFileSync(shell, [...options, file, words(line)], { cwd: dir, encoding: 'utf8' })
    .split('\n')
    .map((each) => each.replace(/^--output=|\/$/g, ''))
    .filter((each) => each !== '' && each.startsWith(typed))
    .toSorted();
}

describe.each(shells)('%s', (shell) => {
  beforeAll(() => {
    writeFileSync(join(dir, `script.${shell}`), tsrke('completion', shell));
    writeFileSync(join(dir, drivers[shell].file), drivers[shell].text);
  });

  test.each([
    ['tsrke en', ['encrypt']],
    ['tsrke encrypt re', ['reencrypt', 'resume']],
    ['tsrke --debug encrypt st', ['status']],
    ['tsrke help enc', ['encrypt']],
    ['tsrke encrypt help st', ['status']],
    ['tsrke encrypt status --ch', ['--check']],
    ['tsrke encrypt status --de', ['--debug']],
    ['tsrke encrypt verify --output ', ['json', 'markdown', 'text']],
    ['tsrke encrypt verify --output=j', ['json']],
    ['tsrke encrypt status --output m', []],
    ['tsrke completion z', ['zsh']],
    ['tsrke up --config my', ['my cluster.yml', 'my folder']],
    ['tsrke lab --dir my', ['my folder']],
    ['tsrke encrypt validate --kubernetes-version u', []],
  ])('%s', (line, expected) => {
    expect(offered(shell, line)).toEqual(expected);
  });

  test.each(['', 'encrypt', 'up', 'encrypt rotate-key', 'encrypt verify', 'lab'])(
    'tsrke %s: all that its --help names',
    (command) => {
      const path = command === '' ? [] : command.split(' ');
      const help = tsrke(...path, '--help');
      const section = (name: string) => new RegExp(`^${name}:\\n((?: +.*\\n)+)`, 'm').exec(help)?.[1] ?? '';
      const options = [
        ...`${section('Options')}${section('Global Options')}`.matchAll(/^ +(?:-\w, )?(--[\w-]+)/gm),
      ];
      const commands = [...section('Commands').matchAll(/^ {2}([\w-]+)/gm)];
      expect(options.length).toBeGreaterThan(2);
      const at = ['tsrke', ...path].join(' ');
      const words = [...offered(shell, `${at} `), ...offered(shell, `${at} --`)];
      for (const [, word] of [...options, ...commands])
        if (command === '' || word !== '--version') expect(words).toContain(word);
    },
  );
});

test('another shell is refused, with those that there are', () => {
  const ran = spawnSync(process.execPath, [bin, 'completion', 'csh'], { encoding: 'utf8' });
  expect(ran).toMatchObject({ status: 3, stdout: '' });
  expect(ran.stderr).toMatch(/bash, zsh, fish/);
});
