/** How fast a rewrite would go, without writing anything: a short burst of the reads that it is half made of. */
import { TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, NodeName } from '../ports.ts';

const path = '/api/v1/namespaces/kube-system';
/** Milliseconds, and answers, after which it is over. */
const length = 700;
const most = 400;
/** Requests under way at a time to each apiserver, as a rewrite soon has. */
const atOnce = 8;
/** A rewrite is a read, and a write that etcd has to log and sync: taken for so many reads. An estimate, no more. */
const writeFactor = 2.5;

/** Objects a second; undefined where no apiserver answers. */
export async function measureRewrites(
  kube: KubeApi,
  nodes: readonly NodeName[],
  clock: Clock,
  signal: AbortSignal,
): Promise<number | undefined> {
  // Without a resourceVersion it is read from etcd, whatever is cached.
  const ask = async (node: NodeName): Promise<boolean> => {
    const accept = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
    const { status } = await kube.request(node, { method: 'GET', path, accept }, signal);
    return status === 200;
  };
  const lanes = nodes.flatMap((node) => Array.from({ length: atOnce }, () => node));
  try {
    // What it takes to connect is no part of it.
    if (!(await Promise.all(lanes.map(ask))).some(Boolean)) return undefined;
    const began = clock.now().getTime();
    let answered = 0;
    // The clock of a model stands still unless somebody waits.
    const isOver = () => clock.now().getTime() - began >= length || answered >= most;
    const burst = async (node: NodeName) => {
      while (!isOver() && (await ask(node))) answered += 1;
    };
    await Promise.all(lanes.map(burst));
    const seconds = Math.max(1, clock.now().getTime() - began) / 1000;
    return answered === 0 ? undefined : answered / seconds / writeFactor;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
    return undefined;
  }
}
