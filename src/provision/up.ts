/**
 * `tsrke up`: the whole cluster, in RKE's order. A new one gets its keys and certificates first, then etcd and the
 * control plane, whose very first kube-apiserver starts with the provider file; from there on a new cluster and an old
 * one go the same way: encryption, then whatever else differs from cluster.yml.
 */
import { setMaxListeners } from 'node:events';
import { loadConfig, statePathOf } from '../config/load.ts';
import type { PlannedStage } from '../encryption/plan-document.ts';
import { fileStore, locked, type StateStore } from '../state/store.ts';
import { bringBack, type BroughtBack } from './bring-back.ts';
import { withCluster, type Cluster } from './cluster.ts';
import { change, type EncryptionOptions } from './encryption.ts';
import { beginCluster, isBegun } from './first-up.ts';
import { linkOverSsh, withLinks, type Link } from './links.ts';
import { everyNode } from './members.ts';
import { mayHoldKeys, type CertificateOptions } from './planes.ts';
import { bringUpRest } from './rest.ts';
import { wantedOf } from './wanted.ts';

export interface UpOptions
  extends Omit<EncryptionOptions, 'action' | 'ifDue' | 'keepsOldKey'>, CertificateOptions {
  /** Ports between nodes are not tried out before a node is set up. */
  readonly skipsPortCheck?: boolean;
  /** Sees what is to be done beside encryption before anything of it is done, and may throw. */
  readonly approveStages?: (stages: readonly PlannedStage[]) => void;
}

/** What a run needs besides its options; tests plug a lab's model in here. */
export interface UpSurroundings {
  readonly store: StateStore;
  readonly link: Link;
}

/** Resolves to the sentence for the user. Rejects with TsrkeError. */
export async function up(
  options: UpOptions,
  { store, link }: UpSurroundings = {
    store: fileStore(statePathOf(options.configPath)),
    link: linkOverSsh,
  },
): Promise<string> {
  const { report, signal } = options;
  setMaxListeners(0, signal);
  const config = loadConfig(options.configPath, options);
  const wanted = wantedOf(config);
  return await locked(store, async () => {
    const begun = await beginCluster({ config, wanted, found: store.read(), store, options });
    const nodes = everyNode(config, begun.state);
    const { hostKeys } = begun.state.tsrke;
    return await withLinks(link, { config, nodes, ...begun.access, hostKeys, report }, async (links) => {
      const isNew = !isBegun(begun.state);
      const state = isNew ? await begun.first(links) : begun.state;
      const brought = isNew
        ? undefined
        : await bringBack({ config, state, where: store.where, links, options });
      return await withCluster({ config, state, store, report, signal }, links, async (connected) => {
        const cluster = await withBroughtBack(connected, brought, signal);
        const encrypted = await change(config, wanted, cluster, { ...options, action: 'up' });
        const rest = await bringUpRest({ config, cluster, links, store, options, isNew });
        const did = [brought?.said, rest].filter((each) => each !== undefined);
        return did.length === 0 ? encrypted : [...did, encrypted.replace(/^nothing to do: /, '')].join('; ');
      });
    });
  });
}

/** Kept once the cluster's own copy has shown that the state is not an older one. */
async function withBroughtBack(
  cluster: Cluster,
  brought: BroughtBack | undefined,
  signal: AbortSignal,
): Promise<Cluster> {
  if (brought === undefined) return cluster;
  const known = await brought.known(cluster.state);
  return { ...cluster, state: await cluster.world.save(known, mayHoldKeys(known), signal) };
}
