/**
 * The containers of one host as Docker 20.10 keeps them: names, states, restart policies, and what runs in them. Time
 * is only looked at (`advance`): a process that has ended by then is found ended, and started again if its policy says.
 */
import { createHash, randomBytes } from 'node:crypto';
import { bindOf } from '../bind.ts';
import { hostPathOf as pathBehind } from '../encryption/binds.ts';
import { knownVersions, kubernetesVersion } from '../config/versions.ts';
import type { HostInfo } from '../ports.ts';
import type { Host } from './host.ts';
import { runCommand } from './scripts.ts';

/** Of every host. */
export const dockerInfo: HostInfo = {
  Architecture: 'x86_64',
  DockerRootDir: '/var/lib/docker',
  OperatingSystem: 'Debian GNU/Linux 12 (bookworm)',
  OSType: 'linux',
  SecurityOptions: ['name=apparmor', 'name=seccomp,profile=default'],
  ServerVersion: '20.10.24',
};

/** The one variable that images set. */
export const imageEnv = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];

/** Something that stays up; kube-apiserver, or a stand-in for what the lab does not model. */
export interface Process {
  readonly ends: { readonly at: number; readonly code: number } | undefined;
  advance(now: number): void;
}

export interface RestartPolicy {
  readonly Name: string;
  readonly MaximumRetryCount: number;
}

export interface Definition {
  readonly [field: string]: unknown;
  readonly Image: string;
  readonly Entrypoint?: readonly string[] | null;
  readonly Cmd?: readonly string[] | null;
  readonly Env?: readonly string[] | null;
  readonly Labels?: Readonly<Record<string, string>> | null;
}

export interface HostConfig {
  readonly [field: string]: unknown;
  readonly Binds?: readonly string[] | null;
  readonly VolumesFrom?: readonly string[] | null;
  readonly NetworkMode?: string;
  RestartPolicy?: RestartPolicy;
}

export type Status = 'created' | 'running' | 'paused' | 'restarting' | 'exited';

export interface Container {
  readonly id: string;
  name: string;
  readonly created: string;
  readonly config: Definition;
  readonly hostConfig: HostConfig;
  /** Docker's id of the image. */
  readonly image: string;
  status: Status;
  /** RFC 3339 with nanoseconds, as inspect shows it. */
  startedAt: string;
  finishedAt: string;
  exitCode: number;
  /** Stopped by a call, not by itself: counts for policy `unless-stopped`. */
  stopped: boolean;
  readonly log: string[];
  process: Process | undefined;
  /** For a policy's next start: when, and after how many milliseconds. */
  restart: { at: number; delay: number };
  restarts: number;
}

export class DockerRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const never = '0001-01-01T00:00:00Z';
/** Docker waits 100 ms, then twice as long each time, a minute at most; from the start again after 10 s of running. */
const firstDelay = 100;
const longestDelay = 60_000;
const steadyAfter = 10_000;

export class DockerEngine {
  readonly host: Host;
  readonly images = new Map<string, string>();
  /** Images that can be pulled, besides the system images of all versions. */
  readonly registry = new Set<string>();
  /** What registries ask for, by their hosts; all others let everybody in. */
  readonly logins = new Map<string, { readonly user: string; readonly password: string }>();
  readonly #containers: Container[] = [];
  readonly #start: (container: Container, now: number) => Process | undefined;
  readonly #changed: () => void;
  #serial = 0;

  /** `start` makes the process of a container that stays up; undefined: its command is run at once. */
  constructor(
    host: Host,
    start: (container: Container, now: number) => Process | undefined,
    changed: () => void,
  ) {
    this.host = host;
    this.#start = start;
    this.#changed = changed;
  }

  get containers(): readonly Container[] {
    return this.#containers;
  }

  addImage(name: string): void {
    this.images.set(name, `sha256:${createHash('sha256').update(name).digest('hex')}`);
  }

  /** false: the registry has no such image. */
  pull(name: string): boolean {
    if (!this.registry.has(name) && !systemImages().has(name)) return false;
    this.addImage(name);
    this.#changed();
    return true;
  }

