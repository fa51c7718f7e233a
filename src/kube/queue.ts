/** What waits to be done: first come first served, with what must be tried again put back in at its time. */
export class WorkQueue<T> {
  #fresh: T[] = [];
  #head = 0;
  #later: { readonly due: number; readonly work: T }[] = [];

  get size(): number {
    return this.#fresh.length - this.#head + this.#later.length;
  }

  /** When the next retry is due (milliseconds since the epoch); Infinity when there is none. */
  get nextDue(): number {
    return this.#later[0]?.due ?? Infinity;
  }

  push(work: T): void {
    this.#fresh.push(work);
  }

  /** To be done no sooner than `due`; 0 puts it in front of all. */
  again(work: T, due: number): void {
    const at = this.#later.findIndex((other) => other.due >= due);
    this.#later.splice(at === -1 ? this.#later.length : at, 0, { due, work });
  }

  /** Takes out what is next: a retry that is due before anything fresh. */
  take(now: number): T | undefined {
    if (this.nextDue <= now) return this.#later.shift()?.work;
    const work = this.#fresh[this.#head];
    if (work === undefined) return undefined;
    this.#head += 1;
    if (this.#head >= 1000) {
      this.#fresh = this.#fresh.slice(this.#head);
      this.#head = 0;
    }
    return work;
  }

  clear(): void {
    this.#fresh = [];
    this.#head = 0;
    this.#later = [];
  }
}
