/** Where keys may be seen: in the state file and in the provider file, and nowhere else at any moment. */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { load } from 'js-yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { closeHosts, openRealLab, type RealHost, type RealLab } from '../lab/real-lab.ts';

const ssl = '/etc/kubernetes/ssl';
const copyKey = '/registry/secrets/kube-system/full-cluster-state';

interface StateFile {
  readonly currentState: { readonly encryptionConfig?: string };
  readonly tsrke: { readonly keyRing: readonly { readonly name: string; readonly secret: string }[] };
}

let opened: RealLab | undefined;
let lab: RealLab;
let host: RealHost;
let off: string;

beforeAll(async () => {
  opened = lab = await openRealLab({ hosts: 1, encryption: 'off', secrets: 50 });
  const [first] = lab.hosts;
  if (first === undefined) throw new Error('the lab has no host');
  host = first;
  off = readFileSync(lab.config, 'utf8');
});

afterAll(async () => {
  await opened?.close();
  await closeHosts();
});

const enabled = () =>
  off.replace('services:', 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}');
const stateFile = () => JSON.parse(readFileSync(lab.state, 'utf8')) as StateFile;

/** Runs `look` again and again, `every` ms, until `work` is done. */
async function watching<T>(work: Promise<T>, every: number, look: () => unknown): Promise<T> {
  let done = false;
  const ended = work.finally(() => (done = true));
  ended.catch(() => undefined);
  while (!done) {
    await look();
    await sleep(every);
  }
  return await ended;
}