  find(name: string): Container | undefined {
    return this.#containers.find(
      (each) => each.name === name || each.id === name || (name.length >= 12 && each.id.startsWith(name)),
    );
  }

  /** Throws DockerRefusal 404 for a container that is not there. */
  get(name: string): Container {
    const found = this.find(name);
    if (found === undefined) throw new DockerRefusal(404, `No such container: ${name}`);
    return found;
  }

  create(
    name: string,
    definition: Definition & { readonly HostConfig?: HostConfig },
    now: number,
  ): Container {
    const taken = this.find(name);
    if (taken !== undefined) {
      throw new DockerRefusal(
        409,
        `Conflict. The container name "/${name}" is already in use by container "${taken.id}". You have to remove (or rename) that container to be able to reuse that name.`,
      );
    }
    const { HostConfig: hostConfig = {}, ...config } = definition;
    const image =
      this.images.get(config.Image) ?? [...this.images.values()].find((id) => id === config.Image);
    if (image === undefined) throw new DockerRefusal(404, `No such image: ${config.Image}`);
    for (const name of hostConfig.VolumesFrom ?? []) this.get(name.replace(/:.*/, ''));
    for (const bind of hostConfig.Binds ?? []) this.#makeSource(bindOf(bind).source);
    const id = randomBytes(32).toString('hex');
    // With the host's network Docker copies the host's own name.
    const hostname = hostConfig.NetworkMode === 'host' ? this.host.node.name : id.slice(0, 12);
    const container: Container = {
      id,
      name,
      created: new Date(now).toISOString(),
      config: {
        ...{ Hostname: hostname, Domainname: '', Tty: false, ...config },
        ...{ Env: withImageEnv(config.Env ?? []), Labels: config.Labels ?? {} },
      },
      hostConfig: {
        ...structuredClone(hostConfig),
        RestartPolicy: { Name: '', MaximumRetryCount: 0, ...hostConfig.RestartPolicy },
      },
      image,
      status: 'created',
      startedAt: never,
      finishedAt: never,
      exitCode: 0,
      stopped: false,
      log: [],
      process: undefined,
      restart: { at: 0, delay: firstDelay },
      restarts: 0,
    };
    this.#containers.push(container);
    this.#changed();
    return container;
  }

  /** A bind's source that is not there becomes a folder. */
  #makeSource(path: string): void {
    if (path.startsWith('/') && this.host.read(path) === undefined) this.host.makeFolder(path);
  }

  /** Throws DockerRefusal 304 when it runs already. */
  start(container: Container, now: number): void {
    if (container.status === 'running' || container.status === 'paused') throw new DockerRefusal(304, '');
    container.stopped = false;
    container.restart.delay = firstDelay;
    this.#run(container, now);
  }

  /** Throws DockerRefusal 304 when it does not run. Takes no time here: requests in flight have been answered. */
  stop(container: Container, now: number): void {
    if (container.status === 'created' || container.status === 'exited') throw new DockerRefusal(304, '');
    this.#end(container, now, 0);
    container.stopped = true;
  }

  restart(container: Container, now: number): void {
    if (container.status === 'paused') throw new DockerRefusal(409, `Container ${container.id} is paused`);
    if (container.status !== 'created' && container.status !== 'exited') this.#end(container, now, 0);
    this.start(container, now);
  }

  unpause(container: Container): void {
    if (container.status !== 'paused') {
      throw new DockerRefusal(500, `Container ${container.id} is not paused`);
    }
    container.status = 'running';
    this.#changed();
  }

  pause(container: Container): void {
    if (container.status !== 'running') {
      throw new DockerRefusal(409, `Container ${container.id} is not running`);
    }
    container.status = 'paused';
    this.#changed();
  }

  rename(container: Container, to: string): void {
    const taken = this.find(to);
    if (taken !== undefined) {
      throw new DockerRefusal(
        409,
        `Error when allocating new name: Conflict. The container name "/${to}" is already in use by container "${taken.id}". You have to remove (or rename) that container to be able to reuse that name.`,
      );
    }
    container.name = to;
    this.#changed();
  }

  update(container: Container, policy: RestartPolicy | undefined): void {
    if (policy !== undefined) container.hostConfig.RestartPolicy = policy;
    this.#changed();
  }

  remove(container: Container, force: boolean, now: number): void {
    const up = container.status !== 'created' && container.status !== 'exited';
    if (up && !force) {
      throw new DockerRefusal(
        409,
        `You cannot remove a running container ${container.id}. Stop the container before attempting removal or force remove`,
      );
    }
    if (up) this.#end(container, now, 137);
    this.#containers.splice(this.#containers.indexOf(container), 1);
    this.#changed();
  }

  /** The power is gone: everything ends where it is. */
  powerOff(now: number): void {
    for (const container of this.#containers) {
      if (container.status === 'created' || container.status === 'exited') continue;
      this.#end(container, now, 255);
    }
  }

  /** dockerd starts: containers that were ever started and whose policy says so come up. */
  powerOn(now: number): void {
    for (const container of this.#containers) {
      if (container.startedAt === never) continue;
      const policy = container.hostConfig.RestartPolicy?.Name ?? '';
      const comesUp =
        policy === 'always' ||
        (policy === 'unless-stopped' && !container.stopped) ||
        (policy === 'on-failure' && container.exitCode !== 0 && !container.stopped);
      if (!comesUp) continue;
      container.restart.delay = firstDelay;
      this.#run(container, now);
    }
  }

  /** What has happened by itself until now. */
  advance(now: number): void {
    for (const container of this.#containers) {
      while (this.#step(container, now));
      if (container.status === 'running') container.process?.advance(now);
    }
  }

  #step(container: Container, now: number): boolean {
    const ends = container.status === 'running' ? container.process?.ends : undefined;
    if (ends !== undefined && ends.at <= now) {
      const ran = ends.at - Date.parse(container.startedAt);
      this.#end(container, ends.at, ends.code);
      const policy = container.hostConfig.RestartPolicy?.Name ?? '';
      if (policy !== 'always' && policy !== 'unless-stopped' && policy !== 'on-failure') return true;
      if (ran >= steadyAfter) container.restart.delay = firstDelay;
      container.status = 'restarting';
      container.restart.at = ends.at + container.restart.delay;
      container.restart.delay = Math.min(longestDelay, container.restart.delay * 2);
      return true;
    }
    if (container.status === 'restarting' && container.restart.at <= now) {
      container.restarts += 1;
      this.#run(container, container.restart.at);
      return true;
    }
    return false;
  }

  #run(container: Container, now: number): void {
    this.#serial += 1;
    const nanoseconds = String(this.#serial % 1_000_000).padStart(6, '0');
    container.startedAt = `${new Date(now).toISOString().slice(0, -1)}${nanoseconds}Z`;
    container.status = 'running';
    container.exitCode = 0;
    container.process = this.#start(container, now);
    this.#changed();
    if (container.process !== undefined) return;
    const { code, output } = this.exec(container, [
      ...(container.config.Entrypoint ?? []),
      ...(container.config.Cmd ?? []),
    ]);
    if (output !== '') container.log.push(output.trimEnd());
    this.#end(container, now, code);
  }

  #end(container: Container, now: number, code: number): void {
    container.status = 'exited';
    container.process = undefined;
    container.exitCode = code;
    container.finishedAt = new Date(now).toISOString();
    this.#changed();
  }

  exec(container: Container, command: readonly string[]): { readonly code: number; readonly output: string } {
    return runCommand(command, this.host, (path) => hostPathOf(container, path));
  }
}

let system: ReadonlySet<string> | undefined;

function systemImages(): ReadonlySet<string> {
  system ??= new Set(
    knownVersions.flatMap((version) => Object.values(kubernetesVersion(version)?.systemImages ?? {})),
  );
  return system;
}

function withImageEnv(env: readonly string[]): string[] {
  const nameOf = (each: string) => each.replace(/=.*/s, '');
  const own = new Set(env.map(nameOf));
  return [...env, ...imageEnv.filter((each) => !own.has(nameOf(each)))];
}

/** Where a path of the container lies on the host, by its bind mounts; undefined outside of them. */
export function hostPathOf({ hostConfig }: Container, path: string): string | undefined {
  return pathBehind(hostConfig.Binds ?? [], path);
}
