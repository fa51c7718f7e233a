/** Docker's HTTP API (20.10, v1.41) over one host's engine, as far as src/hosts uses it. */
import { buffer } from 'node:stream/consumers';
import { posix } from 'node:path';
import { extract, pack } from 'tar-stream';
import {
  dockerInfo,
  DockerRefusal,
  hostPathOf,
  imageEnv,
  type Container,
  type Definition,
  type DockerEngine,
  type HostConfig,
  type RestartPolicy,
} from './docker-engine.ts';
import type { LabFile } from './host.ts';
import type { HttpAnswer, HttpAsk } from './surface.ts';

interface Exec {
  readonly container: Container;
  readonly command: readonly string[];
  code: number | null;
}

const none = Buffer.alloc(0);

export class DockerApi {
  readonly #engine: DockerEngine;
  readonly #execs = new Map<string, Exec>();
  readonly #archives = new WeakMap<LabFile, Buffer>();
  #serial = 0;

  constructor(engine: DockerEngine) {
    this.#engine = engine;
  }

  async answer(ask: HttpAsk, now: number): Promise<HttpAnswer> {
    const [rawPath = '', rawQuery = ''] = ask.path.split('?');
    const path = rawPath.replace(/^\/v\d+\.\d+(?=\/)/, '');
    try {
      if (`${ask.method} ${path}` === 'POST /images/create') {
        return this.#pull(new URLSearchParams(rawQuery), ask.headers['x-registry-auth']);
      }
      return await this.#answer(`${ask.method} ${path}`, new URLSearchParams(rawQuery), ask.body, now);
    } catch (error) {
      if (!(error instanceof DockerRefusal)) throw error;
      return error.status === 304
        ? { status: 304, headers: {}, body: none }
        : json(error.status, { message: error.message });
    }
  }

  async #answer(call: string, query: URLSearchParams, body: Buffer, now: number): Promise<HttpAnswer> {
    const engine = this.#engine;
    if (call === 'GET /_ping')
      return { status: 200, headers: { 'api-version': '1.41' }, body: Buffer.from('OK') };
    if (call === 'GET /version') {
      return json(200, { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12', Os: 'linux' });
    }
    if (call === 'GET /info') {
      const SystemTime = new Date(now).toISOString().replace('Z', '000000Z');
      return json(200, { Name: engine.host.node.name, ...dockerInfo, SystemTime });
    }
    if (call === 'POST /containers/create') {
      const definition = JSON.parse(body.toString()) as Definition & { HostConfig?: HostConfig };
      const { id } = engine.create(query.get('name') ?? '', definition, now);
      return json(201, { Id: id, Warnings: [] });
    }
    if (call === 'GET /containers/json') return json(200, this.#list(query.get('all')));
    const [, image] = /^GET \/images\/(.+)\/json$/.exec(call) ?? [];
    if (image !== undefined) return this.#image(decodeURIComponent(image));
    const [, execId, execAction] = /^(?:GET|POST) \/exec\/(\w+)\/(\w+)$/.exec(call) ?? [];
    if (execId !== undefined) return this.#exec(execId, execAction ?? '');
    const [, method, name, action = ''] = /^(\w+) \/containers\/([^/]+)(?:\/(\w+))?$/.exec(call) ?? [];
    if (method === undefined || name === undefined) return json(404, { message: 'page not found' });
    const container = engine.get(decodeURIComponent(name));
    return await this.#act(`${method} ${action}`.trim(), container, query, body, now);
  }

  async #act(
    call: string,
    container: Container,
    query: URLSearchParams,
    body: Buffer,
    now: number,
  ): Promise<HttpAnswer> {
    const engine = this.#engine;
    switch (call) {
      case 'GET json':
        return json(200, inspected(container));
      case 'POST start':
        engine.start(container, now);
        return noContent;
      case 'POST stop':
        engine.stop(container, now);
        return noContent;
      case 'POST restart':
        engine.restart(container, now);
        return noContent;
      case 'POST pause':
        engine.pause(container);
        return noContent;
      case 'POST unpause':
        engine.unpause(container);
        return noContent;
      case 'POST rename':
        engine.rename(container, query.get('name') ?? '');
        return noContent;
      case 'POST update': {
        const { RestartPolicy: policy } = JSON.parse(body.toString()) as { RestartPolicy?: RestartPolicy };
        engine.update(container, policy);
        return json(200, { Warnings: null });
      }
      case 'POST wait':
        return json(200, { Error: null, StatusCode: container.exitCode });
      case 'DELETE':
        engine.remove(container, query.get('force') === 'true', now);
        return noContent;
      case 'GET logs':
        return logs(container, Number(query.get('tail') ?? 'NaN'));
      case 'GET archive':
        return await this.#tar(container, query.get('path') ?? '');
      case 'PUT archive':
        return await this.#untar(container, query.get('path') ?? '', body);
      case 'POST exec': {
        refuseUnlessUp(container);
        const id = (this.#serial += 1).toString(16).padStart(64, '0');
        const { Cmd } = JSON.parse(body.toString()) as { Cmd: string[] };
        this.#execs.set(id, { container, command: Cmd, code: null });
        return json(201, { Id: id });
      }
      default:
        return json(404, { message: 'page not found' });
    }
  }

  #list(all: string | null): unknown {
    return this.#engine.containers
      .filter(({ status }) => all === 'true' || all === '1' || status === 'running' || status === 'paused')
      .map(({ id, name, config, status, image }) => {
        const { Image, Labels } = config;
        return { Id: id, Names: [`/${name}`], Image, ImageID: image, Labels, State: status, Status: status };
      });
  }

  #image(name: string): HttpAnswer {
    const { images } = this.#engine;
    const id = images.get(name) ?? [...images.values()].find((each) => each === name);
    if (id === undefined) return json(404, { message: `No such image: ${name}` });
    return json(200, { Id: id, Config: { Env: imageEnv, Entrypoint: null, Cmd: null } });
  }

