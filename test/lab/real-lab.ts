/**
 * A real cluster for scenarios: on real hosts the cluster that RKE 1.6.3 made, with a real kube-apiserver, etcd, dockerd
 * and sshd. It is made anew for each lab.
 */
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dump } from 'js-yaml';
import { Agent, request } from 'undici';
import type { Vault } from '../../src/lab/kms-plugin.ts';
import { startClients, type RunningClients } from './clients.ts';
import {
  NumberedSecrets,
  pollReady,
  type KubeAnswer,
  type Lab,
  type LabHost,
  type LabOptions,
} from './lab.ts';
import { openEtcd } from './lab-etcd.ts';
import { addressOf, bringUp, hostOf, names, namesUp, stateDir, wipe, type RealHost } from './real-hosts.ts';
import { createContainers, fixtureOf, seed, writeFiles } from './rke-cluster.ts';
import { TsrkeRuns } from './tsrke-runs.ts';

export { closeHosts, type RealHost } from './real-hosts.ts';
export type { LabHost, LabOptions } from './lab.ts';

export interface RealLab extends Lab {
  readonly hosts: readonly RealHost[];
}

export async function openRealLab(options: LabOptions = {}): Promise<RealLab> {
  const count = options.hosts ?? 1;
  await bringUp(count);
  await Promise.all(namesUp().map(wipe));
  const dir = await mkdtemp(join(tmpdir(), 'tsrke-lab-'));
  const ssh = await copyKeys(dir, names.slice(0, count));
  const fixture = await fixtureOf(count, options, ssh.key);
  const vault: Vault = new Map();
  const hosts = names.slice(0, count).map((name) => hostOf(name, vault));
  await Promise.all(
    hosts.map(async (host) => {
      await writeFiles(host, fixture);
      if (options.kms !== undefined) await host.kms.start();
      await createContainers(host, count, options);
    }),
  );

  const config = join(dir, 'cluster.yml');
  const state = join(dir, 'cluster.rkestate');
  await writeFile(config, dump(fixture.yaml));
  await writeFile(state, JSON.stringify(fixture.state, undefined, 2), { mode: 0o600 });
  const admin = fixture.certificate('kube-admin');
  await writeFile(join(dir, 'kube_config_cluster.yml'), admin.config, { mode: 0o600 });

  const ca = fixture.certificate('kube-ca').certificatePEM;
  const agent = new Agent({
    connections: 64,
    connect: { ca, cert: admin.certificatePEM, key: admin.keyPEM, timeout: 5_000 },
    headersTimeout: 60_000,
    bodyTimeout: 60_000,
  });
  const node = fixture.certificate('kube-node');
  const etcd = openEtcd(
    hosts.map(({ address }) => `${address}:2379`),
    { ca, cert: node.certificatePEM, key: node.keyPEM },
  );
  const clients = new Set<RunningClients>();
  const runs = new TsrkeRuns(dir);

  async function kube(
    host: LabHost,
    method: string,
    path: string,
    body?: unknown,
    contentType = 'application/json',
    timeout = 60_000,
  ): Promise<KubeAnswer> {
    const answer = await request(`https://${host.address}:6443${path}`, {
      dispatcher: agent,
      method,
      signal: AbortSignal.timeout(timeout),
      ...(body !== undefined && {
        body: typeof body === 'string' ? body : JSON.stringify(body),
        headers: { 'content-type': contentType },
      }),
    });
    return { status: answer.statusCode, text: await answer.body.text() };
  }

  const secrets = new NumberedSecrets(hosts, kube);
  const lab: RealLab = {
    dir,
    config,
    state,
    ssh,
    hosts,
    etcd,

    tsrke: (args, options) => runs.tsrke(args, options),

    kube: (host, method, path, body, contentType) => kube(host, method, path, body, contentType),

    createSecrets: (n, options) => secrets.create(n, options),

    async startClients() {
      const started = await startClients(hosts, (host, method, path, body) =>
        kube(host, method, path, body, undefined, 10_000),
      );
      clients.add(started);
      return started;
    },

    ready: () => pollReady(hosts, (...asked) => lab.kube(...asked)),

    async close() {
      runs.kill();
      await Promise.all([...clients].map((running) => running.stop()));
      for (const { kms, movedKms } of hosts) for (const each of [kms, movedKms]) each.stop();
      etcd.close();
      await agent.destroy();
      await rm(dir, { recursive: true, force: true });
    },
  };

  try {
    await lab.ready();
    await seed(lab, fixture);
    if (options.secrets !== undefined) {
      await lab.createSecrets(
        options.secrets,
        options.secretSize === undefined ? {} : { size: options.secretSize },
      );
    }
    await Promise.all(hosts.map(({ name }) => rm(`${stateDir}/${name}/starts`, { force: true })));
  } catch (error) {
    await lab.close();
    throw error;
  }
  return lab;
}

async function copyKeys(dir: string, hosts: readonly string[]): Promise<Lab['ssh']> {
  const ssh = {
    key: join(dir, 'id_ed25519'),
    userCa: join(dir, 'user_ca'),
    knownHosts: join(dir, 'known_hosts'),
  };
  await copyFile(`${stateDir}/ssh/user_ca`, ssh.userCa);
  await mkdir(join(dir, '.ssh'), { mode: 0o700 });
  for (const suffix of ['', '.pub']) {
    await copyFile(`${stateDir}/ssh/id_ed25519${suffix}`, ssh.key + suffix);
    await copyFile(`${stateDir}/ssh/id_ed25519${suffix}`, join(dir, '.ssh', `id_ed25519${suffix}`));
  }
  const lines = hosts.map(async (name) => {
    const [type, key] = (await readFile(`${stateDir}/${name}/ssh_host_ed25519_key.pub`, 'utf8')).split(' ');
    return `${addressOf(name)} ${type ?? ''} ${key ?? ''}\n`;
  });
  await writeFile(ssh.knownHosts, (await Promise.all(lines)).join(''));
  return ssh;
}

/** What RKE leaves in the API: its state as a Secret, and the nodes. */
