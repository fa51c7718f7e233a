/** The memory lab for scenarios: src/lab behind its real protocols in this process, tsrke as processes of its own. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Docker from 'dockerode';
import { Agent, request } from 'undici';
import { startLab, type Lab as MemoryLab } from '../../src/lab/lab.ts';
import type { LabModel } from '../../src/lab/model.ts';
import { rolesOf, type LabSurface } from '../../src/lab/surface.ts';
import { KmsPlugin, type Vault } from '../../src/lab/kms-plugin.ts';
import { credentialsIn, type Credentials } from './bare-hosts.ts';
import { startClients, type RunningClients } from './clients.ts';
import type { LabEtcd } from './lab-etcd.ts';
import {
  describeOwner,
  editKubeApi,
  extraArgs,
  kmsFolder,
  NumberedSecrets,
  pollReady,
  withExtraArgs,
  type HostKms,
  type Lab,
  type LabHost,
  type LabOptions,
  type Role,
} from './lab.ts';
import { TsrkeRuns } from './tsrke-runs.ts';

/** What stands between the lab's servers and its cluster, to break things there. */
export interface Between {
  readonly through?: (surface: LabSurface) => LabSurface;
  readonly login?: (node: string, accept: () => void) => Promise<void>;
}

const everything: readonly Role[] = ['controlplane', 'etcd', 'worker'];

