/**
 * `npm run demo`: the main job of tsrke on a lab of three nodes, by the real command as a process of its own: enable,
 * rotate, disable, with what lies in etcd before and after each, and a client that reads all the while.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { colours } from '../cli/colours.ts';
import { describeStored, excerptOf, storedSecrets } from './etcd-view.ts';
import { startLab, type Lab } from './lab.ts';
import { startReader } from './reader.ts';
import { example } from './seed.ts';

const bin = fileURLToPath(new URL('../../bin/tsrke.js', import.meta.url));
const { bold, dim, green, yellow } = colours(process.stdout);
const write = (text: string) => process.stdout.write(text);
const say = (text = '') => write(`${text}\n`);
const encoded = Buffer.from(example.text).toString('base64');

async function showEtcd(lab: Lab): Promise<void> {
  const stored = await storedSecrets(lab.model.etcd);
  const plain = stored.has('');
  const paint = plain ? yellow : green;
  say(`   in etcd      ${paint(describeStored(stored).join(', '))}`);
  const excerpt = (await excerptOf(lab.model.etcd, example, encoded, 62)) ?? '';
  say(`   one of them  ${excerpt}`);
  if (plain) say(`                ${dim(`(base64 is no encryption: that password is ${example.text})`)}`);
}

function edit(lab: Lab, from: boolean, to: boolean): void {
  say(`   cluster.yml  secrets_encryption_config: { enabled: ${bold(String(to))} }`);
  const text = readFileSync(lab.config, 'utf8');
  writeFileSync(lab.config, text.replace(`enabled: ${from}`, `enabled: ${to}`));
}

/** Runs the command, shows its story without the small steps on each node, and what its users noticed. */
async function tsrke(lab: Lab, ...args: string[]): Promise<void> {
  say(`   $ ${bold(`tsrke ${args.join(' ')}`)}`);
  const began = performance.now();
  const reader = startReader(lab.model, example);
  const env: NodeJS.ProcessEnv = { ...process.env, HOME: lab.dir };
  delete env['RKE_CONFIG'];
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: lab.dir,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  let shown = 0;
  const line = { open: false };
  const show = () => {
    const lines = stderr.split('\n').slice(0, -1);
    for (const text of lines.slice(shown)) {
      const ready = /^\s+(\S+) is ready$/.exec(text)?.[1];
      if (ready !== undefined) write(dim(`  ${ready}`));
      else if (!text.startsWith(' ')) {
        write(`${line.open ? '\n' : ''}${dim(`     ${text}`)}`);
        line.open = true;
      }
    }
    shown = lines.length;
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    show();
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve);
  });
  const { reads, failed } = await reader.stop();
  if (line.open) say();
  if (code !== 0)
    throw new Error(`tsrke ${args.join(' ')} ended with exit code ${code ?? 'none'}:\n${stderr}`);
  say(`     ${stdout.trim()}`);
  say();
  await showEtcd(lab);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  say(
    `   its users    read it ${reads} times in these ${seconds} s; ${failed === 0 ? green('not one read failed') : `${failed} failed`}`,
  );
  say();
}

const dir = mkdtempSync(join(tmpdir(), 'tsrke-demo-'));
const began = performance.now();
try {
  say(bold('tsrke: encryption of secrets at rest, on clusters that are in use'));
  say();
  say(
    'Three nodes come up in the memory of this process, as RKE leaves them: SSH, Docker, kube-apiserver, etcd.',
  );
  const lab = await startLab({ dir, controlplane: 3, secrets: 200, startTime: 150 });
  try {
    say();
    say(bold('1  Today: whoever gets a copy of etcd, or of its backup, can read every Secret'));
    await showEtcd(lab);
    say();
    say(bold('2  Enable: one line in cluster.yml, one command'));
    say(
      '   Every node can read the new key before any node writes with it; then every Secret is written anew.',
    );
    edit(lab, false, true);
    await tsrke(lab, 'up');
    say(bold('3  Rotate: a new key for everything, the old one goes when etcd proves that nothing needs it'));
    await tsrke(lab, 'encrypt', 'rotate-key');
    say(bold('4  Disable: all the way back'));
    edit(lab, true, false);
    await tsrke(lab, 'up');
  } finally {
    lab.close();
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  say(
    `That took ${seconds} s. Cut it off anywhere you like: the same command again finishes it, and no Secret is lost.`,
  );
  say();
  say(`Try it yourself         ${bold('node bin/tsrke.js lab')}`);
  say(`Rehearse your cluster   ${bold('node bin/tsrke.js lab --rehearse cluster.yml')}`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
