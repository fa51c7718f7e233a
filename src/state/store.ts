/** Where the state of a cluster is kept: a file beside cluster.yml, or in a test's memory. */
import { TsrkeError } from '../errors.ts';
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

/** One run at a time on this machine: see StateStore.lock. */
export async function locked<T>(store: StateStore, work: () => Promise<T>): Promise<T> {
  const unlock = store.lock(new Date());
  try {
    return await work();
  } finally {
    unlock();
  }
}

/** The state of a cluster that exists. Throws STATE_MISSING and STATE_INVALID. */
export function stateIn(store: StateStore): ClusterState {
  const state = store.read();
  if (state !== undefined) return state;
  throw new TsrkeError('STATE_MISSING', `there is no state file ${store.where}`, {
    next: 'bring the cluster.rkestate of this cluster here, or run `tsrke util get-state-file`; it holds the keys and certificates, and none is ever made anew for a cluster that exists',
  });
}
