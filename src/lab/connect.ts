/** Builds the world of one cluster out of a lab's model, as provision/cluster.ts does out of connections. */
import { providerPathOf } from '../encryption/world.ts';
import { TsrkeError } from '../errors.ts';
import { etcdArguments } from '../etcd/arguments.ts';
import { ClusterLock } from '../kube/lease.ts';
import type { Cluster, ConnectOptions } from '../provision/cluster.ts';
import { candidates, members } from '../provision/members.ts';
import { StateKeeper } from '../state/keeper.ts';
import type { Owner } from '../state/lock.ts';
import type { ClusterState } from '../state/rkestate.ts';
import type { StateStore } from '../state/store.ts';
import type { Effects } from './faults.ts';
import { labPorts } from './ports.ts';
import type { LabSurface } from './surface.ts';

/** A `connect` for `changeEncryption`: the ports of one tsrke, whose every effect passes through `effects`. */
export function connectLab(
  surface: LabSurface,
  effects: Effects,
  owner: Owner,
): (options: ConnectOptions) => Promise<Cluster> {
  return async ({ config, state, store, report, signal }) => {
    const ports = labPorts(surface, effects, report);
    const { runtime, files, kube, etcd, clock } = ports;
    const nodes = candidates(config, state);
    const names = nodes.map(({ name }) => name);
    await Promise.all(
      names.map(async (name) => {
        await ports.connect(name, signal);
        await runtime.version(name, signal);
        const container = await runtime.apiserver(name, signal);
        const path = providerPathOf(container?.args ?? []);
        if (path !== undefined) await files.read(name, path, signal);
      }),
    );
    const [first] = names;
    if (first === undefined) throw new TsrkeError('APISERVER_MISSING', 'no controlplane node');
    const { prefix } = etcdArguments((await runtime.apiserver(first, signal))?.args ?? []);
    const lock = new ClusterLock({ kube, nodes: () => names, owner, clock, report });
    await lock.acquire(signal);
    const keeper = new StateKeeper({ store, kube, nodes: () => names, hostKeys: () => ({}), report });
    try {
      await keeper.refuseStale(state, signal);
    } catch (error) {
      await lock.release();
      throw error;
    }
    const sources = { nodes, runtime, kube, left: new Set<string>() };
    return {
      metNewHost: () => false,
      world: {
        files,
        runtime,
        kube,
        etcd,
        etcdPrefix: prefix,
        clock,
        report,
        members: (each) => members(sources, each),
        hold: (each) => lock.hold(each),
        save: async (next, encrypted, each) => {
          await lock.hold(each);
          return await keeper.save(next, encrypted, each);
        },
      },
      close: () => lock.release(),
    };
  };
}

/** A state store in memory: what was written before a crash is there after it. Each write is an effect. */
export class MemoryStore implements StateStore {
  readonly where = 'cluster.rkestate';
  /** As it lies on disk. */
  state: ClusterState;

  constructor(state: ClusterState) {
    this.state = state;
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
      write: (state) =>
        effects.run({
          kind: 'state',
          what: 'write',
          changes: true,
          signal: new AbortController().signal,
          work: () => this.write(state),
          lost: failed,
          patience: 0,
        }),
    };
  }

  read(): ClusterState {
    return this.state;
  }

  write(state: ClusterState): Promise<void> {
    this.state = state;
    return Promise.resolve();
  }

  lock(): () => void {
    return () => undefined;
  }
}
