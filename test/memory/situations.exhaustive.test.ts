import { it } from 'vitest';
import { situations } from './situations.ts';

it.each(situations)('$name', ({ play }) => play());
