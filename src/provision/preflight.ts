/** Whether hosts that are to be set up are fit for it: all that is wrong with any of them is told at once. */
import { allToTheirEnd, TsrkeError } from '../errors.ts';
import { needFitHosts } from '../hosts/preflight.ts';
import { nameOf, type ClusterSight, type NodeSight } from '../planes/sight.ts';
import { dockerHostOf, imageOf, serviceInput } from '../services/cluster.ts';
import type { Links } from './links.ts';
import type { Planes } from './planes.ts';
import type { UpOptions } from './up.ts';

export interface FitAsk {
  readonly planes: Planes;
  readonly sight: ClusterSight;
  readonly links: Links;
  /** There is no state yet, so that no host may have data of etcd's. */
  readonly isFirst: boolean;
  readonly options: Pick<UpOptions, 'report' | 'signal' | 'skipsPortCheck'>;
}

/** Of hosts on which nothing of a cluster is yet. Throws NODE_UNFIT, STATE_MISSING. */
export async function expectFit(ask: FitAsk): Promise<void> {
  const { sight, options } = ask;
  const bare = sight.nodes.filter(({ services }) => services.size === 0);
  if (bare.length === 0) return;
  await options.report.task('check the hosts', async () => {
    const { planes, links } = ask;
    const node = ({ node: each }: NodeSight) => ({
      ...{ name: nameOf(each), internalAddress: each.internalAddress, roles: each.role },
    });
    await needFitHosts(
      {
        nodes: bare.map(node),
        others: sight.nodes.filter((each) => !bare.includes(each)).map(node),
        kubernetesVersion: planes.rke.kubernetesVersion,
        ignoreDockerVersion: planes.rke.ignoreDockerVersion,
        prefixPath: planes.rke.prefixPath,
        image: imageOf(planes.rke, 'alpine'),
        checkPorts: options.skipsPortCheck !== true,
      },
      { ...links, report: options.report },
      options.signal,
    );
    if (ask.isFirst) await allToTheirEnd(bare.map((each) => expectNoData(each, ask)));
  });
}

async function expectNoData(sight: NodeSight, { planes, links, options }: FitAsk): Promise<void> {
  if (!sight.node.role.includes('etcd')) return;
  const node = nameOf(sight.node);
  const { onHost } = serviceInput(sight.node, dockerHostOf(sight.info, node), planes.wish.wish);
  const image = imageOf(planes.rke, 'alpine');
  const path = onHost('/var/lib/etcd');
  await links.services.needImage(node, image, options.signal);
  if (!(await links.hostFiles.holdsAnything(node, { image, path }, options.signal))) return;
  throw new TsrkeError('STATE_MISSING', `${path} has data of an etcd, and there is no state file`, {
    node,
    next: 'bring the cluster.rkestate of that cluster here; if nobody needs its data, empty the folder. Nothing was touched',
  });
}
