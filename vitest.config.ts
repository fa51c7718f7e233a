import { defineConfig } from 'vitest/config';
import { realLabUnavailable } from './test/availability.ts';
import { memory, onMemoryLab } from './test/scenarios/labs.ts';

/**
 * `unit` needs nothing but Node; `memory` runs scenarios on the memory lab with tsrke as built; `exhaustive` breaks the
 * model of a cluster thousands of times (minutes of every core); `oracle` compares with kube-apiserver's own code (Go,
 * once); `real` runs scenarios on real hosts (root, Linux), one file after the other and after all else, so that
 * nothing disturbs them. First starts build what they need, hence the generous limits: they catch a hang, they do not
 * measure.
 */
export default defineConfig({
  test: {
    reporters: ['default', './test/reporter.ts'],
    // Without it one processor stays idle, which is half of a small machine.
    maxWorkers: '100%',
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [
            'test/lab/**',
            'test/oracle/**',
            'test/scenarios/**',
            'test/readme.test.ts',
            'test/**/*.exhaustive.test.ts',
          ],
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'memory',
          include: [...memory],
          env: { TSRKE_LAB: 'memory' },
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'exhaustive',
          include: ['test/**/*.exhaustive.test.ts'],
          testTimeout: 1_200_000,
        },
      },
      {
        test: {
          name: 'oracle',
          include: ['test/oracle/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 1_800_000,
        },
      },
      {
        test: {
          name: 'real',
          include:
            realLabUnavailable() === undefined
              ? ['test/lab/**/*.test.ts', 'test/scenarios/**/*.test.ts', 'test/readme.test.ts']
              : [],
          exclude: [...onMemoryLab],
          sequence: { groupOrder: 1 },
          fileParallelism: false,
          maxWorkers: 1,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