  /**
   * Docker answers 200 before it knows, and tells in the stream what became of it; but who is not let in by the
   * registry is told at once.
   */
  #pull(query: URLSearchParams, auth: string | undefined): HttpAnswer {
    const repository = query.get('fromImage') ?? '';
    const tag = query.get('tag') ?? 'latest';
    const name = `${repository}:${tag}`;
    const host = repository.split('/')[0] ?? '';
    const asked = this.#engine.logins.get(host);
    if (asked !== undefined) {
      const at = `Head "https://${host}/v2/${repository.slice(host.length + 1)}/manifests/${tag}"`;
      const { username, password } = credentialsIn(auth);
      if (username === '') throw new DockerRefusal(500, `${at}: no basic auth credentials`);
      if (username !== asked.user || password !== asked.password) {
        throw new DockerRefusal(500, `${at}: unauthorized: incorrect username or password`);
      }
    }
    const lines = this.#engine.pull(name)
      ? [
          { status: `Pulling from ${repository}`, id: tag },
          { status: `Status: Image is up to date for ${name}` },
        ]
      : [
          {
            errorDetail: { message: `manifest for ${name} not found` },
            error: `manifest for ${name} not found`,
          },
        ];
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(lines.map((line) => `${JSON.stringify(line)}\r\n`).join('')),
    };
  }

  #exec(id: string, action: string): HttpAnswer {
    const exec = this.#execs.get(id);
    if (exec === undefined) throw new DockerRefusal(404, `No such exec instance: ${id}`);
    if (action === 'json') return json(200, { ID: id, Running: false, ExitCode: exec.code });
    refuseUnlessUp(exec.container);
    const { code, output } = this.#engine.exec(exec.container, exec.command);
    exec.code = code;
    return stream(output === '' ? none : frame(2, output));
  }

  async #tar(container: Container, path: string): Promise<HttpAnswer> {
    const missing = new DockerRefusal(404, `Could not find the file ${path} in container ${container.id}`);
    const { host } = this.#engine;
    const hostPath = hostPathOf(container, path);
    if (hostPath === undefined) throw missing;
    const file = host.read(hostPath);
    if (file === undefined && !host.hasFolder(hostPath)) throw missing;
    const known = file === undefined ? undefined : this.#archives.get(file);
    if (known !== undefined) return { ...stream(known), headers: { 'content-type': 'application/x-tar' } };
    const archive = pack();
    const name = posix.basename(path);
    if (file === undefined) {
      archive.entry({ name: `${name}/`, type: 'directory', mode: 0o755 });
      for (const each of host.below(hostPath).files) {
        const inside = host.read(each);
        if (inside === undefined) continue;
        const { mode, uid, bytes } = inside;
        archive.entry({ name: posix.join(name, posix.relative(hostPath, each)), mode, uid, gid: 0 }, bytes);
      }
    } else archive.entry({ name, mode: file.mode, uid: file.uid, gid: 0 }, file.bytes);
    archive.finalize();
    const bytes = await buffer(archive);
    if (file !== undefined) this.#archives.set(file, bytes);
    return { status: 200, headers: { 'content-type': 'application/x-tar' }, body: bytes };
  }

  async #untar(container: Container, path: string, body: Buffer): Promise<HttpAnswer> {
    const { host } = this.#engine;
    const folder = hostPathOf(container, path);
    if (folder === undefined || !host.hasFolder(folder)) {
      throw new DockerRefusal(404, `Could not find the file ${path} in container ${container.id}`);
    }
    const entries = extract();
    entries.end(body);
    for await (const entry of entries) {
      const { name, mode, uid } = entry.header;
      host.write(posix.join(folder, name), await buffer(entry), mode, uid);
    }
    return { status: 200, headers: {}, body: none };
  }
}

