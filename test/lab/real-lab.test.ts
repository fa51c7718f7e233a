/** The lab itself: its cluster is one, and survives what scenarios do to it. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { closeHosts, openRealLab, type RealHost, type RealLab } from './real-lab.ts';
import type { LabHost, LabOptions } from './lab.ts';

afterAll(closeHosts);

const run = promisify(execFile);

/** Of each host, by name: which they are and since when they run. */
function containers({ hosts }: RealLab): Promise<unknown[][]> {
  return Promise.all(
    hosts.map(async ({ docker }) => {
      const all = await docker.listContainers({ all: true });
      const seen = await Promise.all(all.map(({ Id }) => docker.getContainer(Id).inspect()));
      return seen
        .map(({ Id, Name, State }) => ({ Name, Id, runs: State.Running, since: State.StartedAt }))
        .toSorted((a, b) => a.Name.localeCompare(b.Name));
    }),
  );
}

async function withLab(options: LabOptions, test: (lab: RealLab, first: LabHost) => Promise<void>) {
  const lab = await openRealLab(options);
  try {
    const [first] = lab.hosts;
    if (first === undefined) throw new Error('no host');
    await test(lab, first);
  } finally {
    await lab.close();
  }
}

it('stores secrets encrypted, and is back after a reboot', () =>
  withLab({ hosts: 1, encryption: 'on', secrets: 20 }, async (lab, host) => {
    const before = await lab.etcd.prefixes();
    expect(before.size).toBeGreaterThanOrEqual(21);
    expect(new Set(before.values())).toEqual(new Set(['k8s:enc:aescbc:v1:k-7mrb6:']));
    expect(before.has('/registry/secrets/kube-system/full-cluster-state')).toBe(true);

    const started = (await host.inspect()).State.StartedAt;
    await host.reboot();
    await lab.ready();
    expect((await host.inspect()).State.StartedAt).not.toBe(started);
    expect(await host.apiserverStarts()).toBeGreaterThan(0);
    expect(await lab.etcd.prefixes()).toEqual(before);
    const path = '/api/v1/namespaces/default/secrets/secret-00001';
    expect(await lab.kube(host, 'GET', path)).toMatchObject({ status: 200 });

    const clients = await lab.startClients();
    await sleep(2_000);
    const { hosts, bothDown, away } = await clients.stop();
    expect(hosts['h1']).toMatchObject({ refused: 0, decryption: 0, other: [] });
    expect(hosts['h1']?.ok).toBeGreaterThan(20);
    expect(bothDown).toBe(0);
    expect(away).toEqual({ h1: [] });
  }));

it('is a cluster as RKE left it: tsrke finds nothing to do, and does nothing', () =>
  withLab({ hosts: 3, encryption: 'on' }, async (lab) => {
    const before = await containers(lab);
    expect(before.map((those) => those.length)).toEqual([7, 7, 7]);
    const plan = await lab.tsrke(['plan']);
    expect(plan, plan.stdout + plan.stderr).toMatchObject({ code: 0 });
    const ran = await lab.tsrke(['up']);
    expect(ran.stdout, ran.stderr).toMatch(/^nothing to do/);
    expect(await containers(lab)).toEqual(before);
  }));

it('has a server that says 1.33 and does not tell what it has loaded', () =>
  withLab({ version: '1.33', encryption: 'on', apiserverArgs: { v: '1' } }, async (lab, host) => {
    const { text } = await lab.kube(host, 'GET', '/version');
    expect(JSON.parse(text)).toMatchObject({ minor: '33', gitVersion: 'v1.33.9' });
    expect((await host.inspect()).Args.at(-1)).toBe('--v=1');
    const metrics = await lab.kube(host, 'GET', '/metrics');
    expect(metrics.text).toContain('apiserver_storage_transformation_operations_total');
    expect(metrics.text).not.toContain('last_config_info');

    await host.docker.getContainer('kube-apiserver').restart({ t: 2 });
    await lab.ready();
    expect(await host.apiserverStarts()).toBe(1);
  }));

