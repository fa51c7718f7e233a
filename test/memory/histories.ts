/** Plays random histories and says what came of them; a failing one is printed minimised, with its seed. */
import fc from 'fast-check';
import { countIn } from '../figures.ts';
import { history, play, type HistoryFigures } from './history.ts';

export async function playHistories(numRuns: number, seed: number): Promise<void> {
  const figures: HistoryFigures = { histories: 0, commands: 0, effects: 0, faults: 0 };
  await fc.assert(
    fc.asyncProperty(history, (each) => play(each, figures)),
    { numRuns, seed },
  );
  countIn(figures);
}
