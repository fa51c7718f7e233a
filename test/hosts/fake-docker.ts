/**
 * A Docker engine in a hundred lines of state: containers with names, states and restart policies, images by tag,
 * and a real folder for the host's files, in which commands really run. What it does is what Docker 20.10 does; where
 * the real one differs, this one is wrong.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { extract, pack, type Pack } from 'tar-stream';
import { bindOf } from '../../src/bind.ts';
import { hostPathOf } from '../../src/encryption/binds.ts';

export interface FakeContainer {
  readonly id: string;
  name: string;
  readonly config: Record<string, unknown>;
  readonly hostConfig: { RestartPolicy: { Name: string; MaximumRetryCount: number } } & Record<
    string,
    unknown
  >;
  readonly image: string;
  running: boolean;
  paused: boolean;
  /** Zero: never. */
  started: number;
  exitCode: number;
  log: string;
  /** Anonymous ones, its own and those of others that it uses. */
  readonly volumes: readonly string[];
}

class Answer extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class FakeDocker {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsrke-docker-'));
  readonly containers: FakeContainer[] = [];
  readonly images = new Map<string, string>();
  /** By id: what an image brings along. */
  readonly imageConfigs = new Map<string, { Env?: string[]; Volumes?: Record<string, object> }>();
  /** Anonymous volumes that are there. */
  readonly volumes = new Set<string>();
  /** What `docker info` tells. */
  info: Record<string, unknown> = { Name: 'host-1' };
  /** Security options with which no container starts. */
  readonly refusedOptions = new Set<string>();
  /** Each call that changed something, e.g. `start kube-apiserver`. */
  readonly effects: string[] = [];
  /** All that containers were made of, and all commands run in them. */
  readonly definitions: unknown[] = [];
  readonly commands: string[][] = [];
  /** After this many effects the power is out: the answer to the last one is lost, nothing more is answered. */
  powerFailsAfter = Infinity;
  /** Something to do right before a command is run in a container. */
  beforeCommand: (() => void) | undefined;
  /** Owner of all files, as a tar tells it. */
  uid = 0;
  /** True once two containers of the host's network ran at the same time. */
  foughtForPort = false;
  /** What a pull of an image answers: its id, or why it fails; `X-Registry-Auth` as it came. */
  registry: (
    image: string,
    auth: string | undefined,
  ) => { id: string } | { error: string } | { refusal: string } = (image) => ({
    error: `manifest for ${image} not found`,
  });
  /** Containers of these images end as soon as they are started; with a restart policy, again and again. */
  readonly shortLived = new Set<string>();
  /** Requests are taken and never answered. */
  hangs = false;
  port = 0;
  readonly #server: Server = createServer((request, response) => void this.#serve(request, response));
  readonly #execs = new Map<string, { container: FakeContainer; command: string[]; code: number | null }>();
  /** Of files that a tar brought for somebody else than root, by their inodes: tests need not be root's. */
  readonly #owners = new Map<number, number>();
  #clock = 0;
  #serial = 0;

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A file of the host, by its path there. */
  path(path: string): string {
    return join(this.folder, path);
  }

  write(path: string, text: string): void {
    mkdirSync(join(this.path(path), '..'), { recursive: true });
    writeFileSync(this.path(path), text, { mode: 0o600 });
  }

  find(name: string): FakeContainer | undefined {
    return this.containers.find((container) => container.name === name || container.id === name);
  }

  /** Takes away what was put beside the file, as a failing disk would. */
  breakFolder(path: string): void {
    rmSync(this.path(path), { recursive: true });
  }

