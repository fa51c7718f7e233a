/**
 * One run at a time on the whole cluster: a Lease, and, while no apiserver serves, a container that is never started on
 * each member. Where there is one member alone a restart takes the Lease out of sight, so its first effect has both.
 * Dead and cut off look alike from here, so safety never rests on it (a file replaces only what was seen); it keeps two
 * runs from getting in each other's way.
 */
import { messageOf, TsrkeError } from '../errors.ts';
import { ClusterLease } from '../kube/lease.ts';
import type { Clock, KubeApi, Marker, Markers, NodeName, Report } from '../ports.ts';
import { identityOf, isDead, locked, type Owner } from '../state/lock.ts';

export interface ClusterLockOptions {
  readonly kube: KubeApi;
  readonly markers: Markers;
  /** The members, in the order of their addresses. */
  readonly nodes: () => readonly NodeName[];
  readonly owner: Owner;
  readonly clock: Clock;
  readonly report: Pick<Report, 'note'>;
  /** Seconds; longer than a restart of kube-apiserver. Default 60. */
  readonly seconds?: number;
}

const markerName = 'tsrke-lock';
const ownerLabel = 'tsrke.io/owner';
/** Milliseconds to wait for an apiserver that another run may just be restarting, before the nodes are locked. */
const restartTime = 10_000;

