/**
 * Reads objects one by one through one kube-apiserver: whether it can open what etcd holds. Only such a GET without a
 * resourceVersion shows that: it goes to etcd in every version (1.24 to 1.37). A list may be answered from the watch
 * cache, which was filled with other keys: from 1.31 also one that asks for the newest data, from 1.34 also page by page.
 */
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, KubeResponse, NodeName } from '../ports.ts';
import { decryptionFailure } from './decryption.ts';
import { pathOf } from './list.ts';
import { retryAfter, type Resource } from './outcome.ts';
import { backOff, type Pace } from './pace.ts';
import { reasonOf, statusOf } from './status.ts';

export interface ObjectName {
  /** Empty where the resource is not namespaced. */
  readonly namespace: string;
  readonly name: string;
}

export interface ReadEachOptions<T extends ObjectName> {
  readonly kube: KubeApi;
  readonly node: NodeName;
  readonly resource: Resource;
  readonly objects: AsyncIterable<T>;
  /** Of this server, over all its resources. */
  readonly pace: Pace;
  /** Whether etcd has the object now: one that the server does not know was deleted, or is hidden from it. */
  readonly isStored: (object: T, signal: AbortSignal) => Promise<boolean>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly random?: () => number;
  /** Told after each object, whatever became of it. */
  readonly onDone?: () => void;
}

/** Objects that could not be read for one and the same reason. */
export interface ReadFailure {
  /**
   * `unreadable`: the server cannot decrypt the value. `refused`: it answered otherwise. `unseen`: it says there is no
   * such object, and etcd has it.
   */
  readonly kind: 'unreadable' | 'refused' | 'unseen';
  readonly reason: string;
  readonly count: number;
  /** Up to three names, `namespace/name` or `name`. */
  readonly samples: readonly string[];
}

export interface ReadCount {
  readonly read: number;
  /** Deleted since their names were taken from etcd. */
  readonly gone: number;
  readonly failures: readonly ReadFailure[];
  /** Why the server was given up; what was not read by then is in no count. */
  readonly silent: string | undefined;
}

const accept = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
/** Milliseconds for one answer, and without any answer until the server is given up. */
const timeout = 10_000;
const patience = 20_000;
const probeTimeout = 5_000;
/** How often an object is tried when each try ends in: an error, a busy server, no answer while others are answered. */
const triesOnError = 3;
const triesWhenBusy = 12;
const triesUnanswered = 10;
const sampleSize = 3;
/** Reasons that are told apart at most: memory does not grow with what is wrong. */
const mostReasons = 20;

/** Metadata alone leave the server. Failures are in the answer; rejects when aborted, and with WRONG_CLUSTER. */
export async function readEach<T extends ObjectName>(options: ReadEachOptions<T>): Promise<ReadCount> {
  return await new Reading(options).run();
}

type Outcome = 'read' | 'gone' | { readonly kind: ReadFailure['kind']; readonly reason: string };

class Reading<T extends ObjectName> {
  readonly #options: ReadEachOptions<T>;
  readonly #random: () => number;
  readonly #failures = new Map<
    string,
    { kind: ReadFailure['kind']; reason: string; names: string[]; count: number }
  >();
  #read = 0;
  #gone = 0;
  #inFlight = 0;
  #silentSince: number | undefined;
  #silent: string | undefined;
  #fatal: { readonly error: unknown } | undefined;
  #freed: () => void = () => undefined;

