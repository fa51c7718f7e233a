import { expect, test } from 'vitest';
import { discover } from '../../src/kube/discover.ts';
import type { KubeApi } from '../../src/ports.ts';

const verbs = ['create', 'get', 'list', 'patch', 'update'];
const api: Record<string, unknown> = {
  '/api/v1': {
    resources: [
      { name: 'secrets', namespaced: true, verbs },
      { name: 'services', namespaced: true, verbs },
      { name: 'services/status', namespaced: true, verbs },
      { name: 'nodes', namespaced: false, verbs },
      { name: 'bindings', namespaced: true, verbs: ['create'] },
    ],
  },
  '/apis': {
    groups: [
      { name: 'apps', versions: [{ version: 'v1' }], preferredVersion: { version: 'v1' } },
      { name: 'events.k8s.io', versions: [{ version: 'v1' }], preferredVersion: { version: 'v1' } },
      {
        name: 'example.com',
        versions: [{ version: 'v1' }, { version: 'v2' }, { version: 'v1beta1' }],
        preferredVersion: { version: 'v2' },
      },
      {
        name: 'metrics.k8s.io',
        versions: [{ version: 'v1beta1' }],
        preferredVersion: { version: 'v1beta1' },
      },
    ],
  },
  '/apis/apps/v1': { resources: [{ name: 'deployments', namespaced: true, verbs }] },
  '/apis/events.k8s.io/v1': { resources: [{ name: 'events', namespaced: true, verbs }] },
  '/apis/example.com/v2': { resources: [{ name: 'widgets', namespaced: true, verbs }] },
  '/apis/example.com/v1': { resources: [{ name: 'widgets', namespaced: true, verbs }] },
  '/apis/example.com/v1beta1': { resources: [{ name: 'gears', namespaced: false, verbs }] },
  '/apis/metrics.k8s.io/v1beta1': { resources: [{ name: 'pods', namespaced: true, verbs }] },
  '/apis/apiregistration.k8s.io/v1/apiservices': {
    items: [
      { metadata: { name: 'v1.apps' }, spec: { service: null } },
      { metadata: { name: 'v1beta1.metrics.k8s.io' }, spec: { service: { name: 'metrics-server' } } },
    ],
  },
  '/apis/apiextensions.k8s.io/v1/customresourcedefinitions': {
    items: [{ metadata: { name: 'widgets.example.com' } }, { metadata: { name: 'gears.example.com' } }],
  },
};

const kube: KubeApi = {
  request: (_, { path }) => {
    const body = api[path];
    return Promise.resolve({
      status: body === undefined ? 404 : 200,
      headers: {},
      text: JSON.stringify(body ?? { kind: 'Status', message: 'not found' }),
    });
  },
};

async function found(pattern: string) {
  const [result] = await discover(kube, 'cp-1', [pattern], new AbortController().signal);
  return {
    resources: result?.resources.map(
      (each) => `${each.group}/${each.version}/${each.resource} ${each.etcdPath}`,
    ),
    leftOut: result?.leftOut.map((each) => `${each.name} ${each.why}`),
  };
}

test.each([
  { pattern: 'secrets', resources: ['/v1/secrets secrets'], leftOut: [] },
  { pattern: 'services', resources: ['/v1/services services/specs'], leftOut: [] },
  { pattern: 'nodes', resources: ['/v1/nodes minions'], leftOut: [] },
  { pattern: 'deployments.apps', resources: ['apps/v1/deployments deployments'], leftOut: [] },
  { pattern: 'widgets.example.com', resources: ['example.com/v2/widgets example.com/widgets'], leftOut: [] },
  { pattern: 'gears.example.com', resources: ['example.com/v1beta1/gears example.com/gears'], leftOut: [] },
  { pattern: 'gizmos.example.com', resources: [], leftOut: ['gizmos.example.com unknown'] },
  { pattern: 'nothing.nowhere.org', resources: [], leftOut: ['nothing.nowhere.org unknown'] },
  { pattern: 'bindings', resources: [], leftOut: ['bindings fixed'] },
  { pattern: 'pods.metrics.k8s.io', resources: [], leftOut: ['pods.metrics.k8s.io elsewhere'] },
  {
    pattern: '*.',
    resources: ['/v1/secrets secrets', '/v1/services services/specs', '/v1/nodes minions'],
    leftOut: ['bindings fixed'],
  },
  {
    pattern: '*.example.com',
    resources: ['example.com/v2/widgets example.com/widgets', 'example.com/v1beta1/gears example.com/gears'],
    leftOut: [],
  },
  {
    pattern: '*.*',
    resources: [
      '/v1/secrets secrets',
      '/v1/services services/specs',
      '/v1/nodes minions',
      'apps/v1/deployments deployments',
      'example.com/v2/widgets example.com/widgets',
      'example.com/v1beta1/gears example.com/gears',
    ],
    leftOut: ['bindings fixed', '*.metrics.k8s.io elsewhere'],
  },
])('discovers $pattern', async ({ pattern, resources, leftOut }) => {
  expect(await found(pattern)).toEqual({ resources, leftOut });
});
