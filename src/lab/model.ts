/**
 * One model of a cluster: hosts with files and Docker, one etcd, a kube-apiserver per host. It shows to the outside
 * what surface.ts says; README.md writes down how it behaves. Nothing here knows a protocol.
 */
import { TsrkeError } from '../errors.ts';
import type { Clock, EtcdRange, NodeName } from '../ports.ts';
import { Apiserver, Loaded, type Surroundings } from './apiserver.ts';
import { ClusterObjects } from './cluster-objects.ts';
import { argumentsOf } from '../hosts/recreation.ts';
import { noFile } from '../encryption/configuration.ts';
import { providerPathOf } from '../encryption/world.ts';
import { DockerApi } from './docker-api.ts';
import { DockerEngine, hostPathOf, type Container, type Process } from './docker-engine.ts';
import { EtcdRefusal, EtcdStore, type EtcdSnapshot } from './etcd-store.ts';
import { Host } from './host.ts';
import type { Kind, KubeObject } from './kinds.ts';
import { answerKube } from './kube-api.ts';
import { KubeRefusal } from './kube-status.ts';
import { isKmsImage, kmsImage, KmsProcess, startKmsPlugin } from './kms-container.ts';
import type { KmsPlugin } from './kms-plugin.ts';
import { deployRke, hyperkube } from './rke.ts';
import {
  isEtcdMember,
  NoAnswer,
  type HttpAnswer,
  type HttpAsk,
  type LabNode,
  type LabSurface,
} from './surface.ts';

export interface ModelOptions {
  readonly nodes: readonly LabNode[];
  readonly clock: Clock;
  /** The provider file that all nodes run with; left out: encryption is off, without flag or file. */
  readonly providerFile?: string;
  /** Kubernetes' minor version; default 34. */
  readonly minor?: number;
  /** Milliseconds from a start of kube-apiserver until it listens; default 3 000. */
  readonly startTime?: number;
  /** Milliseconds between kube-apiserver's looks at its provider file, with automatic reload; default 60 000, its own. */
  readonly pollEvery?: number;
  /** `--encryption-provider-config-automatic-reload=true`. Default false. */
  readonly reload?: boolean;
  /** The KMS plugin of a node behind a socket; default none. */
  readonly plugins?: (node: NodeName, endpoint: string) => KmsPlugin | undefined;
}

/** Requests that are answered otherwise: by a status (429, 503, …), for so many times. */
export interface PlannedRefusal {
  readonly matches: (node: NodeName, ask: HttpAsk) => boolean;
  readonly status: number;
  readonly message: string;
  readonly retryAfter?: number;
  times: number;
}

interface Machine {
  readonly host: Host;
  readonly engine: DockerEngine;
  readonly api: DockerApi;
}

/** A kube-apiserver that runs on a node, ready or not. */
export interface Running {
  readonly node: NodeName;
  readonly server: Apiserver;
  readonly listens: boolean;
}

export class LabModel implements LabSurface {
  readonly nodes: readonly LabNode[];
  readonly store = new EtcdStore();
  readonly refusals: PlannedRefusal[] = [];
  /** A reason refuses the change, as the validating webhook `guard.example.com`. */
  admit: (kind: Kind, object: KubeObject) => string | undefined = () => undefined;
  /**
   * kube-apiserver's entrypoint on a node fails with these words, told the first name in the provider file (its first
   * key's, or `identity`; `none`: it starts without one); undefined: it starts.
   */
  readonly startFails = new Map<NodeName, (first: string) => string | undefined>();
  /** Nodes whose kube-apiserver cannot load a changed file while it runs. */
  readonly reloadFails = new Set<NodeName>();
  /** When a node's kube-apiserver can become ready again, in milliseconds; one that is ready by then stays so. */
  readonly unreadyUntil = new Map<NodeName, number>();
  /** Bytes; etcd's --quota-backend-bytes. */
  quota = 2 * 1024 ** 3;
  readonly #options: Required<Omit<ModelOptions, 'providerFile'>>;
  readonly #machines: ReadonlyMap<NodeName, Machine>;
  readonly #objects: ClusterObjects;
  #generation = 0;

