/**
 * Secrets in an etcd of their own (--etcd-servers-overrides): a census that missed it would see nothing of them. On
 * real hosts only, as the memory lab has one etcd.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { editKubeApi } from '../lab/lab.ts';
import { openEtcd, storedPrefixes, type LabEtcd } from '../lab/lab-etcd.ts';
import { closeHosts, openRealLab, type RealHost, type RealLab } from '../lab/real-lab.ts';

let lab: RealLab;
let host: RealHost;
let second: LabEtcd;

beforeAll(async () => {
  lab = await openRealLab({ hosts: 1, encryption: 'off', secrets: 20 });
  const [only] = lab.hosts;
  if (only === undefined) throw new Error('no host');
  host = only;
  await startSecondEtcd();
  await host.docker.getContainer('kube-apiserver').stop({ t: 2 });
  for (const key of (await lab.etcd.prefixes()).keys()) {
    const value = await lab.etcd.get(key);
    if (value !== undefined) await second.put(key, value);
    await lab.etcd.del(key);
  }
  const overrides = `/secrets#https://${host.address}:2479`;
  editKubeApi(lab, { extra_args: { 'etcd-servers-overrides': overrides } });
  await again('kube-apiserver', { args: (all) => [...all, `--etcd-servers-overrides=${overrides}`] });
  await lab.ready();
});

afterAll(async () => {
  second.close();
  await lab.close();
  await closeHosts();
});

/** Makes the container anew, or another like it. */
async function again(
  name: string,
  { as = name, args }: { as?: string; args: (all: readonly string[]) => string[] },
): Promise<void> {
  const { Config, HostConfig } = await host.inspect(name);
  if (as === name) await host.docker.getContainer(name).remove({ force: true });
  const [entrypoint, cmd] = [Config.Entrypoint as string[] | null, Config.Cmd as string[] | null];
  const made = await host.docker.createContainer({
    ...Config,
    name: as,
    ...(entrypoint === null ? { Cmd: args(cmd ?? []) } : { Entrypoint: args(entrypoint) }),
    HostConfig,
  });
  await made.start();
}

async function startSecondEtcd(): Promise<void> {
  await again('etcd', {
    as: 'etcd-secrets',
    args: (all) =>
      all.map((arg) =>
        arg
          .replaceAll(':2379', ':2479')
          .replaceAll(':2380', ':2480')
          .replace(/^(--data-dir=.*)$/, '$1secrets'),
      ),
  });
  const pem = async (name: string) =>
    (await host.readFile(`/etc/kubernetes/ssl/${name}.pem`)) ?? Promise.reject(new Error(`no ${name}`));
  const [ca, cert, key] = await Promise.all(['kube-ca', 'kube-node', 'kube-node-key'].map(pem));
  second = openEtcd([`${host.address}:2479`], { ca: ca ?? '', cert: cert ?? '', key: key ?? '' });
}

const stored = () => storedPrefixes(second);

async function run(...args: string[]): Promise<void> {
  const clients = await lab.startClients();
  const ran = await lab.tsrke(args);
  const { hosts } = await clients.stop();
  expect(ran.code, ran.stderr).toBe(0);
  for (const seen of Object.values(hosts)) expect(seen).toMatchObject({ decryption: 0, other: [] });
  expect((await lab.etcd.prefixes()).size).toBe(0);
}

it('enables and rotates', async () => {
  editKubeApi(lab, { secrets_encryption_config: { enabled: true } });
  await run('up');
  const [first, ...others] = await stored();
  expect(first).toMatch(/^k8s:enc:aescbc:v1:/);
  expect(others).toEqual([]);
  await run('encrypt', 'rotate-key');
  expect(await stored()).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:/)]);
  expect(await stored()).not.toEqual([first]);
});

it('refuses a value under a key that nobody has, in either etcd', async () => {
  const key = '/registry/secrets/default/alien';
  for (const etcd of [second, lab.etcd]) {
    await etcd.put(key, 'k8s:enc:aescbc:v1:nobody-has-this:0123456789abcdef0123456789abcdef');
    const ran = await lab.tsrke(['encrypt', 'rotate-key']);
    expect(ran.code, ran.stderr).toBe(3);
    expect(ran.stderr).toContain('nobody-has-this');
    await etcd.del(key);
  }
});

it('disables', async () => {
  editKubeApi(lab, { secrets_encryption_config: { enabled: false } });
  await run('up');
  expect(await stored()).toEqual(['']);
});
