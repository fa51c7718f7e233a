/** A command that only looks: its answer as text or as one JSON document on stdout, its errors, its exit code. */
import type { Report } from '../ports.ts';
import { colours, type Colours } from './colours.ts';
import { exitCodeOf, renderErrors } from './errors.ts';
import { interruptible } from './interrupt.ts';
import { plainReport } from './report.ts';
import { reportFor } from './run.ts';

export interface Answer {
  /** As stdout is: its colours, its columns. */
  readonly text: (paint: Colours, width: number) => string;
  /** What `--output json` prints; `type` tells documents apart. */
  readonly document: { readonly type: string };
  readonly exitCode: 0 | 2;
}

export interface AnswerOptions {
  readonly output: 'text' | 'json';
  readonly debug: boolean;
}

/** Never rejects: what goes wrong is shown, and set as the exit code. */
export async function answer(
  { output, debug }: AnswerOptions,
  work: (report: Report, signal: AbortSignal) => Promise<Answer>,
): Promise<void> {
  const json = output === 'json';
  // For scripts stderr stays empty, but for what --debug asks for.
  const report =
    json && !debug ? plainReport({ write: () => undefined, debug }) : await reportFor(process.stderr, debug);
  const signal = interruptible((text) => report.note('warning', text));
  try {
    const { text, document, exitCode } = await work(report, signal);
    const width = process.stdout.isTTY ? Math.min(process.stdout.columns, 120) : 80;
    const said = json ? JSON.stringify(document, undefined, 2) : text(colours(process.stdout), width);
    process.stdout.write(`${said}\n`);
    process.exitCode = exitCode;
  } catch (error) {
    process.exitCode = exitCodeOf(error, signal.aborted);
    if (!json) {
      process.stderr.write(`${renderErrors(error, report.steps())}\n`);
      return;
    }
    const { emitErrors, emitter } = await import('./json-report.ts');
    const emit = emitter(
      (line) => process.stdout.write(`${line}\n`),
      () => new Date(),
    );
    emitErrors(emit, error, signal.aborted);
  }
}
