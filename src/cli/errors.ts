/** Errors as the user reads them: what happened and where, details, what to do next. */
import { messageOf, TsrkeError } from '../errors.ts';

export function renderError(error: unknown): string {
  if (!(error instanceof TsrkeError)) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const head = `${error.node === undefined ? '' : `${error.node}: `}${error.message} (${error.code})`;
  const cause = error.cause === undefined ? [] : [`cause: ${messageOf(error.cause)}`];
  const next = error.next === undefined ? [] : [`next: ${error.next}`];
  return [head, ...error.details, ...cause, ...next].join('\n');
}
