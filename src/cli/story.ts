/** The story of one run: which tasks there are, inside which other, and how each ended. Views show it. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { NodeName, Report, TaskReport, WorkCount } from '../ports.ts';

export interface StoryTask {
  /** Counts from 1, in the order of their start. */
  readonly id: number;
  readonly title: string;
  readonly parent: StoryTask | undefined;
  /** Titles of the tasks that are to come inside this one, as far as they were named. */
  expected: readonly string[];
  readonly inside: StoryTask[];
  state: 'running' | 'done' | 'failed';
  /** What the task itself says it has come to. */
  outcome: string | undefined;
}

/** One way of showing a story. The calls come in order; `ended` is waited for. */
export interface View {
  /** `within`: the innermost task that was running when it was said. */
  note(
    level: 'info' | 'warning',
    text: string,
    node: NodeName | undefined,
    within: StoryTask | undefined,
  ): void;
  debug(text: string, node: NodeName | undefined, within: StoryTask | undefined): void;
  started(task: StoryTask): void;
  /** `task.expected` is known now. */
  expects?(task: StoryTask): void;
  progress(task: StoryTask, text: string, count: WorkCount | undefined): void;
  ended(task: StoryTask): void | Promise<void>;
}

export class Story implements Report {
  readonly #views: View[];
  /** Tasks may run side by side, so which one is the inner one is a question of who asks. */
  readonly #within = new AsyncLocalStorage<StoryTask>();
  readonly #outer: StoryTask[] = [];
  #started = 0;

  constructor(view: View) {
    this.#views = [view];
  }

  /** It is shown there, too, from now on. */
  also(view: View): void {
    this.#views.push(view);
  }

  note(level: 'info' | 'warning', text: string, node?: NodeName): void {
    for (const view of this.#views) view.note(level, text, node, this.#inner());
  }

  debug(text: string, node?: NodeName): void {
    for (const view of this.#views) view.debug(text, node, this.#inner());
  }

  async task<T>(title: string, work: (task: TaskReport) => Promise<T>): Promise<T> {
    const parent = this.#inner();
    this.#started += 1;
    const task: StoryTask = {
      id: this.#started,
      title,
      parent,
      expected: [],
      inside: [],
      state: 'running',
      outcome: undefined,
    };
    (parent?.inside ?? this.#outer).push(task);
    for (const view of this.#views) view.started(task);
    try {
      const result = await this.#within.run(task, () =>
        work({
          expects: (titles) => {
            task.expected = titles;
            for (const view of this.#views) view.expects?.(task);
          },
          progress: (text, count) => {
            for (const view of this.#views) view.progress(task, text, count);
          },
          done: (text) => (task.outcome = text),
        }),
      );
      task.state = 'done';
      return result;
    } catch (error) {
      task.state = 'failed';
      throw error;
    } finally {
      for (const view of this.#views) await view.ended(task);
    }
  }

  /** What is behind, what failed and what was not begun: one line for each innermost task, in order. */
  steps(): Readonly<Record<'done' | 'failed' | 'notStarted', readonly string[]>> {
    const all = { done: [] as string[], failed: [] as string[], notStarted: [] as string[] };
    const walk = (task: StoryTask, before: string) => {
      const name = (own: string) => (before === '' ? own : `${before}: ${own}`);
      for (const inner of task.inside) walk(inner, name(task.title));
      const inFailed = task.inside.some((inner) => inner.state === 'failed');
      if (task.state === 'failed' && !inFailed) all.failed.push(name(task.title));
      if (task.state === 'done' && task.inside.length === 0) all.done.push(name(task.outcome ?? task.title));
      for (const title of notBegun(task)) all.notStarted.push(name(`${task.title}: ${title}`));
    };
    for (const task of this.#outer) walk(task, '');
    return all;
  }

  /** Work that goes on in the background was begun in some task, which may have ended since. */
  #inner(): StoryTask | undefined {
    let task = this.#within.getStore();
    while (task !== undefined && task.state !== 'running') task = task.parent;
    return task ?? this.#outer.find((each) => each.state === 'running');
  }
}

/** What was expected inside a task and has not been started. */
export function notBegun(task: StoryTask): string[] {
  const begun = new Set(task.inside.map((inner) => inner.title));
  return task.expected.filter((title) => !begun.has(title));
}

/** `warning: h1: text` */
export function noteLine(level: 'info' | 'warning', text: string, node: NodeName | undefined): string {
  return `${level === 'warning' ? 'warning: ' : ''}${node === undefined ? '' : `${node}: `}${text}`;
}
