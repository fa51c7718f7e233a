import { afterEach, expect, test } from 'vitest';
import { createEtcd } from '../../src/etcd/client.ts';
import { isStored, namesIn, type Place } from '../../src/etcd/names.ts';
import { certificate, kubeCa } from '../kube/certificates.ts';
import { startEtcd } from './fake-etcd.ts';

const opened: { close(): unknown }[] = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

const { signal } = new AbortController();

async function given(...keys: string[]) {
  const fake = await startEtcd();
  const etcd = createEtcd({
    endpoints: [`https://127.0.0.1:${fake.port}`],
    ca: kubeCa,
    ...certificate('kube-node'),
    dial: () => Promise.reject(new Error('no SSH')),
    node: 'cp-1',
  });
  opened.push(etcd, fake);
  for (const key of keys) fake.values.set(key, Buffer.from('k8s\0'));
  const names = async (etcdPath: string, namespaced: boolean, prefix = '/registry') => {
    const place: Place = { etcdPath, namespaced };
    const found: string[] = [];
    for await (const { namespace, name } of namesIn(etcd, prefix, place, signal))
      found.push(`${namespace}|${name}`);
    return found;
  };
  return { fake, etcd, names };
}

test.each([
  ['secrets', true, ['default|db', 'kube-system|tls']],
  ['services/specs', true, ['default|kubernetes']],
  ['clusterroles', false, ['|system:node', '|view/all']],
  ['example.com/widgets', true, ['default|w']],
  ['configmaps', true, []],
] as const)('the objects of %s, and no others', async (path, namespaced, expected) => {
  const { names } = await given(
    '/registry/secrets/default/db',
    '/registry/secrets/kube-system/tls',
    '/registry/secrets.example.com/default/no',
    '/registry/services/specs/default/kubernetes',
    '/registry/services/endpoints/default/kubernetes',
    '/registry/clusterroles/system:node',
    '/registry/clusterroles/view/all',
    '/registry/example.com/widgets/default/w',
    '/registry/example.com/others/default/o',
  );
  expect(await names(path, namespaced)).toEqual(expected);
});

test('a path that is the beginning of another: `services/…` hides no Endpoints in it', async () => {
  const { names } = await given('/registry/services/specs/a/b', '/registry/services/a/b');
  expect(await names('services', true)).toEqual([]);
});

test('pages of keys alone, none twice, each at the newest revision; what is deleted meanwhile does not come', async () => {
  const keys = Array.from({ length: 2_500 }, (_, at) => `/r/secrets/ns/s-${String(at).padStart(5, '0')}`);
  const { fake, names } = await given(...keys);
  fake.onRange = () => {
    if (fake.ranges.length !== 3) return;
    fake.values.delete('/r/secrets/ns/s-02400');
    // No revision is held on to, so none can be lost.
    fake.revision += 10n;
    fake.compacted = fake.revision;
  };
  const found = await names('secrets', true, '/r/');
  expect(new Set(found).size).toBe(2_499);
  expect(found).not.toContain('ns|s-02400');
  const pages = fake.ranges.filter(({ limit }) => limit === '1000');
  expect(pages.map(({ revision, keys_only }) => [revision, keys_only])).toEqual(
    Array.from({ length: 3 }, () => ['0', true]),
  );
});

test('whether a key is there: this very one', async () => {
  const { etcd, fake } = await given('/registry/secrets/default/db-2');
  expect(await isStored(etcd, '/registry/secrets/default/db', signal)).toBe(false);
  fake.values.set('/registry/secrets/default/db', Buffer.from('x'));
  expect(await isStored(etcd, '/registry/secrets/default/db', signal)).toBe(true);
});
