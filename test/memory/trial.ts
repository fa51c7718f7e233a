/** What is played against one planted bug. Loaded anew for each, so that it runs the mutated sources. */
import fc from 'fast-check';
import { history, play } from './history.ts';
import { situations } from './situations.ts';

export interface Caught {
  /** The situation, or the how-manieth random history. */
  readonly by: string;
  /** First line of what was wrong. */
  readonly what: string;
}

/** Plays the situations whose name matches, until one fails. */
export async function playSituations(pattern: RegExp): Promise<Caught | undefined> {
  for (const { name, play: playIt } of situations.filter((each) => pattern.test(each.name))) {
    const what = await failureOf(playIt);
    if (what !== undefined) return { by: `“${name}”`, what };
  }
  return undefined;
}

/** Plays so many histories, always the same, until one fails. */
export async function playSomeHistories(count: number): Promise<Caught | undefined> {
  const figures = { histories: 0, commands: 0, effects: 0, faults: 0 };
  for (const each of fc.sample(history, { numRuns: count, seed: 1 })) {
    const what = await failureOf(() => play(each, figures));
    if (what !== undefined) return { by: `random history ${figures.histories}`, what };
  }
  return undefined;
}

async function failureOf(run: () => Promise<void>): Promise<string | undefined> {
  try {
    await run();
    return undefined;
  } catch (error) {
    return (error as Error).message.split('\n', 1)[0];
  }
}
