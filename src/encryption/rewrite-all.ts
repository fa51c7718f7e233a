/** All objects of the resources of a change, stored again under the present write key. */
import { TsrkeError } from '../errors.ts';
import { discover } from '../kube/discover.ts';
import { rewrite } from '../kube/rewrite.ts';
import { defaultQuota, type EtcdSize } from '../kube/space.ts';
import { countText } from '../kube/speed.ts';
import type { Look } from './observe.ts';
import type { World } from './world.ts';

/**
 * What stands in for a census: one more pass through each apiserver by itself must find nothing to rewrite. For KMS v1
 * it proves nothing, whose values are never stale.
 */
export async function passThroughEach(
  resources: readonly string[],
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<void> {
  const unnamed = resources.filter((each) => look.stored.get(each)?.some((ref) => ref.kek === 'unnamed'));
  if (unnamed.length > 0) {
    throw new TsrkeError(
      'NOT_PROVED',
      `without etcd nothing proves which key ${unnamed.join(', ')} lie under: KMS v1 does not tell`,
      {
        next: 'make etcd reachable from here or from a controlplane node, then run the same command again',
      },
    );
  }
  for (const member of look.members) {
    for (
      let tries = 1;
      (await rewriteAll(resources, { ...look, members: [member] }, world, signal)) > 0;
      tries += 1
    ) {
      if (tries < 3) continue;
      throw new TsrkeError('NOT_PROVED', 'objects keep being stored under another key', {
        node: member.node,
        next: 'find out which kube-apiserver writes with it, then run the same command again',
      });
    }
  }
}

/** `touch`: resources whose objects are really changed and changed back, because nothing less makes the server write. */
export async function rewriteAll(
  resources: readonly string[],
  look: Look,
  world: World,
  signal: AbortSignal,
  touch: (resource: string) => boolean = () => false,
): Promise<number> {
  const nodes = look.members.map((each) => each.node);
  const [first] = nodes;
  if (first === undefined) throw new Error('a rewrite needs a member');
  let rewritten = 0;
  const problems: string[] = [];
  for (const found of await discover(world.kube, first, resources, signal)) {
    for (const { name, why } of found.leftOut) {
      if (why === 'unknown') problems.push(`${name}: no API serves this resource any more`);
    }
    for (const resource of found.resources) {
      await world.report.task(`rewrite ${found.pattern}`, async (task) => {
        const result = await rewrite({
          kube: world.kube,
          nodes,
          resource,
          clock: world.clock,
          signal,
          touch: touch(found.pattern),
          ...(look.census === undefined ? {} : { etcdSize: (each) => fullest(world.etcds, each) }),
          onProgress: ({ paused, ...count }) =>
            task.progress(`${countText(count)}${paused === undefined ? '' : ` (${paused})`}`, count),
        });
        rewritten += result.rewritten;
        problems.push(
          ...result.failed.map((each) => `${found.pattern} ${each.namespace}/${each.name}: ${each.reason}`),
        );
        if (result.unlisted !== undefined) problems.push(`${found.pattern}: ${result.unlisted}`);
        const current = result.total - result.rewritten;
        task.done(
          `rewrote ${result.rewritten} ${found.pattern}${current === 0 ? '' : `, ${current} needed nothing`}`,
        );
      });
    }
  }
  if (problems.length > 0) {
    throw new TsrkeError(
      'REWRITE_INCOMPLETE',
      `${problems.length} could not be rewritten; no key was removed`,
      {
        details: problems.slice(0, 50),
        next: 'remove the cause or the objects, then run the same command again',
      },
    );
  }
  return rewritten;
}

/** The one that is nearest to its quota. */
async function fullest(etcds: World['etcds'], signal: AbortSignal): Promise<EtcdSize> {
  const sizes = await Promise.all(etcds.map((each) => each.size(signal)));
  const share = ({ used, quota = defaultQuota }: EtcdSize) => used / quota;
  return sizes.reduce((most, each) => (share(each) > share(most) ? each : most));
}
