/** `tsrke cert` and `tsrke util`: files of a cluster that its operator keeps. */
import { InvalidArgumentError, Option, type Command } from 'commander';
import { rotatedServices, type RotatedService } from '../certificates/rotation.ts';
import type { LoadOptions } from '../config/load.ts';
import type { RequestFlags } from './certificates.ts';
import { addHelp } from './help.ts';

interface ClusterFlags {
  readonly config: string;
  readonly output: 'text' | 'json';
}

/** What all commands share. */
export interface Means<Flags extends ClusterFlags> {
  /** The options that each command with a cluster has. */
  readonly common: (command: Command) => Command;
  readonly loadOptions: (flags: Flags) => LoadOptions & { readonly configPath: string };
  readonly isDebug: () => boolean;
  readonly version: string;
}

export function addFileCommands<Flags extends ClusterFlags>(program: Command, means: Means<Flags>): void {
  addCert(program, means);
  addUtil(program, means);
}

interface RotateFlags {
  readonly service: readonly RotatedService[];
  readonly rotateCa?: boolean;
  readonly pause?: boolean;
}

function addCert<Flags extends ClusterFlags>(program: Command, means: Means<Flags>): void {
  const cert = program.command('cert').description('certificates of the cluster');
  addHelp(cert, {
    examples: [
      ['tsrke cert rotate', 'new certificates everywhere'],
      ['tsrke cert generate-csr', 'requests for a CA of your own'],
    ],
  });

  const rotate = means
    .common(cert.command('rotate'))
    .description('new keys and certificates for services, or new CAs for all of them, node after node')
    .addOption(
      new Option('--service <name>', 'only this service; can be given again')
        .argParser((name: string, before: readonly string[]) => [...before, serviceNamed(name)])
        .default([], 'all services'),
    )
    .addOption(
      new Option('--rotate-ca', 'new CAs as well, trusted everywhere before they sign').conflicts('service'),
    )
    .addOption(
      new Option('--pause', 'stop once the new CAs are trusted; without it the same command goes on')
        .implies({ rotateCa: true })
        .conflicts('service'),
    )
    .action(async (flags: Flags & RotateFlags) => {
      const { run } = await import('./run.ts');
      const { isDebug, loadOptions, version } = means;
      const options = { command: 'cert rotate', version, output: flags.output, debug: isDebug() };
      await run(options, async (report, signal) => {
        if (flags.rotateCa === true) {
          const { rotateCas } = await import('../provision/ca-rotate.ts');
          return await rotateCas({ ...loadOptions(flags), pauses: flags.pause === true, report, signal });
        }
        const { rotateCertificates } = await import('../provision/cert-rotate.ts');
        const rotation = { services: flags.service };
        return await rotateCertificates({ ...loadOptions(flags), rotation, report, signal });
      });
    });
  addHelp(rotate, {
    examples: [
      ['tsrke cert rotate', 'all of them'],
      ['tsrke cert rotate --service kubelet --service etcd', 'those of two services'],
      ['tsrke cert rotate --rotate-ca --pause', 'new CAs, first half; then restart pods'],
      ['tsrke cert rotate --rotate-ca', 'new CAs, or the second half'],
    ],
    exitCodes: [0, 1, 3, 4, 130],
    environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
    more:
      'What signs service account tokens stays: every token hangs on it. Run the same\n' +
      'command again after anything that went wrong: it finishes what was begun.\n' +
      'New CAs take three rounds of restarts; pods that read ca.crt only at their start\n' +
      'must be restarted between the first two: that is what --pause is for.',
  });

  const generateCsr = cert
    .command('generate-csr')
    .description(
      'keys and requests for the certificates of the cluster, for a CA of your own; reaches no node',
    )
    .addOption(
      new Option('--config <file>', 'the cluster they are for').env('RKE_CONFIG').default('cluster.yml'),
    )
    .option('--cert-dir <dir>', 'where they are kept (default: cluster_certs, beside cluster.yml)')
    .option('--ignore-unknown-keys', 'leave keys of cluster.yml that nobody knows alone, as RKE does')
    .action(async (flags: RequestFlags) => {
      const { generateRequests } = await import('./certificates.ts');
      process.stdout.write(`${await generateRequests(flags)}\n`);
    });
  addHelp(generateCsr, {
    examples: [
      ['tsrke cert generate-csr', 'into ./cluster_certs'],
      ['tsrke cert generate-csr --cert-dir ca/in', 'somewhere else'],
    ],
    exitCodes: [0, 1, 3],
    environment: ['RKE_CONFIG'],
    more:
      'Run it again after a change of cluster.yml: keys stay, and so do requests that\n' +
      'still ask for the right names.',
  });
}

function serviceNamed(name: string): RotatedService {
  const found = rotatedServices.find((each) => each === name);
  if (found !== undefined) return found;
  throw new InvalidArgumentError(`It is one of ${rotatedServices.join(', ')}.`);
}

function addUtil<Flags extends ClusterFlags>(program: Command, means: Means<Flags>): void {
  const util = program.command('util').description('files of the cluster, brought back');
  addHelp(util, {
    examples: [
      ['tsrke util get-state-file', 'cluster.rkestate, out of the cluster'],
      ['tsrke util get-kubeconfig', 'kube_config_cluster.yml'],
    ],
  });

  const getState = means
    .common(util.command('get-state-file'))
    .description(
      'the state file, from the copy that the cluster itself keeps; needs SSH to a controlplane node',
    )
    .action((flags: Flags) => getFile('state-file', flags, means));
  addHelp(getState, {
    examples: [['tsrke util get-state-file', 'the state is lost, cluster.yml is there']],
    exitCodes: [0, 1, 3, 4, 130],
    environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
    more:
      'A state file that is there becomes cluster.rkestate.backup, and is left alone\n' +
      'where it is the newer one.',
  });

  const getAdmin = means
    .common(util.command('get-kubeconfig'))
    .description('the kubeconfig of the admin, out of the state, or out of the cluster where there is none')
    .action((flags: Flags) => getFile('kubeconfig', flags, means));
  addHelp(getAdmin, {
    examples: [['tsrke util get-kubeconfig', 'writes ./kube_config_cluster.yml']],
    exitCodes: [0, 1, 3, 4, 130],
    environment: ['RKE_CONFIG', 'SSH_AUTH_SOCK', 'NO_COLOR'],
    more: 'It leads to the first controlplane node whose port 6443 can be reached from here.',
  });
}

async function getFile<Flags extends ClusterFlags>(
  what: 'state-file' | 'kubeconfig',
  flags: Flags,
  { isDebug, loadOptions, version }: Means<Flags>,
): Promise<void> {
  const { run } = await import('./run.ts');
  const options = { command: `util get-${what}`, version, output: flags.output, debug: isDebug() };
  await run(options, async (report, signal) => {
    const { getKubeconfig, getStateFile } = await import('../provision/get-files.ts');
    const { statePathOf } = await import('../config/load.ts');
    const { fileStore } = await import('../state/store.ts');
    const get = what === 'kubeconfig' ? getKubeconfig : getStateFile;
    return await get({ ...loadOptions(flags), store: fileStore(statePathOf(flags.config)), report, signal });
  });
}
