/** An interrupted run ends between two steps, never within one. */
import { TsrkeError } from '../errors.ts';

/** Throws INTERRUPTED once the user wants no more. `where`: what was not begun, e.g. `before cp-2`. */
export function stopHere(signal: AbortSignal, where: string, next: string): void {
  if (!signal.aborted) return;
  throw new TsrkeError(
    'INTERRUPTED',
    `interrupted ${where}: the step in hand was finished and nothing is lost`,
    { next },
  );
}
