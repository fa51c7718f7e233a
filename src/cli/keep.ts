/** Results that the user wants in a file. */
import { accessSync, constants, existsSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { TsrkeError } from '../errors.ts';

/** Throws CONFIG_UNREADABLE. `what`: `the plan`. */
export function keep(path: string, text: string, what: string): void {
  try {
    writeFileSync(path, text);
  } catch (cause) {
    throw unwritable(path, what, cause);
  }
}

/** Before long work whose result would be lost. Throws CONFIG_UNREADABLE where it surely cannot be written. */
export function expectWritable(path: string, what: string): void {
  try {
    accessSync(existsSync(path) ? path : dirname(path), constants.W_OK);
  } catch (cause) {
    throw unwritable(path, what, cause);
  }
}

function unwritable(path: string, what: string, cause: unknown): TsrkeError {
  return new TsrkeError('CONFIG_UNREADABLE', `${what} could not be written to ${path}`, { cause });
}
