/** What addons and drains ask of the lab's kube API. */
import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/lab/clock.ts';
import { LabModel } from '../../src/lab/model.ts';

const node = { name: 'cp-1', address: '198.51.100.11' };
let model: LabModel;
let clock: VirtualClock;

beforeEach(() => {
  clock = new VirtualClock();
  model = new LabModel({ nodes: [node], clock });
});

interface Told {
  readonly status: number;
  readonly body: {
    readonly metadata: {
      readonly uid: string;
      readonly resourceVersion: string;
      readonly generation?: number;
      readonly managedFields?: readonly { readonly manager: string }[];
    };
    readonly [field: string]: unknown;
  };
}

function ask(method: string, path: string, body?: unknown, contentType = 'application/json'): Told {
  const answer = model.ask('cp-1', {
    ...{ method, path, headers: { 'content-type': contentType } },
    body: Buffer.from(body === undefined ? '' : JSON.stringify(body)),
  });
  return { status: answer.status, body: JSON.parse(answer.body.toString()) as Told['body'] };
}

const apply = (path: string, body: unknown, manager = 'tsrke') =>
  ask('PATCH', `${path}?fieldManager=${manager}&force=true`, body, 'application/apply-patch+yaml');

const maps = '/api/v1/namespaces/kube-system/configmaps';
const map = (data: Record<string, string>) => ({
  ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a', labels: { of: 'us' } } },
  data,
});

describe('server-side apply', () => {
  it('makes, changes, and takes away what is not applied any more; others keep what is theirs', () => {
    const made = apply(`${maps}/a`, map({ one: '1', two: '2' }));
    expect(made.status).toBe(201);
    expect(made.body.metadata).toMatchObject({ name: 'a', namespace: 'kube-system', labels: { of: 'us' } });
    expect(apply(`${maps}/a`, { ...map({ two: '2' }), metadata: { name: 'a' } }, 'other').status).toBe(200);
    ask('PATCH', `${maps}/a`, { data: { three: '3' } }, 'application/merge-patch+json');
    const { body } = apply(`${maps}/a`, map({ one: 'I' }));
    expect(body['data']).toEqual({ one: 'I', two: '2', three: '3' });
    expect(body.metadata.uid).toBe(made.body.metadata.uid);
    expect(body.metadata.managedFields?.map(({ manager }) => manager).sort()).toEqual(['other', 'tsrke']);
    expect(apply(`${maps}/a`, { ...map({}), data: undefined }).body['data']).toEqual({
      two: '2',
      three: '3',
    });
  });

  it('writes nothing where nothing changes', () => {
    const { resourceVersion } = apply(`${maps}/a`, map({ one: '1' })).body.metadata;
    clock.advance(60_000);
    expect(apply(`${maps}/a`, map({ one: '1' })).body.metadata.resourceVersion).toBe(resourceVersion);
  });

  it('needs a namespace that is there, and a manager', () => {
    expect(apply('/api/v1/namespaces/none/configmaps/a', map({})).status).toBe(404);
    expect(apply(`${maps}/a`, map({}), '').status).toBe(400);
  });

  it('its fields can be handed to another manager by a JSON patch', () => {
    const { managedFields = [], resourceVersion } = apply(`${maps}/a`, map({ one: '1' }), 'kubectl').body
      .metadata;
    const ours = managedFields.map((each) => ({ ...each, manager: 'tsrke' }));
    const patch = [
      { op: 'replace', path: '/metadata/managedFields', value: ours },
      { op: 'replace', path: '/metadata/resourceVersion', value: resourceVersion },
    ];
    expect(ask('PATCH', `${maps}/a`, patch, 'application/json-patch+json').status).toBe(200);
    expect(apply(`${maps}/a`, { ...map({}), data: {} }).body['data']).toEqual({});
    expect(ask('PATCH', `${maps}/a`, patch, 'application/json-patch+json').status).toBe(409);
  });
});

it('a DaemonSet and a Deployment are rolled out at once, and again when they change', () => {
  const sets = '/apis/apps/v1/namespaces/kube-system';
  const set = (image: string) => ({
    ...{ apiVersion: 'apps/v1', kind: 'DaemonSet', metadata: { name: 'canal' } },
    spec: { template: { spec: { containers: [{ name: 'a', image }] } } },
  });
  expect(apply(`${sets}/daemonsets/canal`, set('a:1')).body).toMatchObject({
    metadata: { generation: 1 },
    status: { observedGeneration: 1, desiredNumberScheduled: 1, numberAvailable: 1 },
  });
  expect(apply(`${sets}/daemonsets/canal`, set('a:2')).body.metadata.generation).toBe(2);
  const deployment = { ...set('a:1'), kind: 'Deployment', spec: { replicas: 2 } };
  expect(apply(`${sets}/deployments/canal`, deployment).body['status']).toMatchObject({
    availableReplicas: 2,
  });
});

it('pods are found by their node, and go by eviction where their budget lets them', () => {
  const pods = '/api/v1/namespaces/default/pods';
  for (const name of ['a', 'b']) {
    const nodeName = name === 'a' ? 'cp-1' : 'cp-2';
    ask('POST', pods, { metadata: { name, labels: { app: 'shop' } }, spec: { nodeName } });
  }
  const on = () => ask('GET', '/api/v1/pods?fieldSelector=spec.nodeName%3Dcp-1').body['items'] as object[];
  expect(on()).toHaveLength(1);
  const budgets = '/apis/policy/v1/namespaces/default/poddisruptionbudgets';
  const spec = { minAvailable: 2, selector: { matchLabels: { app: 'shop' } } };
  ask('POST', budgets, { metadata: { name: 'shop' }, spec });
  expect(ask('POST', `${pods}/a/eviction`, {})).toMatchObject({
    status: 429,
    body: { message: "Cannot evict pod as it would violate the pod's disruption budget." },
  });
  ask('PATCH', `${budgets}/shop`, { spec: { minAvailable: 1 } }, 'application/merge-patch+json');
  const wrong = { deleteOptions: { preconditions: { uid: 'another' } } };
  expect(ask('POST', `${pods}/a/eviction`, wrong).status).toBe(409);
  expect(ask('POST', `${pods}/a/eviction`, {}).status).toBe(201);
  expect(on()).toHaveLength(0);
  expect(ask('POST', `${pods}/a/eviction`, {}).status).toBe(404);
});

it('a Node is patched and deleted, and comes back with the next start of its kubelet', () => {
  const path = '/api/v1/nodes/cp-1';
  const cordon = { spec: { unschedulable: true } };
  expect(ask('PATCH', path, cordon, 'application/merge-patch+json').body['spec']).toMatchObject(cordon.spec);
  expect(ask('DELETE', path).status).toBe(200);
  expect(ask('GET', path).status).toBe(404);
  const engine = model.engine('cp-1');
  engine.restart(engine.get('kubelet'), clock.now().getTime());
  expect(ask('GET', path).body['status']).toMatchObject({ conditions: [{ type: 'Ready', status: 'True' }] });
});
