/** What lies in a lab's cluster before its operator comes: RKE's copy of the state, and Secrets of its users. */
import { randomBytes } from 'node:crypto';
import type { LabSurface } from './surface.ts';

/** A Secret that everybody can recognise in etcd while it lies there in the clear. */
export const example = {
  namespace: 'default',
  name: 'shop-database',
  text: 'correct-horse-battery-staple',
} as const;

/** The first Secret is the example, the others are `secret-00001`, … with a random value each. */
export async function fillCluster(surface: LabSurface, stateText: string, secrets: number): Promise<void> {
  await createSecret(surface, 'kube-system', 'full-cluster-state', {
    'full-cluster-state': Buffer.from(stateText),
  });
  for (let number = 0; number < secrets; number += 1) {
    if (number === 0) {
      await createSecret(surface, example.namespace, example.name, { password: Buffer.from(example.text) });
    } else {
      const name = `secret-${String(number).padStart(5, '0')}`;
      await createSecret(surface, 'default', name, { token: Buffer.from(randomBytes(24).toString('hex')) });
    }
  }
}

async function createSecret(
  surface: LabSurface,
  namespace: string,
  name: string,
  data: Readonly<Record<string, Buffer>>,
): Promise<void> {
  const [first] = surface.nodes;
  if (first === undefined) throw new Error('the lab has no node');
  const encoded = Object.entries(data).map(([key, value]) => [key, value.toString('base64')]);
  const body = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace },
    type: 'Opaque',
    data: Object.fromEntries(encoded) as Record<string, string>,
  };
  const answer = await surface.kube(first.name, {
    method: 'POST',
    path: `/api/v1/namespaces/${namespace}/secrets`,
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: Buffer.from(JSON.stringify(body)),
  });
  if (answer.status !== 201) throw new Error(`Secret ${namespace}/${name}: ${answer.body.toString()}`);
}
