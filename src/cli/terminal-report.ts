/** A run's story on a terminal: a task list on stderr that is redrawn in place and stays when the run has ended. */
import { stripVTControlCharacters } from 'node:util';
import {
  color,
  figures,
  Listr,
  ListrDefaultRendererLogLevels as Mark,
  ListrLogger,
  ListrTaskState,
  parseTimer,
  ProcessOutput,
  type DefaultRenderer,
  type ListrTaskObject,
  type SimpleRenderer,
} from 'listr2';
import type { WorkCount } from '../ports.ts';
import { notBegun, noteLine, Story, type StoryTask, type View } from './story.ts';

type Item = ListrTaskObject<unknown, typeof DefaultRenderer, typeof SimpleRenderer>;
type List = Listr<unknown>;

/** `--debug` has too much to say for a list that is redrawn: use the plain report with it. */
export function terminalReport(stream: NodeJS.WriteStream): Story {
  // listr2 asks stdout how wide its lines may be, also where it writes elsewhere.
  if (!process.stdout.isTTY) {
    Object.defineProperty(process.stdout, 'columns', { get: () => stream.columns, configurable: true });
  }
  return new Story(new ListView(stream));
}

/** What is on the screen of a task: its line in the list, and where lines inside it go. */
interface Shown {
  readonly item: Item;
  readonly inner: List;
  readonly begun: number;
  doing: string;
  /** What was said inside it: stays below its line. */
  readonly notes: string[];
  /** Ends the list of an outermost task; resolves once its last picture is drawn. */
  readonly finish?: () => Promise<void>;
}

/** Each outermost task is a list of its own: once it has ended, its lines are never touched again. */
class ListView implements View {
  readonly #stream: NodeJS.WriteStream;
  readonly #shown = new Map<StoryTask, Shown>();

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  note(level: 'info' | 'warning', text: string, node: string | undefined, within: StoryTask | undefined) {
    const mark = level === 'warning' ? figures.warning : figures.pointerSmall;
    const line = `${mark} ${noteLine('info', text, node)}`;
    const shown = within === undefined ? undefined : this.#shown.get(within);
    if (within === undefined || shown === undefined) {
      this.#stream.write(`${level === 'warning' ? color.yellow(line) : line}\n`);
      return;
    }
    shown.notes.push(line);
    this.#draw(within, shown);
  }

  debug(): void {
    // Not on a list, see terminalReport.
  }

  started(task: StoryTask): void {
    const parent = task.parent === undefined ? undefined : this.#shown.get(task.parent);
    const shown = parent === undefined ? this.#outermost(task) : this.#inside(parent, task);
    this.#shown.set(task, shown);
  }

  expects(task: StoryTask): void {
    const shown = this.#shown.get(task);
    if (shown === undefined) return;
    for (const title of notBegun(task)) add(shown, title);
  }

  progress(task: StoryTask, text: string, count: WorkCount | undefined): void {
    const shown = this.#shown.get(task);
    if (shown === undefined) return;
    shown.doing = count === undefined ? text : `${bar(count)} ${text}`;
    this.#draw(task, shown);
  }

  async ended(task: StoryTask): Promise<void> {
    const shown = this.#shown.get(task);
    if (shown === undefined) return;
    const { item } = shown;
    this.#draw(task, shown);
    if (task.state === 'failed') {
      const left = notBegun(task);
      for (const inner of item.subtasks) {
        if (inner.title !== undefined && left.includes(inner.title))
          inner.title$ = `${inner.title}: not started`;
      }
    }
    if (shown.finish !== undefined) {
      await shown.finish();
    } else {
      item.state$ = task.state === 'done' ? ListrTaskState.COMPLETED : ListrTaskState.FAILED;
    }
    this.#shown.delete(task);
  }

