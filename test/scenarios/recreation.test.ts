/** Adding and removing the flag makes kube-apiserver's container anew: cut off in there, the next run finishes. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { ContainerInspectInfo } from 'dockerode';
import { expect, it } from 'vitest';
import { labName, labOfOneHost } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const flag = `--encryption-provider-config=${providerFile}`;

const bed = labOfOneHost({ encryption: 'off', secrets: 20 });

function ask(encryption: 'on' | 'off'): void {
  const enabled = 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}';
  writeFileSync(
    bed.lab.config,
    encryption === 'on' ? bed.clusterYml.replace('services:', enabled) : bed.clusterYml,
  );
}

interface RingKey {
  readonly name: string;
  readonly retired?: string;
}

function keyRing(): readonly RingKey[] {
  const state = JSON.parse(readFileSync(bed.lab.state, 'utf8')) as { tsrke?: { keyRing: RingKey[] } };
  return state.tsrke?.keyRing ?? [];
}

/** Every container that is or was kube-apiserver's, by name, with `!` where it runs. */
async function apiservers(): Promise<string[]> {
  const all = await bed.host.docker.listContainers({ all: true });
  return all
    .filter(({ Names }) => Names.some((name) => name.includes('kube-apiserver')))
    .map(({ Names: [name = ''], State }) => `${name.slice(1)}${State === 'running' ? '!' : ''}`)
    .toSorted();
}

/** Everything of the definition that enabling must leave alone. */
function definition({ Config, HostConfig, Image, Mounts }: ContainerInspectInfo): unknown {
  const { Entrypoint, ...config } = Config;
  return {
    config: { ...config, Entrypoint: (Entrypoint as string[]).filter((word) => word !== flag) },
    HostConfig: Object.entries(HostConfig).filter(([, value]) => !isNothing(value)),
    Image,
    mounts: Mounts.map(({ Source, Destination, RW }) => `${Source} ${Destination} ${String(RW)}`).toSorted(),
  };
}

/** Docker says null for an empty list, and after a reboot [] for the same. */
const isNothing = (value: unknown) => value === null || (Array.isArray(value) && value.length === 0);

const called = (path: string) => new RegExp(`docker POST \\S*/containers/${path} \\d`);

const moments = [
  ['enable', 'rebooted', 'the old container is stopped', called('kube-apiserver/stop')],
  ['disable', 'rebooted', 'the old container has no restart policy', called('kube-apiserver/update')],
  ['enable', 'killed', 'the old container has another name', called('kube-apiserver/rename')],
  ['disable', 'rebooted', 'the old container has another name', called('kube-apiserver/rename')],
  ['enable', 'rebooted', 'the new container is started', called('kube-apiserver/start')],
] as const;

// A reboot of a real host takes long; three of them show what there is to see there.
const tried = labName === 'memory' ? moments : moments.slice(0, 3);

it.each(tried)('%s, %s when %s: the next run finishes it', async (change, how, _when, cut) => {
  const before = definition(await bed.host.inspect());
  const ring = keyRing();
  ask(change === 'enable' ? 'on' : 'off');
  const clients = await bed.lab.startClients();
  const killed = await bed.lab.tsrke(['--debug', 'up'], { killWhen: cut });
  expect(killed.signal, killed.stderr).toBe('SIGKILL');
  const left = await apiservers();
  expect(left, killed.stderr).toHaveLength(2);
  if (how === 'rebooted') await bed.host.reboot();
  // Two that run would fight for the port and for the one file.
  expect((await apiservers()).filter((name) => name.endsWith('!')).length, left.join()).toBeLessThan(2);

  const ran = await bed.lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  const { hosts } = await clients.stop();
  expect(hosts['h1']).toMatchObject({ decryption: 0, other: [] });
  expect(await apiservers()).toEqual(['kube-apiserver!']);
  const info = await bed.host.inspect();
  expect(definition(info)).toEqual(before);
  expect(info.Args.includes(flag)).toBe(change === 'enable');
  expect((await bed.host.readFile(providerFile)) === undefined).toBe(change === 'disable');
  const stored = [...new Set((await bed.lab.etcd.prefixes()).values())];
  const [used, ...others] = keyRing().filter((key) => key.retired === undefined);
  expect(others).toEqual([]);
  expect(stored).toEqual([change === 'enable' ? `k8s:enc:aescbc:v1:${used?.name ?? ''}:` : '']);
  expect(keyRing()).toHaveLength(ring.length + (change === 'enable' ? 1 : 0));
  expect((await bed.lab.kube(bed.host, 'GET', '/api/v1/secrets')).status).toBe(200);
  const again = await bed.lab.tsrke(['up']);
  expect(again.stdout).toMatch(/^nothing to do/);
});