  constructor(options: ReadEachOptions<T>) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
  }

  async run(): Promise<ReadCount> {
    const { objects, pace } = this.#options;
    try {
      for await (const object of objects) {
        while (this.#inFlight >= pace.allowed && !this.#isOver()) await this.#free();
        if (this.#isOver()) break;
        this.#start(object);
      }
    } catch (error) {
      this.#fatal ??= { error };
    }
    while (this.#inFlight > 0) await this.#free();
    if (this.#fatal !== undefined) throw this.#fatal.error;
    const failures = [...this.#failures.values()].map(({ names, ...each }) => ({ ...each, samples: names }));
    return { read: this.#read, gone: this.#gone, failures, silent: this.#silent };
  }

  #isOver(): boolean {
    return this.#silent !== undefined || this.#fatal !== undefined;
  }

  #free(): Promise<void> {
    return new Promise((resolve) => (this.#freed = resolve));
  }

  #start(object: T): void {
    this.#inFlight += 1;
    this.#outcomeOf(object)
      .then((outcome) => this.#note(object, outcome))
      .catch((error: unknown) => (this.#fatal ??= { error }))
      .finally(() => {
        this.#inFlight -= 1;
        this.#freed();
      });
  }

  #note(object: T, outcome: Outcome | undefined): void {
    if (outcome === undefined) return;
    this.#options.onDone?.();
    if (outcome === 'read') this.#read += 1;
    else if (outcome === 'gone') this.#gone += 1;
    else {
      const { kind } = outcome;
      const isMany = this.#failures.size >= mostReasons;
      const reason =
        isMany && !this.#failures.has(`${kind} ${outcome.reason}`) ? 'other reasons' : outcome.reason;
      const id = `${kind} ${reason}`;
      const group = this.#failures.get(id) ?? { kind, reason, names: [], count: 0 };
      this.#failures.set(id, group);
      group.count += 1;
      const name = object.namespace === '' ? object.name : `${object.namespace}/${object.name}`;
      if (group.names.length < sampleSize) group.names.push(name);
    }
  }

  /** undefined: the server was given up before it had answered. */
  async #outcomeOf(object: T): Promise<Outcome | undefined> {
    const { resource, clock, signal } = this.#options;
    const path = `${pathOf(resource, object.namespace)}/${encodeURIComponent(object.name)}`;
    for (let [tries, spent] = [1, 0]; ; tries += 1) {
      await this.#rested();
      if (this.#isOver()) return undefined;
      const answer = await this.#ask(path);
      if (answer === undefined) return undefined;
      if (answer instanceof TsrkeError) {
        spent += 1 / triesUnanswered;
        if (spent > 0.999) return { kind: 'refused', reason: unanswered(answer) };
        continue;
      }
      const { status } = answer;
      if (status === 200) return 'read';
      const cannot = status < 500 ? undefined : decryptionFailure(reasonOf(answer));
      if (cannot !== undefined) return { kind: 'unreadable', reason: cannot };
      if (status === 404 && !(await this.#options.isStored(object, signal))) return 'gone';
      const busy = isBusy(answer);
      spent += 1 / (busy ? triesWhenBusy : triesOnError);
      if (spent > 0.999 || (status < 500 && status !== 404 && !busy)) {
        return status === 404
          ? { kind: 'unseen', reason: 'it answers that there is no such object' }
          : { kind: 'refused', reason: alike(reasonOf(answer)) };
      }
      if (!busy) await clock.sleep(backOff(tries, this.#random), signal);
    }
  }

  /** In whole milliseconds, as clocks tell them: with a fraction left each rest would count as several tries. */
  async #rested(): Promise<void> {
    const { pace, clock, signal } = this.#options;
    for (;;) {
      const rest = Math.ceil(pace.restUntil - clock.now().getTime());
      if (rest <= 0) return;
      await clock.sleep(rest, signal);
    }
  }

  /** The answer, or the error that there was none; undefined once there was none for too long. */
  async #ask(path: string): Promise<KubeResponse | TsrkeError | undefined> {
    const { kube, node, pace, clock, signal } = this.#options;
    const began = clock.now().getTime();
    try {
      const answer = await kube.request(node, { method: 'GET', path, accept, timeout }, signal);
      const now = clock.now().getTime();
      this.#silentSince = undefined;
      if (isBusy(answer)) pace.refused(now, retryAfter(answer, statusOf(answer)), this.#random);
      else pace.answered(now - began);
      return answer;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      const now = clock.now().getTime();
      this.#silentSince ??= began;
      if (now - this.#silentSince >= patience) {
        if (!(await this.#answersAtAll())) {
          this.#silent ??= unanswered(error);
          return undefined;
        }
        this.#silentSince = undefined;
      }
      pace.refused(now, undefined, this.#random);
      return error;
    }
  }

  /** Tells a server that is gone from an object whose requests alone break off. */
  async #answersAtAll(): Promise<boolean> {
    const { kube, node, signal } = this.#options;
    try {
      await kube.request(node, { method: 'GET', path: '/version', timeout: probeTimeout }, signal);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      return false;
    }
  }
}

function isBusy({ status }: KubeResponse): boolean {
  return status === 429 || status === 503 || status === 504;
}

/** Without the path, which differs from object to object. */
function unanswered({ message, cause }: TsrkeError): string {
  return cause === undefined ? message : `no answer (${messageOf(cause)})`;
}

/** Without what differs from object to object. */
function alike(reason: string): string {
  return reason.replace(/"[^"]*"/g, '"…"');
}
