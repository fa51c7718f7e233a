/** Where a run's story goes: stderr. Plain lines, at most one every few seconds of progress. */
import type { Report } from '../ports.ts';

export interface PlainReportOptions {
  readonly write: (line: string) => void;
  readonly debug: boolean;
  /** Milliseconds between two progress lines; default 3000. */
  readonly every?: number;
}

export function plainReport({ write, debug, every = 3_000 }: PlainReportOptions): Report {
  let depth = 0;
  const indent = () => '  '.repeat(depth);
  return {
    note(level, text, node) {
      write(
        `${indent()}${level === 'warning' ? 'warning: ' : ''}${node === undefined ? '' : `${node}: `}${text}`,
      );
    },
    debug(text, node) {
      if (debug) write(`${indent()}debug: ${node === undefined ? '' : `${node}: `}${text}`);
    },
    async task(title, work) {
      write(`${indent()}${title}`);
      depth += 1;
      let last = -Infinity;
      let shown = '';
      let shownText = '';
      let end: string | undefined;
      try {
        return await work({
          progress(text) {
            const now = performance.now();
            // The same thing going on (only figures or the reason in brackets differ) is thinned out.
            const head = text.replace(/[\d(].*/s, '');
            if (head === shown && (now - last < every || text === shownText)) return;
            shownText = text;
            shown = head;
            last = now;
            write(`${indent()}${text}`);
          },
          done(text) {
            end = text;
          },
        });
      } finally {
        if (end !== undefined) write(`${indent()}${end}`);
        depth -= 1;
      }
    },
  };
}
