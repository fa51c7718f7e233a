/**
 * How fast secrets are stored again, in one run on the same apiserver: tsrke, a bare request loop (the limit of
 * what one request an object can do from Node), and `kubectl get | kubectl replace`. Then tsrke's memory at
 * 1,000 and at 20,000 secrets. Exits 1 when a figure misses its target.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { census } from '../src/etcd/census.ts';
import { makeSecrets, providerFileOf, startBed } from './bed.ts';
import { bareLoop, kubectl, tsrke } from './contestants.ts';

const secretBytes = 1024;
const count = 5_000;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 3);
const keys = ['one', 'two'];

const bed = await startBed(1, providerFileOf(keys));

/** Makes the other key the write key, so that every secret is stale. */
async function otherKey(): Promise<void> {
  keys.reverse();
  await bed.load(providerFileOf(keys));
}

/** All secrets must lie under the write key afterwards, or the figure means nothing. */
async function checked(work: () => Promise<number>): Promise<number> {
  await otherKey();
  const seconds = await work();
  const { groups } = await census(bed.etcd, { prefix: '/registry/secrets', root: '/registry', signal });
  const found = [...(groups.get('secrets')?.keys() ?? [])].join(', ');
  if (found !== `aescbc:${keys[0] ?? ''}`) throw new Error(`after the rewrite etcd holds ${found}`);
  return seconds;
}

async function memory(): Promise<{ total: number; grown: number }> {
  await otherKey();
  const script = "import { runnerImport } from 'vite'; await runnerImport('./bench/one-pass.ts')";
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, BENCH_KUBECONFIG: bed.kubeconfig },
  });
  const { total, before, most } = JSON.parse(stdout) as { total: number; before: number; most: number };
  return { total, grown: (most - before) / 1024 ** 2 };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

const { signal } = new AbortController();
function target(text: string, met: boolean): void {
  console.log(`${met ? 'ok    ' : 'MISSED'} ${text}`);
  if (!met) process.exitCode = 1;
}

try {
  await makeSecrets(bed, 1_000, secretBytes);
  const small = await memory();
  await makeSecrets(bed, count, secretBytes, 1_000);
  const times: Record<'tsrke' | 'bare loop' | 'kubectl', number[]> = {
    tsrke: [],
    'bare loop': [],
    kubectl: [],
  };
  for (let round = 0; round < rounds; round += 1) {
    times.tsrke.push(await checked(() => tsrke(bed)));
    times['bare loop'].push(await checked(() => bareLoop(bed, 64)));
    times.kubectl.push(await checked(() => kubectl(bed)));
  }
  const rate = (name: keyof typeof times) => count / median(times[name]);
  console.log(`${count} secrets of ${secretBytes} bytes, one apiserver, median of ${rounds} rounds`);
  for (const name of ['tsrke', 'bare loop', 'kubectl'] as const) {
    const all = times[name].map((seconds) => `${seconds.toFixed(1)} s`).join(', ');
    console.log(`${name.padEnd(10)} ${rate(name).toFixed(0).padStart(6)}/s   (${all})`);
  }
  const toLimit = rate('tsrke') / rate('bare loop');
  const toKubectl = rate('tsrke') / rate('kubectl');
  target(`${toLimit.toFixed(2)} of the bare loop (0.9 wanted)`, toLimit >= 0.9);
  target(`${toKubectl.toFixed(1)} times kubectl get | kubectl replace (2.5 wanted)`, toKubectl >= 2.5);

  await makeSecrets(bed, 20_000, secretBytes, count);
  const large = await memory();
  for (const { total, grown } of [small, large]) {
    console.log(`${total} secrets: ${grown.toFixed(0)} MiB more than before the pass at its highest`);
  }
  const began = performance.now();
  const { total } = await census(bed.etcd, { prefix: '/registry', signal });
  console.log(`census of ${total} values: ${((performance.now() - began) / 1000).toFixed(1)} s`);
  const more = large.grown - small.grown;
  target(`${more.toFixed(0)} MiB more for 20,000 secrets than for 1,000 (30 allowed)`, more <= 30);
} finally {
  await bed.stop();
}
