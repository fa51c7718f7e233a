/**
 * A real cluster for scenarios: on real hosts the cluster that RKE 1.6.3 made, with a real kube-apiserver, etcd, dockerd
 * and sshd; or real hosts with nothing on them, where `tsrke up` makes one. It is made anew for each lab.
 */
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dump } from 'js-yaml';
import { Agent, request } from 'undici';
import type { Vault } from '../../src/lab/kms-plugin.ts';
import { credentialsIn, rolesOf, writeClusterYml, type Credentials } from './bare-hosts.ts';
import { startClients, type RunningClients } from './clients.ts';
import {
  NumberedSecrets,
  pollReady,
  type KubeAnswer,
  type Lab,
  type LabHost,
  type LabOptions,
  type Role,
} from './lab.ts';
import { followEtcd, openEtcd, type EtcdHistory, type LabEtcd } from './lab-etcd.ts';
import {
  addressOf,
  bringUp,
  hostOf,
  names,
  namesUp,
  stateDir,
  takeDown,
  wipe,
  type Kubelets,
  type RealHost,
} from './real-hosts.ts';
import { createContainers, fixtureOf, seed, writeFiles } from './rke-cluster.ts';
import { TsrkeRuns } from './tsrke-runs.ts';

export { closeHosts, type RealHost } from './real-hosts.ts';
export type { LabHost, LabOptions } from './lab.ts';

export interface RealLab extends Lab {
  readonly hosts: readonly RealHost[];
  /** Of the first member, from its beginning; to be stopped by the caller. */
  followEtcd(path: string): EtcdHistory;
}

export async function openRealLab(options: LabOptions = {}): Promise<RealLab> {
  return options.bare === true ? openBareLab(options) : openImportedLab(options);
}

async function openImportedLab(options: LabOptions): Promise<RealLab> {
  const count = options.hosts ?? 1;
  await bringUp(count, options.kubelets === true ? kubeletsFor(options) : undefined);
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

  await writeFile(join(dir, 'cluster.yml'), dump(fixture.yaml));
  await writeFile(join(dir, 'cluster.rkestate'), JSON.stringify(fixture.state, undefined, 2), {
    mode: 0o600,
  });
  const admin = fixture.certificate('kube-admin');
  await writeFile(join(dir, 'kube_config_cluster.yml'), admin.config, { mode: 0o600 });
  const node = fixture.certificate('kube-node');
  const credentials = {
    ca: fixture.certificate('kube-ca').certificatePEM,
    admin: { cert: admin.certificatePEM, key: admin.keyPEM },
    node: { cert: node.certificatePEM, key: node.keyPEM },
  };
  const lab = labIn({
    dir,
    ssh,
    hosts,
    apiservers: hosts,
    etcds: hosts,
    credentials: () => credentials,
    ...(options.kubelets === true && { atEnd: takeDown }),
  });

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

function kubeletsFor({ network = 'none' }: LabOptions): Kubelets {
  return network === 'none' ? 'cri' : 'pods';
}

async function openBareLab(options: LabOptions): Promise<RealLab> {
  const roles = rolesOf(options);
  await bringUp(roles.size, kubeletsFor(options));
  const dir = await mkdtemp(join(tmpdir(), 'tsrke-lab-'));
  const ssh = await copyKeys(dir, [...roles.keys()]);
  await writeClusterYml(join(dir, 'cluster.yml'), options, ssh.key);
  const vault: Vault = new Map();
  const hosts = Array.from(roles.keys(), (name) => hostOf(name, vault));
  const those = (role: Role) => hosts.filter(({ name }) => roles.get(name)?.includes(role));
  return labIn({
    dir,
    ssh,
    hosts,
    apiservers: those('controlplane'),
    etcds: those('etcd'),
    credentials: credentialsIn(join(dir, 'cluster.rkestate')),
    atEnd: takeDown,
  });
}

interface LabParts {
  readonly dir: string;
  readonly ssh: Lab['ssh'];
  readonly hosts: readonly RealHost[];
  readonly apiservers: readonly RealHost[];
  readonly etcds: readonly RealHost[];
  /** Asked for with each request: on bare hosts there are none before the first `up`. */
  readonly credentials: () => Credentials;
  /** The last of `close`. */
  readonly atEnd?: () => Promise<void>;
}

function labIn({ dir, ssh, hosts, apiservers, etcds, credentials, atEnd }: LabParts): RealLab {
  const agents = new Map<Credentials, Agent>();
  const agent = () => {
    const now = credentials();
    const { ca, admin } = now;
    const made =
      agents.get(now) ??
      new Agent({
        connections: 64,
        connect: { ca, ...admin, timeout: 5_000 },
        headersTimeout: 60_000,
        bodyTimeout: 60_000,
      });
    agents.set(now, made);
    return made;
  };
  let etcd: { readonly of: Credentials; readonly client: LabEtcd } | undefined;
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
      dispatcher: agent(),
      method,
      signal: AbortSignal.timeout(timeout),
      ...(body !== undefined && {
        body: typeof body === 'string' ? body : JSON.stringify(body),
        headers: { 'content-type': contentType },
      }),
    });
    return { status: answer.statusCode, text: await answer.body.text() };
  }

  const secrets = new NumberedSecrets(apiservers, kube);
  const lab: RealLab = {
    dir,
    config: join(dir, 'cluster.yml'),
    state: join(dir, 'cluster.rkestate'),
    ssh,
    hosts,

    get etcd() {
      const now = credentials();
      if (etcd?.of === now) return etcd.client;
      etcd?.client.close();
      const { ca, node } = now;
      const client = openEtcd(
        etcds.map(({ address }) => `${address}:2379`),
        { ca, ...node },
      );
      etcd = { of: now, client };
      return client;
    },

    followEtcd: (path) =>
      followEtcd(`${etcds[0]?.address ?? ''}:2379`, path, () => {
        const { ca, node } = credentials();
        return { ca, ...node };
      }),

    tsrke: (args, options) => runs.tsrke(args, options),

    kube: (host, method, path, body, contentType) => kube(host, method, path, body, contentType),

    createSecrets: (n, options) => secrets.create(n, options),

    async startClients() {
      const started = await startClients(apiservers, (host, method, path, body) =>
        kube(host, method, path, body, undefined, 10_000),
      );
      clients.add(started);
      return started;
    },

    ready: () => pollReady(apiservers, (...asked) => lab.kube(...asked)),

    async close() {
      runs.kill();
      await Promise.all([...clients].map((running) => running.stop()));
      for (const { kms, movedKms } of hosts) for (const each of [kms, movedKms]) each.stop();
      etcd?.client.close();
      await Promise.all([...agents.values()].map((each) => each.destroy()));
      await rm(dir, { recursive: true, force: true });
      await atEnd?.();
    },
  };
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
