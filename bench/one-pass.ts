/** One rewrite in a process of its own, so that its memory can be told: `one-pass.ts`, kubeconfig in BENCH_KUBECONFIG. */
import { readFile } from 'node:fs/promises';
import { createKubeApi } from '../src/kube/client.ts';
import { rewrite } from '../src/kube/rewrite.ts';
import { clock } from './bed.ts';
import { secrets } from './contestants.ts';

const config = JSON.parse(await readFile(process.env['BENCH_KUBECONFIG'] ?? '', 'utf8')) as {
  clusters: [{ cluster: { server: string; 'certificate-authority-data': string } }];
  users: [{ user: { 'client-certificate-data': string; 'client-key-data': string } }];
};
const text = (base64: string) => Buffer.from(base64, 'base64').toString();
const { cluster } = config.clusters[0];
const { user } = config.users[0];
const kube = createKubeApi({
  nodes: [{ name: 'cp-1', addresses: ['127.0.0.1'], port: Number(new URL(cluster.server).port) }],
  ca: text(cluster['certificate-authority-data']),
  cert: text(user['client-certificate-data']),
  key: text(user['client-key-data']),
  dial: () => Promise.reject(new Error('no SSH on this bed')),
  report: { debug: () => undefined },
});
const before = process.memoryUsage().rss;
const { signal } = new AbortController();
const result = await rewrite({ kube, nodes: ['cp-1'], resource: secrets, clock, signal });
await kube.close();
// Linux tells kibibytes.
const most = process.resourceUsage().maxRSS * 1024;
console.log(JSON.stringify({ total: result.total, rewritten: result.rewritten, before, most }));
