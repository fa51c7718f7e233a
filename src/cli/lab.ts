/** `tsrke lab`: a cluster in this process's memory to try tsrke on, or to rehearse a real one's next step. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { TsrkeError } from '../errors.ts';
import { labMark } from '../lab/cluster-files.ts';
import { describeStored, storedSecrets } from '../lab/etcd-view.ts';
import { startLab, type Lab } from '../lab/lab.ts';
import { shapeOf, type Shape } from '../lab/rehearsal.ts';
import { example } from '../lab/seed.ts';
import { colours, type Colours } from './colours.ts';

export interface LabFlags {
  readonly controlplane: string;
  readonly secrets: string;
  readonly dir?: string;
  readonly rehearse?: string;
}

/** Serves until the process is interrupted. */
export async function serveLab(flags: LabFlags): Promise<void> {
  const secrets = numberOf(flags.secrets, '--secrets', 0, 100_000);
  const shape: Shape =
    flags.rehearse === undefined
      ? { controlplane: numberOf(flags.controlplane, '--controlplane', 1, 100) }
      : shapeOf(flags.rehearse);
  // Ends like any server: what main.ts does for a run, finishing the step in hand, is not for this.
  const interrupted = new Promise<void>((end) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.removeAllListeners(signal).on(signal, () => end());
    }
  });
  const dir = flags.dir === undefined ? mkdtempSync(join(tmpdir(), 'tsrke-lab-')) : ownFolder(flags.dir);
  try {
    const lab = await startLab({ ...shape, dir, secrets });
    const paint = colours(process.stdout);
    const say = (text: string) => process.stdout.write(`${text}\n`);
    say(await introduction(lab, paint, flags.rehearse));
    const stop = watchEtcd(lab, say);
    await interrupted;
    stop();
    lab.close();
    say(`\nThe lab has ended${flags.dir === undefined ? `; ${dir} is removed` : ''}.`);
  } finally {
    if (flags.dir === undefined) rmSync(dir, { recursive: true, force: true });
  }
}

async function introduction(
  lab: Lab,
  { bold, dim }: Colours,
  rehearsed: string | undefined,
): Promise<string> {
  const names = lab.model.nodes.map(({ name }) => name);
  const [first = ''] = names;
  const tsrke = basename(process.argv[1] ?? '') === 'tsrke' ? 'tsrke' : `node ${process.argv[1] ?? 'tsrke'}`;
  const change = (from: boolean, to: boolean) =>
    `sed -i.bak 's/enabled: ${from}/enabled: ${to}/' cluster.yml && ${tsrke} up`;
  const look = `docker exec etcd etcdctl get /registry/secrets/${example.namespace}/${example.name}`;
  const stored = describeStored(await storedSecrets(lab.model.etcd));
  return [
    rehearsed === undefined
      ? bold(`A lab with ${names.length} controlplane ${names.length === 1 ? 'node' : 'nodes'} is up.`)
      : bold(`A twin of the cluster in ${rehearsed} is up: ${names.join(', ')}.`),
    rehearsed === undefined
      ? 'It lives in the memory of this process; nothing else on this machine is touched.'
      : 'It has the names, the version and the encryption of yours, and keys and certificates of its own.',
    '',
    `cluster.yml   ${lab.config}`,
    `in etcd       ${stored.join(', ')}`,
    '',
    'In a second terminal:',
    '',
    `  ${bold(`cd ${lab.dir}`)}`,
    ...(rehearsed === undefined
      ? [
          ['enable encryption', change(false, true)],
          ['who has what, and what etcd holds', `${tsrke} encrypt status`],
          ['rotate the key', `${tsrke} encrypt rotate-key`],
          ['prove it', `${tsrke} encrypt verify`],
          ['disable it again', change(true, false)],
        ]
      : [
          ['what a run would do', `${tsrke} plan`],
          ['what your cluster.yml asks for', `${tsrke} up`],
          ['rotate the key', `${tsrke} encrypt rotate-key`],
        ]
    ).flatMap(([title = '', command = '']) => [`  ${dim(`# ${title}`)}`, `  ${command}`]),
    `  ${dim('# look into etcd, with tools that are not tsrke')}`,
    `  ssh -F ssh_config ${first} ${look} | head -c 300 | strings`,
    '',
    dim('Ctrl-C ends the lab. What lies in etcd is told whenever it changes:'),
  ].join('\n');
}

/** Tells what is stored once it has changed, at most once a second. */
function watchEtcd({ model }: Lab, say: (text: string) => unknown): () => void {
  let told: string | undefined;
  let revision = -1;
  const look = async () => {
    if (model.store.revision === revision) return;
    revision = model.store.revision;
    const now = describeStored(await storedSecrets(model.etcd)).join(', ');
    if (told !== undefined && now !== told) say(`${new Date().toTimeString().slice(0, 8)}  ${now}`);
    told = now;
  };
  // While no member of etcd answers there is nothing to tell.
  const timer = setInterval(() => void look().catch(() => undefined), 1_000);
  void look().catch(() => undefined);
  return () => clearInterval(timer);
}

function numberOf(text: string, flag: string, from: number, to: number): number {
  const number = Number(text);
  if (text !== '' && Number.isInteger(number) && number >= from && number <= to) return number;
  throw new TsrkeError('CONFIG_INVALID', `${flag} ${text} is not a whole number from ${from} to ${to}`);
}

/** A folder of the user's: made if it is missing; a cluster.yml or state in it that no lab has written is left alone. */
function ownFolder(dir: string): string {
  const folder = resolve(dir);
  mkdirSync(folder, { recursive: true });
  const config = join(folder, 'cluster.yml');
  const ours = existsSync(config) && readFileSync(config, 'utf8').startsWith(labMark);
  const taken = ['cluster.yml', 'cluster.rkestate', 'id_ed25519'].find((name) =>
    existsSync(join(folder, name)),
  );
  if (taken !== undefined && !ours) {
    throw new TsrkeError('CONFIG_INVALID', `${join(folder, taken)} is there already and is not a lab's`, {
      next: 'give an empty folder with --dir',
    });
  }
  // A state of the lab before would not fit to this one's nodes.
  if (ours) rmSync(join(folder, 'cluster.rkestate.backup'), { force: true });
  return folder;
}
