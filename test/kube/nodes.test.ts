import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  deleteNode,
  describeMarks,
  listNodes,
  marksToSet,
  nodeOf,
  setMarks,
  setSchedulable,
  type NodeTaint,
} from '../../src/kube/nodes.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import type { KubeApi, KubeRequest, KubeResponse } from '../../src/ports.ts';
import { marksOf } from '../../src/services/node.ts';
import { fixture, rkeOf } from '../services/inputs.ts';
import { answer, status } from './fake-objects.ts';

const { signal } = new AbortController();

function serverOf(handle: (request: KubeRequest) => KubeResponse) {
  const kube: KubeApi = { request: (_, request) => Promise.resolve(handle(request)) };
  return { kube, node: 'cp-1', clock: new VirtualClock(), random: () => 0.5 };
}

/** The marks of a node of cluster.yml. */
function marks(more: string) {
  const [node] = rkeOf(
    `nodes: [{address: 192.0.2.1, user: u, ${more}}, {address: cp, user: u, role: [controlplane]}]`,
  ).nodes;
  if (node === undefined) throw new Error('no node');
  return marksOf(node);
}

const annotations = { 'rke.cattle.io/external-ip': '192.0.2.1', 'rke.cattle.io/internal-ip': '192.0.2.1' };
const role = (name: string) => ({ [`node-role.kubernetes.io/${name}`]: 'true' });
const etcdTaint = { key: 'node-role.kubernetes.io/etcd', value: 'true', effect: 'NoExecute' };
const foreign: NodeTaint = { key: 'gpu', effect: 'NoSchedule', timeAdded: '2031-05-05T12:00:00Z' };

interface Row {
  readonly name: string;
  readonly wanted: string;
  readonly former?: string;
  readonly labels?: Record<string, string>;
  readonly taints?: NodeTaint[];
  /** Lines for a person; undefined: nothing to do. */
  readonly changes: string[] | undefined;
}

describe('marks', () => {
  test.each<Row>([
    {
      name: 'all is there',
      wanted: 'role: [worker]',
      labels: { ...role('worker'), other: 'x' },
      changes: undefined,
    },
    {
      name: 'a new node',
      wanted: 'role: [etcd], labels: {zone: a}, taints: [{key: k, value: v, effect: NoSchedule}]',
      changes: [
        'label zone=a',
        'label node-role.kubernetes.io/etcd=true',
        'taint node-role.kubernetes.io/etcd=true:NoExecute',
        'taint k=v:NoSchedule',
      ],
    },
    {
      name: 'etcd becomes a worker too: its taint goes, those of others stay',
      wanted: 'role: [etcd, worker]',
      labels: role('etcd'),
      taints: [foreign, etcdTaint],
      changes: [
        'label node-role.kubernetes.io/worker=true',
        'no taint node-role.kubernetes.io/etcd=true:NoExecute',
      ],
    },
    {
      name: 'a role, a label and a taint were taken out of cluster.yml',
      wanted: 'role: [worker]',
      former:
        'role: [worker, etcd], labels: {zone: a, gone: b}, taints: [{key: k, value: v, effect: NoSchedule}]',
      labels: { ...role('worker'), ...role('etcd'), zone: 'a', own: 'mine' },
      taints: [foreign, { key: 'k', value: 'v', effect: 'NoSchedule' }],
      changes: ['no label node-role.kubernetes.io/etcd', 'no label zone', 'no taint k=v:NoSchedule'],
    },
    {
      name: 'a taint of the same key and effect gets the value that is wanted',
      wanted: 'role: [worker], taints: [{key: k, value: new, effect: NoSchedule}]',
      labels: role('worker'),
      taints: [
        { key: 'k', value: 'old', effect: 'NoSchedule' },
        { key: 'k', value: 'old', effect: 'NoExecute' },
      ],
      changes: ['taint k=new:NoSchedule', 'no taint k=old:NoSchedule'],
    },
  ])('$name', ({ wanted, former, labels = {}, taints = [], changes }) => {
    const node = { labels, taints, annotations };
    const found = marksToSet(node, marks(wanted), former === undefined ? undefined : marks(former));
    expect(found && describeMarks(found, node)).toEqual(changes);
  });

  test('the taints of others are sent back as they were', () => {
    const node = { labels: role('etcd'), annotations, taints: [foreign] };
    expect(marksToSet(node, marks('role: [etcd]'), undefined)?.taints).toEqual([foreign, etcdTaint]);
  });

  test('are set over the version that was seen, and looked at again when another was quicker', async () => {
    let version = 1;
    const labels: Record<string, string> = {};
    const sent: unknown[] = [];
    const server = serverOf(({ method, body, path }) => {
      expect(path).toBe('/api/v1/nodes/w');
      if (method === 'GET') {
        return answer(200, {
          metadata: { name: 'w', resourceVersion: String(version), labels, annotations },
        });
      }
      sent.push(body);
      if ((version += 1) === 2) return status(409, 'Conflict', 'modified');
      return answer(200, {});
    });
    expect(await setMarks(server, 'w', marks('role: [worker]'), undefined, signal)).toBe(true);
    const metadata = { labels: role('worker'), annotations: {} };
    expect(sent).toEqual([
      { metadata: { ...metadata, resourceVersion: '1' } },
      { metadata: { ...metadata, resourceVersion: '2' } },
    ]);
    Object.assign(labels, role('worker'));
    expect(await setMarks(server, 'w', marks('role: [worker]'), undefined, signal)).toBe(false);
    expect(sent).toHaveLength(2);
  });

  test('that never get through are an error', async () => {
    const server = serverOf(({ method }) =>
      method === 'GET' ? answer(200, { metadata: { name: 'w' } }) : status(409, 'Conflict', 'modified'),
    );
    await expect(setMarks(server, 'w', marks('role: [worker]'), undefined, signal)).rejects.toThrow(
      'Node w could not be changed: modified',
    );
  });
});

