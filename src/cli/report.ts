/** Where a run's story goes when nobody watches it: plain lines, at most one every few seconds of progress. */
import { noteLine, Story, type StoryTask, type View } from './story.ts';

export interface PlainReportOptions {
  readonly write: (line: string) => void;
  readonly debug: boolean;
  /** Milliseconds between two progress lines of a task; default 3000. */
  readonly every?: number;
}

export function plainReport(options: PlainReportOptions): Story {
  return new Story(plainView(options));
}

export function plainView({ write, debug, every = 3_000 }: PlainReportOptions): View {
  const isNews = thinned(every);
  const line = (within: StoryTask | undefined, text: string) =>
    write(`${'  '.repeat(depthOf(within))}${text}`);
  return {
    note: (level, text, node, within) => line(within, noteLine(level, text, node)),
    debug(text, node, within) {
      if (debug) line(within, `debug: ${noteLine('info', text, node)}`);
    },
    started: (task) => line(task.parent, task.title),
    progress(task, text) {
      if (isNews(task, text)) line(task, text);
    },
    ended(task) {
      if (task.state === 'done' && task.outcome !== undefined) line(task, task.outcome);
      if (task.state === 'failed') line(task, 'failed');
    },
  };
}

function depthOf(task: StoryTask | undefined): number {
  return task === undefined ? 0 : 1 + depthOf(task.parent);
}

/**
 * Whether a progress text is worth a line of its own: something else goes on than before (more than its figures or
 * the reason in brackets has changed), or the last line is `every` milliseconds old.
 */
export function thinned(every: number): (task: StoryTask, text: string) => boolean {
  const shown = new WeakMap<
    StoryTask,
    { readonly at: number; readonly text: string; readonly head: string }
  >();
  return (task, text) => {
    const now = performance.now();
    const head = text.replace(/[\d(].*/s, '');
    const last = shown.get(task);
    if (last?.head === head && (now - last.at < every || last.text === text)) return false;
    shown.set(task, { at: now, text, head });
    return true;
  };
}
