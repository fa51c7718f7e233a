/**
 * One model of a cluster: hosts with files and Docker, one etcd, a kube-apiserver per host. It shows to the outside
 * what surface.ts says; README.md writes down how it behaves. Nothing here knows a protocol.
 */
import { TsrkeError } from '../errors.ts';
import type { Clock, EtcdRange, NodeName } from '../ports.ts';
import { Apiserver, Loaded, type Surroundings } from './apiserver.ts';
import { ClusterObjects } from './cluster-objects.ts';
import type { RkeConfig } from '../config/rke-config.ts';
import { defaultVersion, kubernetesVersion } from '../config/versions.ts';
import type { Bundle } from '../certificates/bundle.ts';
import { noFile } from '../encryption/configuration.ts';
import { providerPath, providerPathOf } from '../encryption/world.ts';
import { tagOf } from '../services/cluster.ts';
import { DockerApi } from './docker-api.ts';
import { DockerEngine, hostPathOf, type Container, type Process } from './docker-engine.ts';
import { EtcdMemberProcess, EtcdMembers, type EtcdData } from './etcd-members.ts';
import { EtcdRefusal, EtcdStore, type EtcdSnapshot } from './etcd-store.ts';
import { Host } from './host.ts';
import type { Kind, KubeObject } from './kinds.ts';
import { answerKube } from './kube-api.ts';
import { KubeRefusal } from './kube-status.ts';
import { isKmsImage, kmsImage, KmsProcess, startKmsPlugin } from './kms-container.ts';
import type { KmsPlugin } from './kms-plugin.ts';
import { Kubelet, type KubeClient, type Way } from './kubelet.ts';
import { argumentsOf, healthPorts, serviceIn, StandIn } from './processes.ts';
import { deployRke, plainConfig } from './rke.ts';
import {
  NoAnswer,
  type EtcdView,
  type HttpAnswer,
  type HttpAsk,
  type LabNode,
  type LabSurface,
  type Listening,
} from './surface.ts';
import { isTrusted } from './trust.ts';

/** What RKE has made of the hosts. */
export interface Deployment {
  /** cluster.yml as RKE keeps it in its state, of these nodes; default: nothing said but encryption, no snapshots. */
  readonly config?: RkeConfig;
  /** The cluster's certificates; default: placeholders. */
  readonly bundle?: Bundle;
  /** The provider file that all nodes run with; left out: encryption is off, without flag or file. */
  readonly providerFile?: string;
}

export interface ModelOptions extends Deployment {
  readonly nodes: readonly LabNode[];
  readonly clock: Clock;
  /** Nothing but SSH and Docker is on the nodes. Default false: RKE has made a cluster of them. */
  readonly bare?: boolean;
  /** Kubernetes' minor version, whatever the images' tags say. */
  readonly minor?: number;
  /** Milliseconds that etcd must have seen a member before members may change; default 5 000, its own. */
  readonly etcdSettledAfter?: number;
  /** false: nodes are ready only once a network plugin is there. Default true, as with a CNI of the hosts' own. */
  readonly hasNetwork?: boolean;
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

/** A process and where it runs. */
interface Placed<T extends Process> {
  readonly node: NodeName;
  readonly process: T;
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

export interface Votes {
  readonly all: number;
  readonly running: number;
  /** On hosts that are off. */
  readonly withoutPower: number;
}

export class LabModel implements LabSurface {
  readonly nodes: readonly LabNode[];
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
  readonly #options: Required<Omit<ModelOptions, keyof Deployment | 'minor'>> & Pick<ModelOptions, 'minor'>;
  readonly #machines: ReadonlyMap<NodeName, Machine>;
  readonly #objects: ClusterObjects;
  readonly #members: EtcdMembers;
  readonly #nowhere = new EtcdStore();
  /** Of what RKE has made. */
  #config: RkeConfig | undefined;
  #generation = 0;
  readonly #listed = new Map<unknown, { readonly generation: number; readonly list: readonly unknown[] }>();
  #running: { readonly of: unknown; readonly list: readonly EtcdMemberProcess[] } = {
    of: undefined,
    list: [],
  };

