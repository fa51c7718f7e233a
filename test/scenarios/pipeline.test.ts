/** The pipeline of docs/ci.md, as it stands there: each run on a runner of its own, with nothing but what was kept. */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { editKubeApi, type Lab } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

const root = join(import.meta.dirname, '../..');
const [, script = ''] = /^```sh\n(.*?)^```$/ms.exec(readFileSync(join(root, 'docs/ci.md'), 'utf8')) ?? [];

let opened: Lab | undefined;
let lab: Lab;
let runners = 0;

beforeAll(async () => {
  opened = lab = await openLab({ hosts: 3, encryption: 'off', secrets: 20 });
  editKubeApi(lab, { secrets_encryption_config: { enabled: true, max_key_age: '90d' } });
  const commands = {
    tsrke: `exec ${process.execPath} ${join(root, 'bin/tsrke.js')} "$@"`,
    fetch: `cd "$STORE" && cp "$@" "$OLDPWD"`,
    keep: `for each in "$@"; do if [ -e "$each" ]; then cp "$each" "$STORE"; fi; done`,
    approve: `[ -e "$STORE/approved" ] && grep -q '"type": "plan"' "$1"`,
  };
  mkdirSync(join(lab.dir, 'bin'));
  for (const [name, text] of Object.entries(commands)) {
    const path = join(lab.dir, 'bin', name);
    writeFileSync(path, `#!/bin/sh\n${text}\n`);
    chmodSync(path, 0o755);
  }
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

/** The lab's own folder is where things are kept. */
async function pipeline(killWhen?: RegExp): Promise<{ code: number | null; said: string }> {
  runners += 1;
  const cwd = join(lab.dir, `runner-${runners}`);
  mkdirSync(cwd);
  const child = spawn('sh', ['-c', script], {
    cwd,
    env: {
      ...process.env,
      HOME: lab.dir,
      STORE: lab.dir,
      PATH: `${join(lab.dir, 'bin')}:${process.env['PATH'] ?? ''}`,
      ...{ FETCH: 'fetch', KEEP: 'keep', APPROVE: 'approve' },
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let said = '';
  let isCancelled = killWhen === undefined;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      // The whole runner is told to end, as a pipeline that is cancelled is.
      if (isCancelled || killWhen?.test(said) !== true || child.pid === undefined) return;
      isCancelled = true;
      process.kill(-child.pid, 'SIGTERM');
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (code) => resolve({ code, said }));
  });
}

const stored = async () => [...new Set((await lab.etcd.prefixes()).values())];
const fileOf = (name: string) => readFileSync(join(lab.dir, name), 'utf8');

it('without an approval nothing is touched', async () => {
  const { code, said } = await pipeline();
  expect(code, said).not.toBe(0);
  expect(said).toContain('tsrke up would do this');
  expect(await stored()).toEqual(['']);
  expect(existsSync(join(lab.dir, 'proof.md'))).toBe(false);
});

it('approved, it is cancelled in the middle; the next runner finishes it with the state that was kept, and proves it', async () => {
  writeFileSync(join(lab.dir, 'approved'), '');
  const before = fileOf('cluster.rkestate');
  const cancelled = await pipeline(/restarting kube-apiserver/);
  expect(cancelled.code, cancelled.said).toBe(130);
  expect(fileOf('cluster.rkestate')).not.toBe(before);
  const { code, said } = await pipeline();
  expect(code, said).toBe(0);
  expect(said).toMatch(/continuing the enable /);
  expect(await stored()).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:k-\w+:$/)]);
  expect(fileOf('proof.md')).toMatch(/^# .*proved/);
  expect(fileOf('cluster.tsrke.log')).toContain('tsrke up');
});

it('the night after there is nothing to do, and it is proved again', async () => {
  const before = await stored();
  const { code, said } = await pipeline();
  expect(code, said).toBe(0);
  expect(said).toMatch(/^nothing to do: aescbc:k-\w+ is 0 minutes old, and due in /m);
  expect(await stored()).toEqual(before);
});
