/** A cluster that RKE has made, as the lab shows it: nothing in it is other than tsrke itself would make it. */
import { request } from 'node:http';
import { request as requestTls } from 'node:https';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { duplexPair, type Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import { startLab, type Lab } from '../../src/lab/lab.ts';
import { LabModel } from '../../src/lab/model.ts';
import { dockerHostOf, type DockerInfo } from '../../src/services/cluster.ts';
import { describeDrift, driftOf, type SeenContainer } from '../../src/services/drift.ts';
import { filesOf, servicesOf } from '../../src/services/services.ts';

const nodes = [
  { name: 'cp-1', address: '198.51.100.11' },
  { name: 'cp-2', address: '198.51.100.12', roles: ['controlplane'] as const },
  { name: 'worker-1', address: '198.51.100.13', roles: ['worker'] as const },
];

let opened: Lab | undefined;
let dir = '';
afterEach(() => {
  opened?.close();
  opened = undefined;
  rmSync(dir, { recursive: true, force: true });
});

async function open(options: Partial<Parameters<typeof startLab>[0]> = {}): Promise<Lab> {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-rke-made-'));
  opened = await startLab({ dir, controlplane: 1, startTime: 1, ...options });
  return opened;
}

async function ask(model: LabModel, node: string, path: string): Promise<unknown> {
  const answer = await model.docker(node, { method: 'GET', path, headers: {}, body: Buffer.alloc(0) });
  return JSON.parse(answer.body.toString()) as unknown;
}

async function seenOn(model: LabModel, node: string): Promise<Map<string, SeenContainer>> {
  const all = (await ask(model, node, '/containers/json?all=1')) as { Id: string; Names: string[] }[];
  const seen = all.map(async ({ Id, Names }): Promise<[string, SeenContainer]> => {
    const inspect = (await ask(model, node, `/containers/${Id}/json`)) as SeenContainer['inspect'] & {
      Image: string;
    };
    const image = (await ask(model, node, `/images/${inspect.Image}/json`)) as { Config: { Env: string[] } };
    return [(Names[0] ?? '').slice(1), { inspect, imageEnv: image.Config.Env }];
  });
  return new Map(await Promise.all(seen));
}

describe('nothing differs from what cluster.yml asks for', () => {
  it.each([
    ['encrypted', 'on', 3, 2],
    ['not encrypted', 'off', 1, 0],
  ] as const)('%s', async (_, encryption, controlplane, workers) => {
    const { model, config } = await open({ encryption, controlplane, workers });
    const wish = { rke: rkeConfigOf(loadConfig(config)), encrypted: encryption === 'on' };
    for (const node of wish.rke.nodes) {
      const name = node.hostnameOverride;
      const host = dockerHostOf((await ask(model, name, '/info')) as DockerInfo, name);
      const drift = driftOf(servicesOf(node, host, wish), await seenOn(model, name));
      expect(drift.flatMap(describeDrift)).toEqual([]);
      for (const { path, text } of filesOf(node, host, wish)) {
        expect(model.host(name).read(path)?.bytes.toString()).toBe(text);
      }
    }
  });
});

it('nodes have what their roles need: containers, certificates, labels and taints', () => {
  const model = new LabModel({ nodes, clock: new VirtualClock() });
  const names = (node: string) => model.engine(node).containers.map(({ name }) => name);
  expect(names('cp-2')).not.toContain('etcd');
  expect(names('worker-1')).toEqual(['nginx-proxy', 'service-sidekick', 'kubelet', 'kube-proxy']);
  const has = (node: string, file: string) =>
    model.host(node).read(`/etc/kubernetes/ssl/${file}`) !== undefined;
  expect(has('worker-1', 'kube-node.pem')).toBe(true);
  expect(has('worker-1', 'kube-ca-key.pem')).toBe(false);
  expect(has('worker-1', 'kube-apiserver.pem')).toBe(false);
  expect(has('cp-1', 'kube-admin.pem')).toBe(false);
  const answer = model.ask('cp-1', {
    ...{ method: 'GET', path: '/api/v1/nodes/cp-2', headers: {}, body: Buffer.alloc(0) },
  });
  expect(JSON.parse(answer.body.toString())).toMatchObject({
    metadata: {
      labels: { 'kubernetes.io/hostname': 'cp-2', 'node-role.kubernetes.io/controlplane': 'true' },
      annotations: { 'rke.cattle.io/internal-ip': '198.51.100.12' },
    },
    spec: { taints: [{ key: 'node-role.kubernetes.io/controlplane', effect: 'NoSchedule' }] },
    status: {
      addresses: [{ type: 'InternalIP', address: '198.51.100.12' }, { type: 'Hostname' }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  });
});

it('each service says on its node that it is well, and nothing once it is stopped', async () => {
  const { model, servers, bundle } = await open({ controlplane: 1, workers: 1 });
  const [cp, worker] = model.nodes;
  const client = { cert: bundle['kube-node']?.certificatePEM, key: bundle['kube-node']?.keyPEM };
  const health = (address: string, port: number, path = '/healthz') => {
    const serve = servers.dial(address, port, address);
    if (serve === undefined) return Promise.resolve('refused');
    return healthOver(serve, port, path, client);
  };
  const at = cp?.address ?? '';
  for (const port of [10_248, 10_256, 10_257, 10_259, 6443]) expect(await health(at, port)).toBe('ok');
  expect(JSON.parse(await health(at, 2379, '/health'))).toEqual({ health: 'true', reason: '' });
  // Through nginx-proxy.
  expect(await health(worker?.address ?? '', 6443)).toBe('ok');
  expect(await health(worker?.address ?? '', 10_257)).toBe('refused');
  expect(servers.dial(at, 10_248)).toBeUndefined();
  for (const name of ['kubelet', 'kube-scheduler', 'etcd']) {
    model.engine('cp-1').stop(model.engine('cp-1').get(name), Date.now());
  }
  for (const port of [10_248, 10_259, 2379]) expect(await health(at, port)).toBe('refused');
});

function healthOver(
  serve: (stream: Duplex) => void,
  port: number,
  path: string,
  client: { readonly cert: string | undefined; readonly key: string | undefined },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const [here, there] = duplexPair();
    serve(there);
    const plain = port === 10_248 || port === 10_256;
    const ask = plain
      ? request({ path, createConnection: () => here })
      : requestTls({
          path,
          createConnection: () => connect({ socket: here, ...client, rejectUnauthorized: false }),
        });
    ask.on('error', reject).on('response', (answer) => {
      let text = '';
      answer.on('data', (data: Buffer) => (text += data.toString()));
      answer.on('end', () => {
        here.destroy();
        resolve(text);
      });
    });
    ask.end();
  });
}