/** Command line and environment of every process there is now, those in containers included. */
function processes(seen: Set<string>): void {
  for (const pid of readdirSync('/proc').filter(
    (name) => /^\d+$/.test(name) && name !== String(process.pid),
  )) {
    for (const what of ['cmdline', 'environ']) {
      try {
        seen.add(readFileSync(`/proc/${pid}/${what}`, 'latin1'));
      } catch (error) {
        if (!['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      }
    }
  }
}

async function containers(seen: Set<string>): Promise<void> {
  for (const { Id } of await host.docker.listContainers({ all: true })) {
    try {
      seen.add(JSON.stringify(await host.docker.getContainer(Id).inspect()));
    } catch (error) {
      // Gone since it was listed.
      if ((error as { statusCode?: number }).statusCode !== 404) throw error;
    }
  }
}

/** All that Docker and kube-apiserver ever logged on this host. */
async function logs(): Promise<string[]> {
  const all = await host.docker.listContainers({ all: true });
  const own = await Promise.all(
    all.map(async ({ Id }) => {
      const text: unknown = await host.docker
        .getContainer(Id)
        .logs({ stdout: true, stderr: true, follow: false });
      return Buffer.isBuffer(text) ? text.toString('latin1') : JSON.stringify(text);
    }),
  );
  const daemons = ['dockerd.log', 'sshd.log'].map((name) =>
    readFileSync(`/var/lib/tsrke-lab/h1/${name}`, 'utf8'),
  );
  return [...own, ...daemons];
}

function expectNoKeys(texts: Iterable<string>): void {
  const ring = stateFile().tsrke.keyRing;
  expect(ring.length).toBeGreaterThan(0);
  const forms = ring.flatMap(({ secret }) => {
    const bytes = Buffer.from(secret, 'base64');
    return [secret, bytes.toString('hex'), bytes.toString('latin1'), Buffer.from(secret).toString('base64')];
  });
  for (const text of texts) {
    const found = forms.some((form) => text.includes(form.replace(/=+$/, '')));
    // Not with `toContain`: that would print the key.
    expect(found, found ? `a key in: ${text.slice(0, 80)}…` : '').toBe(false);
  }
}

/** The copy in the cluster: what etcd held of it, each form of it once. */
function copyWatch(): { look: () => Promise<void>; plain: Set<string>; encrypted: Set<string> } {
  const plain = new Set<string>();
  const encrypted = new Set<string>();
  return {
    plain,
    encrypted,
    async look() {
      // On one host etcd is never away, but kube-apiserver's restart keeps this machine busy.
      const value = (await lab.etcd.get(copyKey))?.toString('latin1') ?? '';
      (value.startsWith('k8s:enc:') ? encrypted : plain).add(value);
    },
  };
}

async function copyInCluster(): Promise<unknown> {
  const { status, text } = await lab.kube(
    host,
    'GET',
    '/api/v1/namespaces/kube-system/secrets/full-cluster-state',
  );
  expect(status, text).toBe(200);
  const { data } = JSON.parse(text) as { data: Record<string, string> };
  return JSON.parse(Buffer.from(data['full-cluster-state'] ?? '', 'base64').toString());
}

it.each([
  ['enable', ['--debug', 'up']],
  ['rotate', ['--debug', 'encrypt', 'rotate-key']],
  ['disable', ['up']],
] as const)('no key is seen in processes, containers, logs or output: %s', async (change, args) => {
  writeFileSync(lab.config, change === 'disable' ? off : enabled());
  const seen = new Set<string>();
  const { look, plain, encrypted } = copyWatch();
  const files = new Set<string>();
  const modes = new Set<string>();
  let turn = 0;
  const ran = await watching(lab.tsrke(args), 5, async () => {
    turn += 1;
    await providerFiles(files, modes);
    if (turn % 3 === 0) processes(seen);
    if (turn % 3 === 1) await look();
    if (turn % 3 === 2) await containers(seen);
  });
  expect(ran.code, ran.stderr).toBe(0);
  expect(seen.size).toBeGreaterThan(20);
  expectNoKeys([ran.stdout, ran.stderr, ...seen, ...(await logs())]);
  // Where a key is, it would be found.
  expect(() => expectNoKeys([readFileSync(lab.state, 'utf8')])).toThrow('a key in');

  // The copy is as new as the file, and held no key while it lay in plain form.
  expectNoKeys(plain);
  if (change === 'disable') {
    expect(JSON.stringify(await copyInCluster())).toContain(stateFile().tsrke.keyRing[0]?.name);
  } else {
    expect(encrypted.size).toBeGreaterThan(0);
    expect(await copyInCluster()).toEqual(stateFile());
  }

  // Each text that was ever read is one whole file: no more of them than there are lines of work on one node.
  expect(files.size).toBe({ enable: 1, rotate: 3, disable: 2 }[change]);
  for (const text of files) {
    expect(load(text)).toMatchObject({
      kind: 'EncryptionConfiguration',
      resources: [{ resources: ['secrets'] }],
    });
  }
  expect([...modes]).toEqual(['0:0 600']);
  const loaded = await lab.kube(host, 'GET', '/metrics');
  const last = await host.readFile(`${ssl}/encryption.yaml`);
  if (last !== undefined) {
    const sha256 = createHash('sha256').update(last).digest('hex');
    expect(loaded.text).toContain(`hash="sha256:${sha256}"`);
  }
  const left = await host.sh(`ls ${ssl} | grep -e encryption -e tsrke`);
  expect(left.stdout.trim()).toBe(change === 'disable' ? '' : 'encryption.yaml');
});

/** What anybody on the host could read just now, the file that is being put in place included. */
async function providerFiles(texts: Set<string>, modes: Set<string>): Promise<void> {
  const text = await host.readFile(`${ssl}/encryption.yaml`);
  if (text !== undefined) texts.add(text);
  const [pid = ''] = readFileSync('/var/lib/tsrke-lab/h1/init', 'utf8').split(' ');
  for (const name of readdirSync(`/proc/${pid}/root${ssl}`).filter((each) => each.startsWith('encryption'))) {
    const stat = statSync(`/proc/${pid}/root${ssl}/${name}`, { throwIfNoEntry: false });
    if (stat !== undefined) modes.add(`${stat.uid}:${stat.gid} ${(stat.mode & 0o777).toString(8)}`);
  }
}
