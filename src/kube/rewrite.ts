/**
 * Stores every object of a resource again, so that the present write key encrypts it (upstream: storage
 * migration). An empty merge patch does it: kube-apiserver writes an unchanged object only when the stored
 * bytes are stale, that is, were read by anything but the write key. Run it only once every apiserver has
 * loaded the new write key: that is what makes "somebody else wrote it meanwhile" mean "done".
 */
import { setMaxListeners } from 'node:events';
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, NodeName } from '../ports.ts';
import { listPages, pathOf, resourceName } from './list.ts';
import { outcomeOf, type Listed, type Outcome, type Resource } from './outcome.ts';
import { backOff, defaultPace, Pace, type PaceLimits } from './pace.ts';
import { WorkQueue } from './queue.ts';
import { watchSpace, type EtcdSize } from './space.ts';
import { Speed } from './speed.ts';

export interface RewriteOptions {
  readonly kube: KubeApi;
  /** Apiservers that serve; the work is spread over them, and a try that fails goes on at another. */
  readonly nodes: readonly NodeName[];
  readonly resource: Resource;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /**
   * Writes each object twice (an annotation set, then removed) instead of patching nothing: for KMS v1, whose
   * values are never stale, so that only a real change makes kube-apiserver write them again.
   */
  readonly touch?: boolean;
  /** Looked at every second; the work pauses above 80 % of the quota. Left out: not watched. */
  readonly etcdSize?: (signal: AbortSignal) => Promise<EtcdSize>;
  /** Frees space in etcd (a compaction) while paused; kube-apiserver compacts by itself every 5 minutes. */
  readonly relieve?: (signal: AbortSignal) => Promise<void>;
  /** At most four times a second, and once at the end. */
  readonly onProgress?: (progress: RewriteProgress) => void;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
  readonly limits?: Partial<RewriteLimits>;
}

export interface RewriteLimits {
  /** Objects a list page. */
  readonly pageSize: number;
  /** Per apiserver. */
  readonly pace: PaceLimits;
  /** How often one object is tried when each try ends in: a server error, a busy server, no answer at all. */
  readonly triesOnError: number;
  readonly triesWhenBusy: number;
  readonly triesUnanswered: number;
  /** Milliseconds without any answer from any apiserver after which the whole run ends. */
  readonly patience: number;
}

export interface RewriteProgress {
  readonly resource: string;
  readonly done: number;
  /** As far as known: the server's own count of what is still to be listed is in it. */
  readonly total: number;
  /** Objects per second over the last ten seconds. */
  readonly rate: number;
  /** Seconds; undefined while there is no rate yet. */
  readonly eta: number | undefined;
  /** Why nothing moves at the moment. */
  readonly paused: string | undefined;
}

export interface FailedObject {
  readonly namespace: string;
  readonly name: string;
  readonly reason: string;
}

/** Each object listed is counted in exactly one of the four; `total` is their sum. */
export interface RewriteResult {
  readonly total: number;
  /** Lay under another key, lies under the write key now. */
  readonly rewritten: number;
  /** Lay under the write key already (its resourceVersion did not move). */
  readonly current: number;
  /** Deleted, re-created or written by somebody else after it was listed. */
  readonly gone: number;
  /** Not rewritten: the key it lies under must stay. */
  readonly failed: readonly FailedObject[];
  /** Set when the list did not come to its end; objects that were never listed are in no count. */
  readonly unlisted: string | undefined;
}

export const touchAnnotation = 'tsrke.io/touched';

const defaultLimits: RewriteLimits = {
  pageSize: 500,
  pace: defaultPace,
  triesOnError: 4,
  triesWhenBusy: 12,
  triesUnanswered: 30,
  patience: 120_000,
};

/**
 * One pass over one resource. Safe to cut off and run again at any moment. If the list has to be started anew
 * (410 without a token), objects that are met twice count twice.
 * Rejects with the signal's reason; with KUBE when no apiserver answers any more; with ETCD when etcd is full or
 * stays above 80 % of its quota; with WRONG_CLUSTER. What was rewritten until then stays so.
 */
