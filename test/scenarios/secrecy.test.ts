/** Where keys may be seen: in the state file and in the provider file, and nowhere else at any moment. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { load } from 'js-yaml';
import { expect, it } from 'vitest';
import { labOfOneHost } from '../lab/open-lab.ts';

const ssl = '/etc/kubernetes/ssl';
const copyKey = '/registry/secrets/kube-system/full-cluster-state';

interface StateFile {
  readonly currentState: { readonly encryptionConfig?: string };
  readonly tsrke: { readonly keyRing: readonly { readonly name: string; readonly secret: string }[] };
}

const bed = labOfOneHost({ encryption: 'off', secrets: 50 });

const enabled = () =>
  bed.clusterYml.replace('services:', 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}');
const stateFile = () => JSON.parse(readFileSync(bed.lab.state, 'utf8')) as StateFile;

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

/**
 * Command line and environment of every process of this machine now, where the system shows them: tsrke's, and on real
 * hosts those in containers.
 */
function processes(seen: Set<string>): void {
  if (!existsSync('/proc/self/environ')) return;
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
  for (const { Id } of await bed.host.docker.listContainers({ all: true })) {
    try {
      seen.add(JSON.stringify(await bed.host.docker.getContainer(Id).inspect()));
    } catch (error) {
      // Gone since it was listed.
      if ((error as { statusCode?: number }).statusCode !== 404) throw error;
    }
  }
}

/** All that Docker and kube-apiserver ever logged on this bed.host. */
async function logs(): Promise<string[]> {
  const all = await bed.host.docker.listContainers({ all: true });
  const own = await Promise.all(
    all.map(async ({ Id }) => {
      const text: unknown = await bed.host.docker
        .getContainer(Id)
        .logs({ stdout: true, stderr: true, follow: false });
      return Buffer.isBuffer(text) ? text.toString('latin1') : JSON.stringify(text);
    }),
  );
  return [...own, ...(await bed.host.daemonLogs())];
}

function expectNoKeys(texts: Iterable<string>): void {
  const ring = stateFile().tsrke.keyRing;
  expect(ring.length).toBeGreaterThan(0);
  const forms = ring.flatMap(({ secret }) => {
    const bytes = Buffer.from(secret, 'base64');
    return [secret, bytes.toString('hex'), bytes.toString('latin1'), Buffer.from(secret).toString('base64')];
  });
  for (const text of texts) {
    const all = text + decoded(text);
    const found = forms.some((form) => all.includes(form.replace(/=+$/, '')));
    // Not with `toContain`: that would print the key.
    expect(found, found ? `a key in: ${text.slice(0, 80)}…` : '').toBe(false);
  }
}

/** What is base64 in a text, as the data of a Secret in JSON are. */
function decoded(text: string): string {
  return [...text.matchAll(/[A-Za-z0-9+/]{64,}/g)]
    .map(([part]) => Buffer.from(part, 'base64').toString('latin1'))
    .join('\n');
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
      const value = (await bed.lab.etcd.get(copyKey))?.toString('latin1') ?? '';
      (value.startsWith('k8s:enc:') ? encrypted : plain).add(value);
    },
  };
}

async function copyInCluster(): Promise<unknown> {
  const { status, text } = await bed.lab.kube(
    bed.host,
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
  writeFileSync(bed.lab.config, change === 'disable' ? bed.clusterYml : enabled());
  const seen = new Set<string>();
  const { look, plain, encrypted } = copyWatch();
  const files = new Set<string>();
  const modes = new Set<string>();
  let turn = 0;
  const ran = await watching(bed.lab.tsrke(args), 5, async () => {
    turn += 1;
    await providerFiles(files, modes);
    if (turn % 3 === 0) processes(seen);
    if (turn % 3 === 1) await look();
    if (turn % 3 === 2) await containers(seen);
  });
  expect(ran.code, ran.stderr).toBe(0);
  expect(seen.size).toBeGreaterThan(20);
  const log = readFileSync(`${bed.lab.dir}/cluster.tsrke.log`, 'utf8');
  expect(log).toContain(ran.stdout.trim());
  expectNoKeys([ran.stdout, ran.stderr, log, ...seen, ...(await logs())]);
  // Where a key is, it would be found.
  const state = readFileSync(bed.lab.state);
  for (const encoding of ['utf8', 'base64'] as const) {
    expect(() => expectNoKeys([state.toString(encoding)])).toThrow('a key in');
  }

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
  expect([...modes]).toEqual(['root root 600']);
  const loaded = await bed.lab.kube(bed.host, 'GET', '/metrics');
  const last = await bed.host.readFile(`${ssl}/encryption.yaml`);
  if (last !== undefined) {
    const sha256 = createHash('sha256').update(last).digest('hex');
    expect(loaded.text).toContain(`hash="sha256:${sha256}"`);
  }
  const left = (await bed.host.list(ssl)).filter((name) => /encryption|tsrke/.test(name));
  expect(left).toEqual(change === 'disable' ? [] : ['encryption.yaml']);
});

/** What anybody on the host could read just now, the file that is being put in place included. */
async function providerFiles(texts: Set<string>, modes: Set<string>): Promise<void> {
  const text = await bed.host.readFile(`${ssl}/encryption.yaml`);
  if (text !== undefined) texts.add(text);
  for (const name of (await bed.host.list(ssl)).filter((each) => each.startsWith('encryption'))) {
    const found = await bed.host.ownerAndMode(`${ssl}/${name}`);
    if (found !== undefined) modes.add(found);
  }
}
