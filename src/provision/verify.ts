/**
 * `tsrke encrypt verify`: the full proof. Looks as `status` does, reads each object through each kube-apiserver, looks
 * once more; changes nothing: no lock, no state, no node, no Lease.
 */
import { setMaxListeners } from 'node:events';
import { loadConfig } from '../config/load.ts';
import type { NodeSight, Sight } from '../encryption/status/sight.ts';
import type { StatusCensus } from '../encryption/status/census.ts';
import { statusOf } from '../encryption/status/status.ts';
import { proofOf, type Proof, type ProofRequest, type Reading } from '../encryption/status/verification.ts';
import { TsrkeError } from '../errors.ts';
import { isStored, namesIn, type StoredName } from '../etcd/names.ts';
import { discover } from '../kube/discover.ts';
import { resourceName } from '../kube/list.ts';
import type { Resource } from '../kube/outcome.ts';
import { Pace } from '../kube/pace.ts';
import { readEach } from '../kube/read-each.ts';
import { countText, Speed } from '../kube/speed.ts';
import type { Etcd, NodeName, Report, TaskReport } from '../ports.ts';
import type { ClusterState } from '../state/rkestate.ts';
import { stateIn } from '../state/store.ts';
import { etcdsOf } from './cluster.ts';
import type { Links } from './links.ts';
import { whileLooking } from './sight.ts';
import { surroundingsOf, type LookOptions, type LookSurroundings } from './status.ts';
import { wantedOf } from './wanted.ts';

export interface Verification extends Proof {
  readonly type: 'encryption-verification';
  readonly cluster: string;
}

/**
 * Rejects with TsrkeError where cluster.yml or the state cannot be read, with NOT_PROVED where etcd cannot, and with KUBE
 * or ETCD where one of them goes away altogether while it reads. All else that cannot be seen is a finding.
 */
export async function verifyEncryption(
  options: LookOptions,
  { store, link }: LookSurroundings = surroundingsOf(options),
): Promise<Verification> {
  const { report, signal } = options;
  const config = loadConfig(options.configPath, options);
  const wanted = wantedOf(config);
  const state = stateIn(store);
  const request = await whileLooking({ config, state, store, report, signal }, link, async (look, links) => {
    const first = await look();
    const { census, problems } = statusOf({ sight: first, state, wanted });
    if ('unavailable' in census) {
      throw new TsrkeError('NOT_PROVED', `etcd could not be read: ${census.unavailable}`, {
        details: problems.map(({ node, text }) => (node === undefined ? text : `${node}: ${text}`)),
        next: 'make etcd reachable from here or from a controlplane node, and run the same command again',
      });
    }
    const read = await readAll(first, census, { links, state, report, signal });
    const again = await look();
    return { first, again, stateAgain: stateIn(store), ...read };
  });
  return {
    type: 'encryption-verification',
    cluster: config.name,
    ...proofOf({ ...request, state, wanted }),
  };
}

interface Context {
  readonly links: Links;
  readonly state: ClusterState;
  readonly report: Report;
  readonly signal: AbortSignal;
}

type Read = Pick<ProofRequest, 'readings' | 'unserved'>;

/** All that is encrypted or should be, through every kube-apiserver that answers, ready or not. */
async function readAll(
  { nodes }: Sight,
  { resources: rows }: Exclude<StatusCensus, { readonly unavailable: string }>,
  context: Context,
): Promise<Read> {
  const serving = nodes.filter(({ readiness }) => readiness?.serves === true);
  const names = serving.map(({ node }) => node);
  const [from] = names;
  if (from === undefined) return { readings: [], unserved: [] };
  const counts = new Map<string, number>();
  for (const { resource, count } of rows) counts.set(resource, (counts.get(resource) ?? 0) + count);
  const resources = await resourcesIn([...counts.keys()], serving, context);
  const served = new Set(resources.map(resourceName));
  const unserved = [...counts]
    .filter(([resource]) => !served.has(resource))
    .map(([resource, count]) => ({ resource, count }));
  const total = [...counts].reduce((sum, [resource, count]) => sum + (served.has(resource) ? count : 0), 0);
  const { etcds, prefix } = await etcdsOf(from, context.links, context.state, context.signal);
  try {
    const readings = await context.report.task(
      'read each object through each kube-apiserver',
      async (task) => {
        const counted = counterOf(task, total * names.length, context.links);
        const read = await readThrough(names, resources, {
          ...context,
          etcds,
          prefix,
          onDone: () => counted.one(),
        });
        counted.end();
        return read;
      },
    );
    return { readings, unserved };
  } finally {
    for (const etcd of etcds) etcd.close();
  }
}

/** A server that is not ready may not know all APIs yet: those that are come first. */
async function resourcesIn(
  names: readonly string[],
  serving: readonly NodeSight[],
  { links, signal }: Context,
): Promise<Resource[]> {
  const order = serving.toSorted((a, b) => Number(b.readiness?.ready) - Number(a.readiness?.ready));
  let failure: unknown;
  for (const { node } of order) {
    try {
      return (await discover(links.kube, node, names, signal)).flatMap(({ resources }) => resources);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      failure ??= error;
    }
  }
  throw failure;
}

interface Through extends Context {
  readonly etcds: readonly Etcd[];
  readonly prefix: string;
  readonly onDone: () => void;
}

/** All servers side by side, each at its own pace; the first error ends them all, and all have ended then. */
async function readThrough(
  nodes: readonly NodeName[],
  resources: readonly Resource[],
  context: Through,
): Promise<Reading[]> {
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  setMaxListeners(0, signal);
  let failure: { readonly error: unknown } | undefined;
  const read = await Promise.all(
    nodes.map(async (node) => {
      try {
        return await readAt(node, resources, { ...context, signal });
      } catch (error) {
        failure ??= { error };
        stop.abort(error);
        return [];
      }
    }),
  );
  if (failure !== undefined) throw failure.error;
  return read.flat();
}

async function readAt(node: NodeName, resources: readonly Resource[], context: Through): Promise<Reading[]> {
  const { links, etcds, prefix, signal, onDone } = context;
  const pace = new Pace();
  const readings: Reading[] = [];
  for (const resource of resources) {
    const sum = { read: 0, gone: 0, failures: [] as Reading['failures'][number][] };
    let silent: string | undefined;
    for (const etcd of etcds) {
      const part = await readEach<StoredName>({
        ...{ kube: links.kube, node, resource, pace, clock: links.clock, signal, onDone },
        objects: namesIn(etcd, prefix, resource, signal),
        isStored: ({ etcdKey }, each) => isStored(etcd, etcdKey, each),
      });
      sum.read += part.read;
      sum.gone += part.gone;
      sum.failures.push(...part.failures);
      silent ??= part.silent;
    }
    readings.push({ node, resource: resourceName(resource), ...sum, silent });
    if (silent !== undefined) break;
  }
  return readings;
}

function counterOf(task: TaskReport, expected: number, { clock }: Links): { one(): void; end(): void } {
  const speed = new Speed(clock);
  let done = 0;
  const tell = (last: boolean) => {
    const rate = speed.at(done, last);
    if (rate === undefined) return;
    const total = Math.max(expected, done);
    const eta = done === total ? 0 : rate > 0 ? (total - done) / rate : undefined;
    const count = { done, total, rate, eta };
    task.progress(countText(count), count);
  };
  return {
    one: () => {
      done += 1;
      tell(false);
    },
    end: () => {
      tell(true);
      task.done(`${done} reads`);
    },
  };
}