export async function rewrite(options: RewriteOptions): Promise<RewriteResult> {
  return await new Pass(options).run();
}

interface Work {
  readonly object: Listed;
  /** 'untouch' removes the annotation that 'touch' has set. */
  readonly step: 'empty' | 'touch' | 'untouch';
  readonly tries: number;
  /** Share of its tries that is used up; at 1 the object is given up. */
  readonly spent: number;
  readonly last: Lane | undefined;
}

interface Lane {
  readonly node: NodeName;
  readonly pace: Pace;
  inFlight: number;
}

class Pass {
  readonly #options: RewriteOptions;
  readonly #limits: RewriteLimits;
  readonly #random: () => number;
  readonly #stop = new AbortController();
  readonly #lanes: readonly Lane[];
  readonly #speed: Speed;
  readonly #nonce: string;
  readonly #queue = new WorkQueue<Work>();
  #inFlight = 0;
  #listed = false;
  #remaining = 0;
  #paused: string | undefined;
  #silentSince: number | undefined;
  #timer = Infinity;
  #fatal: { readonly error: unknown } | undefined;
  #wake: () => void = () => undefined;
  #roomForPage: () => void = () => undefined;
  #rewritten = 0;
  #current = 0;
  #gone = 0;
  readonly #failed = new Map<string, FailedObject>();
  #unlisted: string | undefined;

