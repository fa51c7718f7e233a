/** Ctrl-C: the first one ends the run after the step in hand, the second one at once. */
import { TsrkeError } from '../errors.ts';

/** Aborted by the first SIGINT or SIGTERM, when `say` is told so too. */
export function interruptible(say: (text: string) => void): AbortSignal {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(130);
      say('interrupted: finishing the step in hand (again: stop at once)');
      stop.abort(
        new TsrkeError('INTERRUPTED', 'interrupted', {
          next: 'run the same command again; it continues from here',
        }),
      );
    });
  }
  return stop.signal;
}