  /** All that belongs to a task is in its title: listr2 forgets an output that comes before its first picture. */
  #draw(task: StoryTask, shown: Shown): void {
    const spent = Date.now() - shown.begun;
    const head =
      task.state === 'done'
        ? `${task.outcome ?? task.title}${spent < 1_000 ? '' : dim(` [${parseTimer(spent)}]`)}`
        : this.#running(task, shown.doing);
    shown.item.title$ = [head, ...shown.notes].join('\n');
  }

  /** What goes on stands behind the title, cut to the screen: a line that now wraps and now does not would dance. */
  #running(task: StoryTask, doing: string): string {
    const depth = (each: StoryTask): number => (each.parent === undefined ? 0 : 1 + depth(each.parent));
    const room = this.#stream.columns - 2 * depth(task) - 4 - task.title.length - 3;
    if (doing === '' || room < 8) return task.title;
    const text = doing.length > room ? `${doing.slice(0, room - 1)}…` : doing;
    return `${task.title} ${dim(`· ${text}`)}`;
  }

  #outermost(task: StoryTask): Shown {
    let end: () => void = () => undefined;
    const work = new Promise<void>((resolve, reject) => {
      end = () => (task.state === 'failed' ? reject(new Error(task.title)) : resolve());
    });
    // Nobody may be waiting for it yet when it fails.
    work.catch(() => undefined);
    const screen = new Screen(this.#stream);
    const list: List = new Listr([{ title: task.title, task: () => work }], {
      // On SIGINT listr2 would end the process at once; the step in hand has to be finished.
      registerSignalListeners: false,
      renderer: 'default',
      forceTTY: true,
      fallbackRendererCondition: false,
      rendererOptions: { ...looks, logger: new ListrLogger({ useIcons: true, processOutput: screen }) },
    });
    const [item] = list.tasks;
    if (item === undefined) throw new Error('a list without its task');
    const ran = list.run().catch(() => undefined);
    const stopWatching = screen.watch(() => {
      for (const [each, shown] of this.#shown) this.#draw(each, shown);
    });
    return {
      item,
      inner: innerList(item),
      begun: Date.now(),
      doing: '',
      notes: [],
      finish: async () => {
        end();
        await ran;
        stopWatching();
      },
    };
  }

  #inside(parent: Shown, task: StoryTask): Shown {
    const waiting = parent.item.subtasks.find((each) => each.title === task.title && isWaiting(each));
    const item = waiting ?? add(parent, task.title);
    item.state$ = ListrTaskState.STARTED;
    return { item, inner: innerList(item), begun: Date.now(), doing: '', notes: [] };
  }
}

/** Our own tasks run by themselves; a list inside a task only holds their lines. */
function innerList(item: Item): List {
  const list: List = new Listr<unknown, 'default', 'simple'>([], { registerSignalListeners: false }, item);
  item.subtasks = list.tasks;
  return list;
}

function add({ inner }: Shown, title: string): Item {
  inner.add({ title, task: () => undefined });
  const item = inner.tasks.at(-1);
  if (item === undefined) throw new Error('a list without its task');
  // Lists show what is enabled, and this is how it becomes so.
  void item.check(undefined);
  return item;
}

function isWaiting(item: Item): boolean {
  return item.state === ListrTaskState.WAITING;
}

/** `━━━━━━━───` */
function bar({ done, total }: WorkCount): string {
  const width = 16;
  const full = total === 0 ? 0 : Math.min(width, Math.floor((done / total) * width));
  return '━'.repeat(full) + '─'.repeat(width - full);
}

const dim = (text = ''): string => color.dim(text);

/** Colours are those of the terminal's own palette, for marks only: text keeps the colour of text, light or dark. */
const looks = {
  collapseSubtasks: false,
  collapseErrors: false,
  showErrorMessage: false,
  formatOutput: 'wrap',
  icon: { [Mark.FAILED_WITH_FAILED_SUBTASKS]: figures.cross },
  color: {
    [Mark.PENDING]: (mark = '') => color.cyan(mark),
    [Mark.COMPLETED_WITH_FAILED_SISTER_TASKS]: dim,
  },
} as const;

/** The stream as listr2 sees it: of the size it has now, not of the one it had when the list was begun. */
class Screen extends ProcessOutput {
  readonly #stream: NodeJS.WriteStream;
  #picture: readonly string[] = [];

  constructor(stream: NodeJS.WriteStream) {
    super(stream, stream);
    this.#stream = stream;
  }

  override get stdout() {
    const write = (text: string) => {
      this.#picture = stripVTControlCharacters(text).split('\n');
      return this.stream.stdout.write(text);
    };
    return Object.create(this.#stream, { write: { value: write } }) as ProcessOutput['stdout'];
  }

  /**
   * On a terminal that has become narrower, lines have been broken into more rows than the renderer knows to erase:
   * these are erased here. A process that ends in the middle leaves a visible cursor behind.
   */
  watch(redraw: () => void): () => void {
    const resized = () => {
      const rows = (line: string) => Math.max(1, Math.ceil(line.length / this.#stream.columns));
      const more = this.#picture.reduce((sum, line) => sum + rows(line) - 1, 0);
      this.stream.stdout.write('\u001B[2K\u001B[1A'.repeat(more));
      redraw();
    };
    const leave = () => {
      if (this.active) this.release();
    };
    this.#stream.on('resize', resized);
    process.on('exit', leave);
    return () => {
      this.#stream.off('resize', resized);
      process.off('exit', leave);
    };
  }
}
