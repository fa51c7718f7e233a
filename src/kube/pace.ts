/**
 * How many requests one apiserver is given at a time: more while it answers quickly, fewer when answers slow
 * down, half when it says it is busy. Latency counts too because kube-admin (system:masters) is exempt from
 * priority and fairness and may never see a 429.
 */

export interface PaceLimits {
  /** Requests in flight at the start and at most. */
  readonly start: number;
  readonly most: number;
  /** Milliseconds: answers quicker than this are never a reason to slow down. */
  readonly easy: number;
}

export const defaultPace: PaceLimits = { start: 16, most: 64, easy: 150 };

export class Pace {
  readonly #limits: PaceLimits;
  #allowed: number;
  /** Smoothed and lowest latency in milliseconds; undefined before the first answer. */
  #latency: number | undefined;
  #lowest = Infinity;
  #answers = 0;
  #failures = 0;
  #restUntil = 0;

  constructor(limits: PaceLimits = defaultPace) {
    this.#limits = limits;
    this.#allowed = Math.min(limits.start, limits.most);
  }

  get allowed(): number {
    return Math.floor(this.#allowed);
  }

  /** Milliseconds since the epoch before which it is left alone. */
  get restUntil(): number {
    return this.#restUntil;
  }

  /** Failures in a row since the last answer. */
  get failures(): number {
    return this.#failures;
  }

  /** An answer came after `latency` milliseconds. Judged once per round of `allowed` answers. */
  answered(latency: number): void {
    this.#failures = 0;
    this.#latency = this.#latency === undefined ? latency : this.#latency * 0.9 + latency * 0.1;
    this.#lowest = Math.min(this.#lowest, latency);
    this.#answers += 1;
    if (this.#answers < this.#allowed) return;
    this.#answers = 0;
    // A webhook or a slow disk makes every answer slow: what counts then is slower than the best seen.
    const slow = this.#latency > Math.max(this.#limits.easy, 3 * this.#lowest);
    this.#allowed = slow ? Math.max(1, this.#allowed * 0.8) : Math.min(this.#limits.most, this.#allowed + 4);
  }

  /**
   * It was busy or could not be reached: half as many from now on, and nothing for a while (what it asked for,
   * else growing with each failure in a row, with jitter). Failures of one and the same moment count once.
   */
  refused(now: number, wait: number | undefined, random: () => number): void {
    if (now < this.#restUntil) {
      if (wait !== undefined) this.#restUntil = Math.max(this.#restUntil, now + wait);
      return;
    }
    this.#failures += 1;
    this.#answers = 0;
    this.#allowed = Math.max(1, this.#allowed / 2);
    this.#restUntil = now + (wait ?? backOff(this.#failures, random));
  }
}

/** Milliseconds to wait before try number `tries` + 1: 200 ms doubling up to 10 s, of which half is jitter. */
export function backOff(tries: number, random: () => number): number {
  const full = Math.min(10_000, 100 * 2 ** tries);
  return full / 2 + (full / 2) * random();
}
