/** What a rotation in a KMS would do, as far as plugins, kube-apiservers and etcd tell it before. Changes nothing. */
import { TsrkeError } from '../../errors.ts';
import type { NodeName } from '../../ports.ts';
import {
  resourcesOf,
  writeKeyOf,
  type KeyRef,
  type KmsProvider,
  type ProviderFile,
} from '../configuration.ts';
import type { Holding } from '../holdings.ts';
import type { Look } from '../observe.ts';
import type { WaitStep } from '../preview.ts';
import type { World } from '../world.ts';
import { usesOf } from './preflight.ts';
import { hashOf, nameOf, toldTo } from './renewal.ts';

/** A KMS v2 provider that writes, and which of its keys each node works with just now. */
export interface KekSight {
  /** As etcd shows it: `kms2:NAME`. */
  readonly stored: string;
  /** The key id that all plugins have; undefined where they differ, or cannot be asked and nobody else can tell. */
  readonly keyId: string | undefined;
  readonly nodes: readonly {
    readonly node: NodeName;
    /** The hash of the key id that its kube-apiserver was told last; undefined: none yet. */
    readonly told: string | undefined;
    /** The key id that its plugin has; undefined where that cannot be asked. */
    readonly plugin: string | undefined;
  }[];
}

export async function keksInSight(
  target: ProviderFile,
  look: Look,
  world: World,
  signal: AbortSignal,
): Promise<KekSight[]> {
  const writers = new Map<string, KmsProvider>();
  for (const resource of resourcesOf(target)) {
    const { kek, stored, provider } = writeKeyOf(target, resource);
    if (kek === 'named' && provider.kind === 'kms') writers.set(stored, provider);
  }
  const told = new Map(
    await Promise.all(
      look.members.map(async ({ node }) => [node, (await toldTo(node, world, signal)).ids] as const),
    ),
  );
  return await Promise.all(
    [...writers].map(async ([stored, provider]): Promise<KekSight> => {
      const plugins = await askPlugins(provider, look, world, signal);
      const nodes = look.members.map(({ node }) => ({
        ...{ node, told: told.get(node)?.get(provider.name)?.hash, plugin: plugins.get(node) },
      }));
      return { stored, keyId: agreed(nodes, look), nodes };
    }),
  );
}

async function askPlugins(
  provider: KmsProvider,
  { members }: Look,
  world: World,
  signal: AbortSignal,
): Promise<Map<NodeName, string>> {
  const found = new Map<NodeName, string>();
  await Promise.all(
    usesOf(provider, members, world).map(async ({ node, plugin }) => {
      try {
        found.set(node, (await plugin.status(signal)).keyId);
      } catch (error) {
        if (!(error instanceof TsrkeError) || error.code !== 'KMS_UNHEALTHY') throw error;
      } finally {
        plugin.close();
      }
    }),
  );
  return found;
}

/** Plugins hear of a new key first. Where none can be asked, what all kube-apiservers were told, if etcd names it. */
function agreed(nodes: KekSight['nodes'], { census }: Look): string | undefined {
  const only = <T>(all: readonly T[]) => (new Set(all).size === 1 ? all[0] : undefined);
  const plugins = nodes.map(({ plugin }) => plugin);
  if (plugins.some((each) => each !== undefined)) return only(plugins);
  const hash = only(nodes.map(({ told }) => told));
  return census?.keks.find(({ keyId }) => hashOf(keyId) === hash)?.keyId;
}

/** By KMS provider, the hash of the key id that all is to lie under, as far as it is known. */
export function newestOf(keks: readonly KekSight[]): Map<string, string> {
  return new Map(
    keks.flatMap(({ stored, keyId }) => (keyId === undefined ? [] : [[stored, hashOf(keyId)] as const])),
  );
}

/** Whether the rotation stores these values again; undefined: nobody can tell before. */
export function isRewritten(
  { id, kmsKeyId }: Pick<Holding, 'id' | 'kmsKeyId'>,
  write: KeyRef,
  newest: ReadonlyMap<string, string>,
): boolean | undefined {
  if (id !== write.id || write.kek === 'unnamed') return true;
  if (write.kek === undefined) return false;
  const hash = newest.get(write.stored);
  return hash === undefined ? undefined : hashOf(kmsKeyId ?? '') !== hash;
}

export function waitStepOf(keks: readonly KekSight[], { census }: Look): WaitStep {
  const ids = [
    ...(census?.keks ?? []).map(({ keyId }) => keyId),
    ...keks.flatMap(({ nodes }) => nodes.flatMap(({ plugin }) => plugin ?? [])),
  ];
  const names = new Map(ids.map((keyId) => [hashOf(keyId), keyId]));
  return {
    line: 'wait',
    keys: keks.map(({ stored, keyId, nodes }) => ({
      provider: nameOf(stored),
      ...(keyId === undefined ? {} : { keyId }),
      nodes: nodes.map(({ node, told, plugin }) => ({
        node,
        ...(told === undefined ? {} : { apiserver: names.get(told) ?? told }),
        ...(plugin === undefined ? {} : { plugin }),
      })),
    })),
  };
}
