/**
 * Everything tsrke does to the world passes here as one numbered effect: a Docker call, a kube or etcd request, a
 * write of the state, an SSH connect. Each can be made to fail, hang, be late, lose its answer, or be the last one.
 */
import type { Clock, NodeName } from '../ports.ts';

export interface Effect {
  /** From 1 on; the same run gives the same numbers. */
  readonly number: number;
  readonly kind: 'docker' | 'kube' | 'etcd' | 'state' | 'ssh';
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
  | { readonly kind: 'late'; readonly milliseconds: number }
  /** From here on tsrke does nothing any more. */
  | { readonly kind: 'killed'; readonly when: When }
  /** The effect's node loses its power; without a node, nothing happens. */
  | { readonly kind: 'power-cut'; readonly when: When };

/** What every effect of a tsrke that is dead ends in. */
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

export class Effects {
  readonly #options: EffectsOptions;
  readonly log: Effect[] = [];
  /** Faults that were injected, by effect number. */
  readonly injected = new Map<number, Fault>();
  #dead = false;

  constructor(options: EffectsOptions) {
    this.#options = options;
  }

  get dead(): boolean {
    return this.#dead;
  }

  kill(): void {
    this.#dead = true;
  }

  /** The clock as tsrke sees it: one that is dead does not wake up any more. */
  get clock(): Clock {
    const { clock } = this.#options;
    return {
      now: () => clock.now(),
      sleep: async (milliseconds, signal) => {
        this.#expectAlive();
        await clock.sleep(milliseconds, signal);
        this.#expectAlive();
      },
    };
  }

  async run<T>(doing: Doing<T>): Promise<T> {
    doing.signal.throwIfAborted();
    this.#expectAlive();
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
    }
  }

  async #carryOut<T>(doing: Doing<T>, fault: Fault | undefined): Promise<T> {
    const { clock, powerOff } = this.#options;
    switch (fault?.kind) {
      case undefined:
        return await this.#work(doing);
      case 'fails':
        if (fault.when === 'after') await this.#work(doing);
        throw doing.lost();
      case 'hangs':
        await clock.sleep(doing.patience, doing.signal);
        throw doing.lost();
      case 'late':
        await clock.sleep(fault.milliseconds, doing.signal);
        if (fault.milliseconds >= doing.patience) throw doing.lost();
        return await this.#work(doing);
      case 'killed':
        if (fault.when === 'after') await this.#work(doing);
        this.#dead = true;
        throw new Killed();
      case 'power-cut': {
        const cut = () => (doing.node === undefined ? undefined : powerOff?.(doing.node));
        if (fault.when === 'before') cut();
        const result = await this.#work(doing);
        if (fault.when === 'before') return result;
        cut();
        throw doing.lost();
      }
    }
  }

  async #work<T>(doing: Doing<T>): Promise<T> {
    const result = await doing.work();
    this.#expectAlive();
    return result;
  }

  #expectAlive(): void {
    if (this.#dead) throw new Killed();
  }
}