/** As openRealLab: the same names, secrets and files. Nothing outlives `close`. */
export async function openMemoryLab(
  options: LabOptions = {},
  { through = (surface) => surface, login }: Between = {},
): Promise<Lab> {
  const dir = mkdtempSync(join(tmpdir(), 'tsrke-memory-lab-'));
  const names = ['h1', 'h2', 'h3'].slice(0, options.hosts ?? 1);
  const starts = new Starts();
  const hidden = new Set<string>();
  const vault: Vault = new Map();
  const kms = new Map(names.map((name) => [name, new MemoryKms(vault, options.kms !== undefined)]));
  const movedKms = new Map(names.map((name) => [name, new MemoryKms(vault, false)]));
  const listening = new Map([
    [`unix://${kmsFolder}/socket.sock`, kms],
    [`unix://${kmsFolder}/moved.sock`, movedKms],
  ]);
  const bare = options.bare === true;
  const roles = bare ? names.map((_, index) => options.roles?.[index] ?? everything) : undefined;
  const encryption = options.encryption ?? (bare ? 'on' : 'off');
  const lab = await startLab({
    dir,
    controlplane: names,
    ...{ bare, encryption, network: options.network ?? 'none' },
    ...(roles === undefined ? {} : { roles }),
    minor: Number((options.version ?? '1.34').slice(2)),
    startTime: 100,
    pollEvery: 2_000,
    plugins: (node, endpoint) => listening.get(endpoint)?.get(node)?.plugin,
    through: (model) => through(starts.watch(model)),
    login,
    listens: (node, port) => port !== 2379 || !hidden.has(node),
    outsiders: ['games'],
  });
  if (encryption !== 'on') withoutEncryptionBlock(lab.config);
  mkdirSync(join(dir, '.ssh'), { mode: 0o700 });
  copyFileSync(join(dir, 'id_ed25519'), join(dir, '.ssh', 'id_ed25519'));
  writeFileSync(join(dir, 'user_ca'), lab.userCa, { mode: 0o600 });

  const doors = new Doors();
  const about = { starts, hidden, kms, movedKms };
  const hosts = await Promise.all(
    lab.model.nodes.map(({ name }) => hostOf(lab, name, doors, join(dir, `${name}.sock`), about)),
  );
  const ports = new Map<string, number>();
  for (const { name, address } of hosts) {
    ports.set(
      name,
      await doors.open((stream) => {
        const serve = lab.servers.dial(address, 6443);
        if (serve === undefined) stream.destroy();
        else serve(stream);
      }),
    );
  }
  const apiservers = hosts.filter(({ name }) => rolesOf(lab.model.host(name).node).includes('controlplane'));
  const credentials = credentialsIn(lab.state);
  const agents = new Map<Credentials, Agent>();
  const agentOf = (now: Credentials) => {
    const { ca, admin } = now;
    const known =
      agents.get(now) ?? new Agent({ connections: 64, connect: { ca, ...admin, timeout: 5_000 } });
    agents.set(now, known);
    return known;
  };
  const kube: Lab['kube'] = async (host, method, path, body, contentType = 'application/json') => {
    const answer = await request(`https://127.0.0.1:${ports.get(host.name) ?? 0}${path}`, {
      dispatcher: agentOf(credentials()),
      method,
      signal: AbortSignal.timeout(10_000),
      ...(body !== undefined && {
        body: typeof body === 'string' ? body : JSON.stringify(body),
        headers: { 'content-type': contentType },
      }),
    });
    return { status: answer.statusCode, text: await answer.body.text() };
  };
  const secrets = new NumberedSecrets(apiservers, kube);
  const runs = new TsrkeRuns(dir);
  const clients = new Set<RunningClients>();

  const opened: Lab = {
    dir,
    config: lab.config,
    state: lab.state,
    ssh: { key: join(dir, 'id_ed25519'), userCa: join(dir, 'user_ca'), knownHosts: join(dir, 'known_hosts') },
    hosts,
    etcd: etcdOf(lab.model),
    kube,
    tsrke: (args, more) => runs.tsrke(args, more),
    createSecrets: (n, more) => secrets.create(n, more),
    async startClients() {
      const started = await startClients(apiservers, kube);
      clients.add(started);
      return started;
    },
    ready: () => pollReady(apiservers, kube),
    async close() {
      runs.kill();
      await Promise.all([...clients].map((running) => running.stop()));
      await Promise.all([...agents.values()].map((agent) => agent.destroy()));
      doors.close();
      lab.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  if (bare) return opened;
  try {
    giveExtraArgs(lab, extraArgs(options));
    await opened.ready();
    const size = options.secretSize === undefined ? {} : { size: options.secretSize };
    if (options.secrets !== undefined) await opened.createSecrets(options.secrets, size);
    starts.forget();
  } catch (error) {
    await opened.close();
    throw error;
  }
  return opened;
}

function giveExtraArgs({ config, model }: MemoryLab, extra: Readonly<Record<string, string>>): void {
  if (Object.keys(extra).length === 0) return;
  recreate(model, (args) => withExtraArgs(args, extra));
  editKubeApi({ config }, { extra_args: extra });
}

/** As in the fixture of a cluster that never had encryption. */
function withoutEncryptionBlock(config: string): void {
  const text = readFileSync(config, 'utf8');
  writeFileSync(config, text.replace(/^ {2}kube-api:\n(?: {4}.*\n)+/m, ''));
}

interface About {
  readonly starts: Starts;
  readonly hidden: Set<string>;
  readonly kms: ReadonlyMap<string, HostKms>;
  readonly movedKms: ReadonlyMap<string, HostKms>;
}

async function hostOf(
  lab: MemoryLab,
  name: string,
  doors: Doors,
  socketPath: string,
  { starts, hidden, kms, movedKms }: About,
): Promise<LabHost> {
  const { model, servers } = lab;
  await doors.open((stream) => servers.docker(name, stream), socketPath);
  const docker = new Docker({ socketPath });
  const host = model.host(name);
  const [plugin, moved] = [kms.get(name), movedKms.get(name)];
  if (plugin === undefined || moved === undefined) throw new Error(`no host ${name}`);
  return {
    name,
    address: host.node.address,
    docker,
    kms: plugin,
    movedKms: moved,
    inspect: (container = 'kube-apiserver') => docker.getContainer(container).inspect(),
    readFile: (path) => Promise.resolve(host.read(path)?.bytes.toString()),
    writeFile(path, text, mode) {
      host.write(path, Buffer.from(text), mode);
      return Promise.resolve();
    },
    removeFile(path) {
      host.remove(path);
      return Promise.resolve();
    },
    list: (folder) =>
      Promise.resolve(
        [...host.files.keys()].filter((path) => dirname(path) === folder).map((path) => basename(path)),
      ),
    ownerAndMode(path) {
      const file = host.read(path);
      return Promise.resolve(file && describeOwner({ ...file, gid: file.uid }));
    },
    failStarts(words, unless = []) {
      model.startFails.set(name, (first) =>
        unless.some((part) => first.includes(part)) ? undefined : words,
      );
      return Promise.resolve();
    },
    letStart() {
      model.startFails.delete(name);
      return Promise.resolve();
    },
    async reboot() {
      servers.unplug(name);
      model.powerOff(name);
      // Who was connected has noticed by the time it is back.
      await sleep(200);
      model.powerOn(name);
      await servers.plug(name);
    },
    die() {
      servers.unplug(name);
      model.powerOff(name);
      return Promise.resolve();
    },
    reinstall() {
      const engine = model.engine(name);
      for (const container of [...engine.containers]) engine.remove(container, true, Date.now());
      model.powerOn(name);
      for (const folder of ['/etc/kubernetes', '/var/lib', '/opt/rke']) host.empty(folder);
      return Promise.resolve();
    },
    unplug() {
      servers.unplug(name);
      return Promise.resolve();
    },
    plug: () => servers.plug(name),
    hideEtcd() {
      hidden.add(name);
      return Promise.resolve();
    },
    showEtcd() {
      hidden.delete(name);
      return Promise.resolve();
    },
    letOnlySshIn: () => Promise.resolve(() => Promise.resolve()),
    logins() {
      const own = servers.logins.filter((login) => login.host === name);
      const through = (from: string) =>
        model.nodes.find(({ address }) => address === from)?.name ?? 'outside';
      return Promise.resolve(
        own.map(({ user, from, algorithm }) => ({ user, from: through(from), key: algorithm })),
      );
    },
    daemonLogs: () => Promise.resolve([]),
    apiserverStarts: () => Promise.resolve(starts.count(name)),
  };
}

function etcdOf(model: LabModel): LabEtcd {
  return {
    prefixes(path = '/registry/secrets/') {
      const { values } = model.store.range(path, `${path}\uffff`);
      const found = values.map(({ key, value }): [string, string] => {
        const head = value.subarray(0, 300).toString('latin1');
        return [key, /^k8s:enc:[^:]+:v\d+:[^:]*:/.exec(head)?.[0] ?? ''];
      });
      return Promise.resolve(new Map(found));
    },
    get: (key) => Promise.resolve(model.store.get(key)?.value),
    put(key, value) {
      model.store.put(key, Buffer.from(value as string));
      return Promise.resolve();
    },
    del(key) {
      model.store.delete(key);
      return Promise.resolve();
    },
    close: () => undefined,
  };
}

/** kube-apiserver's containers made anew with other arguments, as if they had been so from the start. */
function recreate(model: LabModel, change: (args: readonly string[]) => readonly string[]): void {
  for (const { name } of model.nodes) {
    const engine = model.engine(name);
    const { config, hostConfig } = engine.get('kube-apiserver');
    const [script = '', component = '', ...args] = config.Entrypoint ?? [];
    engine.remove(engine.get('kube-apiserver'), true, Date.now());
    const Entrypoint = [script, component, ...change(args)];
    const made = engine.create(
      'kube-apiserver',
      { ...config, Entrypoint, HostConfig: hostConfig },
      Date.now(),
    );
    engine.start(made, Date.now());
  }
}

/** A plugin survives its node's reboot, or is there again when kube-apiserver is. */
class MemoryKms implements HostKms {
  plugin: KmsPlugin;

  constructor(vault: Vault, runs: boolean) {
    this.plugin = new KmsPlugin(vault, 'kek-1');
    this.plugin.up = runs;
  }

  get runs(): boolean {
    return this.plugin.up;
  }

  start(): Promise<void> {
    this.plugin.up = true;
    return Promise.resolve();
  }

  stop(): void {
    this.plugin.up = false;
  }
}

/** How often each node's kube-apiserver has started, seen at every call to Docker and to the kube API. */
class Starts {
  readonly #seen = new Map<string, Set<string>>();
  #model: LabModel | undefined;

  watch(model: LabModel): LabSurface {
    this.#model = model;
    this.forget();
    const noted = async <T>(work: Promise<T>): Promise<T> => {
      try {
        return await work;
      } finally {
        this.#look();
      }
    };
    return {
      nodes: model.nodes,
      docker: (node, ask) => noted(model.docker(node, ask)),
      kube: (node, ask) => noted(model.kube(node, ask)),
      plugin: (node, path) => model.plugin(node, path),
      listening: (node, port, local) => model.listening(node, port, local),
      member: (address) => model.member(address),
      etcd: model.etcd,
    };
  }

  count(node: string): number {
    this.#look();
    // The one that ran when counting began is none.
    return (this.#seen.get(node)?.size ?? 1) - 1;
  }

  forget(): void {
    this.#seen.clear();
    this.#look();
  }

  #look(): void {
    for (const { name } of this.#model?.nodes ?? []) {
      const seen = this.#seen.get(name) ?? new Set();
      this.#seen.set(name, seen);
      for (const container of this.#model?.engine(name).containers ?? []) {
        const isApiserver = container.config.Labels?.['io.rancher.rke.container.name'] === 'kube-apiserver';
        const ran = !container.startedAt.startsWith('0001');
        if (isApiserver && ran) seen.add(`${container.id} ${container.startedAt}`);
      }
    }
  }
}

/** Listening sockets, for clients that know nothing of the lab's own streams. */
class Doors {
  readonly #servers: Server[] = [];

  /** On 127.0.0.1, or on a Unix socket; resolves to the port. */
  async open(serve: (stream: Socket) => void, path?: string): Promise<number> {
    const server = createServer(serve);
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      if (path === undefined) server.listen(0, '127.0.0.1', resolve);
      else server.listen(path, resolve);
    });
    return path === undefined ? (server.address() as AddressInfo).port : 0;
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }
}
