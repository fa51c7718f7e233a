import { it } from 'vitest';
import { situations } from './situations.ts';

for (const { name, play } of situations) it(name, play);
