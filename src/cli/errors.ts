/** Errors as the user reads them: what happened and where, details, what to do next, and how far the run had come. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { Story } from './story.ts';

/** Several nodes that fail are several errors: the parts of an AggregateError, those of its parts too. */
export function errorsOf(error: unknown): readonly unknown[] {
  return error instanceof AggregateError && error.errors.length > 0
    ? (error.errors as unknown[]).flatMap(errorsOf)
    : [error];
}

/** A bug or a failure of the world (1) outweighs wrong input; an interrupted run says so whatever else went wrong. */
export function exitCodeOf(error: unknown, isInterrupted: boolean): number {
  const codes = errorsOf(error).map((each) => (each instanceof TsrkeError ? each.exitCode : 1));
  return isInterrupted ? 130 : codes.includes(1) ? 1 : (codes[0] ?? 1);
}

/** The whole of what is printed when a run fails. `steps`: what had been done by then. */
export function renderErrors(error: unknown, steps?: ReturnType<Story['steps']>): string {
  const parts = errorsOf(error).map(renderError);
  if (errorsOf(error).some((each) => !(each instanceof TsrkeError))) {
    parts.push('this is a bug of tsrke: please report it with the lines above');
  }
  const behind = steps === undefined ? '' : renderSteps(steps);
  return [...parts, ...(behind === '' ? [] : [behind])].join('\n\n');
}

function renderError(error: unknown): string {
  if (!(error instanceof TsrkeError)) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const head = `${error.node === undefined ? '' : `${error.node}: `}${error.message} (${error.code})`;
  const cause = error.cause === undefined ? [] : [`cause: ${messageOf(error.cause)}`];
  const next = error.next === undefined ? [] : [`next: ${error.next}`];
  // One mistake is its own headline.
  const details = error.details.filter((line) => line !== error.message);
  return [head, ...details, ...cause, ...next].join('\n');
}

/** Says nothing of a run that had not come anywhere: the error does. */
function renderSteps({ done, failed, notStarted }: ReturnType<Story['steps']>): string {
  if (done.length === 0 && notStarted.length === 0) return '';
  return [...lines('done:', done), ...lines('failed:', failed), ...lines('not started:', notStarted)].join(
    '\n',
  );
}

function lines(label: string, titles: readonly string[]): string[] {
  return titles.map((title, index) => `${(index === 0 ? label : '').padEnd(13)}${title}`);
}