  constructor(options: ModelOptions) {
    const defaults = {
      ...{ bare: false, startTime: 3_000, pollEvery: 60_000, etcdSettledAfter: 5_000 },
      ...{ reload: false, hasNetwork: true, plugins: () => undefined },
    };
    this.#options = { ...defaults, ...options };
    this.nodes = options.nodes;
    this.#machines = new Map(options.nodes.map((node) => [node.name, this.#machine(node)]));
    this.#objects = new ClusterObjects(options.nodes);
    this.#members = new EtcdMembers({
      running: () => this.#runningMembers(),
      data: () => [...this.#machines.values()].flatMap(({ host }) => allEtcdData(host)),
      settledAfter: this.#options.etcdSettledAfter,
    });
    if (this.#options.bare) this.advance();
    else this.deploy(options);
  }

  /** Makes of bare hosts what RKE makes, as if it had been there for long. */
  deploy({ config, bundle, providerFile }: Deployment): void {
    const { reload, clock } = this.#options;
    const encrypted = providerFile !== undefined;
    const rke = config ?? plainConfig(this.nodes, encrypted, reload);
    this.#config = rke;
    const before = this.#now() - this.#options.startTime - 60_000;
    for (const { host, engine } of this.#machines.values()) {
      if (providerFile !== undefined && host.node.roles?.includes('controlplane') !== false) {
        host.write(providerPath, Buffer.from(providerFile));
      }
      deployRke(engine, { config: rke, encrypted, bundle }, before);
    }
    const nothing = new Loaded(noFile, undefined);
    this.#objects.found(this.store, nothing, clock.now());
    this.#objects.foundByRke(this.store, nothing, rke, this.#versionOf(rke.kubernetesVersion), clock.now());
    this.advance();
  }

  /** The key space of the etcd that was formed last; before any was, an empty one. */
  get store(): EtcdStore {
    return this.#members.current?.store ?? this.#nowhere;
  }

  /** Grows with everything that changes: files, containers, loaded configurations, values in etcd. */
  get generation(): string {
    return `${this.#generation}.${this.store.revision}.${this.store.clusterId}`;
  }

  /** Kubernetes' minor version. */
  get minor(): number {
    const version = this.#config?.kubernetesVersion ?? defaultVersion;
    return this.#options.minor ?? kubernetesVersion(version)?.minor ?? 30;
  }

  /** `v1.30.5` of an image's tag, unless the lab was told another minor version. */
  #versionOf(tag: string): string {
    const [version = '', minor = ''] = /^v1\.(\d+)\.\d+/.exec(tag) ?? [];
    const told = this.#options.minor;
    return version === '' || (told !== undefined && String(told) !== minor)
      ? `v1.${told ?? this.minor}.4`
      : version;
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

  /** Of the etcd that was formed last: how its votes are. undefined: it has never answered. */
  votes(): Votes | undefined {
    const { current } = this.#members;
    if (current?.hasAnswered !== true) return undefined;
    const { voters } = current;
    const runs = this.#runningMembers().filter(({ ends, member }) => {
      return ends === undefined && member !== undefined && voters.includes(member);
    });
    const away = voters.filter(({ peerUrl }) => {
      const { hostname } = new URL(peerUrl);
      return [...this.#machines.values()].some(({ host }) => host.node.address === hostname && !host.powered);
    });
    return { all: voters.length, running: runs.length, withoutPower: away.length };
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

  /** The member of etcd that listens at this address. */
  member(address: string): EtcdView | undefined {
    this.advance();
    const process = this.#memberAt(address);
    return process && viewOf(process);
  }

  /** `local`: asked on the host itself. */
  listening(node: NodeName, port: number, local: boolean): Listening | undefined {
    this.advance();
    const { host, engine } = this.#of(node);
    if (!host.powered) return undefined;
    if (port === 2379) {
      const member = this.#memberAt(host.node.address);
      return member && { kind: 'etcd', tls: member.tls, isWell: () => member.hasQuorum };
    }
    if (port === 6443) {
      const up = this.#apiserverFor(node);
      if (up === undefined || (up.node !== node && !local)) return undefined;
      return { kind: 'kube', node: up.node, tls: up.server.tls };
    }
    const check = local ? healthPorts.get(port) : undefined;
    const runs = engine.containers.some(
      ({ process, status }) =>
        status === 'running' && process !== undefined && serviceOf(process) === check?.service,
    );
    return check !== undefined && runs ? { kind: 'health', tls: check.tls } : undefined;
  }

  #runningMembers(): readonly EtcdMemberProcess[] {
    const of = this.#processes(EtcdMemberProcess);
    if (this.#running.of !== of) this.#running = { of, list: of.map(({ process }) => process) };
    return this.#running.list;
  }

  #memberAt(address: string): EtcdMemberProcess | undefined {
    const found = this.#processes(EtcdMemberProcess).find(({ process }) => process.address === address);
    return found?.process.ends === undefined ? found?.process : undefined;
  }

