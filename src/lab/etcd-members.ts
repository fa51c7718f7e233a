/**
 * etcd's members (3.5): the processes of their containers form clusters by their arguments, by certificates and data on
 * their hosts. The members of a cluster share one key space; whether one answers depends on the votes that run.
 */
import { createHash, randomBytes } from 'node:crypto';
import { filesNamed, flagsOf, WillNotStart } from './command-line.ts';
import type { Process } from './docker-engine.ts';
import { EtcdRefusal, EtcdStore } from './etcd-store.ts';
import type { ServerCertificate } from './kube-server.ts';
import { isTrusted } from './trust.ts';

export interface Member {
  /** As `etcdctl member list` prints it. */
  readonly id: string;
  /** Empty until it has started. */
  name: string;
  readonly peerUrl: string;
  /** Empty until it has been in a quorum. */
  clientUrls: readonly string[];
  learner: boolean;
}

export class EtcdCluster {
  /** What data on hosts say; etcd's own id is the store's. */
  readonly id = randomBytes(8).toString('hex');
  readonly store = new EtcdStore();
  readonly members = new Map<string, Member>();
  /** What its first members agreed on. */
  readonly founding: string;

  constructor(founding: string) {
    this.founding = founding;
  }

  /** It has answered at least once. */
  get hasAnswered(): boolean {
    return [...this.members.values()].some(({ clientUrls }) => clientUrls.length > 0);
  }

  get voters(): Member[] {
    return [...this.members.values()].filter(({ learner }) => !learner);
  }

  byPeerUrl(url: string): Member | undefined {
    return [...this.members.values()].find(({ peerUrl }) => peerUrl === url);
  }
}

/** What of a host's data folder tells whose it is. */
export interface EtcdData {
  readonly cluster: string;
  readonly member: string;
}

/** What a member's process needs of its host. */
export interface EtcdHost {
  readonly address: string;
  /** A file by the container's path. */
  readonly read: (path: string) => Buffer | undefined;
  readonly readData: () => EtcdData | undefined;
  readonly writeData: (data: EtcdData) => void;
  readonly log: (message: string, error: string) => void;
  readonly changed: () => void;
}

export interface EtcdMembersOptions {
  /** The members that run now on hosts that have power. */
  readonly running: () => readonly EtcdMemberProcess[];
  /** Data of all hosts. */
  readonly data: () => readonly EtcdData[];
  /** Milliseconds that a member must have been seen before membership may change. */
  readonly settledAfter: number;
}

const fileFlags = [
  ...(['trusted-ca-file', 'cert-file', 'key-file'] as const),
  ...(['peer-trusted-ca-file', 'peer-cert-file', 'peer-key-file'] as const),
] as const;
/** From the start to an exit with what it does not like. */
const failsAfter = 300;
/** A learner has caught up so many milliseconds after its start. */
const caughtUpAfter = 200;

/** All clusters that there are or were; usually one. */
export class EtcdMembers {
  readonly #clusters: EtcdCluster[] = [];
  readonly #options: EtcdMembersOptions;

  constructor(options: EtcdMembersOptions) {
    this.#options = options;
  }

  /** The one that was formed last. */
  get current(): EtcdCluster | undefined {
    return this.#clusters.at(-1);
  }

  get running(): readonly EtcdMemberProcess[] {
    return this.#options.running();
  }

  get settledAfter(): number {
    return this.#options.settledAfter;
  }

  /** Words: of the container. */
  start(words: readonly string[], host: EtcdHost, now: number): EtcdMemberProcess {
    return new EtcdMemberProcess(this, flagsOf(words), host, now);
  }

  /** Throws WillNotStart. */
  join(process: EtcdMemberProcess, flags: ReadonlyMap<string, string>, host: EtcdHost): Joined {
    const data = host.readData();
    if (data !== undefined) {
      const cluster = this.#clusters.find(({ id }) => id === data.cluster);
      const member = cluster?.members.get(data.member);
      if (cluster === undefined || member === undefined) {
        throw new WillNotStart('the member has been permanently removed from the cluster');
      }
      return { cluster, member };
    }
    const joined =
      flags.get('initial-cluster-state') === 'existing'
        ? this.#joinExisting(process, flags)
        : this.#bootstrap(process, flags);
    host.writeData({ cluster: joined.cluster.id, member: joined.member.id });
    return joined;
  }