  create(name: string, body: Record<string, unknown>): FakeContainer {
    if (this.find(name) !== undefined)
      throw new Answer(409, `Conflict. The container name "/${name}" is already in use`);
    this.definitions.push(body);
    const { HostConfig, ...config } = body as { HostConfig: FakeContainer['hostConfig'] };
    const named = (config as { Image: string }).Image;
    const image = this.images.get(named) ?? [...this.images.values()].find((id) => id === named);
    if (image === undefined) throw new Answer(404, `No such image: ${named}`);
    if (HostConfig['NetworkMode'] === 'host') (config as Record<string, unknown>)['Hostname'] ??= 'host-1';
    const { Env: environment, Volumes: own = {} } = this.imageConfigs.get(image) ?? {};
    if (environment !== undefined) {
      (config as { Env?: string[] }).Env = [...environment, ...((config as { Env?: string[] }).Env ?? [])];
    }
    const used = ((HostConfig['VolumesFrom'] ?? []) as string[]).flatMap(
      (other) => this.find(other)?.volumes ?? [],
    );
    const made = Object.keys(own).map((path) => `${path} of ${++this.#serial}`);
    for (const volume of made) this.volumes.add(volume);
    for (const bind of bindsOf(HostConfig)) {
      mkdirSync(this.path(bind.split(':')[0] ?? ''), { recursive: true });
    }
    const container = {
      volumes: [...made, ...used],
      ...{ id: (++this.#serial).toString(16).padStart(64, '0'), name, config, image, hostConfig: HostConfig },
      ...{ running: false, paused: false, started: 0, exitCode: 0, log: '' },
    };
    this.containers.push(container);
    return container;
  }

  start(container: FakeContainer): void {
    container.running =
      !this.#isShortLived(container) || container.hostConfig.RestartPolicy.Name === 'always';
    container.started = ++this.#clock;
    const sharing = this.containers.filter(
      (other) => other.running && other.hostConfig['NetworkMode'] === 'host',
    );
    if (sharing.length > 1) this.foughtForPort = true;
  }

  /** The host goes down and comes up: Docker starts what was ever started and has a policy that says so. */
  reboot(): void {
    this.powerFailsAfter = Infinity;
    this.effects.length = 0;
    for (const container of this.containers) container.running = false;
    for (const container of this.containers) {
      if (container.started > 0 && container.hostConfig.RestartPolicy.Name === 'always')
        this.start(container);
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://docker');
    const path = url.pathname.replace(/^\/v\d+\.\d+/, '');
    const body = await buffer(request);
    if (this.hangs) return;
    if (this.effects.length >= this.powerFailsAfter) {
      request.socket.destroy();
      return;
    }
    const before = this.effects.length;
    try {
      const call = `${request.method ?? ''} ${path}`;
      const auth = request.headers['x-registry-auth'] as string | undefined;
      const answer =
        call === 'POST /images/create'
          ? this.#pull(url.searchParams, auth)
          : await this.#answer(call, url.searchParams, body);
      if (this.effects.length > before && this.effects.length >= this.powerFailsAfter) {
        request.socket.destroy();
        return;
      }
      if (Buffer.isBuffer(answer)) response.end(answer);
      else if (answer === undefined) response.writeHead(204).end();
      else response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
    } catch (error) {
      const status = error instanceof Answer ? error.status : 500;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(status === 304 ? '' : JSON.stringify({ message: (error as Error).message }));
    }
  }

  async #answer(call: string, query: URLSearchParams, body: Buffer): Promise<unknown> {
    const json = () => JSON.parse(body.toString() || '{}') as Record<string, unknown>;
    if (call === 'GET /version') return { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12' };
    if (call === 'GET /info') return this.info;
    if (call === 'POST /containers/create') {
      const container = this.create(query.get('name') ?? '', json());
      this.effects.push(`create ${container.name}`);
      return { Id: container.id };
    }
    if (call === 'GET /containers/json') {
      return this.containers
        .filter(({ running }) => running || query.get('all') === 'true')
        .map(({ id, name, config }) => ({ Id: id, Names: [`/${name}`], Labels: config['Labels'] ?? {} }));
    }
    const image = /^GET \/images\/(.+)\/json$/.exec(call)?.[1];
    if (image !== undefined) {
      const name = decodeURIComponent(image);
      const id = this.images.get(name) ?? [...this.images.values()].find((other) => other === name);
      if (id === undefined) throw new Answer(404, `No such image: ${name}`);
      return { Id: id, Config: this.imageConfigs.get(id) ?? {} };
    }
    const exec = /^(?:GET|POST) \/exec\/(\w+)\/(\w+)$/.exec(call);
    if (exec !== null) return this.#exec(exec[1] ?? '', exec[2] ?? '');
    const [, method, name, action = ''] = /^(\w+) \/containers\/([^/]+)(?:\/(\w+))?$/.exec(call) ?? [];
    if (method === undefined || name === undefined) throw new Answer(404, `page not found: ${call}`);
    const container = this.find(name);
    if (container === undefined) throw new Answer(404, `No such container: ${name}`);
    return this.#act(`${method} ${action}`.trim(), container, query, body, json);
  }

  #pull(query: URLSearchParams, auth: string | undefined): Buffer {
    const name = `${query.get('fromImage') ?? ''}:${query.get('tag') ?? ''}`;
    const found = this.registry(name, auth);
    if ('refusal' in found) throw new Answer(500, found.refusal);
    if ('id' in found) {
      this.effects.push(`pull ${name}`);
      this.images.set(name, found.id);
    }
    const lines = [
      { status: `Pulling from ${name}` },
      'id' in found ? { status: 'done' } : { error: found.error },
    ];
    return Buffer.from(lines.map((line) => `${JSON.stringify(line)}\r\n`).join(''));
  }

  async #act(
    call: string,
    container: FakeContainer,
    query: URLSearchParams,
    body: Buffer,
    json: () => Record<string, unknown>,
  ): Promise<unknown> {
    const effect = (what: string) => this.effects.push(`${what} ${container.name}`);
    switch (call) {
      case 'GET json':
        return this.#inspected(container);
      case 'POST start':
        if (container.running) throw new Answer(304, '');
        for (const option of (container.hostConfig['SecurityOpt'] ?? []) as string[]) {
          if (this.refusedOptions.has(option)) throw new Answer(500, `invalid argument: ${option}`);
        }
        effect('start');
        this.start(container);
        if (container.config['NetworkDisabled'] === true) {
          const entrypoint = (container.config['Entrypoint'] ?? []) as string[];
          const cmd = (container.config['Cmd'] ?? []) as string[];
          container.log = await this.#run(container, [...entrypoint, ...cmd]);
          container.running = false;
        }
        return undefined;
      case 'POST wait':
        return { StatusCode: container.exitCode };
      case 'POST stop':
        if (!container.running) throw new Answer(304, '');
        effect('stop');
        container.running = false;
        return undefined;
      case 'POST restart':
        effect('restart');
        container.running = false;
        this.start(container);
        return undefined;
      case 'POST unpause':
        effect('unpause');
        container.paused = false;
        return undefined;
      case 'POST update': {
        const { RestartPolicy } = json() as { RestartPolicy: { Name: string; MaximumRetryCount: number } };
        effect(`policy ${RestartPolicy.Name} of`);
        container.hostConfig.RestartPolicy = RestartPolicy;
        return { Warnings: [] };
      }
      case 'POST rename': {
        const to = query.get('name') ?? '';
        if (this.find(to) !== undefined)
          throw new Answer(409, `Conflict. The container name "/${to}" is already in use`);
        effect('rename');
        container.name = to;
        return undefined;
      }
      case 'DELETE':
        if (container.running && query.get('force') !== 'true')
          throw new Answer(409, 'You cannot remove a running container');
        effect('remove');
        this.containers.splice(this.containers.indexOf(container), 1);
        if (query.get('v') === 'true') {
          const isUsed = (volume: string) => this.containers.some(({ volumes }) => volumes.includes(volume));
          for (const volume of container.volumes) if (!isUsed(volume)) this.volumes.delete(volume);
        }
        return undefined;
      case 'GET logs':
        return container.log
          .split('\n')
          .slice(-Number(query.get('tail')))
          .map((line, index) => frame(1 + (index % 2), `${line}\n`))
          .reduce((all, next) => Buffer.concat([all, next]), Buffer.alloc(0));
      case 'GET archive':
        return this.#tar(container, query.get('path') ?? '');
      case 'PUT archive':
        effect('put into');
        return this.#untar(container, query.get('path') ?? '', body);
      case 'POST exec': {
        if (!container.running) throw new Answer(409, `Container ${container.id} is not running`);
        const Id = `e${++this.#serial}`;
        this.#execs.set(Id, { container, command: json()['Cmd'] as string[], code: null });
        return { Id };
      }
      default:
        throw new Answer(404, `page not found: ${call}`);
    }
  }

  #isShortLived({ config }: FakeContainer): boolean {
    return this.shortLived.has(config['Image'] as string);
  }

