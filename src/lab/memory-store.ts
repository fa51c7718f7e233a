/** The state in memory: what was written before a crash is there after it. */
import { TsrkeError } from '../errors.ts';
import type { ClusterState } from '../state/rkestate.ts';
import type { StateStore } from '../state/store.ts';
import type { Effects } from './faults.ts';

export class MemoryStore implements StateStore {
  readonly where = 'cluster.rkestate';
  #state: ClusterState | undefined;

  /** Left out: there is no file yet. */
  constructor(state?: ClusterState) {
    this.#state = state;
  }

  /** As it lies on disk. Throws where there is no file. */
  get state(): ClusterState {
    if (this.#state !== undefined) return this.#state;
    throw new Error(`there is no ${this.where}`);
  }

  set state(state: ClusterState) {
    this.#state = state;
  }

  /** The store as one tsrke sees it. */
  through(effects: Effects): StateStore {
    const failed = () =>
      new TsrkeError('STATE_WRITE', `the state could not be written to ${this.where}`, {
        cause: new Error('ENOSPC: no space left on device, write'),
      });
    return {
      where: this.where,
      read: () => this.read(),
      lock: () => this.lock(),
      holder: () => this.holder(),
      write: (state) =>
        effects.run({
          kind: 'state',
          what: 'write',
          changes: true,
          signal: new AbortController().signal,
          work: () => this.write(state),
          lost: failed,
          patience: 30_000,
        }),
    };
  }

  read(): ClusterState | undefined {
    return this.#state;
  }

  write(state: ClusterState): Promise<void> {
    this.#state = state;
    return Promise.resolve();
  }

  lock(): () => void {
    return () => undefined;
  }

  holder(): undefined {
    return undefined;
  }
}