  constructor(options: ModelOptions) {
    const defaults = {
      minor: 34,
      startTime: 3_000,
      pollEvery: 60_000,
      reload: false,
      plugins: () => undefined,
    };
    this.#options = { ...defaults, ...options };
    this.nodes = options.nodes;
    this.#machines = new Map(options.nodes.map((node) => [node.name, this.#machine(node)]));
    this.#objects = new ClusterObjects(this.store, options.nodes);
    this.#objects.found(new Loaded(noFile, undefined), options.clock.now());
    const now = this.#now() - this.#options.startTime - 60_000;
    for (const { host, engine } of this.#machines.values()) {
      if (options.providerFile !== undefined) {
        host.write('/etc/kubernetes/ssl/encryption.yaml', Buffer.from(options.providerFile));
      }
      const encrypted = options.providerFile !== undefined;
      deployRke(
        engine,
        this.nodes,
        { encrypted, reload: this.#options.reload, minor: this.#options.minor },
        now,
      );
    }
    this.advance();
  }

  /** Grows with everything that changes: files, containers, loaded configurations, values in etcd. */
  get generation(): string {
    return `${this.#generation}.${this.store.revision}.${this.store.clusterId}`;
  }

  get minor(): number {
    return this.#options.minor;
  }

  async docker(node: NodeName, ask: HttpAsk): Promise<HttpAnswer> {
    this.advance();
    const { host, api } = this.#of(node);
    if (!host.powered) throw new NoAnswer('ECONNREFUSED', `connect ECONNREFUSED ${host.node.address}:22`);
    const answer = await api.answer(ask, this.#now());
    this.advance();
    return answer;
  }

  kube(node: NodeName, ask: HttpAsk): Promise<HttpAnswer> {
    return new Promise((resolve) => resolve(this.ask(node, ask)));
  }

  plugin(node: NodeName, path: string): KmsPlugin | undefined {
    this.advance();
    if (!this.#of(node).host.powered) return undefined;
    const found = this.#pluginAt(node, `unix://${path}`, path);
    return found?.up === true ? found : undefined;
  }

  /** `path`: of the host; undefined: nothing in a container is reached. */
  #pluginAt(node: NodeName, endpoint: string, path: string | undefined): KmsPlugin | undefined {
    const outside = this.#options.plugins(node, endpoint);
    if (outside?.up === true || path === undefined) return outside;
    for (const { process, status } of this.#of(node).engine.containers) {
      if (status !== 'running' || !(process instanceof KmsProcess)) continue;
      if (process.socket === path) return process.plugin;
    }
    return outside;
  }

  readonly etcd: LabSurface['etcd'] = {
    range: ({ from, end, limit, revision }, signal): Promise<EtcdRange> =>
      this.#ask('Range', signal, () => {
        const range = this.store.range(from.toString(), endOf(end), limit, Number(revision));
        return {
          kvs: range.values.map(({ key, value, modRevision }) => ({
            key: Buffer.from(key),
            value,
            modRevision: BigInt(modRevision),
          })),
          more: range.more,
          revision: BigInt(this.store.revision),
          clusterId: this.store.clusterId,
        };
      }),
    compact: (revision, signal) =>
      this.#ask('Compact', signal, () => {
        try {
          this.store.compact(Number(revision));
        } catch (error) {
          if (!(error instanceof EtcdRefusal) || !error.message.includes('has been compacted')) throw error;
        }
      }),
    size: (signal) => this.#ask('Status', signal, () => ({ used: this.store.used, quota: this.quota })),
  };

  /** Lets happen what happens by itself until now. Every call does so; a look at the model should, too. */
  advance(): void {
    const now = this.#now();
    for (const { host, engine } of this.#machines.values()) if (host.powered) engine.advance(now);
    this.#objects.advance(
      this.running().filter(({ listens }) => listens),
      new Date(now),
    );
  }

  host(node: NodeName): Host {
    return this.#of(node).host;
  }

  engine(node: NodeName): DockerEngine {
    return this.#of(node).engine;
  }

  running(): Running[] {
    const now = this.#now();
    const found: Running[] = [];
    for (const { host, engine } of this.#machines.values()) {
      for (const { process, status } of engine.containers) {
        if (!(process instanceof Apiserver) || status !== 'running' || process.ends !== undefined) continue;
        found.push({ node: host.node.name, server: process, listens: process.listens(now) });
      }
    }
    return found;
  }

  powerOff(node: NodeName): void {
    this.advance();
    const { host, engine } = this.#of(node);
    host.powered = false;
    engine.powerOff(this.#now());
  }

  powerOn(node: NodeName): void {
    const { host, engine } = this.#of(node);
    host.powered = true;
    engine.powerOn(this.#now());
    this.advance();
  }

  reboot(node: NodeName): void {
    this.powerOff(node);
    this.powerOn(node);
  }

  snapshot(): EtcdSnapshot {
    this.advance();
    return this.store.snapshot();
  }

  /** etcd and all kube-apiservers are stopped for it, as RKE does. */
  restore(snapshot: EtcdSnapshot): void {
    this.store.restore(snapshot);
    for (const { engine } of this.#machines.values()) {
      for (const container of engine.containers) {
        if (container.process instanceof Apiserver) engine.restart(container, this.#now());
      }
    }
    this.advance();
  }

  /** `kube` without waiting: a client of a test has its answer before anything else happens. */
  ask(node: NodeName, ask: HttpAsk): HttpAnswer {
    this.advance();
    const { host } = this.#of(node);
    const up = host.powered ? this.running().find((each) => each.node === node && each.listens) : undefined;
    if (up === undefined) {
      throw new NoAnswer('ECONNREFUSED', `connect ECONNREFUSED ${host.node.address}:6443`);
    }
    const planned = this.refusals.find((each) => each.times > 0 && each.matches(node, ask));
    const now = this.#options.clock.now();
    if (planned !== undefined) {
      planned.times -= 1;
      return refused(planned, now);
    }
    const context = {
      server: up.server,
      hostname: node,
      etcd: this.store,
      etcdAnswers: this.#etcdAnswers(),
      minor: this.#options.minor,
      now,
      admit: this.admit,
    };
    return answerKube(ask, context);
  }

  #ask<T>(what: string, signal: AbortSignal, work: () => T): Promise<T> {
    return new Promise((resolve) => {
      signal.throwIfAborted();
      this.advance();
      if (!this.#etcdAnswers()) throw new TsrkeError('ETCD', `no etcd member answered ${what}`);
      try {
        resolve(work());
      } catch (error) {
        if (!(error instanceof EtcdRefusal)) throw error;
        throw new TsrkeError('ETCD', `etcd did not answer ${what}`, { cause: error });
      }
    });
  }

  #etcdAnswers(): boolean {
    const members = [...this.#machines.values()].filter(({ host }) => isEtcdMember(host.node));
    const up = members.filter(
      ({ host, engine }) => host.powered && engine.find('etcd')?.status === 'running',
    );
    return up.length > members.length / 2;
  }

  #machine(node: LabNode): Machine {
    const changed = () => {
      this.#generation += 1;
    };
    const host = new Host(node, changed);
    const engine = new DockerEngine(host, (container, now) => this.#process(container, host, now), changed);
    for (const tag of ['1', '2']) engine.registry.add(`${kmsImage}:${tag}`);
    return { host, engine, api: new DockerApi(engine) };
  }

  #process(container: Container, host: Host, now: number): Process | undefined {
    const { Entrypoint = null, Cmd = null, Image } = container.config;
    if (isKmsImage(Image)) return startKmsPlugin(container, now);
    if (Image !== hyperkube(this.#options.minor) || Entrypoint?.includes('kube-apiserver') !== true) {
      const staysUp = container.name === 'etcd';
      return staysUp ? { ends: undefined, advance: () => undefined } : undefined;
    }
    const { engine } = this.#of(host.node.name);
    const around: Surroundings = {
      etcd: this.store,
      etcdAnswers: () => this.#etcdAnswers(),
      plugin: (endpoint) =>
        this.#pluginAt(host.node.name, endpoint, hostPathOf(container, endpoint.replace('unix://', ''))),
      canSync: () => this.#now() >= (this.unreadyUntil.get(host.node.name) ?? 0),
      readFile: (path) => {
        const hostPath = hostPathOf(container, path);
        return hostPath === undefined ? undefined : host.read(hostPath)?.bytes;
      },
      portTaken: () =>
        engine.containers.some(
          (other) =>
            other !== container && other.process instanceof Apiserver && other.process.ends === undefined,
        ),
      reloadFails: () => this.reloadFails.has(host.node.name),
      log: (line) => container.log.push(`${logHead(now)} ${line}`),
      startTime: this.#options.startTime,
      pollEvery: this.#options.pollEvery,
      minor: this.#options.minor,
      changed: () => {
        this.#generation += 1;
      },
    };
    const args = argumentsOf({ Entrypoint, Cmd });
    const path = providerPathOf(args);
    const file = path === undefined ? 'name: none' : (around.readFile(path)?.toString() ?? '');
    const [first = ''] = /name: .*|identity:/.exec(file) ?? [];
    const words = this.startFails.get(host.node.name)?.(first);
    if (words !== undefined) {
      container.log.push(words);
      return { ends: { at: now, code: 1 }, advance: () => undefined };
    }
    return new Apiserver(args, around, now);
  }

  #now(): number {
    return this.#options.clock.now().getTime();
  }

  #of(node: NodeName): Machine {
    const found = this.#machines.get(node);
    if (found === undefined) throw new Error(`the lab has no node ${node}`);
    return found;
  }
}

/** klog's: `E0102 15:04:05.000000       1 run.go:72]`. */
function logHead(now: number): string {
  const [date = '', time = ''] = new Date(now).toISOString().split('T');
  return `E${date.slice(5).replace('-', '')} ${time.slice(0, -1)}000       1 run.go:72]`;
}

/** etcd's: a single zero byte stands for the end of all keys. */
function endOf(end: Buffer): string {
  return end.length === 1 && end[0] === 0 ? '\uffff' : end.toString();
}

function refused({ status, message, retryAfter }: PlannedRefusal, now: Date): HttpAnswer {
  const reason = status === 429 ? 'TooManyRequests' : status === 503 ? 'ServiceUnavailable' : 'InternalError';
  const details = retryAfter === undefined ? undefined : { retryAfterSeconds: retryAfter };
  const { body } = new KubeRefusal(status, reason, message, details);
  return {
    status,
    headers: {
      'content-type': 'application/json',
      date: now.toUTCString(),
      ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
    },
    body: Buffer.from(JSON.stringify(body)),
  };
}
