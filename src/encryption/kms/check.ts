/** What the cluster itself shows about its KMS plugins before anything is risked on them. */
import { TsrkeError } from '../../errors.ts';
import { parseJson, reasonOf } from '../../kube/status.ts';
import type { NodeName } from '../../ports.ts';
import { writeKeyOf, type ProviderFile } from '../configuration.ts';
import type { Look } from '../observe.ts';
import type { World } from '../world.ts';

/** Whether it is a check of /readyz that fails while a KMS plugin does not answer: `kms-providers`, `kms-provider-0`. */
export function isPluginCheck(check: string): boolean {
  return check.startsWith('kms-provider');
}

/**
 * Throws KMS_UNHEALTHY while a member cannot reach its plugin and etcd holds values of it: running, it still reads
 * them with the data keys it has in memory; restarted, it could not.
 */
export function expectPlugins({ members, stored }: Look): void {
  const needed = [...stored.values()].flat().some(({ kek }) => kek !== undefined);
  const silent = members.filter(({ failing }) => failing.some(isPluginCheck));
  if (!needed || silent.length === 0) return;
  throw new TsrkeError(
    'KMS_UNHEALTHY',
    `kube-apiserver does not reach its KMS plugin on ${silent.map(({ node }) => node).join(', ')}; no further node was restarted`,
    {
      next: 'bring the plugin back, then run the same command again; what a running kube-apiserver still reads from memory, a restarted one could not',
    },
  );
}

const path = '/api/v1/namespaces/kube-system/secrets';
const name = 'tsrke-kms-check';

/**
 * Before a rewrite under a KMS key: each member writes one Secret (without anything in it), and all others read it.
 * Throws KMS_KEYS_DIFFER where one cannot: its plugin does not have the other's key, and a rewrite would lose objects.
 * Where the KMS does not encrypt Secrets there is nothing to try it on.
 */
export async function expectSharedKeks(
  target: ProviderFile,
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<void> {
  if (writeKeyOf(target, 'secrets').kek === undefined || look.members.length < 2) return;
  const nodes = look.members.map(({ node }) => node);
  await world.report.task('see that what each KMS plugin encrypts all others decrypt', async () => {
    for (const writer of nodes) {
      // One that was left behind may be readable for whoever wrote it alone.
      for (const node of nodes) await remove(node, world, signal);
      const body = {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name, annotations: { 'tsrke.io/written-by': writer } },
      };
      const made = await world.kube.request(writer, { method: 'POST', path, body }, signal);
      if (made.status >= 500) throw cannotWrite(writer, reasonOf(made));
      if (made.status >= 300) {
        world.report.note('warning', `Secret kube-system/${name} may not be made: ${reasonOf(made)}`, writer);
        return;
      }
      const { metadata } = parseJson(made, writer, `POST ${path}`) as { metadata?: { uid?: string } };
      for (const reader of nodes) {
        const read = await world.kube.request(reader, { method: 'GET', path: `${path}/${name}` }, signal);
        if (read.status === 200 || read.status === 404) continue;
        // Only whoever wrote it can take it away again.
        await remove(writer, world, signal, metadata?.uid);
        throw refused(reader, `it cannot read what ${writer} has written: ${reasonOf(read)}`);
      }
      await remove(writer, world, signal);
    }
  });
}

async function remove(node: NodeName, world: World, signal: AbortSignal, uid?: string): Promise<void> {
  const body = uid === undefined ? {} : { preconditions: { uid } };
  await world.kube.request(node, { method: 'DELETE', path: `${path}/${name}`, body }, signal);
}

function cannotWrite(node: NodeName, why: string): TsrkeError {
  return new TsrkeError('KMS_UNHEALTHY', `kube-apiserver cannot write with its KMS plugin: ${why}`, {
    node,
    next: 'bring the plugin back, then run the same command again; nothing was rewritten',
  });
}

function refused(node: NodeName, what: string): TsrkeError {
  return new TsrkeError('KMS_KEYS_DIFFER', `${what}; nothing was rewritten`, {
    node,
    next: 'give the KMS plugins of all controlplane nodes the same keys, then run the same command again',
  });
}