export class ClusterLock {
  readonly #options: ClusterLockOptions;
  readonly #seconds: number;
  readonly #lease: ClusterLease;
  #leased = false;
  #renewed = -Infinity;
  /** Nodes that carry our marker. */
  #marked: NodeName[] = [];
  #beats = 0;
  #lostTo: string | undefined;
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: ClusterLockOptions) {
    this.#options = options;
    this.#seconds = options.seconds ?? 60;
    this.#lease = new ClusterLease({ ...options, seconds: this.#seconds });
  }

  /**
   * Takes the lock and keeps it. Another's is taken only when its process is known to be gone, or after it was seen
   * unchanged for its whole length. Throws LOCKED, naming the owner.
   */
  async acquire(signal: AbortSignal): Promise<void> {
    const { clock, report } = this.#options;
    const begun = clock.now().getTime();
    while (!(await this.#takeLease(signal))) {
      if (this.#isOneMember || clock.now().getTime() - begun >= restartTime) {
        report.note('warning', 'no apiserver is ready: the cluster is locked on its nodes');
        await this.#mark(signal);
        break;
      }
      await clock.sleep(1_000, signal);
    }
    if (this.#leased) await this.#expectNoMarker(signal);
    this.#loop = this.#keep(this.#stop.signal);
  }

  /** Its own apiserver is all that could show a Lease. */
  get #isOneMember(): boolean {
    return this.#options.nodes().length === 1;
  }

  /** Was not renewed for half its length. */
  get #isStale(): boolean {
    return this.#options.clock.now().getTime() - this.#renewed > (this.#seconds * 1000) / 2;
  }

  /** A run that found no apiserver may be at work under markers; those of dead runs are cleared away. */
  async #expectNoMarker(signal: AbortSignal): Promise<void> {
    const { markers, nodes } = this.#options;
    try {
      const seen = await Promise.all(
        nodes().map(async (node) => ({ node, marker: await markers.marker(node, markerName, signal) })),
      );
      for (const { node, marker } of seen) if (marker !== undefined) await this.#outlive(node, signal);
    } catch (error) {
      await this.#lease.release(signal).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Before each effect. Throws LOCK_LOST once another run has the lock. A Lease that was not renewed for half its
   * length, because no apiserver serves, is backed by the nodes' markers first; that of a single member always.
   */
  async hold(signal: AbortSignal): Promise<void> {
    if (this.#lostTo === undefined) {
      try {
        if (!this.#leased) await this.#takeLease(signal);
        if (this.#leased && this.#isStale) await this.#renew(signal);
        if (this.#isOneMember || (this.#leased && this.#isStale)) await this.#mark(signal);
      } catch (error) {
        if (!(error instanceof TsrkeError) || error.code !== 'LOCKED') throw error;
        this.#lostTo = error.message.replace(/^the cluster is locked by /, '');
      }
    }
    if (this.#lostTo === undefined) return;
    throw new TsrkeError('LOCK_LOST', `the lock on the cluster was taken by ${this.#lostTo}`, {
      next: 'wait for that run to end, then run the same command again; it continues from here',
    });
  }

  /** Gives it back; where that cannot be done it ends by itself. */
  async release(): Promise<void> {
    this.#stop.abort(new Error('the lock is given back'));
    await this.#loop;
    const patience = AbortSignal.timeout(5_000);
    await this.#unmark(patience).catch(() => this.#unmark(patience).catch(() => undefined));
    if (this.#leased && this.#lostTo === undefined)
      await this.#lease.release(patience).catch(() => undefined);
  }

  async #takeLease(signal: AbortSignal): Promise<boolean> {
    if (!(await this.#lease.take(signal))) return false;
    this.#leased = true;
    this.#renewed = this.#options.clock.now().getTime();
    if (!this.#isOneMember) await this.#unmark(signal);
    return true;
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const result = await this.#lease.renew(signal);
    if (result === 'renewed') this.#renewed = this.#options.clock.now().getTime();
    else if (result !== 'no apiserver') this.#lostTo = result.lostTo;
  }

  async #keep(stop: AbortSignal): Promise<void> {
    try {
      for (;;) {
        await this.#options.clock.sleep((this.#seconds * 1000) / 6, stop);
        if (this.#leased && this.#lostTo === undefined) await this.#renew(stop);
        await this.#beat(stop);
      }
    } catch (error) {
      // Given back, or an answer that makes no sense: hold() tries again, and throws where it matters.
      if (!stop.aborted) this.#options.report.note('warning', `the lock is not renewed: ${messageOf(error)}`);
    }
  }

  async #beat(signal: AbortSignal): Promise<void> {
    if (this.#marked.length === 0) return;
    this.#beats += 1;
    for (const node of this.#marked) {
      await this.#options.markers.beatMarker(node, markerName, this.#beats, signal).catch(() => undefined);
    }
  }

  async #mark(signal: AbortSignal): Promise<void> {
    const { markers, nodes, owner } = this.#options;
    for (const node of nodes()) {
      if (this.#marked.includes(node)) continue;
      while (
        !(await markers.createMarker(node, markerName, { [ownerLabel]: JSON.stringify(owner) }, signal))
      ) {
        try {
          await this.#outlive(node, signal);
        } catch (error) {
          await this.#unmark(signal);
          throw error;
        }
      }
      this.#marked.push(node);
    }
  }

  /** Resolves once the marker of another run is gone, because it was given back or was left by a dead one. */
  async #outlive(node: NodeName, signal: AbortSignal): Promise<void> {
    const { markers, clock, report, owner: self } = this.#options;
    let first: Marker | undefined;
    const since = clock.now().getTime();
    for (;;) {
      const seen = await markers.marker(node, markerName, signal);
      if (seen === undefined) return;
      const owner = ownerOf(seen);
      const holder = owner === undefined ? '' : identityOf(owner);
      const dead =
        owner !== undefined && (isDead(owner) || [identityOf(self), this.#lease.outlived].includes(holder));
      const unchanged = clock.now().getTime() - since >= this.#seconds * 1000;
      if (
        first !== undefined &&
        (first.beats !== seen.beats || first.labels[ownerLabel] !== seen.labels[ownerLabel])
      ) {
        throw locked(holder);
      }
      if (dead || unchanged) {
        await markers.removeMarker(node, markerName, seen.labels, signal);
        return;
      }
      if (first === undefined) {
        first = seen;
        report.note(
          'info',
          `waiting for the lock of ${holder}, in case that run is dead (up to ${this.#seconds} s)`,
          node,
        );
      }
      await clock.sleep(1_000, signal);
    }
  }

  async #unmark(signal: AbortSignal): Promise<void> {
    const { markers, owner } = this.#options;
    const mine = { [ownerLabel]: JSON.stringify(owner) };
    for (const node of [...this.#marked]) {
      await markers.removeMarker(node, markerName, mine, signal);
      this.#marked = this.#marked.filter((each) => each !== node);
    }
  }
}

function ownerOf(marker: Marker): Owner | undefined {
  try {
    return JSON.parse(marker.labels[ownerLabel] ?? '') as Owner;
  } catch {
    return undefined;
  }
}
