import type { Report } from '../ports.ts';

/**
 * For commands that only look: host keys that are met are recorded by runs that write the state, so there is nothing to
 * tell of them here. Warnings pass.
 */
export function quiet(report: Report): Report {
  return {
    note: (level, text, node) => {
      if (level === 'warning') report.note(level, text, node);
    },
    debug: (text, node) => report.debug(text, node),
    task: (title, work) => report.task(title, work),
  };
}