  /** What answers at a node's own port 6443: its kube-apiserver, or through nginx-proxy another's. */
  #apiserverFor(node: NodeName): Running | undefined {
    const listening = this.running().filter(({ listens }) => listens);
    const own = listening.find((each) => each.node === node);
    if (own !== undefined) return own;
    for (const { node: at, process } of this.#processes(StandIn)) {
      if (at !== node) continue;
      const found = listening.find((each) =>
        process.upstream.includes(this.#of(each.node).host.node.address),
      );
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Those that run on hosts with power. The same list until something changes. */
  #processes<T extends Process>(kind: abstract new (...args: never[]) => T): readonly Placed<T>[] {
    const known = this.#listed.get(kind);
    if (known?.generation === this.#generation) return known.list as readonly Placed<T>[];
    const list: Placed<T>[] = [];
    for (const { host, engine } of this.#machines.values()) {
      if (!host.powered) continue;
      for (const { process, status } of engine.containers) {
        if (status === 'running' && process instanceof kind) list.push({ node: host.node.name, process });
      }
    }
    this.#listed.set(kind, { generation: this.#generation, list });
    return list;
  }

  /** Lets happen what happens by itself until now. Every call does so; a look at the model should, too. */
  advance(): void {
    const now = this.#now();
    for (const { host, engine } of this.#machines.values()) if (host.powered) engine.advance(now);
    this.#objects.advance(
      this.running().filter(({ listens }) => listens),
      this.#processes(Kubelet).flatMap(({ process }) => (process.ends ? [] : [process.name])),
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
    return this.#processes(Apiserver)
      .filter(({ process }) => process.ends === undefined)
      .map(({ node, process }) => ({ node, server: process, listens: process.listens(now) }));
  }

  powerOff(node: NodeName): void {
    this.advance();
    const { host, engine } = this.#of(node);
    host.powered = false;
    this.#changed();
    engine.powerOff(this.#now());
  }

  powerOn(node: NodeName): void {
    const { host, engine } = this.#of(node);
    host.powered = true;
    this.#changed();
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
      etcd: up.server.etcd,
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
    const { current } = this.#members;
    return this.#members.running.some((each) => each.cluster === current && each.trouble === undefined);
  }

  #machine(node: LabNode): Machine {
    const changed = () => this.#changed();
    const host = new Host(node, changed);
    const engine = new DockerEngine(host, (container, now) => this.#process(container, host, now), changed);
    for (const tag of ['1', '2']) engine.registry.add(`${kmsImage}:${tag}`);
    return { host, engine, api: new DockerApi(engine) };
  }

  #process(container: Container, host: Host, now: number): Process | undefined {
    if (isKmsImage(container.config.Image)) return startKmsPlugin(container, now);
    const service = serviceIn(container);
    if (service === undefined) return undefined;
    if (service === 'kube-apiserver') return this.#startApiserver(container, host, now);
    if (service === 'etcd') return this.#startEtcd(container, host, now);
    if (service === 'kubelet') return this.#startKubelet(container, host, now);
    return new StandIn(service, container.config.Env ?? []);
  }

  #startEtcd(container: Container, host: Host, now: number): Process {
    const args = argumentsOf(container);
    const [folder = ''] = args.flatMap((each) => /^--data-dir=(.*)$/.exec(each)?.[1] ?? []);
    const data = `${hostPathOf(container, folder.replace(/\/+$/, '')) ?? folder}${etcdDataFile}`;
    return this.#members.start(
      args,
      {
        address: host.node.address,
        read: (path) => readIn(container, host, path),
        readData: () => etcdDataOf(host, data),
        writeData: (found) => host.write(data, Buffer.from(JSON.stringify(found))),
        log: (msg, error) =>
          container.log.push(
            JSON.stringify({
              level: 'fatal',
              ts: new Date(now).toISOString(),
              caller: 'etcdmain/etcd.go:204',
              msg,
              error,
            }),
          ),
        changed: () => this.#changed(),
      },
      now,
    );
  }

  #startKubelet(container: Container, host: Host, now: number): Process {
    const { name, address } = host.node;
    return new Kubelet(
      argumentsOf(container),
      {
        ...{ name, address, version: this.#versionOf(tagOf(container.config.Image)) },
        readFile: (path) => readIn(container, host, path),
        way: (client) => this.#wayOf(name, client),
        hasNetwork: (way) => this.#options.hasNetwork || hasNetworkPlugin(way),
        log: (line) => container.log.push(`${logHead(now)} ${line}`),
      },
      now,
    );
  }

  /** To the cluster's objects, for a client on a node. */
  #wayOf(node: NodeName, client: KubeClient): Way | undefined {
    const server = this.#apiserverFor(node)?.server;
    const etcd = server?.etcd;
    if (server === undefined || etcd === undefined) return undefined;
    const trusted = isTrusted(server.tls.cert, client.ca) && isTrusted(client.cert, server.tls.ca);
    return trusted ? { etcd, loaded: server.loaded } : undefined;
  }

