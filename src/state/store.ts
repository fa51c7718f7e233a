/** Where the state of a cluster is kept: a file beside cluster.yml, or in a test's memory. */
import { readState, writeState } from './file.ts';
import { lockHolder, lockState } from './lock.ts';
import type { ClusterState } from './rkestate.ts';

export interface StateStore {
  /** What messages call it: the file's path. */
  readonly where: string;
  /** undefined when there is none yet. Throws STATE_INVALID. */
  read(): ClusterState | undefined;
  /** Durable once it has resolved. Throws STATE_WRITE, and then nothing has changed. */
  write(state: ClusterState): Promise<void>;
  /** One run at a time on this machine. Throws LOCKED; the returned function gives it back. */
  lock(now: Date): () => void;
  /** The living run on this machine that has the lock, as people are told of it. Only looks. */
  holder(): string | undefined;
}

export function fileStore(path: string): StateStore {
  return {
    where: path,
    read: () => readState(path),
    write: (state) => writeState(path, state),
    lock: (now) => lockState(path, now),
    holder: () => lockHolder(path),
  };
}
