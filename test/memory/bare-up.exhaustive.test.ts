/** A first `tsrke up` that is killed after each of the effects that change something. */
import { expect, it } from 'vitest';
import { inPart } from '../part.ts';
import { MemoryLab } from './memory-lab.ts';

const bare = () => new MemoryLab({ nodes: 1, bare: true, encrypted: true });

it('is finished by the next run, wherever it was killed', async () => {
  const { effects, error } = await bare().up();
  expect(error).toBeUndefined();
  const changes = effects.log.filter((effect) => effect.changes).map(({ number }) => number);
  expect(changes.length).toBeGreaterThan(50);
  for (const number of changes.filter((_, index) => inPart(index))) {
    const lab = bare();
    await lab.up({
      faultOf: (effect) => (effect.number === number ? { kind: 'killed', when: 'after' } : undefined),
    });
    const next = await lab.up();
    const words = [`after effect ${number}`, ...next.notes].join('\n');
    if (next.error !== undefined) throw new Error(words, { cause: next.error });
    lab.create('one');
    if (lab.problems().length > 0) throw new Error([words, ...lab.problems()].join('\n'));
  }
});