describe('Nodes', () => {
  const listed = JSON.parse(readFileSync(fixture('nodes.json'), 'utf8')) as { items: unknown[] };

  test('of a cluster that RKE made carry all that they should', async () => {
    const rke = rkeOf(readFileSync(fixture('cluster.yml'), 'utf8'));
    const nodes = await listNodes(
      serverOf(() => answer(200, listed)),
      signal,
    );
    expect(nodes.map(({ name, ready, unschedulable }) => ({ name, ready, unschedulable }))).toEqual(
      ['h1', 'h2', 'h3'].map((name) => ({ name, ready: false, unschedulable: false })),
    );
    for (const node of rke.nodes) {
      const found = nodeOf(nodes, node);
      expect(found?.name).toBe(node.hostnameOverride);
      expect(found && marksToSet(found, marksOf(node), marksOf(node))).toBeUndefined();
    }
  });

  test('come by pages, from the beginning once a page took too long', async () => {
    const paths: string[] = [];
    const server = serverOf(({ path }) => {
      paths.push(path);
      if (paths.length === 2) return status(410, 'Expired', 'too old');
      const next = path.includes('continue=') ? {} : { continue: 'a/b' };
      return answer(200, { metadata: next, items: [{ metadata: { name: `n${paths.length}` } }] });
    });
    expect((await listNodes(server, signal)).map(({ name }) => name)).toEqual(['n3', 'n4']);
    expect(paths[3]).toBe('/api/v1/nodes?limit=200&continue=a%2Fb');
  });

  test('are found by hostname in any case, by address only where the cloud names them', async () => {
    const items = [
      { metadata: { name: 'ip-1', labels: { 'kubernetes.io/hostname': 'CP-1' } } },
      { metadata: { name: 'ip-2' }, status: { addresses: [{ type: 'InternalIP', address: '10.0.0.2' }] } },
    ];
    const nodes = await listNodes(
      serverOf(() => answer(200, { items })),
      signal,
    );
    const find = (hostnameOverride: string, cloud?: string) =>
      nodeOf(nodes, { hostnameOverride, internalAddress: '10.0.0.2' }, cloud)?.name;
    expect(find('cp-1')).toBe('ip-1');
    expect(find('cp-2')).toBeUndefined();
    expect(find('cp-2', 'external-aws')).toBe('ip-2');
  });

  test('are cordoned, uncordoned and deleted', async () => {
    const seen: KubeRequest[] = [];
    const server = serverOf((request) => {
      seen.push(request);
      return request.method === 'DELETE' ? status(404, 'NotFound', 'no') : answer(200, {});
    });
    await setSchedulable(server, 'w', false, signal);
    await setSchedulable(server, 'w', true, signal);
    await deleteNode(server, 'w', signal);
    expect(seen.map(({ method, path, body }) => [method, path, body])).toEqual([
      ['PATCH', '/api/v1/nodes/w', { spec: { unschedulable: true } }],
      ['PATCH', '/api/v1/nodes/w', { spec: { unschedulable: null } }],
      ['DELETE', '/api/v1/nodes/w', undefined],
    ]);
    const refusing = serverOf(() => status(403, 'Forbidden', 'no'));
    await expect(setSchedulable(refusing, 'w', false, signal)).rejects.toThrow(
      'kube-apiserver refused to cordon Node w (403): no',
    );
    await expect(deleteNode(refusing, 'w', signal)).rejects.toThrow('refused to delete Node w');
  });
});