  #inspected(container: FakeContainer): unknown {
    const restarting = container.running && this.#isShortLived(container);
    if (restarting) container.started = ++this.#clock;
    return {
      Id: container.id,
      Name: `/${container.name}`,
      Image: container.image,
      Config: { Hostname: '', Domainname: '', Tty: false, Labels: {}, ...container.config },
      HostConfig: container.hostConfig,
      State: {
        Running: container.running,
        Paused: container.paused,
        Restarting: restarting,
        StartedAt:
          container.started === 0 ? '0001-01-01T00:00:00Z' : `2026-01-01T00:00:00.${container.started}Z`,
      },
    };
  }

  async #exec(id: string, action: string): Promise<unknown> {
    const exec = this.#execs.get(id);
    if (exec === undefined) throw new Answer(404, `No such exec instance: ${id}`);
    if (action === 'json') return { ExitCode: exec.code, Running: exec.code === null };
    const output = await this.#run(exec.container, exec.command);
    exec.code = exec.container.exitCode;
    return frame(2, output);
  }

  /** Runs the command for real; arguments that are paths in a bind, or below /etc, are those of this host's folder. */
  #run(container: FakeContainer, command: string[]): Promise<string> {
    this.beforeCommand?.();
    this.effects.push(`run in ${container.name}`);
    this.commands.push(command);
    const [program = '', ...args] = command.map((word) =>
      word.startsWith('/etc/') || isIn(container, word) ? this.#real(container, word) : word,
    );
    return new Promise((resolve) => {
      execFile(program, args, (error, stdout, stderr) => {
        container.exitCode = error === null ? 0 : Number(error.code ?? 1);
        resolve(stdout + stderr);
      });
    });
  }

  /** Where a path of the container really is; the source of a bind may be a link. */
  #real({ hostConfig }: FakeContainer, path: string): string {
    const bind = bindsOf(hostConfig)
      .map(bindOf)
      .find(({ target }) => path === target);
    if (bind !== undefined) return realpathSync(this.path(bind.source));
    return this.path(hostPathOf(bindsOf(hostConfig), path) ?? path);
  }

  async #tar(container: FakeContainer, path: string): Promise<Buffer> {
    const real = this.#real(container, path);
    if (statSync(real, { throwIfNoEntry: false }) === undefined)
      throw new Answer(404, `Could not find the file ${path} in container ${container.id}`);
    const archive = pack();
    this.#add(archive, basename(path), real);
    archive.finalize();
    return buffer(archive);
  }

  #add(archive: Pack, name: string, real: string): void {
    const found = statSync(real);
    const header = { name, mode: found.mode & 0o7777, uid: this.#owners.get(found.ino) ?? this.uid, gid: 0 };
    if (!found.isDirectory()) {
      archive.entry(header, readFileSync(real));
      return;
    }
    archive.entry({ ...header, name: `${name}/`, type: 'directory' });
    for (const each of readdirSync(real)) this.#add(archive, `${name}/${each}`, join(real, each));
  }

  async #untar(container: FakeContainer, folder: string, body: Buffer): Promise<Buffer> {
    const real = this.#real(container, folder);
    if (statSync(real, { throwIfNoEntry: false }) === undefined)
      throw new Answer(404, `Could not find the file ${folder}`);
    const entries = extract();
    entries.end(body);
    for await (const entry of entries) {
      const { name, mode, uid } = entry.header;
      const file = join(real, name);
      writeFileSync(file, await buffer(entry), { mode });
      const { ino } = statSync(file);
      // The inode may have been another file's.
      if (uid === 0) this.#owners.delete(ino);
      else this.#owners.set(ino, uid);
    }
    return Buffer.alloc(0);
  }
}

function bindsOf(hostConfig: Readonly<Record<string, unknown>>): readonly string[] {
  return (hostConfig['Binds'] ?? []) as readonly string[];
}

function isIn({ hostConfig }: FakeContainer, path: string): boolean {
  return hostPathOf(bindsOf(hostConfig), path) !== undefined;
}

/** Docker's framing of a container's output. */
function frame(stream: number, text: string): Buffer {
  const header = Buffer.from([stream, 0, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([header, Buffer.from(text)]);
}
