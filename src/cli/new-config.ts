/** `tsrke config` without a list: makes a cluster.yml of answers, or an empty one. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import writeFileAtomic from 'write-file-atomic';
import { interview, isYes, refuseVersion } from '../config/interview.ts';
import { configOf } from '../config/load.ts';
import { clusterYaml, emptyYaml } from '../config/new-config.ts';
import { messageOf, TsrkeError } from '../errors.ts';
import { expectWritable } from './keep.ts';
import { Prompts } from './prompts.ts';

export interface NewConfigFlags {
  readonly name: string;
  readonly empty?: boolean;
  readonly print?: boolean;
  /** Of Kubernetes, offered instead of the default one. */
  readonly version?: string;
}

/** Throws CONFIG_INVALID, CONFIG_UNREADABLE, UNSUPPORTED and INTERRUPTED; nothing is written then. */
export async function newConfig(flags: NewConfigFlags): Promise<void> {
  const { name, version } = flags;
  const refusal = version === undefined ? undefined : refuseVersion(version);
  if (refusal !== undefined) {
    throw new TsrkeError('UNSUPPORTED', `Kubernetes ${JSON.stringify(version)} is not known`, {
      next: `take ${refusal}`,
    });
  }
  const prompts = new Prompts();
  try {
    const isThere = flags.print !== true && existsSync(name);
    if (flags.print !== true) expectWritable(name, 'a cluster.yml');
    if (isThere && !(await mayReplace(name, prompts))) {
      process.stderr.write(`${name} stays as it is\n`);
      return;
    }
    const text = await textOf(flags, prompts);
    if (flags.print === true) {
      process.stdout.write(text);
      return;
    }
    write(name, text, isThere);
    process.stderr.write(`${name} is written: look it through, then run \`tsrke up --config ${name}\`\n`);
  } finally {
    prompts.close();
  }
}

async function textOf({ name, empty, version }: NewConfigFlags, prompts: Prompts): Promise<string> {
  if (empty === true) {
    return emptyYaml(readFileSync(new URL('../../cluster.example.yml', import.meta.url), 'utf8'));
  }
  const text = clusterYaml(
    await interview(prompts.ask, { refuseKey, ...(version !== undefined && { version }) }),
  );
  configOf(text, name);
  return text;
}

async function mayReplace(name: string, prompts: Prompts): Promise<boolean> {
  if (!prompts.isTerminal) {
    throw new TsrkeError(
      'CONFIG_INVALID',
      `${name} is there already, and nobody can be asked whether to replace it`,
      {
        next: 'take another name with --name, or --print',
      },
    );
  }
  return isYes(
    await prompts.ask({
      text: `${name} is there already: replace it (y/n)`,
      usual: 'n',
      refuse: (answer) => (/^(y|yes|n|no)$/i.test(answer) ? undefined : 'y or n'),
    }),
  );
}

/** RKE's mode; nobody else is to read a file with a key in it. A file that was not there is not replaced. */
function write(name: string, text: string, isThere: boolean): void {
  const mode = /^\s+ssh_key:/m.test(text) ? 0o600 : 0o640;
  try {
    if (isThere) writeFileAtomic.sync(name, text, { mode });
    else writeFileSync(name, text, { mode, flag: 'wx' });
  } catch (cause) {
    throw new TsrkeError('CONFIG_UNREADABLE', `${name} could not be written`, { cause });
  }
}

async function refuseKey(sshKey: string): Promise<string | undefined> {
  const { credentialsOf } = await import('../hosts/ssh-auth.ts');
  try {
    credentialsOf({ name: '', address: '', port: 22, user: '', sshKey, sshAgentAuth: false });
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
