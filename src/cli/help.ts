/** What stands below the options in each command's --help. */
import type { Command } from 'commander';

export interface Help {
  /** Command line, and what it does in a few words. */
  readonly examples: readonly (readonly [command: string, does: string])[];
  readonly exitCodes?: readonly ExitCode[];
  readonly environment?: readonly (keyof typeof variables)[];
  readonly more?: string;
}

export type ExitCode = keyof typeof codes;

const codes = {
  0: 'done, or nothing to do',
  1: 'failed; the message says what was done and what to do next',
  2: 'not all is as it should be, or there is something to do',
  3: 'the input is wrong; nothing was touched',
  4: 'locked by another run, or the state file is missing or stale',
  130: 'interrupted, after the step in hand; the same command continues',
} as const;

const variables = {
  RKE_CONFIG: 'the path of cluster.yml when --config is not given',
  SSH_AUTH_SOCK: 'the socket of the SSH agent, for --ssh-agent-auth',
  NO_COLOR: 'set to anything: no colours',
} as const;

/** Puts examples, exit codes and environment variables below the options. */
export function addHelp(
  command: Command,
  { examples, exitCodes = [], environment = [], more }: Help,
): Command {
  const width = Math.max(...examples.map(([line]) => line.length));
  const parts = [
    section(
      'Examples',
      examples.map(([line, does]) => `${line.padEnd(width)}  # ${does}`),
    ),
    section('Exit codes', table(exitCodes.map((code) => [String(code), codes[code]]))),
    section('Environment', table(environment.map((name) => [name, variables[name]]))),
    ...(more === undefined ? [] : [more]),
  ];
  return command.addHelpText('after', `\n${parts.filter((part) => part !== '').join('\n\n')}`);
}

function section(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? '' : [`${title}:`, ...lines.map((line) => `  ${line}`)].join('\n');
}

function table(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, meaning]) => `${name.padEnd(width)}  ${meaning}`);
}
