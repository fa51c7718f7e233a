/** `tsrke remove`: the one command that asks before it does anything. */
import { createInterface } from 'node:readline/promises';
import { Option, type Command } from 'commander';
import { TsrkeError } from '../errors.ts';
import type { Means } from './file-commands.ts';
import { addHelp } from './help.ts';

interface RemoveFlags {
  readonly config: string;
  readonly output: 'text' | 'json';
  readonly force?: boolean;
}

export function addRemoveCommand<Flags extends RemoveFlags>(program: Command, means: Means<Flags>): void {
  const { common, isDebug, loadOptions, version } = means;
  const remove = common(program.command('remove'))
    .description('take the cluster off its hosts: containers, certificates, the data of etcd')
    .addOption(new Option('--force', 'do not ask'))
    .action(async (flags: Flags) => {
      const { run } = await import('./run.ts');
      const options = { command: 'remove', version, output: flags.output, debug: isDebug() };
      await run(options, async (report, signal) => {
        const { remove: takeOff } = await import('../provision/remove.ts');
        const confirm =
          flags.force === true ? () => Promise.resolve(true) : (what: string) => ask(what, signal);
        return await takeOff({ ...loadOptions(flags), confirm, report, signal });
      });
    });
  addHelp(remove, {
    examples: [
      ['tsrke remove', 'says what goes, and asks'],
      ['tsrke remove --force', 'in a pipeline'],
    ],
    exitCodes: [0, 1, 3, 4, 130],
    environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
    more:
      'Snapshots in /opt/rke/etcd-snapshots stay, and the state file under another name:\n' +
      'they need its keys. So do images, and audit logs. All hosts have to be reached, or\n' +
      'nothing is done.',
  });
}

/** As RKE: anything but `y` is no. Throws CONFIG_INVALID where nobody can be asked. */
async function ask(what: string, signal: AbortSignal): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new TsrkeError('CONFIG_INVALID', `this would remove ${what}, and there is no terminal to ask at`, {
      next: 'give --force if that is wanted; nothing was touched',
    });
  }
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await lines.question(`remove ${what}? [y/n] `, { signal });
    return /^y$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}