/** X-Registry-Auth, which Docker takes in base64 for URLs with its padding, and ignores otherwise. */
function credentialsIn(header = ''): { readonly username: string; readonly password: string } {
  if (header === '' || header.length % 4 !== 0 || /[+/]/.test(header)) return { username: '', password: '' };
  const { username = '', password = '' } = JSON.parse(Buffer.from(header, 'base64url').toString()) as {
    username?: string;
    password?: string;
  };
  return { username, password };
}

function refuseUnlessUp({ id, status }: Container): void {
  if (status === 'running') return;
  if (status === 'paused') {
    throw new DockerRefusal(409, `Container ${id} is paused, unpause the container before exec`);
  }
  if (status === 'restarting') {
    throw new DockerRefusal(409, `Container ${id} is restarting, wait until the container is running`);
  }
  throw new DockerRefusal(409, `Container ${id} is not running`);
}

function inspected(container: Container): unknown {
  const { id, name, created, config, hostConfig, image, status } = container;
  const [path = '', ...args] = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  return {
    Id: id,
    Created: created,
    Path: path,
    Args: args,
    Name: `/${name}`,
    Image: image,
    RestartCount: container.restarts,
    Config: { Entrypoint: null, Cmd: null, ...config },
    HostConfig: { RestartPolicy: { Name: '', MaximumRetryCount: 0 }, ...hostConfig },
    Mounts: (hostConfig.Binds ?? []).map((bind) => {
      const [source, target, mode = ''] = bind.split(':');
      return { Type: 'bind', Source: source, Destination: target, Mode: mode, RW: !mode.includes('ro') };
    }),
    State: {
      Status: status,
      Running: status === 'running' || status === 'paused' || status === 'restarting',
      Paused: status === 'paused',
      Restarting: status === 'restarting',
      ExitCode: container.exitCode,
      StartedAt: container.startedAt,
      FinishedAt: container.finishedAt,
    },
  };
}

function logs({ log }: Container, tail: number): HttpAnswer {
  const lines = Number.isNaN(tail) ? log : log.slice(-tail);
  return stream(Buffer.concat(lines.map((line) => frame(2, `${line}\n`))));
}

function json(status: number, body: unknown): HttpAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(body)),
  };
}

const noContent: HttpAnswer = { status: 204, headers: {}, body: none };

function stream(body: Buffer): HttpAnswer {
  return { status: 200, headers: { 'content-type': 'application/vnd.docker.raw-stream' }, body };
}

/** Docker's framing of a container's output: stream, three zeros, length, bytes. */
function frame(kind: number, text: string): Buffer {
  const header = Buffer.from([kind, 0, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([header, Buffer.from(text)]);
}
