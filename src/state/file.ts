/** The state file on disk: atomic, fsynced, mode 0600, one generation of backup. */
import { copyFileSync, chmodSync, closeSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { TsrkeError } from '../errors.ts';
import { parseState, serialiseState, type ClusterState } from './rkestate.ts';

/** undefined when there is no file. Throws STATE_INVALID. */
export function readState(path: string): ClusterState | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new TsrkeError('STATE_INVALID', `${path} cannot be read`, { cause: error });
  }
  return parseState(text, path);
}

/** As `writeState`, for any file that holds keys. Throws what the system says, and then nothing has changed. */
export async function replaceFile(path: string, text: string): Promise<void> {
  try {
    copyFileSync(path, `${path}.backup`);
    chmodSync(`${path}.backup`, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  await writeFileAtomic(path, text, { mode: 0o600 });
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/**
 * Writes the state so that a crash leaves the old file or the new one, whole: temporary file, fsync, rename, fsync
 * of the folder. The file before it becomes `PATH.backup`. Throws STATE_WRITE, and then nothing has changed.
 */
export async function writeState(path: string, state: ClusterState): Promise<void> {
  try {
    await replaceFile(path, serialiseState(state));
  } catch (cause) {
    throw new TsrkeError('STATE_WRITE', `the state could not be written to ${path}`, {
      cause,
      next: 'make room or give write permission there, then run the same command again; no node has seen a key that is not in the file',
    });
  }
}
