/**
 * The suite put to the test: each bug of mutants.ts is planted in a copy of the engine that only this test loads, and
 * the situations and histories of the model must find it, for the right reason.
 */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { runnerImport } from 'vite';
import { inPart } from '../part.ts';
import { mutants, type Edit } from './mutants.ts';

Error.stackTraceLimit = 3;

/** Enough for bugs that lie open; others are found by a situation alone, or by the thousands of the long runs. */
const someHistories = 20;

const root = new URL('../../', import.meta.url);

/** The trial and all it imports, loaded anew, with these edits in the sources. */
async function trialWith(edits: readonly Edit[]): Promise<typeof import('./trial.ts')> {
  const { module } = await runnerImport<typeof import('./trial.ts')>(
    new URL('./trial.ts', import.meta.url).pathname,
    {
      root: root.pathname,
      configFile: false,
      logLevel: 'silent',
      plugins: [
        {
          name: 'mutant',
          enforce: 'pre',
          transform: (code, id) =>
            edits
              .filter(({ file }) => id === new URL(file, root).pathname)
              .reduce((mutated, { text, by }) => mutated.replace(text, () => by), code),
        },
      ],
    },
  );
  return module;
}

it('nothing is found where nothing is planted', async () => {
  const trial = await trialWith([]);
  const all = [...new Set(mutants.map(({ situations }) => situations.source))].join('|');
  expect(await trial.playSituations(new RegExp(all))).toBeUndefined();
  expect(await trial.playSomeHistories(someHistories)).toBeUndefined();
});

it.each(mutants.filter((_, index) => inPart(index)).map((each) => [each.name, each] as const))(
  'caught: %s',
  async (name, mutant) => {
    const { edits, situations, wrong } = mutant;
    for (const { file, text } of edits) {
      const count = readFileSync(new URL(file, root), 'utf8').split(text).length - 1;
      expect(count, `“${text}” must occur once in ${file}: bring test/memory/mutants.ts up to date`).toBe(1);
    }
    const trial = await trialWith(edits);
    const caught = await trial.playSituations(situations);
    const random = await trial.playSomeHistories(someHistories);
    process.stdout.write(
      `planted: ${name}\n  caught by ${caught?.by ?? 'no situation'}, ${random?.by ?? `not in ${someHistories} random histories`}\n  ${caught?.what ?? ''}\n`,
    );
    expect(caught?.what, 'the situations must fail, and for this reason').toMatch(wrong);
  },
);
