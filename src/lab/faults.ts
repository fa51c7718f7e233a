/**
 * Everything tsrke does to the world passes here as one numbered effect: a Docker call, a kube or etcd request, a
 * write of the state, an SSH connect. Each can be made to fail, hang, be late, lose its answer, or be the last one.
 */
import type { Clock, NodeName } from '../ports.ts';

export interface Effect {
  /** From 1 on; the same run gives the same numbers. */
  readonly number: number;
  readonly kind: 'docker' | 'kube' | 'etcd' | 'kms' | 'state' | 'ssh';
  readonly node: NodeName | undefined;
  /** e.g. `docker POST /containers/kube-apiserver/restart on cp-2`. Never a value. */
  readonly what: string;
  /** It can change something: tsrke killed before a mere look is tsrke killed after what went before it. */
  readonly changes: boolean;
}

export type When = 'before' | 'after';

export type Fault =
  /** No answer: nothing was done, or it was done and the answer is lost. */
  | { readonly kind: 'fails'; readonly when: When }
  /** Never answered, and nothing done: until the caller gives up. */
  | { readonly kind: 'hangs' }
  /** Not done either when that is longer than the caller waits. */
  | { readonly kind: 'late'; readonly milliseconds: number }
  /**
   * The caller has no answer, or is killed; the server has the request all the same, and carries it out so much later.
   * Where there is no server (a write of the state, a connect) nothing is done.
   */
  | { readonly kind: 'done-later'; readonly caller: 'lives' | 'killed'; readonly milliseconds: number }
  /** From here on tsrke does nothing any more. */
  | { readonly kind: 'killed'; readonly when: When }
  /** The effect's node loses its power; without a node, nothing happens. */
  | { readonly kind: 'power-cut'; readonly when: When };

/** How a run ends whose tsrke is dead. */
export class Killed extends Error {
  constructor() {
    super('this tsrke is dead');
    this.name = 'Killed';
  }
}

export interface EffectsOptions {
  readonly clock: Clock;
  /** The fault of an effect, asked once for each. */
  readonly faultOf?: (effect: Effect) => Fault | undefined;
  /** Told after each effect, whatever became of it, and after the last one of a tsrke that is killed. */
  readonly onDone?: (effect: Effect) => void;
  readonly powerOff?: (node: NodeName) => void;
}

export interface Doing<T> {
  readonly kind: Effect['kind'];
  readonly node?: NodeName | undefined;
  readonly what: string;
  readonly changes: boolean;
  readonly signal: AbortSignal;
  readonly work: () => Promise<T>;
  /** The error of a lost answer, as the caller of this port would see it. */
  readonly lost: () => Error;
  /** Milliseconds until the caller gives up. */
  readonly patience: number;
}

/** A dead process neither fails nor goes on: nothing in it runs any more, not even what would clean up. */
const never = new Promise<never>(() => undefined);

export class Effects {
  readonly #options: EffectsOptions;
  readonly log: Effect[] = [];
  /** Faults that were injected, by effect number. */
  readonly injected = new Map<number, Fault>();
  /** Rejects with Killed once tsrke is dead; a run has to be raced with it. */
  readonly died: Promise<never>;
  /** What servers have yet to carry out though nobody waits for it. */
  readonly #later = new Set<Promise<unknown>>();
  #die: () => void = () => undefined;
  #dead = false;

  constructor(options: EffectsOptions) {
    this.#options = options;
    this.died = new Promise((_, reject) => {
      this.#die = () => reject(new Killed());
    });
    this.died.catch(() => undefined);
  }

  get dead(): boolean {
    return this.#dead;
  }

  kill(): void {
    this.#dead = true;
    this.#die();
  }

  /** The clock as tsrke sees it: one that is dead does not wake up any more. */
  get clock(): Clock {
    const { clock } = this.#options;
    return {
      now: () => clock.now(),
      sleep: async (milliseconds, signal) => {
        if (this.dead) await never;
        await clock.sleep(milliseconds, signal).finally(() => (this.dead ? never : undefined));
      },
    };
  }

  /** Resolves once all that was to be done later is done. */
  async settled(): Promise<void> {
    while (this.#later.size > 0) await Promise.all(this.#later);
  }

  async run<T>(doing: Doing<T>): Promise<T> {
    doing.signal.throwIfAborted();
    if (this.dead) await never;
    const { kind, node, what, changes } = doing;
    const on = node === undefined ? '' : ` on ${node}`;
    const number = this.log.length + 1;
    const effect: Effect = { number, kind, node, what: `${kind} ${what}${on}`, changes };
    this.log.push(effect);
    const fault = this.#options.faultOf?.(effect);
    if (fault !== undefined) this.injected.set(number, fault);
    try {
      return await this.#carryOut(doing, fault);
    } finally {
      this.#options.onDone?.(effect);
      if (this.dead) await never;
    }
  }

  async #carryOut<T>(doing: Doing<T>, fault: Fault | undefined): Promise<T> {
    const { clock, powerOff } = this.#options;
    switch (fault?.kind) {
      case undefined:
        return await doing.work();
      case 'fails':
        if (fault.when === 'after') await doing.work();
        throw doing.lost();
      case 'hangs':
        await clock.sleep(doing.patience, doing.signal);
        throw doing.lost();
      case 'late':
        await clock.sleep(Math.min(fault.milliseconds, doing.patience), doing.signal);
        if (fault.milliseconds >= doing.patience) throw doing.lost();
        return await doing.work();
      case 'done-later':
        this.#doLater(doing, fault.milliseconds);
        if (fault.caller === 'lives') throw doing.lost();
        this.kill();
        throw new Killed();
      case 'killed':
        if (fault.when === 'after') await doing.work();
        this.kill();
        throw new Killed();
      case 'power-cut': {
        const cut = () => (doing.node === undefined ? undefined : powerOff?.(doing.node));
        if (fault.when === 'before') cut();
        const result = await doing.work();
        if (fault.when === 'before') return result;
        cut();
        throw doing.lost();
      }
    }
  }

  #doLater<T>({ kind, work }: Doing<T>, milliseconds: number): void {
    if (kind === 'state' || kind === 'ssh') return;
    const later: Promise<unknown> = this.#options.clock
      .sleep(milliseconds, new AbortController().signal)
      .then(work)
      // Whoever asked is not there to be told.
      .catch(() => undefined)
      .finally(() => this.#later.delete(later));
    this.#later.add(later);
  }
}
