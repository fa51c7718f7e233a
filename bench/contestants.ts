/** The ways of storing all secrets again that are compared, each over all secrets once. */
import { spawn } from 'node:child_process';
import { createWriteStream, openSync } from 'node:fs';
import { once } from 'node:events';
import { Pool } from 'undici';
import { rewrite, type RewriteLimits } from '../src/kube/rewrite.ts';
import type { Resource } from '../src/kube/outcome.ts';
import { clock, type Bed } from './bed.ts';

export const secrets: Resource = {
  group: '',
  version: 'v1',
  resource: 'secrets',
  namespaced: true,
  etcdPath: 'secrets',
};

/** Seconds that tsrke's rewrite takes, list included. */
export async function tsrke(
  bed: Bed,
  nodes = bed.names,
  limits: Partial<RewriteLimits> = {},
): Promise<number> {
  const { signal } = new AbortController();
  const began = performance.now();
  const etcdSize = (stop: AbortSignal) => bed.etcd.size(stop);
  const result = await rewrite({ kube: bed.kube, nodes, resource: secrets, clock, signal, etcdSize, limits });
  const seconds = since(began);
  if (result.failed.length > 0 || result.unlisted !== undefined) throw new Error(JSON.stringify(result));
  return seconds;
}

/**
 * Seconds for the same patches as fast as they will go: a list made beforehand, nothing parsed, nothing
 * retried, nothing adapted. The limit for anything that sends one request an object from Node.
 */
export async function bareLoop(bed: Bed, concurrency: number): Promise<number> {
  const pool = new Pool(`https://127.0.0.1:${String(bed.ports[0])}`, {
    connections: concurrency,
    connect: bed.credentials,
  });
  const list = await pool.request({
    method: 'GET',
    path: '/api/v1/secrets',
    headers: { accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1' },
  });
  const { items } = (await list.body.json()) as {
    items: { metadata: { namespace: string; name: string; uid: string; resourceVersion: string } }[];
  };
  const requests = items.map(({ metadata: { namespace, name, uid, resourceVersion } }) => ({
    path: `/api/v1/namespaces/${namespace}/secrets/${name}`,
    body: JSON.stringify({ metadata: { uid, resourceVersion } }),
  }));
  const headers = {
    accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1',
    'content-type': 'application/merge-patch+json',
  };
  const began = performance.now();
  let next = 0;
  const worker = async () => {
    for (let request = requests[next++]; request !== undefined; request = requests[next++]) {
      const answer = await pool.request({ method: 'PATCH', ...request, headers });
      await answer.body.dump({ limit: 1024 * 1024 });
      if (answer.statusCode !== 200) throw new Error(`PATCH answered ${answer.statusCode}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const seconds = since(began);
  await pool.close();
  return seconds;
}

/** Seconds for what operators do by hand: `kubectl get secrets -A -o json | kubectl replace -f -`. */
export async function kubectl(bed: Bed): Promise<number> {
  const began = performance.now();
  const get = run(bed, ['get', 'secrets', '-A', '-o', 'json'], 'pipe');
  const replace = run(bed, ['replace', '-f', '-'], 'pipe');
  get.stdout?.pipe(replace.stdin ?? createWriteStream('/dev/null'));
  replace.stdout?.resume();
  const codes = await Promise.all([once(get, 'exit'), once(replace, 'exit')]);
  if (codes.some(([code]) => code !== 0)) throw new Error('kubectl failed');
  return since(began);
}

function run(bed: Bed, args: readonly string[], stdio: 'pipe') {
  const errors = openSync('/dev/null', 'w');
  return spawn('kubectl', ['--kubeconfig', bed.kubeconfig, ...args], { stdio: [stdio, stdio, errors] });
}

function since(began: number): number {
  return (performance.now() - began) / 1000;
}
