/**
 * The command line: flags in, exit code out. Progress goes to stderr, results to stdout. What a command needs is
 * loaded by its action, so that `--help` and `--version` are there at once.
 */
import { readFileSync } from 'node:fs';
import { Argument, Command, CommanderError, Option } from 'commander';
import type { Action } from '../encryption/target.ts';
import type { Shell } from './completion.ts';
import { addConfigCommand, isConfigCommand } from './config-command.ts';
import { exitCodeOf, renderErrors } from './errors.ts';
import { addFileCommands } from './file-commands.ts';
import { addRemoveCommand } from './remove-command.ts';
import { addHelp, type ExitCode } from './help.ts';
import type { LabFlags } from './lab.ts';
import type { ValidateFlags } from './validate.ts';
import type { VerifyFlags } from './verify.ts';

interface CommonFlags {
  readonly config: string;
  readonly output: 'text' | 'json';
  readonly sshAgentAuth?: boolean;
  readonly ignoreDockerVersion?: boolean;
  readonly ignoreUnknownKeys?: boolean;
  readonly ifDue?: boolean;
  readonly keepOldKey?: boolean;
  readonly certDir?: string;
  readonly customCerts?: boolean;
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

// docker-modem would print every call with it, credentials and what containers are made of included.
delete process.env['DEBUG'];

// A reader that has gone away (`| head`) is no failure of the run.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

const program = new Command('tsrke')
  .description(
    'Kubernetes clusters on Docker hosts the RKE way, with encryption of secrets at rest done right',
  )
  .option('-d, --debug', 'show each SSH, Docker, kube and etcd call with its time; never key material')
  .helpOption('-h, --help', 'show this help; each command has its own')
  .helpCommand('help [command]', 'show the help of a command')
  .configureHelp({ showGlobalOptions: true })
  .exitOverride();

// `config --version` is RKE's, and names a version of Kubernetes: the program's own option would come before it.
if (!isConfigCommand(process.argv.slice(2))) {
  program.version(`tsrke ${version}`, '-v, --version', 'print the version');
}

const common = (
  command: Command,
  forms = 'text, or one JSON event a line on stdout',
  choices: readonly string[] = ['text', 'json'],
): Command =>
  command
    .addOption(
      new Option('--config <file>', 'the cluster; its state lies beside it')
        .env('RKE_CONFIG')
        .default('cluster.yml'),
    )
    .option('--ssh-agent-auth', 'use the SSH agent of SSH_AUTH_SOCK')
    .option('--ignore-docker-version', 'do not check the version of Docker on the nodes')
    .option('--ignore-unknown-keys', 'leave keys of cluster.yml that nobody knows alone, as RKE does')
    .addOption(new Option('--output <form>', forms).choices(choices).default('text'));

const longWork: readonly ExitCode[] = [0, 1, 3, 4, 130];

interface PlanFlags {
  readonly disablePortCheck?: boolean;
  readonly dryRun?: boolean;
  readonly out?: string;
  readonly plan?: string;
}

const isDebug = (): boolean => program.opts<{ debug?: boolean }>().debug === true;

async function changeCluster(command: string, flags: CommonFlags & PlanFlags, action: Action): Promise<void> {
  if (flags.dryRun === true && (action === 'up' || action === 'rotate')) {
    await showPlan(flags, action);
    return;
  }
  const debug = isDebug();
  const { run } = await import('./run.ts');
  const { logPathOf } = await import('./run-log.ts');
  const { statePathOf } = await import('../config/load.ts');
  const log = logPathOf(statePathOf(flags.config));
  await run({ command, version, output: flags.output, debug, log }, async (report, signal) => {
    const planned = flags.plan === undefined ? undefined : (await import('./plan.ts')).planned(flags.plan);
    const common = { ...loadOptions(flags), ...planned, report, signal };
    if ((planned?.action ?? action) === 'up') {
      const { up: bringUp } = await import('../provision/up.ts');
      const { certDirIn } = await import('./certificates.ts');
      const skipsPortCheck = flags.disablePortCheck === true;
      return await bringUp({ ...common, skipsPortCheck, certDir: certDirIn(flags) });
    }
    const { changeEncryption } = await import('../provision/encryption.ts');
    return await changeEncryption({
      ...common,
      action: planned?.action ?? action,
      ifDue: flags.ifDue === true,
      keepsOldKey: flags.keepOldKey === true,
    });
  });
}

async function showPlan(flags: CommonFlags & PlanFlags, action: 'up' | 'rotate'): Promise<void> {
  const { answer } = await import('./answer.ts');
  await answer({ output: flags.output, debug: isDebug() }, async (report, signal) => {
    const { certDirIn } = await import('./certificates.ts');
    const { lookAhead } = await import('./plan.ts');
    const certDir = certDirIn(flags);
    return await lookAhead({ ...loadOptions(flags), action, certDir, report, signal }, flags.out);
  });
}

function loadOptions(flags: CommonFlags) {
  return {
    configPath: flags.config,
    ...(flags.sshAgentAuth === true ? { sshAgentAuth: true as const } : {}),
    ...(flags.ignoreDockerVersion === true ? { ignoreDockerVersion: true } : {}),
    ignoreUnknownKeys: flags.ignoreUnknownKeys === true,
  };
}

const certificates = (command: Command): Command =>
  command
    .option('--custom-certs', 'take certificates of a CA of your own: see `tsrke cert generate-csr`')
    .option('--cert-dir <dir>', 'where they are (default: cluster_certs, beside cluster.yml)');

const up = certificates(common(program.command('up')))
  .description('bring the cluster to what cluster.yml says; makes it on bare hosts')
  .option('--disable-port-check', 'do not try whether hosts reach each other before they are set up')
  .option('--dry-run', 'show what it would do, as `tsrke plan` does; changes nothing')
  .addOption(new Option('--out <file>', 'keep the plan of a dry run').implies({ dryRun: true }))
  .addOption(
    new Option(
      '--plan <file>',
      'carry out this plan, or refuse where the cluster is another by now',
    ).conflicts(['dryRun', 'out']),
  )
  .action((flags: CommonFlags & PlanFlags) => changeCluster('up', flags, 'up'));
addHelp(up, {
  examples: [
    ['tsrke up', 'the cluster of ./cluster.yml'],
    ['tsrke up --config prod.yml', 'another one; its state is prod.rkestate'],
    ['tsrke up --plan plan.json', 'what was approved, and nothing else'],
    ['tsrke up --custom-certs', 'with certificates of a CA of your own'],
    ['tsrke up --output json | jq .type', 'for scripts'],
  ],
  exitCodes: [0, 1, 2, 3, 4, 130],
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more:
    'Run it again after anything that went wrong: it looks at the nodes and\n' +
    'continues from what is there.',
});

const plan = certificates(common(program.command('plan'), 'text, or one JSON document'))
  .description('what `tsrke up` would do: steps per node, restarts, objects, time; changes nothing')
  .option('--out <file>', 'keep the plan for `tsrke up --plan`')
  .action((flags: CommonFlags & PlanFlags) => showPlan(flags, 'up'));
addHelp(plan, {
  examples: [
    ['tsrke plan', 'exit code 2: there is something to do'],
    ['tsrke plan --out plan.json', 'then `tsrke up --plan plan.json`'],
    ['tsrke plan --output json | jq .steps', 'for scripts'],
  ],
  exitCodes: [0, 1, 2, 3, 4],
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more: 'For a rotation: `tsrke encrypt rotate-key --dry-run`.',
});

const encrypt = program.command('encrypt').description('encryption of secrets at rest');
addHelp(encrypt, {
  examples: [
    ['tsrke encrypt status', 'what is so, and what to do'],
    ['tsrke encrypt verify', 'prove that all is as it should be'],
    ['tsrke encrypt rotate-key', 'a new key for all secrets'],
    ['tsrke encrypt resume', 'finish what was cut off'],
  ],
});

const rotateKey = common(encrypt.command('rotate-key'))
  .description('make a new key, rewrite all secrets with it, prove it, retire the old key')
  .addOption(new Option('--if-due', 'do nothing before the key has reached max_key_age').conflicts('dryRun'))
  .option('--dry-run', 'show what it would do; changes nothing')
  .addOption(
    new Option('--out <file>', 'keep the plan of a dry run for `tsrke up --plan`').implies({ dryRun: true }),
  )
  .action((flags: CommonFlags & PlanFlags) => changeCluster('encrypt rotate-key', flags, 'rotate'));
addHelp(rotateKey, {
  examples: [
    ['tsrke encrypt rotate-key', 'the cluster of ./cluster.yml'],
    ['tsrke encrypt rotate-key --if-due', 'nightly: once max_key_age is over'],
    ['tsrke encrypt rotate-key --dry-run', 'what it would do'],
    ['tsrke encrypt rotate-key --output json', 'for scripts'],
  ],
  exitCodes: [0, 1, 2, 3, 4, 130],
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more:
    'The old key stays in the state file: old snapshots of etcd need it. A rotation\n' +
    'that was cut off is finished by the same command, which makes no second key.\n' +
    'A key that a KMS keeps is rotated there first; this follows, without a restart.',
});

const resume = common(encrypt.command('resume'))
  .description('finish the change that was cut off, whatever cluster.yml says by now; no key is made')
  .action((flags: CommonFlags) => changeCluster('encrypt resume', flags, 'resume'));
addHelp(resume, {
  examples: [['tsrke encrypt resume', 'go on with what an interrupted run began']],
  exitCodes: longWork,
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more: 'Without an open change it does nothing and says so (exit code 3).',
});

const prepare = common(encrypt.command('prepare'))
  .description('first step of a rotation: a new key, readable on every node; nothing is written with it')
  .action((flags: CommonFlags) => changeCluster('encrypt prepare', flags, 'prepare'));
const swap = common(encrypt.command('rotate'))
  .description('second step: the prepared key becomes the write key on every node')
  .action((flags: CommonFlags) => changeCluster('encrypt rotate', flags, 'swap'));
const reencrypt = common(encrypt.command('reencrypt'))
  .description('last step: rewrite everything, prove it, remove the old key')
  .option('--keep-old-key', 'leave the old key readable; the same command without it removes it')
  .action((flags: CommonFlags) => changeCluster('encrypt reencrypt', flags, 'reencrypt'));
for (const [step, examples] of [
  [prepare, [['tsrke encrypt prepare', 'then `tsrke encrypt rotate`']]],
  [swap, [['tsrke encrypt rotate', 'then `tsrke encrypt reencrypt`']]],
  [
    reencrypt,
    [
      ['tsrke encrypt reencrypt', 'the rotation is finished'],
      ['tsrke encrypt reencrypt --keep-old-key', 'all but the removal of the old key'],
    ],
  ],
] as const) {
  addHelp(step, {
    examples,
    exitCodes: longWork,
    environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
    more:
      'For a person between the steps; `tsrke encrypt rotate-key` takes them all, or those\n' +
      'that are left. Between them `tsrke up` repairs, and takes none.',
  });
}

const abort = common(encrypt.command('abort'))
  .description('go back to what was in force before the open change; every key stays readable meanwhile')
  .action((flags: CommonFlags) => changeCluster('encrypt abort', flags, 'abort'));
addHelp(abort, {
  examples: [['tsrke encrypt abort', 'take back a rotation, an enable or a disable that is under way']],
  exitCodes: longWork,
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more:
    'The write key is swapped back and what was rewritten is rewritten again. An\n' +
    'abort that was cut off is finished by the same command.',
});

const status = common(encrypt.command('status'), 'text, or one JSON document')
  .description('who has what, what etcd holds under which key, and what is open; changes nothing')
  .option('--check', 'exit with 2 where anything is not as the state and cluster.yml say')
  .action(async (flags: CommonFlags & { check?: boolean }) => {
    const { answer } = await import('./answer.ts');
    await answer({ output: flags.output, debug: isDebug() }, async (report, signal) => {
      const { readStatus } = await import('../provision/status.ts');
      const { statusView } = await import('./status-view.ts');
      const seen = await readStatus({ ...loadOptions(flags), report, signal });
      return {
        text: (paint, width) => statusView(seen, paint, width),
        document: { type: 'encryption-status', ...seen },
        exitCode: flags.check === true && !seen.asItShouldBe ? 2 : 0,
      };
    });
  });
addHelp(status, {
  examples: [
    ['tsrke encrypt status', 'the cluster of ./cluster.yml'],
    ['tsrke encrypt status --check', 'for monitoring'],
    ['tsrke encrypt status --output json', 'for scripts'],
  ],
  exitCodes: [0, 1, 2, 3, 4],
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more:
    'It takes no lock and writes nothing, so it works at any time: beside a run that\n' +
    'is at work, with nodes down, and while no kube-apiserver serves.',
});

const verify = common(encrypt.command('verify'), 'text, one JSON document, or Markdown', [
  'text',
  'json',
  'markdown',
])
  .description(
    'the full proof, read-only: files, what is loaded, keys, etcd, each object through each server',
  )
  .option('--report <file>', 'keep the report, too: .json and .md in that form, else as text')
  .action(async (flags: Omit<CommonFlags, 'output'> & VerifyFlags) => {
    const { answer } = await import('./answer.ts');
    const output = flags.output === 'json' ? 'json' : 'text';
    await answer({ output, debug: isDebug() }, async (report, signal) => {
      const prove = await import('./verify.ts');
      return await prove.verify(loadOptions({ ...flags, output }), flags, report, signal);
    });
  });
addHelp(verify, {
  examples: [
    ['tsrke encrypt verify', 'the cluster of ./cluster.yml'],
    ['tsrke encrypt verify --report proof.md', 'and a report to file'],
    ['tsrke encrypt verify --output json', 'for scripts'],
  ],
  exitCodes: [0, 1, 2, 3, 4],
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more:
    'It reads metadata only: kube-apiserver decrypts, and what it decrypts stays there.\n' +
    'Exit code 1: it could not be done, e.g. etcd cannot be read. 0 means proved.',
});

const validate = common(encrypt.command('validate'))
  .description('judge custom_config, or a provider file, as kube-apiserver would; reaches no node')
  .option('--file <file>', "a provider file, instead of cluster.yml's custom_config")
  .option('--kubernetes-version <version>', 'such as v1.30; default: that of cluster.yml')
  .action(async (flags: ValidateFlags) => {
    const judge = await import('./validate.ts');
    process.exitCode = judge.validate(flags, (line) => process.stdout.write(`${line}\n`));
  });
addHelp(validate, {
  examples: [
    ['tsrke encrypt validate', 'the custom_config of ./cluster.yml'],
    ['tsrke encrypt validate --file provider.yaml --kubernetes-version v1.30', 'any provider file'],
  ],
  exitCodes: [0, 3],
  environment: ['RKE_CONFIG'],
  more: 'What it refuses kube-apiserver would refuse at its start, in the same words.',
});

addConfigCommand(program);
const means = { common, isDebug, loadOptions, version };
addFileCommands(program, means);
addRemoveCommand(program, means);

const lab = program
  .command('lab')
  .description('a cluster in memory to try tsrke on, without root or Docker; serves until interrupted')
  .option('--controlplane <n>', 'how many nodes, up to 100; etcd runs on the first 1, 3 or 5', '3')
  .option('--secrets <n>', 'how many Secrets lie in it', '200')
  .option('--dir <dir>', 'folder for its cluster.yml (default: a temporary one, removed at the end)')
  .option('--rehearse <file>', 'a twin of the cluster of this cluster.yml and the state beside it')
  .action(async (flags: LabFlags) => {
    const { serveLab } = await import('./lab.ts');
    await serveLab(flags);
  });
addHelp(lab, {
  examples: [
    ['tsrke lab', 'three nodes and 200 Secrets; it prints what to try'],
    ['tsrke lab --rehearse prod.yml', 'a twin of your own cluster, with keys of its own'],
  ],
  exitCodes: [0, 3],
  environment: ['NO_COLOR'],
  more: 'Nothing of a lab outlives it, and nothing in it is your cluster’s.',
});

const completion = program
  .command('completion')
  .description('print a script that lets your shell complete commands, options and files')
  .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
  .action(async (shell: Shell) => {
    const { completionScript } = await import('./completion.ts');
    process.stdout.write(completionScript(shell, program));
  });
addHelp(completion, {
  examples: [
    ['source <(tsrke completion bash)', 'in ~/.bashrc; zsh alike'],
    ['tsrke completion zsh > "${fpath[1]}/_tsrke"', 'for every zsh of yours'],
    ['tsrke completion fish > ~/.config/fish/completions/tsrke.fish', 'for fish'],
  ],
  exitCodes: [0, 3],
});

program
  .command('version')
  .description('print the version')
  .action(() => {
    process.stdout.write(`tsrke ${version}\n`);
  });

addHelp(program, {
  examples: [
    ['tsrke up --config cluster.yml', 'encrypt secrets, if cluster.yml says so'],
    ['tsrke encrypt rotate-key', 'a new key for all secrets'],
    ['tsrke up --help', 'more about one command'],
  ],
  exitCodes: [0, 1, 2, 3, 4, 130],
  environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
  more:
    'cluster.yml and cluster.rkestate are those of RKE1. Progress goes to stderr,\n' + 'results to stdout.',
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has said it already; a wrong command line is wrong input.
    process.exitCode = error.exitCode === 0 ? 0 : 3;
  } else {
    process.stderr.write(`${renderErrors(error)}\n`);
    process.exitCode = exitCodeOf(error, false);
  }
}
