import type { Clock, WorkCount } from '../ports.ts';

/** How fast work gets done, over the last ten seconds; also decides when progress is worth telling. */
export class Speed {
  readonly #clock: Clock;
  #samples: { readonly time: number; readonly done: number }[];
  #told = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#samples = [{ time: clock.now().getTime(), done: 0 }];
  }

  /** Pieces per second when `done` are done; undefined when less than 250 ms have passed since it was last told. */
  at(done: number, anyway: boolean): number | undefined {
    const time = this.#clock.now().getTime();
    if (time - this.#told < 250 && !anyway) return undefined;
    this.#told = time;
    this.#samples.push({ time, done });
    const recent = this.#samples.findIndex((sample) => time - sample.time <= 10_000);
    // One older sample stays as the window's beginning.
    if (recent > 1) this.#samples = this.#samples.slice(recent - 1);
    const [first] = this.#samples;
    return first === undefined || time === first.time
      ? 0
      : ((done - first.done) * 1000) / (time - first.time);
  }
}

/** `812/1000, 903/s, 1 s left` */
export function countText({ done, total, rate, eta }: WorkCount): string {
  return `${done}/${total}, ${Math.round(rate)}/s${eta === undefined ? '' : `, ${Math.ceil(eta)} s left`}`;
}