it('lets its keys in, goes on without one of three hosts, and shows when that one was away', () =>
  withLab({ hosts: 3, encryption: 'off', secrets: 30 }, async (lab) => {
    const [h1, h2, h3] = lab.hosts;
    if (h1 === undefined || h2 === undefined || h3 === undefined) throw new Error('no three hosts');
    const options = ['-F', 'none', '-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${lab.ssh.knownHosts}`];
    const ssh = async (...args: string[]) => (await run('ssh', [...options, ...args])).stdout.trim();
    expect(await ssh('-i', lab.ssh.key, `root@${h1.address}`, 'hostname; id -un')).toBe('h1\nroot');
    const jump = `ssh ${options.join(' ')} -i ${lab.ssh.key} -W %h:%p root@${h1.address}`;
    expect(
      await ssh(
        '-i',
        lab.ssh.key,
        '-o',
        `ProxyCommand=${jump}`,
        `operator@${h3.address}`,
        'hostname; id -Gn',
      ),
    ).toBe('h3\ndocker');
    const key = join(lab.dir, 'certified');
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    await run('ssh-keygen', ['-q', '-s', lab.ssh.userCa, '-I', 'test', '-n', 'operator', `${key}.pub`]);
    expect(await ssh('-i', key, `operator@${h2.address}`, 'id -un')).toBe('operator');

    // Without etcd's leader the others wait for an election, with RKE's timeouts up to 5 s.
    const [gone, ...left] = await followersFirst(lab.hosts);
    if (gone === undefined) throw new Error('no host');
    const clients = await lab.startClients();
    await sleep(1_000);
    await gone.unplug();
    await sleep(5_000);
    expect((await lab.etcd.prefixes()).size).toBeGreaterThan(30);
    await gone.plug();
    await lab.ready();
    await sleep(1_000);
    const { hosts, bothDown, away } = await clients.stop();
    for (const { name } of lab.hosts) expect(hosts[name]).toMatchObject({ decryption: 0, other: [] });
    expect(hosts[gone.name]?.refused).toBeGreaterThan(0);
    expect(bothDown).toBe(0);
    expect(left.map(({ name }) => away[name])).toEqual([[], []]);
    expect(away[gone.name]?.every(({ to }) => Number.isFinite(to))).toBe(true);
  }));

async function followersFirst(hosts: readonly RealHost[]): Promise<readonly RealHost[]> {
  const leads = await Promise.all(
    hosts.map(async (host) => {
      const { stdout } = await host.sh('docker exec etcd etcdctl endpoint status --write-out=json');
      const [{ Status }] = JSON.parse(stdout) as [
        { Status: { leader: number; header: { member_id: number } } },
      ];
      return [host, Status.leader === Status.header.member_id] as const;
    }),
  );
  return leads.toSorted(([, a], [, b]) => Number(a) - Number(b)).map(([host]) => host);
}

it('leaves nothing behind when the process that holds it is killed', async () => {
  await closeHosts();
  const script = join(import.meta.dirname, 'hosts.sh');
  const holder = spawn(script, ['hold', 'a test of the lab'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  await run(script, ['up', '1']);
  const [pid = ''] = readFileSync('/var/lib/tsrke-lab/h1/init', 'utf8').split(' ');
  expect(existsSync(`/proc/${pid}`)).toBe(true);
  await expect(run(join(import.meta.dirname, 'lab.sh'), ['down'])).rejects.toThrow('a test of the lab');

  holder.kill('SIGKILL');
  await once(holder, 'exit');
  await run(join(import.meta.dirname, 'lab.sh'), ['down']);
  expect(existsSync(`/proc/${pid}`)).toBe(false);
  expect(existsSync('/var/lib/tsrke-lab')).toBe(false);
  expect((await run('ip', ['netns', 'list'])).stdout).not.toContain('tsrke-');
  expect((await run('ip', ['link', 'show'])).stdout).not.toMatch(/tsrke0|ts-h1/);
});