  #bootstrap(process: EtcdMemberProcess, flags: ReadonlyMap<string, string>): Joined {
    const peers = initialCluster(flags);
    const name = flags.get('name') ?? 'default';
    const own = peers.find((peer) => peer.name === name);
    if (own === undefined) {
      throw new WillNotStart(`couldn't find local name "${name}" in the initial cluster configuration`);
    }
    const advertised = flags.get('initial-advertise-peer-urls') ?? '';
    if (own.url !== advertised) {
      throw new WillNotStart(
        `--initial-cluster has ${name}=${own.url} but missing from --initial-advertise-peer-urls=${advertised}`,
      );
    }
    const token = flags.get('initial-cluster-token') ?? 'etcd-cluster';
    const founding = `${token} ${peers
      .map((peer) => `${peer.name}=${peer.url}`)
      .sort()
      .join()}`;
    const cluster = this.#founded(founding) ?? this.#found(founding, token, peers);
    const member = cluster.byPeerUrl(own.url);
    if (member === undefined) throw new WillNotStart('member not found');
    const others = this.running.filter((each) => each.cluster === cluster && each.hears(process));
    if (member.clientUrls.length > 0 && others.length > 0) {
      throw new WillNotStart(`member ${member.id} has already been bootstrapped`);
    }
    return { cluster, member };
  }

  /** Another host has begun with the same list, and still has its data. */
  #founded(founding: string): EtcdCluster | undefined {
    const kept = new Set(this.#options.data().map(({ cluster }) => cluster));
    return this.#clusters.find((each) => kept.has(each.id) && each.founding === founding);
  }

  #found(founding: string, token: string, peers: readonly Peer[]): EtcdCluster {
    const cluster = new EtcdCluster(founding);
    for (const { name, url } of peers) {
      const id = idOf(`${token} ${url}`);
      cluster.members.set(id, { id, name, peerUrl: url, clientUrls: [], learner: false });
    }
    this.#clusters.push(cluster);
    return cluster;
  }

  #joinExisting(process: EtcdMemberProcess, flags: ReadonlyMap<string, string>): Joined {
    const peers = initialCluster(flags);
    const isPeer = (each: EtcdMemberProcess) => peers.some(({ url }) => url === each.member?.peerUrl);
    const remote = this.running.find((each) => isPeer(each) && each.hears(process));
    if (remote?.cluster === undefined) {
      throw new WillNotStart(
        'cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs',
      );
    }
    const { cluster } = remote;
    const invalid = (why: string) =>
      new WillNotStart(`error validating peerURLs ${flags.get('initial-cluster') ?? ''}: ${why}`);
    if (cluster.members.size !== peers.length) throw invalid('member count is unequal');
    for (const { url } of peers) {
      if (cluster.byPeerUrl(url) === undefined) {
        throw invalid(`unmatched member while checking PeerURLs ("${url}")`);
      }
    }
    const own = peers.find(({ name }) => name === flags.get('name'));
    const member = cluster.byPeerUrl(own?.url ?? '');
    if (member === undefined) {
      throw new WillNotStart(
        `couldn't find local name "${flags.get('name') ?? ''}" in the initial cluster configuration`,
      );
    }
    // Raft's panic: it is asked to go on from what it has lost.
    if (member.clientUrls.length > 0) {
      throw new WillNotStart(
        'tocommit is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?',
      );
    }
    return { cluster, member };
  }
}

interface Joined {
  readonly cluster: EtcdCluster;
  readonly member: Member;
}

interface Peer {
  readonly name: string;
  readonly url: string;
}

function initialCluster(flags: ReadonlyMap<string, string>): Peer[] {
  return (flags.get('initial-cluster') ?? '').split(',').map((each) => {
    const [name = '', url = ''] = each.split('=');
    return { name, url };
  });
}

function idOf(text: string): string {
  return createHash('sha1').update(text).digest('hex').slice(0, 16);
}

/** One run of etcd, from its start to its end. */
export class EtcdMemberProcess implements Process {
  ends: { readonly at: number; readonly code: number } | undefined;
  readonly address: string;
  readonly cluster: EtcdCluster | undefined;
  readonly member: Member | undefined;
  readonly startedAt: number;
  readonly tls: ServerCertificate = { ca: '', cert: '', key: '' };
  readonly #peer = { ca: '', cert: '' };
  readonly #all: EtcdMembers;
  readonly #flags: ReadonlyMap<string, string>;
  readonly #host: EtcdHost;
  #now: number;
  #counted: { readonly of: unknown; readonly has: boolean } = { of: undefined, has: false };

  constructor(all: EtcdMembers, flags: ReadonlyMap<string, string>, host: EtcdHost, now: number) {
    this.#all = all;
    this.#flags = flags;
    this.#host = host;
    this.#now = now;
    this.address = host.address;
    this.startedAt = now;
    try {
      const files = filesNamed(flags, fileFlags, host.read);
      this.tls = { ca: files['trusted-ca-file'], cert: files['cert-file'], key: files['key-file'] };
      this.#peer = { ca: files['peer-trusted-ca-file'], cert: files['peer-cert-file'] };
      const { cluster, member } = all.join(this, flags, host);
      this.cluster = cluster;
      this.member = member;
    } catch (error) {
      if (!(error instanceof WillNotStart)) throw error;
      host.log('discovery failed', error.message);
      this.ends = { at: now + failsAfter, code: 1 };
    }
  }

