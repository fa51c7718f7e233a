import { it } from 'vitest';
import { partNumber, shareOf } from '../part.ts';
import { playHistories } from './histories.ts';

Error.stackTraceLimit = 3;

it('whatever happens in whatever order, nothing is lost and the last run finishes (1)', () =>
  playHistories(shareOf(800), Number(process.env['SEED'] ?? 1 + 2 * partNumber)));
