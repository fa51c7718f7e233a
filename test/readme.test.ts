/**
 * Every command of README.md is known here, and run: those of tsrke on a real host with a cluster as RKE makes it. A
 * command that the table does not know fails the test, so nothing stands in the README that nobody has tried.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { closeHosts, openRealLab, type RealLab } from './lab/real-lab.ts';

const root = join(import.meta.dirname, '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

/** The lines of the fenced `sh` blocks, without comments. */
const commands = [...readme.matchAll(/^```sh\n(.*?)^```$/gms)]
  .flatMap(([, block]) => (block ?? '').split('\n'))
  .map((line) => line.replace(/\s+#.*$/, '').trim())
  .filter((line) => line !== '' && !line.startsWith('#'));

let lab: RealLab;
const hasScript = (name: string) => () => {
  expect(scripts).toHaveProperty(name);
};

/** How each command is tried; the order of the README is kept, since its commands build on each other. */
const known: Readonly<Record<string, () => void | Promise<void>>> = {
  // What installed the packages that run this test.
  'npm ci': () => {
    const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { dependencies?: unknown }>;
    };
    const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      dependencies: unknown;
    };
    expect(packages['']?.dependencies).toEqual(dependencies);
  },
  // Its own test runs it.
  'npm run demo': hasScript('demo'),
  // Runs this very test.
  'npm run test:all': hasScript('test:all'),
  'node bin/tsrke.js lab': () => serves(['lab']),
  'node bin/tsrke.js lab --rehearse cluster.yml': () => serves(['lab', '--rehearse', 'cluster.yml']),
  'tsrke encrypt status --config cluster.yml': async () => {
    const ran = await lab.tsrke(['encrypt', 'status', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(ran.stdout).toMatch(/^Encryption of secrets is off/);
  },
  'tsrke plan --config cluster.yml --out plan.json': async () => {
    const ran = await lab.tsrke(['plan', '--config', 'cluster.yml', '--out', 'plan.json']);
    expect(ran, ran.stderr).toMatchObject({ code: 2 });
    expect(ran.stdout).toMatch(/^tsrke up would do this/);
    expect(JSON.parse(readFileSync(join(lab.dir, 'plan.json'), 'utf8'))).toMatchObject({ type: 'plan' });
  },
  'tsrke up --config cluster.yml': async () => {
    const ran = await lab.tsrke(['up', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(ran.stdout).toMatch(/^secrets are encrypted /);
    for (const prefix of (await lab.etcd.prefixes()).values()) expect(prefix).toMatch(/^k8s:enc:aescbc:v1:/);
  },
  'tsrke encrypt rotate-key --config cluster.yml': async () => {
    const before = new Set((await lab.etcd.prefixes()).values());
    const ran = await lab.tsrke(['encrypt', 'rotate-key', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    const after = new Set((await lab.etcd.prefixes()).values());
    expect(after.size).toBe(1);
    expect(before).not.toEqual(after);
  },
  'tsrke encrypt verify --config cluster.yml --report proof.md': async () => {
    const ran = await lab.tsrke(['encrypt', 'verify', '--config', 'cluster.yml', '--report', 'proof.md']);
    expect(ran, ran.stdout + ran.stderr).toMatchObject({ code: 0 });
    expect(readFileSync(join(lab.dir, 'proof.md'), 'utf8')).toMatch(/^# .*proved/);
  },
  'tsrke encrypt rotate-key --if-due --config cluster.yml': async () => {
    const text = readFileSync(lab.config, 'utf8');
    writeFileSync(lab.config, text.replace('{enabled: true}', '{enabled: true, max_key_age: 90d}'));
    const before = await lab.etcd.prefixes();
    const ran = await lab.tsrke(['encrypt', 'rotate-key', '--if-due', '--config', 'cluster.yml']);
    writeFileSync(lab.config, text);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(ran.stdout).toMatch(/^nothing to do: .* due in /);
    expect(await lab.etcd.prefixes()).toEqual(before);
  },
  // That it completes is tested where all shells are.
  'source <(tsrke completion bash)': async () => {
    const ran = await lab.tsrke(['completion', 'bash']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(spawnSync('bash', ['-n'], { input: ran.stdout }).status).toBe(0);
  },
  'tsrke encrypt resume --config cluster.yml': async () => {
    const before = await cutOff();
    const ran = await lab.tsrke(['encrypt', 'resume', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    const after = new Set((await lab.etcd.prefixes()).values());
    expect(after.size).toBe(1);
    expect(after).not.toEqual(before);
  },
  'tsrke encrypt abort --config cluster.yml': async () => {
    const before = await cutOff();
    const ran = await lab.tsrke(['encrypt', 'abort', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(new Set((await lab.etcd.prefixes()).values())).toEqual(before);
  },
  'tsrke util get-state-file --config cluster.yml': async () => {
    const before = readFileSync(lab.state, 'utf8');
    rmSync(lab.state);
    const ran = await lab.tsrke(['util', 'get-state-file', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(lab.state, 'utf8'))).toEqual(JSON.parse(before));
  },
  'tsrke util get-kubeconfig --config cluster.yml': async () => {
    const ran = await lab.tsrke(['util', 'get-kubeconfig', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(readFileSync(join(lab.dir, 'kube_config_cluster.yml'), 'utf8')).toContain('kube-admin');
  },
  'tsrke cert generate-csr --config cluster.yml': async () => {
    const ran = await lab.tsrke(['cert', 'generate-csr', '--config', 'cluster.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    const request = readFileSync(join(lab.dir, 'cluster_certs/kube-apiserver-csr.pem'), 'utf8');
    expect(request).toMatch(/^-----BEGIN CERTIFICATE REQUEST-----/);
  },
  'tsrke config --empty --name new.yml': async () => {
    const ran = await lab.tsrke(['config', '--empty', '--name', 'new.yml']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(readFileSync(join(lab.dir, 'new.yml'), 'utf8')).toContain('secrets_encryption_config');
  },
  'tsrke config --system-images --version v1.29.9-rancher1-1': async () => {
    const ran = await lab.tsrke(['config', '--system-images', '--version', 'v1.29.9-rancher1-1']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(ran.stdout).toContain('rancher/hyperkube:v1.29.9-rancher1\n');
  },
  'tsrke encrypt validate --file provider.yaml --kubernetes-version v1.30': async () => {
    const { currentState } = JSON.parse(readFileSync(lab.state, 'utf8')) as {
      currentState: { encryptionConfig: string };
    };
    writeFileSync(join(lab.dir, 'provider.yaml'), currentState.encryptionConfig);
    const args = ['--file', 'provider.yaml', '--kubernetes-version', 'v1.30'];
    const ran = await lab.tsrke(['encrypt', 'validate', ...args]);
    expect(ran, ran.stdout).toMatchObject({ code: 0 });
  },
};

/** Until it says what to try; then it is ended as its user would. */
async function serves(args: readonly string[]): Promise<void> {
  const signalWhen = { match: /rotate-key/, signal: 'SIGINT' } as const;
  const ran = await lab.tsrke(args, { signalWhen });
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  expect(ran.stdout).toContain('The lab has ended');
}

/** A rotation that dies once the new key is the write key; resolves to the prefixes in etcd before it. */
async function cutOff(): Promise<Set<string>> {
  const before = new Set((await lab.etcd.prefixes()).values());
  const ran = await lab.tsrke(['encrypt', 'rotate-key'], { killWhen: /rewrite secrets/ });
  expect(ran.signal).toBe('SIGKILL');
  return before;
}

beforeAll(async () => {
  lab = await openRealLab({ hosts: 1, encryption: 'off', secrets: 10 });
  const text = readFileSync(lab.config, 'utf8');
  const asTheReadmeSays = 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}';
  expect(text).not.toContain('kube-api');
  writeFileSync(lab.config, text.replace('services:', asTheReadmeSays));
});
afterAll(async () => {
  await lab.close();
  await closeHosts();
});

test('the README has commands, and each of those known here is one of them', () => {
  expect(commands).toEqual(expect.arrayContaining(Object.keys(known)));
});

describe('README.md says', () => {
  test.each(commands)('%s', async (command) => {
    const tried = known[command];
    if (tried === undefined)
      throw new Error(`nobody tries \`${command}\`: add it to \`known\`, or take it out`);
    await tried();
  });
});

test('and for scripts: --output json is one event a line, and holds no key', async () => {
  const ran = await lab.tsrke(['encrypt', 'rotate-key', '--output', 'json', '--debug']);
  expect(ran, ran.stdout).toMatchObject({ code: 0, stderr: '' });
  const events = ran.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; title?: string; done?: number; total?: number });
  expect(events[0]).toMatchObject({ type: 'run-started', command: 'encrypt rotate-key' });
  expect(events.at(-1)).toMatchObject({ type: 'result', exitCode: 0 });
  expect(new Set(events.map(({ type }) => type))).toEqual(
    new Set(['run-started', 'task-started', 'progress', 'task-done', 'note', 'debug', 'result']),
  );
  const { tsrke } = JSON.parse(readFileSync(lab.state, 'utf8')) as {
    tsrke: { keyRing: readonly { secret: string }[] };
  };
  expect(tsrke.keyRing.length).toBeGreaterThanOrEqual(3);
  for (const { secret } of tsrke.keyRing) {
    expect(ran.stdout).not.toContain(secret);
    expect(ran.stdout).not.toContain(Buffer.from(secret, 'base64').toString('hex'));
  }
});