  constructor(options: RewriteOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#random = options.random ?? Math.random;
    this.#lanes = options.nodes.map((node) => ({ node, pace: new Pace(this.#limits.pace), inFlight: 0 }));
    this.#speed = new Speed(options.clock);
    this.#nonce = this.#random().toString(36).slice(2);
    // Not before the first look at etcd's size.
    if (options.etcdSize !== undefined) this.#paused = 'looking at the size of etcd';
    setMaxListeners(0, this.#stop.signal);
  }

  async run(): Promise<RewriteResult> {
    const { signal } = this.#options;
    signal.throwIfAborted();
    const aborted = () => {
      this.#end(signal.reason);
    };
    signal.addEventListener('abort', aborted, { once: true });
    const finished = new Promise<void>((resolve) => (this.#wake = resolve));
    const side = [this.#watchSpace(), this.#list()].map((work) =>
      work.catch((error: unknown) => this.#end(error)),
    );
    try {
      await finished;
    } finally {
      signal.removeEventListener('abort', aborted);
      this.#stop.abort(new Error('the pass is over'));
      this.#roomForPage();
      await Promise.all(side);
    }
    if (this.#fatal !== undefined) throw this.#fatal.error;
    this.#report(true);
    return {
      total: this.#done,
      rewritten: this.#rewritten,
      current: this.#current,
      gone: this.#gone,
      failed: [...this.#failed.values()],
      unlisted: this.#unlisted,
    };
  }

  get #done(): number {
    return this.#rewritten + this.#current + this.#gone + this.#failed.size;
  }

  async #list(): Promise<void> {
    const { kube, nodes, resource, clock } = this.#options;
    const { pageSize, patience } = this.#limits;
    try {
      const pages = listPages({
        kube,
        nodes,
        resource,
        clock,
        signal: this.#stop.signal,
        random: this.#random,
        pageSize,
        patience,
      });
      for await (const page of pages) {
        this.#remaining = page.remaining;
        if (page.restarted) {
          // All of these come again.
          this.#queue.clear();
          this.#failed.clear();
        }
        const step = this.#options.touch === true ? 'touch' : 'empty';
        for (const object of page.objects) {
          this.#queue.push({ object, step, tries: 0, spent: 0, last: undefined });
        }
        this.#pump();
        // At most two pages wait, however large the cluster is.
        while (this.#queue.size > pageSize && !this.#stop.signal.aborted) {
          await new Promise<void>((resolve) => (this.#roomForPage = resolve));
        }
      }
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      this.#unlisted = error.message;
    }
    this.#listed = true;
    this.#remaining = 0;
    this.#pump();
  }

  /** Starts whatever can be started; called whenever something may have changed. */
  #pump(): void {
    if (this.#fatal === undefined) {
      const now = this.#options.clock.now().getTime();
      while (this.#paused === undefined) {
        const work = this.#queue.take(now);
        if (work === undefined) break;
        const lane = this.#laneFor(work, now);
        if (lane === undefined) {
          this.#queue.again(work, 0);
          break;
        }
        void this.#try(work, lane);
      }
      this.#setTimer(now);
      if (this.#queue.size <= this.#limits.pageSize) this.#roomForPage();
      this.#report(false);
      if (!this.#listed || this.#queue.size > 0) return;
    }
    if (this.#inFlight === 0) this.#wake();
  }

  /** The apiserver with most room; one that has just failed with this object only when there is no other. */
  #laneFor(work: Work, now: number): Lane | undefined {
    const room = (lane: Lane) => (lane === work.last ? 1e6 : 0) + lane.inFlight / lane.pace.allowed;
    return this.#lanes
      .filter((lane) => lane.pace.restUntil <= now && lane.inFlight < lane.pace.allowed)
      .reduce<Lane | undefined>((best, lane) => (best && room(best) <= room(lane) ? best : lane), undefined);
  }

  /** Wakes the pump when the next retry is due or an apiserver may be asked again. */
  #setTimer(now: number): void {
    if (this.#queue.size === 0 || this.#paused !== undefined) return;
    const rests = this.#lanes.map((lane) => lane.pace.restUntil).filter((until) => until > now);
    const due = this.#queue.nextDue;
    const at = Math.min(...rests, due > now ? due : Infinity);
    if (at >= this.#timer || at === Infinity) return;
    this.#timer = at;
    const passed = () => {
      if (this.#timer === at) this.#timer = Infinity;
      this.#pump();
    };
    this.#options.clock.sleep(at - now, this.#stop.signal).then(passed, () => undefined);
  }

  async #try(work: Work, lane: Lane): Promise<void> {
    this.#inFlight += 1;
    lane.inFlight += 1;
    try {
      const outcome = await this.#patch(work, lane);
      if (outcome !== undefined) this.#settle(work, lane, outcome);
    } catch (error) {
      this.#end(error);
    } finally {
      this.#inFlight -= 1;
      lane.inFlight -= 1;
      this.#pump();
    }
  }

  async #patch(work: Work, lane: Lane): Promise<Outcome | undefined> {
    const { kube, resource, clock } = this.#options;
    const { namespace, name, uid, resourceVersion } = work.object;
    const began = clock.now().getTime();
    const metadata = {
      empty: { uid, resourceVersion },
      touch: { uid, resourceVersion, annotations: { [touchAnnotation]: this.#nonce } },
      untouch: { uid, annotations: { [touchAnnotation]: null } },
    }[work.step];
    try {
      const response = await kube.request(
        lane.node,
        {
          method: 'PATCH',
          path: `${pathOf(resource, namespace)}/${encodeURIComponent(name)}?fieldManager=tsrke`,
          accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1',
          contentType: 'application/merge-patch+json',
          body: { metadata },
        },
        this.#stop.signal,
      );
      this.#silentSince = undefined;
      const outcome = outcomeOf(resource, work.object, response);
      const busy = outcome.kind === 'again' && outcome.why === 'busy';
      if (!busy) lane.pace.answered(clock.now().getTime() - began);
      return outcome;
    } catch (error) {
      if (this.#stop.signal.aborted) return undefined;
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      const now = clock.now().getTime();
      this.#silentSince ??= now;
      if (now - this.#silentSince >= this.#limits.patience) {
        if (!(await this.#anyAnswers())) throw this.#noAnswer(error);
        this.#silentSince = undefined;
      }
      return { kind: 'again', reason: messageOf(error), why: 'unanswered' };
    }
  }

  #settle(work: Work, lane: Lane, outcome: Outcome): void {
    if (outcome.kind === 'again') {
      this.#again(work, lane, outcome);
      return;
    }
    const { namespace, name } = work.object;
    if (work.step === 'touch' && (outcome.kind === 'rewritten' || outcome.kind === 'current')) {
      this.#queue.again({ ...work, step: 'untouch', tries: 0, spent: 0 }, 0);
      return;
    }
    if (outcome.kind === 'failed') {
      this.#failed.set(`${namespace}/${name}`, { namespace, name, reason: outcome.reason });
      return;
    }
    this.#failed.delete(`${namespace}/${name}`);
    if (outcome.kind === 'gone') this.#gone += 1;
    else if (outcome.kind === 'rewritten' || work.step === 'untouch') this.#rewritten += 1;
    else this.#current += 1;
  }

  #again(work: Work, lane: Lane, { reason, why, wait }: Extract<Outcome, { kind: 'again' }>): void {
    if (reason.includes('database space exceeded')) throw etcdFull();
    const now = this.#options.clock.now().getTime();
    if (why !== 'error') lane.pace.refused(now, wait, this.#random);
    const { triesOnError, triesWhenBusy, triesUnanswered } = this.#limits;
    const spent =
      work.spent + 1 / { error: triesOnError, busy: triesWhenBusy, unanswered: triesUnanswered }[why];
    if (spent > 0.999) {
      const { namespace, name } = work.object;
      this.#failed.set(`${namespace}/${name}`, { namespace, name, reason });
      return;
    }
    const tries = work.tries + 1;
    this.#queue.again({ ...work, tries, spent, last: lane }, now + (wait ?? backOff(tries, this.#random)));
  }

  async #watchSpace(): Promise<void> {
    const { etcdSize, relieve, clock } = this.#options;
    if (etcdSize === undefined) return;
    await watchSpace({ size: etcdSize, relieve, clock, signal: this.#stop.signal }, (paused) => {
      if (paused !== this.#paused) this.#silentSince = undefined;
      this.#paused = paused;
      this.#pump();
    });
  }

  /** Tells servers that are gone from objects whose requests alone break. */
  async #anyAnswers(): Promise<boolean> {
    const { kube, nodes } = this.#options;
    const probe = { method: 'GET', path: '/version', timeout: 5_000 } as const;
    const asked = nodes.map((node) => kube.request(node, probe, this.#stop.signal));
    return (await Promise.allSettled(asked)).some((result) => result.status === 'fulfilled');
  }

  #noAnswer(cause: TsrkeError): TsrkeError {
    const { nodes, resource } = this.#options;
    return new TsrkeError(
      'KUBE',
      `no kube-apiserver (${nodes.join(', ')}) answered for ${this.#limits.patience / 1000} s while ${resourceName(resource)} were rewritten`,
      { cause, next: 'bring an apiserver back, then run the same command again; it continues from here' },
    );
  }

  /** The first error ends the pass; requests under way are aborted and waited for. */
  #end(error: unknown): void {
    this.#fatal ??= { error };
    this.#stop.abort(new Error('the pass is over'));
    this.#pump();
  }

  #report(last: boolean): void {
    const { onProgress, resource } = this.#options;
    if (onProgress === undefined) return;
    const done = this.#done;
    const rate = this.#speed.at(done, last);
    if (rate === undefined) return;
    const left = this.#queue.size + this.#inFlight + this.#remaining;
    onProgress({
      resource: resourceName(resource),
      done,
      total: done + left,
      rate,
      eta: left === 0 ? 0 : rate > 0 ? left / rate : undefined,
      paused: this.#paused,
    });
  }
}

function etcdFull(): TsrkeError {
  return new TsrkeError('ETCD', 'etcd refuses to write: its database has reached its quota', {
    next: 'compact and defragment etcd, disarm its NOSPACE alarm, then run the same command again',
  });
}
