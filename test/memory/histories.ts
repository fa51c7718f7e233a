/** Plays random histories and says what came of them; a failing one is printed minimised, with its seed. */
import fc from 'fast-check';
import { history, play, type HistoryFigures } from './history.ts';

export async function playHistories(numRuns: number, seed: number): Promise<void> {
  const figures: HistoryFigures = { histories: 0, commands: 0, effects: 0, faults: 0 };
  await fc.assert(
    fc.asyncProperty(history, (each) => play(each, figures)),
    { numRuns, seed },
  );
  const { histories, commands, effects, faults } = figures;
  process.stdout.write(
    `${histories} random histories, ${commands} commands, ${effects} effects, ${faults} faults injected: 0 unreadable objects, 0 lost keys, 0 not converged\n`,
  );
}
