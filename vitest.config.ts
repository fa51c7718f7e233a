import { defineConfig } from 'vitest/config';

/**
 * Three projects: `unit` needs nothing but Node, `exhaustive` breaks the memory lab thousands of times (minutes of
 * every core), `real` brings up real hosts (root, Linux) and
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
