/** No test is forgotten by the lists that share out the long ones. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { always, inTurns, onMemoryLab } from './scenarios/labs.ts';

it('every scenario, and every test with real hosts, is in one list', () => {
  const there = ['scenarios', 'lab'].flatMap((folder) =>
    readdirSync(join(import.meta.dirname, folder))
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => `test/${folder}/${name}`),
  );
  expect([...always, ...inTurns.flat(), ...onMemoryLab].sort()).toEqual(
    [...there, 'test/readme.test.ts'].sort(),
  );
});
