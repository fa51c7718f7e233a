import { defineConfig } from 'vitest/config';

/** Scenarios that open their lab with test/lab/open-lab.ts. */
const onBothLabs = ['test/scenarios/both-labs.test.ts'];

/**
 * Four projects: `unit` needs nothing but Node; `memory` runs scenarios on the memory lab with tsrke as built;
 * `exhaustive` breaks the memory lab thousands of times (minutes of every core); `real` runs scenarios, those too that
 * only it can carry, on real hosts (root, Linux) and
 * therefore runs one file after the other. The lab's first start builds its parts, hence the
 * generous limits: they catch a hang, they do not measure.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [
            'test/lab/**',
            'test/scenarios/**',
            'test/readme.test.ts',
            'test/memory/*.exhaustive.test.ts',
          ],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'memory',
          include: onBothLabs,
          env: { TSRKE_LAB: 'memory' },
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'exhaustive',
          include: ['test/memory/*.exhaustive.test.ts'],
          testTimeout: 1_200_000,
        },
      },
      {
        test: {
          name: 'real',
          include: ['test/lab/**/*.test.ts', 'test/scenarios/**/*.test.ts', 'test/readme.test.ts'],
          fileParallelism: false,
          maxWorkers: 1,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
