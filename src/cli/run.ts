/** A command that does long work: its story as the user wants it, its result to stdout, its errors, its exit code. */
import type { Report } from '../ports.ts';
import { exitCodeOf, renderErrors } from './errors.ts';
import { interruptible } from './interrupt.ts';
import { plainReport } from './report.ts';
import { runLog, type RunLog } from './run-log.ts';
import type { Story } from './story.ts';

export interface RunOptions {
  /** As the user would type it: `encrypt rotate-key`. */
  readonly command: string;
  readonly version: string;
  readonly output: 'text' | 'json';
  readonly debug: boolean;
  /** Where its log is kept; undefined: nowhere. */
  readonly log?: string;
}

/** Resolves to the sentence for the user. */
export type Work = (report: Report, signal: AbortSignal) => Promise<string>;

/** Never rejects: what goes wrong is shown, and set as the exit code. */
export async function run(options: RunOptions, work: Work): Promise<void> {
  await (options.output === 'json' ? runForScripts(options, work) : runForPeople(options, work));
}

async function runForPeople(options: RunOptions, work: Work): Promise<void> {
  const report = await reportFor(process.stderr, options.debug);
  const log = logOf(options, report);
  const signal = interruptible((text) => report.note('warning', text));
  try {
    const said = await work(report, signal);
    log.end(said);
    process.stdout.write(`${said}\n`);
  } catch (error) {
    const said = renderErrors(error, report.steps());
    log.end(said);
    process.stderr.write(`${said}\n`);
    process.exitCode = exitCodeOf(error, signal.aborted);
  }
}

function logOf({ command, version, debug, log }: RunOptions, report: Story): Pick<RunLog, 'end'> {
  if (log === undefined) return { end: () => undefined };
  const warn = (text: string) => report.note('warning', text);
  const kept = runLog(log, `tsrke ${command} (${version})`, { debug, warn });
  report.also(kept.view);
  return kept;
}

/** What a person watches while it goes on. */
export async function reportFor(stream: NodeJS.WriteStream, debug: boolean): Promise<Story> {
  // A terminal without a size (some CI runners have one), or one that cannot move its cursor, gets plain lines.
  const canRedraw = stream.isTTY && stream.rows > 0 && stream.columns > 0 && process.env['TERM'] !== 'dumb';
  if (canRedraw && !debug) return (await import('./terminal-report.ts')).terminalReport(stream);
  return plainReport({ write: (line) => stream.write(`${line}\n`), debug });
}

async function runForScripts(options: RunOptions, work: Work): Promise<void> {
  const { command, version, debug } = options;
  const { emitErrors, emitter, jsonReport } = await import('./json-report.ts');
  const emit = emitter(
    (line) => process.stdout.write(`${line}\n`),
    () => new Date(),
  );
  const report = jsonReport({ emit, debug });
  const log = logOf(options, report);
  const signal = interruptible((text) => report.note('warning', text));
  emit({ type: 'run-started', command, version });
  try {
    const text = await work(report, signal);
    log.end(text);
    emit({ type: 'result', exitCode: 0, text });
  } catch (error) {
    log.end(renderErrors(error, report.steps()));
    emitErrors(emit, error, signal.aborted);
    process.exitCode = exitCodeOf(error, signal.aborted);
  }
}
