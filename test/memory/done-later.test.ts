/** A request that nobody waits for any more, and that its server carries out all the same. */
import { expect, it } from 'vitest';
import { VirtualClock } from '../../src/lab/clock.ts';
import { Effects, Killed, type Doing } from '../../src/lab/faults.ts';

const { signal } = new AbortController();

/** One effect with this fault, and when its work was done. */
function broken(caller: 'lives' | 'killed', kind: Doing<void>['kind']) {
  const clock = new VirtualClock();
  const began = clock.now().getTime();
  const done: number[] = [];
  const effects = new Effects({
    clock,
    faultOf: () => ({ kind: 'done-later', caller, milliseconds: 5_000 }),
  });
  const work = () => {
    done.push(clock.now().getTime() - began);
    return Promise.resolve();
  };
  const lost = () => new Error('no answer');
  const doing = { kind, what: 'POST', changes: true, signal, work, lost, patience: 1_000 };
  return { effects, answer: effects.run(doing), done };
}

it('the caller is told at once that there is no answer', async () => {
  const { effects, answer, done } = broken('lives', 'docker');
  await expect(answer).rejects.toThrow('no answer');
  expect(done).toEqual([]);
  await effects.settled();
  expect(done).toEqual([5_000]);
});

it('a caller that is killed hears nothing', async () => {
  const { effects, answer, done } = broken('killed', 'kube');
  await expect(Promise.race([answer, effects.died])).rejects.toBeInstanceOf(Killed);
  await effects.settled();
  expect(done).toEqual([5_000]);
});

it.each(['state', 'ssh'] as const)('there is no server behind %s', async (kind) => {
  const { effects, answer, done } = broken('lives', kind);
  await expect(answer).rejects.toThrow('no answer');
  await effects.settled();
  expect(done).toEqual([]);
});
