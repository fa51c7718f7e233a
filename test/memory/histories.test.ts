import { it } from 'vitest';
import { playHistories } from './histories.ts';

it('a few random histories lose nothing', () => playHistories(60, 20_251_125));
