/** What lies in a lab's cluster before its operator comes: RKE's rules and copy of the state, Secrets of its users. */
import { randomBytes } from 'node:crypto';
import { rbac } from '../addons/rbac.ts';
import type { RkeConfig } from '../config/rke-config.ts';
import type { LabSurface } from './surface.ts';

/** A Secret that everybody can recognise in etcd while it lies there in the clear. */
export const example = {
  namespace: 'default',
  name: 'shop-database',
  text: 'correct-horse-battery-staple',
} as const;

/** The first Secret is the example, the others are `secret-00001`, … with a random value each. */
export async function fillCluster(
  surface: LabSurface,
  { rke, stateText }: { readonly rke: RkeConfig; readonly stateText: string },
  secrets: number,
): Promise<void> {
  const rbacPath = '/apis/rbac.authorization.k8s.io/v1';
  for (const { object } of rbac(rke)?.manifests ?? []) {
    await create(surface, `${rbacPath}/${object.kind.toLowerCase()}s`, object);
  }
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
  const encoded = Object.entries(data).map(([key, value]) => [key, value.toString('base64')]);
  await create(surface, `/api/v1/namespaces/${namespace}/secrets`, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace },
    type: 'Opaque',
    data: Object.fromEntries(encoded) as Record<string, string>,
  });
}

async function create(
  surface: LabSurface,
  path: string,
  object: Readonly<Record<string, unknown>> & { readonly metadata: Readonly<Record<string, unknown>> },
): Promise<void> {
  const [first] = surface.nodes;
  if (first === undefined) throw new Error('the lab has no node');
  const answer = await surface.kube(first.name, {
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: Buffer.from(JSON.stringify(object)),
  });
  if (answer.status !== 201)
    throw new Error(`${path}, ${String(object.metadata['name'])}: ${answer.body.toString()}`);
}
