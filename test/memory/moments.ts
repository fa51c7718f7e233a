/** What must hold at every moment of a run that nothing disturbs, beyond what src/lab/invariants.ts asks at any time. */
import { createHash } from 'node:crypto';
import { localKeysOf, parseProviderFile } from '../../src/encryption/configuration.ts';
import { providerPath } from '../../src/encryption/world.ts';
import { storedKeyOf } from '../../src/etcd/stored.ts';
import type { MemoryLab } from './memory-lab.ts';

/** A sentence on what does not hold; undefined: all is well. */
export function wrongAtThisMoment(lab: MemoryLab): string | undefined {
  lab.model.advance();
  const midway = nodesMidway(lab);
  if (midway.length > 1) return `more than one node is midway: ${midway.join(', ')}`;
  return copyWithKeys(lab);
}

/** Nodes that do not serve, or have a file on their disk that they have not loaded. Never more than one at once. */
function nodesMidway({ model }: MemoryLab): string[] {
  const running = model.running();
  return model.nodes.flatMap(({ name }) => {
    const one = running.find(({ node, listens, server }) => node === name && listens && server.synced);
    if (one === undefined) return [`${name} does not serve`];
    const bytes = model.host(name).read(providerPath)?.bytes;
    const onDisk = bytes === undefined ? undefined : createHash('sha256').update(bytes).digest('hex');
    return one.server.loaded.sha256 === onDisk ? [] : [`${name} has not loaded the file on its disk`];
  });
}

/** The cluster's own copy of the state holds keys only while it is itself encrypted. */
export function copyWithKeys({ model, store }: MemoryLab): string | undefined {
  const copy = model.store.get('/registry/secrets/kube-system/full-cluster-state');
  if (copy === undefined || storedKeyOf(copy.value).provider !== 'identity') return undefined;
  const { document, tsrke } = store.state;
  const text = document.currentState?.encryptionConfig ?? '';
  const inForce = text === '' ? [] : localKeysOf(parseProviderFile(text, 'the state'));
  const [, data = ''] = /"full-cluster-state":"([^"]+)"/.exec(copy.value.toString()) ?? [];
  const plain = Buffer.from(data, 'base64').toString();
  const shown = [...tsrke.keyRing, ...inForce].find(({ secret }) => plain.includes(secret.reveal()));
  return shown === undefined ? undefined : `the copy in the cluster shows key ${shown.name} in the clear`;
}