  /** Each lets the other in. */
  hears(other: EtcdMemberProcess): boolean {
    return isTrusted(other.#peer.cert, this.#peer.ca) && isTrusted(this.#peer.cert, other.#peer.ca);
  }

  get #votes(): EtcdMemberProcess[] {
    return this.#all.running.filter(
      (each) =>
        each.ends === undefined &&
        each.cluster === this.cluster &&
        each.member?.learner === false &&
        (each === this || this.hears(each)),
    );
  }

  get hasQuorum(): boolean {
    const { cluster } = this;
    if (this.ends !== undefined || cluster === undefined) return false;
    // Whenever anything changes, another list runs.
    const { running } = this.#all;
    if (this.#counted.of !== running) {
      this.#counted = { of: running, has: this.#votes.length > cluster.voters.length / 2 };
    }
    return this.#counted.has;
  }

  /** Why it does not answer a linearizable read; undefined: it does. */
  get trouble(): string | undefined {
    if (!this.hasQuorum) return 'etcdserver: request timed out';
    return this.member?.learner === true ? 'etcdserver: rpc not supported for learner' : undefined;
  }

  advance(now: number): void {
    this.#now = now;
    if (this.ends !== undefined || this.cluster === undefined || this.member === undefined) return;
    if (!this.cluster.members.has(this.member.id)) {
      this.#host.log('server error', 'the member has been permanently removed from the cluster');
      this.ends = { at: now, code: 0 };
      this.#host.changed();
      return;
    }
    if (this.member.clientUrls.length > 0 || !this.hasQuorum) return;
    this.member.name = this.#flags.get('name') ?? 'default';
    this.member.clientUrls = (this.#flags.get('advertise-client-urls') ?? '').split(',');
    this.#host.changed();
  }

  list(): Member[] {
    const cluster = this.#needQuorum();
    return [...cluster.members.values()];
  }

  addLearner(peerUrl: string): void {
    const cluster = this.#needQuorum();
    this.#needAll(cluster);
    if (cluster.byPeerUrl(peerUrl) !== undefined)
      throw new EtcdRefusal('etcdserver: Peer URLs already exists');
    if (cluster.members.size > cluster.voters.length) {
      throw new EtcdRefusal('etcdserver: too many learner members in cluster');
    }
    const id = randomBytes(8).toString('hex');
    cluster.members.set(id, { id, name: '', peerUrl, clientUrls: [], learner: true });
    this.#host.changed();
  }

  promote(id: string): void {
    const cluster = this.#needQuorum();
    const member = this.#memberOf(cluster, id);
    if (!member.learner) throw new EtcdRefusal('etcdserver: can only promote a learner member');
    const process = this.#all.running.find((each) => each.member === member && each.ends === undefined);
    if (process === undefined || !this.hears(process) || this.#now < process.startedAt + caughtUpAfter) {
      throw new EtcdRefusal('etcdserver: can only promote a learner member which is in sync with leader');
    }
    member.learner = false;
    this.#host.changed();
  }

  remove(id: string): void {
    const cluster = this.#needQuorum();
    const member = this.#memberOf(cluster, id);
    if (!member.learner) this.#needOthers(cluster, member);
    cluster.members.delete(id);
    this.#host.changed();
  }

  #memberOf(cluster: EtcdCluster, id: string): Member {
    const found = cluster.members.get(id);
    if (found === undefined) throw new EtcdRefusal('etcdserver: member not found');
    return found;
  }

  #needQuorum(): EtcdCluster {
    if (this.cluster === undefined || this.trouble !== undefined) {
      throw new EtcdRefusal(this.trouble ?? 'etcdserver: request timed out');
    }
    return this.cluster;
  }

  /** Strict reconfiguration: nobody is added while a vote is down, or has just come back. */
  #needAll({ voters }: EtcdCluster): void {
    const settled = this.#votes.filter((each) => this.#hasSettled(each));
    if (settled.length < voters.length) throw new EtcdRefusal('etcdserver: unhealthy cluster');
  }

  /** The same for one that goes: the others must hold the quorum. One that is down may go. */
  #needOthers({ voters }: EtcdCluster, member: Member): void {
    const left = voters.filter((each) => each !== member);
    const started = left.filter(({ name }) => name !== '');
    if (left.length === 0 || started.length < Math.floor(left.length / 2) + 1) {
      throw new EtcdRefusal('etcdserver: re-configuration failed due to not enough started members');
    }
    if (!this.#votes.some((each) => each.member === member)) return;
    const active = this.#votes.filter((each) => this.#hasSettled(each));
    if (active.length - 1 < 1 + Math.floor((voters.length - 1) / 2)) {
      throw new EtcdRefusal('etcdserver: unhealthy cluster');
    }
  }

  #hasSettled(other: EtcdMemberProcess): boolean {
    const since = Math.max(this.startedAt, other.startedAt);
    return other === this || this.#now >= since + this.#all.settledAfter;
  }
}
