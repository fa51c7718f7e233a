/** Time for tests and rehearsals: hours of waiting in milliseconds, and the same each time. */
import type { Clock } from '../ports.ts';

/** Time that jumps to the next sleeper as soon as nothing else is going on. */
export class VirtualClock implements Clock {
  #now = Date.parse('2025-01-01T00:00:00Z');
  #sleepers: { due: number; wake: () => void }[] = [];
  #scheduled = false;

  now(): Date {
    return new Date(this.#now);
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds;
  }

  sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const sleeper = {
        due: this.#now + milliseconds,
        wake: () => {
          signal.removeEventListener('abort', aborted);
          resolve();
        },
      };
      const aborted = () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', aborted, { once: true });
      this.#sleepers.push(sleeper);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#sleepers.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#sleepers.sort((a, b) => a.due - b.due);
      const next = this.#sleepers.shift();
      if (next === undefined) return;
      this.#now = Math.max(this.#now, next.due);
      next.wake();
      this.#schedule();
    });
  }
}
