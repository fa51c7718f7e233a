/** The command line of `tsrke config`; what it asks and prints is loaded by its action. */
import { Option } from 'commander';
import type { Command } from 'commander';
import type { ConfigFlags } from './config.ts';
import { addHelp } from './help.ts';
import type { NewConfigFlags } from './new-config.ts';

/** Options before the command take no values, so the first other word is the command. */
export function isConfigCommand(words: readonly string[]): boolean {
  return words.find((word) => !word.startsWith('-')) === 'config';
}

export function addConfigCommand(program: Command): void {
  const lists = ['systemImages', 'listVersion'];
  const config = program
    .command('config')
    .description('ask for what a cluster.yml needs and write it, or print lists; reaches no node')
    .option('-n, --name <file>', 'the file to write', 'cluster.yml')
    .addOption(
      new Option('-e, --empty', 'ask nothing: all that a cluster.yml may have, commented out').conflicts(
        lists,
      ),
    )
    .addOption(new Option('-p, --print', 'print it instead of writing a file').conflicts(lists))
    .addOption(
      new Option('-s, --system-images', 'the images of a version, one a line, to mirror them').conflicts(
        'listVersion',
      ),
    )
    .option('-l, --list-version', 'the version that is taken when cluster.yml names none')
    .option('-a, --all', 'with a list: of the newest version of each minor version')
    .addOption(
      new Option('--version <version>', 'of Kubernetes, such as v1.29.9-rancher1-1').conflicts([
        'all',
        'listVersion',
      ]),
    )
    .action(async (flags: ConfigFlags & NewConfigFlags) => {
      if (flags.systemImages !== true && flags.listVersion !== true && flags.all !== true) {
        const { newConfig } = await import('./new-config.ts');
        await newConfig(flags);
        return;
      }
      const { configList } = await import('./config.ts');
      process.stdout.write(`${configList(flags).join('\n')}\n`);
    });
  addHelp(config, {
    examples: [
      ['tsrke config', "RKE's questions; an empty answer takes what stands in brackets"],
      ['tsrke config --name prod.yml < answers', 'answers from a file, one a line'],
      ['tsrke config --empty --print', 'what a cluster.yml may have'],
      ['tsrke config --system-images', 'for a registry of your own'],
      ['tsrke config --system-images --version v1.29.9-rancher1-1', 'those of another version'],
      ['tsrke config --list-version --all', 'which versions there are'],
    ],
    exitCodes: [0, 3, 130],
    more:
      'A file that is there is replaced only where somebody at a terminal says so. After\n' +
      'Ctrl-C nothing is written.',
  });
}
