/**
 * What a run did, kept beside the state (`NAME.tsrke.log`), so that yesterday's rotation can be explained: the lines that
 * anybody sees who does not watch, each with its time and the run's process. No key material: it is what stderr gets.
 */
import { appendFileSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { messageOf } from '../errors.ts';
import { plainView } from './report.ts';
import type { View } from './story.ts';

/** Bytes from which on the next run begins another file. */
const largest = 1_000_000;
/** Former files that are kept, as `NAME.tsrke.log.1` (the newest) and so on. */
const former = 3;

/** `DIR/NAME.tsrke.log` for `DIR/NAME.rkestate`. */
export function logPathOf(statePath: string): string {
  return join(dirname(statePath), `${basename(statePath, '.rkestate')}.tsrke.log`);
}

export interface RunLog {
  readonly view: View;
  /** How the run ended. */
  end(text: string): void;
}

/**
 * Nothing is written before the first task is done: a run that is refused for its input, or does not get to the nodes,
 * leaves nothing behind. A log that cannot be written is told to `warn` once, and stops no run.
 */
export function runLog(
  path: string,
  title: string,
  { debug, warn }: { readonly debug: boolean; readonly warn: (text: string) => void },
): RunLog {
  let state: 'waiting' | 'open' | 'broken' = 'waiting';
  let waiting = '';
  const flush = () => {
    if (state !== 'open') return;
    try {
      appendFileSync(path, waiting, { mode: 0o600 });
      waiting = '';
    } catch (error) {
      state = 'broken';
      warn(`the log of this run is not kept: ${messageOf(error)}`);
    }
  };
  const append = (text: string) => {
    const head = `${new Date().toISOString()} [${process.pid}] `;
    if (state === 'broken') return;
    waiting += text.replace(/^/gm, head) + '\n';
    flush();
  };
  append(title);
  const plain = plainView({ write: append, debug });
  return {
    view: {
      ...plain,
      ended(task) {
        if (state === 'waiting' && task.state === 'done') {
          rotate(path);
          state = 'open';
          flush();
        }
        return plain.ended(task);
      },
    },
    end: append,
  };
}

function rotate(path: string): void {
  try {
    if (statSync(path).size < largest) return;
    for (let number = former; number > 1; number -= 1) {
      if (statSync(`${path}.${number - 1}`, { throwIfNoEntry: false }) === undefined) continue;
      renameSync(`${path}.${number - 1}`, `${path}.${number}`);
    }
    renameSync(path, `${path}.1`);
  } catch {
    // None there yet, or its folder cannot be written to: appending tells.
  }
}
