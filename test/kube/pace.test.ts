import { describe, expect, test } from 'vitest';
import { backOff, Pace } from '../../src/kube/pace.ts';

const limits = { start: 16, most: 64, easy: 150 };
const answers = (pace: Pace, count: number, latency: number) => {
  for (let each = 0; each < count; each += 1) pace.answered(latency);
};

describe('pace', () => {
  test('quick answers let it grow to the most', () => {
    const pace = new Pace(limits);
    expect(pace.allowed).toBe(16);
    answers(pace, 2000, 20);
    expect(pace.allowed).toBe(64);
  });

  test('answers that slow down let it shrink, down to one', () => {
    const pace = new Pace(limits);
    answers(pace, 100, 20);
    answers(pace, 3000, 900);
    expect(pace.allowed).toBe(1);
  });

  test('answers that were slow from the beginning are no reason to shrink', () => {
    const pace = new Pace(limits);
    answers(pace, 2000, 400);
    expect(pace.allowed).toBe(64);
  });

  test('a refusal halves it once, however many requests meet it, and rests for what was asked', () => {
    const pace = new Pace(limits);
    for (let each = 0; each < 16; each += 1) pace.refused(1000, 5000, () => 0);
    expect(pace.allowed).toBe(8);
    expect(pace.restUntil).toBe(6000);
    expect(pace.failures).toBe(1);
  });

  test('refusals in a row rest longer and longer', () => {
    const pace = new Pace(limits);
    const rests: number[] = [];
    for (let now = 0; rests.length < 9; now = pace.restUntil) {
      pace.refused(now, undefined, () => 0.999);
      rests.push(Math.round((pace.restUntil - now) / 100));
    }
    expect(rests).toEqual([2, 4, 8, 16, 32, 64, 100, 100, 100]);
    pace.answered(10);
    expect(pace.failures).toBe(0);
  });

  test('half of every wait is jitter', () => {
    expect(backOff(1, () => 0)).toBe(100);
    expect(backOff(30, () => 0)).toBe(5000);
  });
});
