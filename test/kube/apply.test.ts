import { describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { applyObjects, deleteObject, type ApplyOptions } from '../../src/kube/apply.ts';
import { parseManifests } from '../../src/kube/manifest.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import { answer, FakeObjects, status } from './fake-objects.ts';

const { signal } = new AbortController();

function serverOf(kube: FakeObjects, clock = new VirtualClock()) {
  return { kube, node: 'cp-1', clock, random: () => 0.5, patience: 20_000 };
}

function apply(kube: FakeObjects, text: string, options: ApplyOptions = {}, clock?: VirtualClock) {
  return applyObjects(serverOf(kube, clock), parseManifests(text, 'addons'), options, signal);
}

const configMap = (name: string, namespace = '') =>
  `---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: ${name}${namespace && `, namespace: ${namespace}`}}}\n`;

const crd = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec: {group: example.com, names: {plural: widgets, kind: Widget}, versions: [{name: v1}]}
`;

describe('apply', () => {
  test('namespaces and custom kinds go first, the others in their order, each where it belongs', async () => {
    const kube = new FakeObjects();
    const text =
      `${configMap('a', 'web')}---\n{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}}\n${crd}` +
      `---\n{apiVersion: v1, kind: Namespace, metadata: {name: web, namespace: of-no-use}}\n`;
    const identities = await apply(kube, text);
    expect(kube.applied).toEqual([
      'customresourcedefinitions/widgets.example.com',
      'namespaces/web',
      'configmaps/a',
      'widgets/w',
    ]);
    expect(kube.get('/apis/example.com/v1/namespaces/default/widgets/w')).toBeDefined();
    expect(identities).toContain('example.com/namespaces/default/widgets/w');
    const [request] = kube.requests.filter(({ path }) => path.includes('/configmaps/'));
    expect(request?.path).toBe('/api/v1/namespaces/web/configmaps/a?fieldManager=tsrke&force=true');
  });

  test('a kind that is served only later is waited for', async () => {
    const kube = new FakeObjects();
    kube.slow = 3;
    const clock = new VirtualClock();
    const began = clock.now().getTime();
    await apply(
      kube,
      `${crd}---\n{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}}\n`,
      {},
      clock,
    );
    expect(kube.names).toContain('widgets/w');
    expect(clock.now().getTime() - began).toBe(3_000);
  });

  test('one that never comes is an error, after all others are applied', async () => {
    const kube = new FakeObjects();
    const text = `---\n{apiVersion: nowhere.org/v1, kind: Ghost, metadata: {name: g}}\n${configMap('a')}`;
    await expect(apply(kube, text)).rejects.toThrow(
      'addons, document 1: Ghost g could not be applied: no API serves Ghost of nowhere.org/v1',
    );
    expect(kube.names).toEqual(['configmaps/a']);
  });

  test('a namespace that is not there yet is waited for', async () => {
    const kube = new FakeObjects();
    let tries = 0;
    kube.before = ({ path }) => {
      if (path.includes('/configmaps/a') && (tries += 1) === 3) {
        kube.put('/api/v1/namespaces', { metadata: { name: 'late' } });
      }
      return undefined;
    };
    await apply(kube, configMap('a', 'late'));
    expect(tries).toBe(3);
  });

  test('what a busy server, or one that is away for a moment, does not take is sent again', async () => {
    const kube = new FakeObjects();
    const faults = [
      new TsrkeError('KUBE', 'no connection'),
      status(429, 'TooManyRequests', 'slow down'),
      status(500, 'InternalError', 'failed calling webhook'),
    ];
    kube.before = ({ method }) => (method === 'PATCH' ? faults.shift() : undefined);
    await apply(kube, configMap('a'));
    expect(kube.names).toEqual(['configmaps/a']);
    expect(kube.applied).toHaveLength(4);
  });

  test('a refusal comes with place, kind, name and the words of the server', async () => {
    const kube = new FakeObjects();
    kube.before = ({ method, path }) =>
      method === 'PATCH' && path.includes('/b?')
        ? status(422, 'Invalid', 'ConfigMap "b" is invalid: data: Too long')
        : undefined;
    await expect(apply(kube, configMap('a') + configMap('b') + configMap('c'))).rejects.toMatchObject({
      code: 'KUBE',
      message:
        'addons, document 2: ConfigMap b could not be applied: ConfigMap "b" is invalid: data: Too long (422)',
    });
    expect(kube.names).toEqual(['configmaps/a']);
  });

  test('of a Secret nothing is told that the server quotes', async () => {
    const kube = new FakeObjects();
    kube.before = ({ method }) =>
      method === 'PATCH' ? status(422, 'Invalid', 'data[a]: Invalid value: "hunter2": no') : undefined;
    const text = '{apiVersion: v1, kind: Secret, metadata: {name: s}}';
    await expect(apply(kube, text)).rejects.toThrow('Invalid value: "…": no (422)');
  });

  test('what kubectl has applied becomes ours once, so that fields no longer wanted go', async () => {
    const kube = new FakeObjects();
    const theirs = { manager: 'kubectl-client-side-apply', operation: 'Update', fieldsV1: { 'f:data': {} } };
    const others = { manager: 'kubelet', operation: 'Update' };
    kube.put('/api/v1/namespaces/default/configmaps', {
      metadata: { name: 'a', managedFields: [others, theirs] },
    });
    let patched: unknown;
    kube.before = ({ contentType, body }) => {
      if (contentType === 'application/json-patch+json') patched = body;
      return undefined;
    };
    await apply(kube, configMap('a') + configMap('new'), { adopts: true });
    expect(patched).toEqual([
      {
        op: 'replace',
        path: '/metadata/managedFields',
        value: [others, { ...theirs, manager: 'tsrke', operation: 'Apply' }],
      },
      { op: 'replace', path: '/metadata/resourceVersion', value: '103' },
    ]);
    expect(kube.applied).toEqual(['configmaps/a', 'configmaps/new']);
  });
});

describe('delete', () => {
  const ref = { apiVersion: 'v1', kind: 'ConfigMap', namespace: '', name: 'a' };

  test('removes what is there; not there, and a kind that is gone, are fine', async () => {
    const kube = new FakeObjects();
    await apply(kube, configMap('a'));
    const remove = (each: typeof ref) => deleteObject(serverOf(kube), each, new Set(), signal);
    expect(await remove(ref)).toBe(true);
    expect(kube.names).toEqual([]);
    expect(await remove(ref)).toBe(false);
    expect(await remove({ ...ref, apiVersion: 'policy/v1beta1', kind: 'PodSecurityPolicy' })).toBe(false);
  });

  test('leaves what was just applied under another spelling', async () => {
    const kube = new FakeObjects();
    const applied = await apply(kube, configMap('a', 'default'));
    expect(await deleteObject(serverOf(kube), ref, applied, signal)).toBe(false);
    expect(kube.names).toEqual(['configmaps/a']);
  });

  test('a refusal is an error', async () => {
    const kube = new FakeObjects();
    kube.before = ({ method }) => (method === 'DELETE' ? status(403, 'Forbidden', 'no') : undefined);
    await expect(deleteObject(serverOf(kube), ref, new Set(), signal)).rejects.toThrow(
      'kube-apiserver refused to delete ConfigMap a (403): no',
    );
  });
});

test('patience ends: with the last answer, or with why there was none', async () => {
  const kube = new FakeObjects();
  kube.before = () => answer(503, undefined, 'down');
  await expect(apply(kube, configMap('a'))).rejects.toThrow('kube-apiserver answered 503');
  kube.before = () => new TsrkeError('KUBE', 'connection refused');
  await expect(apply(kube, configMap('a'))).rejects.toThrow('cannot GET /api/v1: connection refused');
});
