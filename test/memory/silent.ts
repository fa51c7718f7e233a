import type { Report } from '../../src/ports.ts';

/** A report that says nothing. */
export const silent: Report = {
  note: () => undefined,
  debug: () => undefined,
  task: (_title, work) => work({ progress: () => undefined, done: () => undefined }),
};
