/** The command line of `tsrke config`; what it prints is loaded by its action. */
import { Option } from 'commander';
import type { Command } from 'commander';
import type { ConfigFlags } from './config.ts';
import { addHelp } from './help.ts';

/** Options before the command take no values, so the first other word is the command. */
export function isConfigCommand(words: readonly string[]): boolean {
  return words.find((word) => !word.startsWith('-')) === 'config';
}

export function addConfigCommand(program: Command): void {
  const config = program
    .command('config')
    .description('print what the catalogue of Kubernetes versions holds; reaches no node')
    .addOption(
      new Option('-s, --system-images', 'the images of a version, one a line, to mirror them').conflicts(
        'listVersion',
      ),
    )
    .option('-l, --list-version', 'the version that is taken when cluster.yml names none')
    .option('-a, --all', 'of the newest version of each minor version')
    .addOption(
      new Option('--version <version>', 'of Kubernetes, such as v1.29.9-rancher1-1').conflicts([
        'all',
        'listVersion',
      ]),
    )
    .action(async (flags: ConfigFlags) => {
      const { configList } = await import('./config.ts');
      process.stdout.write(`${configList(flags).join('\n')}\n`);
    });
  addHelp(config, {
    examples: [
      ['tsrke config --system-images', 'for a registry of your own'],
      ['tsrke config --system-images --version v1.29.9-rancher1-1', 'those of another version'],
      ['tsrke config --list-version --all', 'which versions there are'],
    ],
    exitCodes: [0, 3],
  });
}
