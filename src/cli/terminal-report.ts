/** A run's story on a terminal: a task list, redrawn in place, on stderr. What must stay is printed below it. */
import {
  Listr,
  ListrLogger,
  ProcessOutput,
  type ListrDefaultRendererLogLevels,
  type ListrTaskWrapper,
} from 'listr2';
import type { Report, TaskReport } from '../ports.ts';

interface Running {
  readonly wrapper: Pick<ListrTaskWrapper<unknown, never, never>, 'title' | 'output'>;
  /** The titles of the tasks inside this one, outermost first. */
  readonly inside: string[];
  /** Printed once the task has ended, so that nothing tears the list. */
  readonly after: string[];
}

/** `--debug` has too much to say for a list that is redrawn: use the plain report with it. */
export function terminalReport(stream: NodeJS.WriteStream): Report {
  let running: Running | undefined;

  const show = ({ wrapper, inside }: Running, text: string) => {
    wrapper.output = [...inside, text].join(': ');
  };

  async function inner<T>(top: Running, title: string, work: (task: TaskReport) => Promise<T>): Promise<T> {
    top.inside.push(title);
    show(top, '…');
    let end = title;
    try {
      return await work({
        progress: (text) => show(top, text),
        done: (text) => (end = text),
      });
    } finally {
      top.inside.pop();
      show(top, end);
    }
  }

  async function outer<T>(title: string, work: (task: TaskReport) => Promise<T>): Promise<T> {
    const results: T[] = [];
    const after: string[] = [];
    // Of its own for each list: two lists on one ProcessOutput would restore the stream twice.
    const logger = new ListrLogger<ListrDefaultRendererLogLevels>({
      useIcons: true,
      processOutput: new ProcessOutput(stream, stream),
    });
    const list = new Listr(
      [
        {
          title,
          task: async (_context, wrapper) => {
            const top: Running = { wrapper, inside: [], after };
            running = top;
            results.push(
              await work({
                progress: (text) => show(top, text),
                done: (text) => (wrapper.title = text),
              }),
            );
          },
        },
      ],
      {
        // On SIGINT listr2 would end the process at once; the step in hand has to be finished.
        registerSignalListeners: false,
        renderer: 'default',
        forceTTY: true,
        fallbackRendererCondition: false,
        rendererOptions: { logger, collapseErrors: false, showErrorMessage: false, formatOutput: 'truncate' },
      },
    );
    try {
      await list.run();
    } finally {
      running = undefined;
      for (const line of after) stream.write(`${line}\n`);
    }
    const [result] = results;
    return result as T;
  }

  return {
    note(level, text, node) {
      const line = `${level === 'warning' ? 'warning: ' : ''}${node === undefined ? '' : `${node}: `}${text}`;
      if (running === undefined) stream.write(`${line}\n`);
      else if (level === 'warning') running.after.push(line);
      else show(running, line);
    },
    debug: () => undefined,
    task: (title, work) => (running === undefined ? outer(title, work) : inner(running, title, work)),
  };
}
