/** The command line: flags in, exit code out. Progress goes to stderr, results to stdout. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Action } from '../encryption/target.ts';
import { changeEncryption } from '../provision/encryption.ts';
import { renderError } from './errors.ts';
import type { LabFlags } from './lab.ts';
import { plainReport } from './report.ts';
import { terminalReport } from './terminal-report.ts';

interface CommonFlags {
  readonly config: string;
  readonly sshAgentAuth?: boolean;
  readonly ignoreDockerVersion?: boolean;
  readonly ignoreUnknownKeys?: boolean;
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const stop = new AbortController();
let interrupts = 0;
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    interrupts += 1;
    if (interrupts > 1) process.exit(130);
    process.stderr.write('interrupted: finishing the step in hand (again: stop at once)\n');
    stop.abort(
      new TsrkeError('INTERRUPTED', 'interrupted', {
        next: 'run the same command again; it continues from here',
      }),
    );
  });
}
// A reader that has gone away (`| head`) is no failure of the run.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

const program = new Command('tsrke')
  .description('RKE-style Kubernetes cluster provisioning whose heart is encryption of secrets at rest')
  .version(`tsrke ${version}`, '-v, --version', 'print the version')
  .option('-d, --debug', 'show each SSH, Docker, kube and etcd call with its time; never key material')
  .exitOverride();

const common = (command: Command): Command =>
  command
    .option('--config <file>', 'cluster.yml (or RKE_CONFIG)', process.env['RKE_CONFIG'] ?? 'cluster.yml')
    .option('--ssh-agent-auth', 'use the SSH agent of SSH_AUTH_SOCK')
    .option('--ignore-docker-version', 'do not check the version of Docker on the nodes')
    .option('--ignore-unknown-keys', 'leave keys of cluster.yml that nobody knows alone, as RKE does');

async function run(flags: CommonFlags, action: Action): Promise<void> {
  const debug = program.opts<{ debug?: boolean }>().debug === true;
  const report =
    // A terminal without a size (some CI runners have one) cannot be redrawn.
    process.stderr.isTTY && process.stderr.rows > 0 && !debug
      ? terminalReport(process.stderr)
      : plainReport({ write: (line) => process.stderr.write(`${line}\n`), debug });
  const result = await changeEncryption({
    configPath: flags.config,
    action,
    report,
    signal: stop.signal,
    ...(flags.sshAgentAuth === true ? { sshAgentAuth: true as const } : {}),
    ...(flags.ignoreDockerVersion === true ? { ignoreDockerVersion: true } : {}),
    ignoreUnknownKeys: flags.ignoreUnknownKeys === true,
  });
  process.stdout.write(`${result}\n`);
}

common(program.command('up'))
  .description('bring the cluster to what cluster.yml says (this version: encryption of secrets)')
  .action((flags: CommonFlags) => run(flags, 'up'));

const encrypt = program.command('encrypt').description('encryption of secrets at rest');
common(encrypt.command('rotate-key'))
  .description('make a new key, rewrite all secrets with it, prove it, retire the old key')
  .action((flags: CommonFlags) => run(flags, 'rotate'));
common(encrypt.command('resume'))
  .description('finish the change that was cut off, whatever cluster.yml says by now; no key is made')
  .action((flags: CommonFlags) => run(flags, 'resume'));
common(encrypt.command('abort'))
  .description(
    'go back to what was in force before the open change; all keys stay readable until etcd shows no need',
  )
  .action((flags: CommonFlags) => run(flags, 'abort'));

program
  .command('lab')
  .description('a cluster in memory to try tsrke on, without root or Docker; serves until interrupted')
  .option('--controlplane <n>', 'how many nodes: 1, 3 or 5', '3')
  .option('--secrets <n>', 'how many Secrets lie in it', '200')
  .option('--dir <dir>', 'folder for its cluster.yml (default: a temporary one, removed at the end)')
  .option('--rehearse <file>', 'a twin of the cluster of this cluster.yml and the state beside it')
  .action(async (flags: LabFlags) => {
    // Only here: no other command should wait for the servers to load.
    const { serveLab } = await import('./lab.ts');
    await serveLab(flags);
  });

program
  .command('version')
  .description('print the version')
  .action(() => {
    process.stdout.write(`tsrke ${version}\n`);
  });

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has said it already; a wrong command line is wrong input.
    process.exitCode = error.exitCode === 0 ? 0 : 3;
  } else {
    const known = error instanceof AggregateError ? (error.errors as unknown[]) : [error];
    for (const each of known) process.stderr.write(`${renderError(each)}\n`);
    const codes = known.map((each) => (each instanceof TsrkeError ? each.exitCode : 1));
    process.exitCode = stop.signal.aborted ? 130 : codes.includes(1) ? 1 : (codes[0] ?? 1);
    if (known.some((each) => !(each instanceof TsrkeError))) {
      process.stderr.write(`this is a bug of tsrke: ${messageOf(error)}\n`);
    }
  }
}