  /** As kube-apiserver finds it: the first that answers. */
  #etcdBehind(hosts: readonly string[], client: KubeClient): EtcdStore | undefined {
    for (const address of hosts) {
      const process = this.#memberAt(address);
      if (process?.trouble !== undefined) continue;
      if (process === undefined || !isTrusted(process.tls.cert, client.ca)) continue;
      if (isTrusted(client.cert, process.tls.ca)) return process.cluster?.store;
    }
    return undefined;
  }

  #startApiserver(container: Container, host: Host, now: number): Process {
    const { engine } = this.#of(host.node.name);
    const around: Surroundings = {
      etcd: (hosts, client) => this.#etcdBehind(hosts, client),
      plugin: (endpoint) =>
        this.#pluginAt(host.node.name, endpoint, hostPathOf(container, endpoint.replace('unix://', ''))),
      canSync: () => this.#now() >= (this.unreadyUntil.get(host.node.name) ?? 0),
      readFile: (path) => readIn(container, host, path),
      portTaken: () =>
        engine.containers.some(
          (other) =>
            other !== container && other.process instanceof Apiserver && other.process.ends === undefined,
        ),
      reloadFails: () => this.reloadFails.has(host.node.name),
      log: (line) => container.log.push(`${logHead(now)} ${line}`),
      startTime: this.#options.startTime,
      pollEvery: this.#options.pollEvery,
      minor: this.#options.minor ?? kubernetesVersion(tagOf(container.config.Image))?.minor ?? this.minor,
      changed: () => this.#changed(),
    };
    const args = argumentsOf(container);
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

  #changed(): void {
    this.#generation += 1;
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

function serviceOf(process: Process): string | undefined {
  if (process instanceof StandIn) return process.service;
  return process instanceof Kubelet && process.ends === undefined ? 'kubelet' : undefined;
}

function readIn(container: Container, host: Host, path: string): Buffer | undefined {
  const hostPath = hostPathOf(container, path);
  return hostPath === undefined ? undefined : host.read(hostPath)?.bytes;
}

/** What stands for etcd's own files: whose they are. */
const etcdDataFile = '/member/snap/db';

function etcdDataOf(host: Host, path: string): EtcdData | undefined {
  const file = host.read(path);
  return file && (JSON.parse(file.bytes.toString()) as EtcdData);
}

function allEtcdData(host: Host): EtcdData[] {
  const paths = [...host.files.keys()].filter((path) => path.endsWith(etcdDataFile));
  return paths.flatMap((path) => etcdDataOf(host, path) ?? []);
}

const plugins = ['canal', 'kube-flannel', 'calico-node', 'weave-net'];

function hasNetworkPlugin({ etcd }: Way): boolean {
  return plugins.some((name) => etcd.get(`/registry/daemonsets/kube-system/${name}`) !== undefined);
}

function viewOf(process: EtcdMemberProcess): EtcdView {
  const told = <T>(what: string, work: () => T): Promise<T> =>
    new Promise((resolve) => {
      try {
        resolve(work());
      } catch (error) {
        if (!(error instanceof EtcdRefusal)) throw error;
        throw new TsrkeError('ETCD', `etcd did not answer ${what}`, { cause: error });
      }
    });
  return {
    trouble: process.trouble,
    list: () =>
      told('MemberList', () =>
        process.list().map(({ id, name, peerUrl, clientUrls, learner }) => ({
          ...{ id, name, peerUrls: [peerUrl], clientUrls, learner },
        })),
      ),
    addLearner: (peerUrl) => told('MemberAdd', () => process.addLearner(peerUrl)),
    promote: (id) => told('MemberPromote', () => process.promote(id)),
    remove: (id) => told('MemberRemove', () => process.remove(id)),
  };
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
