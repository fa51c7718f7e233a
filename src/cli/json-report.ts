/** `--output json`: one JSON event a line on stdout, each with a stable `type`. docs/output.md describes them. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { NodeName } from '../ports.ts';
import { errorsOf, exitCodeOf } from './errors.ts';
import { thinned } from './report.ts';
import { notBegun, Story, type StoryTask } from './story.ts';

/** What an event says beside its time. Fields are only ever added. */
export type Event =
  | { readonly type: 'run-started'; readonly command: string; readonly version: string }
  | (Said & { readonly type: 'note'; readonly level: 'info' | 'warning' })
  | (Said & { readonly type: 'debug' })
  | {
      readonly type: 'task-started';
      readonly task: number;
      /** The task that this one is a part of. */
      readonly parent?: number;
      readonly title: string;
    }
  | {
      readonly type: 'progress';
      readonly task: number;
      readonly text: string;
      readonly done?: number;
      readonly total?: number;
      /** Per second. */
      readonly rate?: number;
      readonly secondsLeft?: number;
    }
  | {
      readonly type: 'task-done' | 'task-failed';
      readonly task: number;
      readonly title: string;
      readonly outcome?: string;
      readonly seconds: number;
      /** Titles of the parts that were not begun. */
      readonly notStarted?: readonly string[];
    }
  | { readonly type: 'result'; readonly exitCode: 0; readonly text: string }
  | {
      readonly type: 'error';
      readonly exitCode: number;
      /** As in src/errors.ts; `BUG` for what is none of them. */
      readonly code: string;
      readonly node?: NodeName;
      readonly message: string;
      readonly details: readonly string[];
      readonly cause?: string;
      readonly next?: string;
    };

interface Said {
  readonly text: string;
  readonly node?: NodeName;
  readonly task?: number;
}

export type Emit = (event: Event) => void;

/** Events as lines of text. */
export function emitter(write: (line: string) => void, now: () => Date): Emit {
  return ({ type, ...fields }) => write(JSON.stringify({ type, time: now().toISOString(), ...fields }));
}

export interface JsonReportOptions {
  readonly emit: Emit;
  readonly debug: boolean;
  /** Milliseconds between two progress events of a task that say the same; default 1000. */
  readonly every?: number;
}

export function jsonReport({ emit, debug, every = 1_000 }: JsonReportOptions): Story {
  const isNews = thinned(every);
  const begun = new WeakMap<StoryTask, number>();
  const said = (text: string, node: NodeName | undefined, within: StoryTask | undefined): Said => ({
    text,
    ...(node !== undefined && { node }),
    ...(within !== undefined && { task: within.id }),
  });
  return new Story({
    note: (level, text, node, within) => emit({ type: 'note', level, ...said(text, node, within) }),
    debug(text, node, within) {
      if (debug) emit({ type: 'debug', ...said(text, node, within) });
    },
    started(task) {
      begun.set(task, performance.now());
      emit({
        type: 'task-started',
        task: task.id,
        ...(task.parent !== undefined && { parent: task.parent.id }),
        title: task.title,
      });
    },
    progress(task, text, count) {
      if (!isNews(task, text)) return;
      const { done, total, rate, eta } = count ?? {};
      emit({
        type: 'progress',
        task: task.id,
        text,
        ...(done !== undefined && { done, total, rate: Math.round((rate ?? 0) * 10) / 10 }),
        ...(eta !== undefined && { secondsLeft: Math.ceil(eta) }),
      } as Event);
    },
    ended(task) {
      const seconds = Math.round(performance.now() - (begun.get(task) ?? 0)) / 1_000;
      const common = { task: task.id, title: task.title, seconds };
      if (task.state === 'failed') emit({ type: 'task-failed', ...common, notStarted: notBegun(task) });
      else
        emit({ type: 'task-done', ...common, ...(task.outcome !== undefined && { outcome: task.outcome }) });
    },
  });
}

/** One event for each thing that went wrong; the run ends with the exit code of the whole. */
export function emitErrors(emit: Emit, error: unknown, isInterrupted: boolean): void {
  const exitCode = exitCodeOf(error, isInterrupted);
  for (const each of errorsOf(error)) {
    if (!(each instanceof TsrkeError)) {
      emit({ type: 'error', exitCode, code: 'BUG', message: messageOf(each), details: [] });
      continue;
    }
    const { code, node, message, details, next, cause } = each;
    emit({
      type: 'error',
      exitCode,
      code,
      ...(node !== undefined && { node }),
      message,
      details,
      ...(cause !== undefined && { cause: messageOf(cause) }),
      ...(next !== undefined && { next }),
    });
  }
}
