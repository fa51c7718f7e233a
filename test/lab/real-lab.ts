/**
 * A real cluster for scenarios: hosts of hosts.sh, on them the cluster that RKE 1.6.3 made (test/fixtures), with
 * a real kube-apiserver, etcd, dockerd and sshd. One lab at a time on a machine; the hosts stay up from one lab to
 * the next of this process, the cluster is made anew for each.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Docker, { type ContainerCreateOptions, type ContainerInspectInfo } from 'dockerode';
import { dump, load } from 'js-yaml';
import { Agent, request } from 'undici';
import { startClients, type RunningClients } from './clients.ts';
import {
  NumberedSecrets,
  poll,
  type KubeAnswer,
  type LabHost,
  type LabOptions,
  type Ran,
  type Lab,
} from './lab.ts';
import { openEtcd } from './lab-etcd.ts';
import { TsrkeRuns } from './tsrke-runs.ts';

export type { LabHost, LabOptions } from './lab.ts';

export interface RealHost extends LabHost {
  sh(command: string): Promise<Ran>;
}

export interface RealLab extends Lab {
  readonly hosts: readonly RealHost[];
}

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const fixtures = join(root, 'test/fixtures/rke-1.6.3');
const stateDir = '/var/lib/tsrke-lab';
const names = ['h1', 'h2', 'h3'];

// --- the hosts ----------------------------------------------------------------------------------------------

let holder: ChildProcess | undefined;
let running = 0;

function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

async function script(name: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await run(join(here, name), args);
  if (code !== 0) throw new Error(`${name} ${args.join(' ')} failed: ${stderr.trim()}`);
}

/** The machine's lock, held by a process that cleans up when this one ends, however it ends. */
async function hold(): Promise<void> {
  if (holder?.exitCode === null) return;
  const child = spawn(join(here, 'hosts.sh'), ['hold', `${process.title} ${process.pid}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('error', reject).once('exit', () => reject(new Error('the lab of this machine is not free')));
  });
  child.removeAllListeners('exit');
  child.unref();
  for (const stream of [child.stdin, child.stdout]) (stream as unknown as { unref?(): void }).unref?.();
  holder = child;
  running = 0;
}

async function bringUp(count: number): Promise<void> {
  await hold();
  await script('setup.sh');
  const alive = await Promise.all(
    names.slice(0, running).map(async (name) => {
      await script('hosts.sh', 'plug', name);
      await dockerOf(name).ping();
    }),
  ).then(
    () => true,
    () => false,
  );
  if (alive && running >= count) return;
  await script('hosts.sh', 'up', String(count));
  running = count;
}

/** Ends the hosts and gives the machine's lock back. */
export async function closeHosts(): Promise<void> {
  const child = holder;
  holder = undefined;
  running = 0;
  if (child?.exitCode !== null) return;
  child.ref();
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.stdin?.end();
  await ended;
}

function dockerOf(name: string): Docker {
  return new Docker({ socketPath: `${stateDir}/${name}/docker.sock` });
}

function hostOf(name: string): RealHost {
  const docker = dockerOf(name);
  const sh = (command: string) => run(join(here, 'hosts.sh'), ['sh', name, command]);
  // RKE's entrypoint lies in a volume of service-sidekick.
  const entrypoint = async () => {
    const { Mounts } = await docker.getContainer('service-sidekick').inspect();
    const volume = Mounts.find(({ Destination }) => Destination === '/opt/rke-tools');
    if (volume === undefined) throw new Error('service-sidekick has no volume /opt/rke-tools');
    return `${volume.Source}/entrypoint.sh`;
  };
  // The mount namespace of the host's first process, as seen from outside.
  const inside = async (path: string) => {
    const [pid = ''] = (await readFile(`${stateDir}/${name}/init`, 'utf8')).split(' ');
    return `/proc/${pid}/root${path}`;
  };
  const address = `198.51.100.${10 + Number(name.slice(1))}`;
  const firewall = async (action: '-I' | '-D') => {
    const toEtcd = '-p tcp --dport 2379';
    const reject = '-j REJECT --reject-with tcp-reset';
    for (const rule of [
      `INPUT ${toEtcd} -s 198.51.100.1 ${reject}`,
      `OUTPUT ${toEtcd} -m owner ! --uid-owner 0 ${reject}`,
    ]) {
      const { code, stderr } = await sh(`iptables ${action} ${rule}`);
      if (code !== 0) throw new Error(`iptables ${action} ${rule}: ${stderr}`);
    }
  };
  return {
    name,
    address,
    docker,
    sh,
    inspect: (container = 'kube-apiserver') => docker.getContainer(container).inspect(),
    async readFile(path) {
      try {
        return await readFile(await inside(path), 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    },
    async writeFile(path, text, mode) {
      const target = await inside(path);
      await mkdir(dirname(target), { recursive: true });
      await writeFile(target, text, { mode });
      await chmod(target, mode);
    },
    async removeFile(path) {
      await rm(await inside(path), { force: true });
    },
    async ownerAndMode(path) {
      const { code, stdout } = await sh(`stat -c '%U %G %a' ${path}`);
      return code === 0 ? stdout.trim() : undefined;
    },
    async failStarts(words, unless = []) {
      const path = await inside(await entrypoint());
      if (!existsSync(`${path}.good`)) await copyFile(path, `${path}.good`);
      await writeFile(path, failingEntrypoint(words, unless), { mode: 0o755 });
    },
    async letStart() {
      const path = await inside(await entrypoint());
      if (existsSync(`${path}.good`)) await rename(`${path}.good`, path);
    },
    reboot: () => script('hosts.sh', 'reboot', name),
    unplug: () => script('hosts.sh', 'unplug', name),
    plug: () => script('hosts.sh', 'plug', name),
    hideEtcd: () => firewall('-I'),
    showEtcd: () => firewall('-D'),
    async apiserverStarts() {
      const starts = await readFile(`${stateDir}/${name}/starts`, 'utf8').catch(() => '');
      return starts.split('\n').filter((line) => line.includes('"kube-apiserver"')).length;
    },
  };
}

function failingEntrypoint(words: string, unless: readonly string[]): string {
  const accepts = unless.map((part) => `  *"${part}"*) exec "$@" ;;\n`);
  return `#!/bin/sh
first=none
case "$*" in
  *--encryption-provider-config=*) first=$(grep -m1 -e name: -e identity: /etc/kubernetes/ssl/encryption.yaml) ;;
esac
case "$first" in
${accepts.join('')}esac
echo '${words}' >&2
exit 1
`;
}

async function wipe(name: string): Promise<void> {
  const docker = dockerOf(name);
  const containers = await docker.listContainers({ all: true });
  await Promise.all(containers.map(({ Id }) => docker.getContainer(Id).remove({ force: true, v: true })));
  const disk = `${stateDir}/${name}/disk`;
  for (const path of [
    '/etc/kubernetes',
    '/var/lib/etcd',
    '/var/log/kube-audit',
    '/var/lib/rancher',
    '/opt/rke',
  ]) {
    for (const entry of await readdir(disk + path)) {
      await rm(join(disk + path, entry), { recursive: true, force: true });
    }
  }
}

// --- RKE's cluster, from the fixtures -----------------------------------------------------------------------

interface Certificate {
  readonly certificatePEM: string;
  readonly keyPEM: string;
  readonly config: string;
  readonly path: string;
  readonly keyPath: string;
  readonly configPath: string;
}

interface ClusterState {
  rkeConfig: {
    nodes: { address: string; sshKeyPath: string }[];
    services: {
      kubeApi: { secretsEncryptionConfig?: unknown };
      etcd: { extraArgs: Record<string, string> };
    };
  };
  certificatesBundle: Record<string, Certificate>;
  encryptionConfig?: string;
}

type State = Record<'desiredState' | 'currentState', ClusterState>;

interface ClusterYaml {
  nodes: { ssh_key_path: string }[];
  services: { 'kube-api'?: Record<string, unknown>; etcd: Record<string, unknown> };
}

interface Fixture {
  readonly state: State;
  readonly yaml: ClusterYaml;
  readonly current: ClusterState;
  certificate(name: string): Certificate;
}

async function json<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

/**
 * A lone etcd waits out its election timeout whenever it starts, with RKE's default up to 5 s. Nobody can take its
 * leadership away, so there it is shorter: in cluster.yml, as the user would, in the state and in the container.
 */
const loneEtcd: Readonly<Record<string, string>> = { 'election-timeout': '500', 'heartbeat-interval': '50' };

async function fixtureOf(count: number, encrypted: boolean, sshKey: string): Promise<Fixture> {
  const state = await json<State>(join(fixtures, 'enabled.rkestate'));
  for (const part of [state.desiredState, state.currentState]) {
    part.rkeConfig.nodes = part.rkeConfig.nodes.slice(0, count);
    for (const node of part.rkeConfig.nodes) node.sshKeyPath = sshKey;
    const gone = names.slice(count).map((name) => `kube-etcd-198-51-100-${10 + Number(name.slice(1))}`);
    part.certificatesBundle = Object.fromEntries(
      Object.entries(part.certificatesBundle).filter(([name]) => !gone.includes(name)),
    );
    if (count === 1) Object.assign(part.rkeConfig.services.etcd.extraArgs, loneEtcd);
    if (!encrypted) {
      delete part.encryptionConfig;
      delete part.rkeConfig.services.kubeApi.secretsEncryptionConfig;
    }
  }
  const yaml = load(await readFile(join(fixtures, 'cluster.yml'), 'utf8')) as ClusterYaml;
  yaml.nodes = yaml.nodes.slice(0, count);
  for (const node of yaml.nodes) node.ssh_key_path = sshKey;
  if (count === 1) yaml.services.etcd['extra_args'] = loneEtcd;
  if (!encrypted) delete yaml.services['kube-api'];
  const current = state.currentState;
  return {
    state,
    yaml,
    current,
    certificate(name) {
      const found = current.certificatesBundle[name];
      if (found === undefined) throw new Error(`the fixture has no certificate ${name}`);
      return found;
    },
  };
}

/** The files that lie beside the certificates: `== name`, then the text. */
async function otherFile(name: string): Promise<string> {
  const all = await readFile(join(fixtures, 'etc-kubernetes-h1.txt'), 'utf8');
  const part = all.split(/^== /m).find((text) => text.startsWith(`${name}\n`));
  if (part === undefined) throw new Error(`the fixture has no file ${name}`);
  return `${part.slice(name.length + 1).trimEnd()}\n`;
}

async function writeFiles(host: LabHost, { current }: Fixture): Promise<void> {
  for (const [name, { certificatePEM, keyPEM, config, path, keyPath, configPath }] of Object.entries(
    current.certificatesBundle,
  )) {
    if (name === 'kube-admin') continue;
    await host.writeFile(path, certificatePEM, 0o600);
    await host.writeFile(keyPath, keyPEM, 0o600);
    if (config !== '' && configPath.startsWith('/')) await host.writeFile(configPath, config, 0o600);
  }
  for (const name of ['admission.yaml', 'audit-policy.yaml']) {
    await host.writeFile(`/etc/kubernetes/${name}`, await otherFile(name), 0o600);
  }
  if (current.encryptionConfig !== undefined) {
    await host.writeFile('/etc/kubernetes/ssl/encryption.yaml', current.encryptionConfig, 0o600);
  }
}

/** An argument of etcd or kube-apiserver, cut down to the hosts and to the encryption there is. */
function cut(args: readonly string[] | null, count: number, encrypted: boolean): string[] {
  return (args ?? [])
    .filter((arg) => encrypted || !arg.startsWith('--encryption-provider-config='))
    .map((arg) => {
      const [, flag, value] = /^--([^=]+)=(.*)$/.exec(arg) ?? [];
      if (flag === undefined || value === undefined) return arg;
      if (flag === 'etcd-servers' || flag === 'initial-cluster') {
        return `--${flag}=${value.split(',').slice(0, count).join(',')}`;
      }
      return count === 1 && flag in loneEtcd ? `--${flag}=${loneEtcd[flag] ?? ''}` : arg;
    });
}

async function createContainers(host: LabHost, count: number, options: LabOptions): Promise<void> {
  const image = host.docker.getImage(`tsrke-lab/hyperkube:${options.version ?? '1.34'}`);
  await image.tag({ repo: 'rancher/hyperkube', tag: 'v1.30.5-rancher1' });
  const inspected = await json<ContainerInspectInfo[]>(join(fixtures, `docker-inspect-${host.name}.json`));
  for (const name of ['service-sidekick', 'etcd', 'kube-apiserver']) {
    const one = inspected.find((candidate) => candidate.Name === `/${name}`);
    if (one === undefined) throw new Error(`the fixture has no container ${name} on ${host.name}`);
    const { Config } = one;
    // dockerode's types leave some of it `any`.
    const HostConfig = one.HostConfig as {
      readonly NetworkMode: string;
      readonly RestartPolicy: { readonly Name: string };
      readonly Privileged: boolean;
      readonly PidMode: string;
      readonly Binds: string[] | null;
      readonly SecurityOpt: string[] | null;
      readonly VolumesFrom: string[] | null;
    };
    const encrypted = options.encryption === 'on';
    const wanted: ContainerCreateOptions = {
      name,
      Image: Config.Image,
      Env: Config.Env,
      Labels: Config.Labels,
      User: Config.User,
      HostConfig: {
        NetworkMode: HostConfig.NetworkMode,
        RestartPolicy: HostConfig.RestartPolicy,
        Privileged: HostConfig.Privileged,
        PidMode: HostConfig.PidMode,
        ...(HostConfig.Binds !== null && { Binds: HostConfig.Binds }),
        ...(HostConfig.SecurityOpt !== null && { SecurityOpt: HostConfig.SecurityOpt }),
        ...(HostConfig.VolumesFrom !== null && { VolumesFrom: HostConfig.VolumesFrom }),
      },
    };
    const entrypoint = cut(Config.Entrypoint as string[] | null, count, encrypted);
    if (name === 'kube-apiserver') {
      const [script = '', component = '', ...args] = entrypoint;
      wanted.Entrypoint = [script, component, ...(options.apiserverArgs?.(args) ?? args)];
    } else if (entrypoint.length > 0) wanted.Entrypoint = entrypoint;
    const cmd = cut(Config.Cmd, count, encrypted);
    if (cmd.length > 0) wanted.Cmd = cmd;
    if ((Config.Volumes as object | null) !== null) wanted.Volumes = Config.Volumes;
    const container = await host.docker.createContainer(wanted);
    if (name !== 'service-sidekick') await container.start();
  }
}

// --- the lab ------------------------------------------------------------------------------------------------

export async function openRealLab(options: LabOptions = {}): Promise<RealLab> {
  const count = options.hosts ?? 1;
  await bringUp(count);
  await Promise.all(names.slice(0, running).map(wipe));
  const dir = await mkdtemp(join(tmpdir(), 'tsrke-lab-'));
  const ssh = await copyKeys(dir, names.slice(0, count));
  const fixture = await fixtureOf(count, options.encryption === 'on', ssh.key);
  const hosts = names.slice(0, count).map(hostOf);
  await Promise.all(
    hosts.map(async (host) => {
      await writeFiles(host, fixture);
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

    async ready() {
      await Promise.all(
        hosts.map((host) =>
          poll(`/readyz of ${host.name}`, async () => {
            const { status, text } = await lab.kube(host, 'GET', '/readyz');
            return status === 200 || text;
          }),
        ),
      );
    },

    async close() {
      runs.kill();
      await Promise.all([...clients].map((running) => running.stop()));
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
    return `${hostOf(name).address} ${type ?? ''} ${key ?? ''}\n`;
  });
  await writeFile(ssh.knownHosts, (await Promise.all(lines)).join(''));
  return ssh;
}

/** What RKE leaves in the API: its state as a Secret, and the nodes. */
async function seed(lab: Lab, fixture: Fixture): Promise<void> {
  const [host] = lab.hosts;
  if (host === undefined) return;
  const create = (path: string, body: unknown) =>
    poll(`POST ${path}`, async () => {
      const { status, text } = await lab.kube(host, 'POST', path, body);
      return status === 201 || status === 409 || text;
    });
  await create('/api/v1/namespaces/kube-system/secrets', {
    metadata: { name: 'full-cluster-state' },
    type: 'Opaque',
    data: { 'full-cluster-state': Buffer.from(JSON.stringify(fixture.state)).toString('base64') },
  });
  await create('/api/v1/namespaces', { metadata: { name: 'default' } });
  const { items } = await json<{ items: { metadata: Record<string, unknown>; spec: unknown }[] }>(
    join(fixtures, 'nodes.json'),
  );
  for (const { metadata, spec } of items.slice(0, lab.hosts.length)) {
    const { name, labels, annotations } = metadata;
    await create('/api/v1/nodes', { metadata: { name, labels, annotations }, spec });
  }
}
