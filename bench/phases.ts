/** What a run printed with the time of each line, and where its seconds went. */
import type { RealLab } from '../test/lab/real-lab.ts';

export interface Line {
  /** Milliseconds since the run began. */
  readonly at: number;
  readonly text: string;
}

export async function timed(lab: RealLab, ...args: string[]): Promise<{ seconds: number; lines: Line[] }> {
  const began = performance.now();
  const lines: Line[] = [];
  const ran = await lab.tsrke(args, {
    onOutput: (text) => {
      const at = performance.now() - began;
      for (const line of text.split('\n')) if (line !== '') lines.push({ at, text: line });
    },
  });
  if (ran.code !== 0)
    throw new Error(`tsrke ${args.join(' ')} ended with ${String(ran.code)}: ${ran.stderr}`);
  return { seconds: ran.seconds, lines };
}

/**
 * Seconds by phase, in the order in which the phases first began; where a phase comes again, together. `phaseOf`: the
 * phase that begins with a line.
 */
export function byPhase(
  lines: readonly Line[],
  end: number,
  phaseOf: (line: string) => string | undefined,
): Map<string, number> {
  const sums = new Map<string, number>();
  let current = 'start';
  let since = 0;
  const close = (at: number) => {
    sums.set(current, (sums.get(current) ?? 0) + (at - since) / 1000);
    since = at;
  };
  for (const { at, text } of lines) {
    const phase = phaseOf(text);
    if (phase === undefined) continue;
    close(at);
    current = phase;
  }
  close(end * 1000);
  return sums;
}

/** BENCH_LINES=1 shows each line of output with its time. */
export function show(lines: readonly Line[], phases: ReadonlyMap<string, number>): void {
  if (process.env['BENCH_LINES'] !== undefined) {
    for (const { at, text } of lines) console.log(`${(at / 1000).toFixed(1).padStart(6)}  ${text}`);
  }
  for (const [phase, each] of phases) console.log(`         ${each.toFixed(1).padStart(5)} s  ${phase}`);
}
