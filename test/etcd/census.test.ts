import { afterEach, describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { census } from '../../src/etcd/census.ts';
import { createEtcd } from '../../src/etcd/client.ts';
import type { Etcd } from '../../src/ports.ts';
import { certificate, kubeCa } from '../kube/certificates.ts';
import { startEtcd, type FakeEtcd } from './fake-etcd.ts';

const opened: { close(): unknown }[] = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

async function given(): Promise<{ fake: FakeEtcd; etcd: Etcd }> {
  const fake = await startEtcd();
  const etcd = createEtcd({
    endpoints: [`https://127.0.0.1:${fake.port}`],
    ca: kubeCa,
    ...certificate('kube-node'),
    dial: () => Promise.reject(new Error('no SSH')),
    node: 'cp-1',
  });
  opened.push(etcd, fake);
  return { fake, etcd };
}

const { signal } = new AbortController();
const cbc = (name: string, bytes = 64) =>
  Buffer.concat([Buffer.from(`k8s:enc:aescbc:v1:${name}:`), Buffer.alloc(bytes, 7)]);
const plain = Buffer.from('k8s\0plain');

function counts(
  groups: Awaited<ReturnType<typeof census>>['groups'],
): Record<string, Record<string, number>> {
  return Object.fromEntries(
    [...groups].map(([path, group]) => [
      path,
      Object.fromEntries([...group].map(([id, tally]) => [id, tally.count])),
    ]),
  );
}

describe('census', () => {
  test('counts by resource and by what wrote the value', async () => {
    const { fake, etcd } = await given();
    for (let index = 0; index < 7; index += 1)
      fake.values.set(`/registry/secrets/default/a${index}`, cbc('old'));
    fake.values.set('/registry/secrets/kube-system/b', cbc('new'));
    fake.values.set('/registry/configmaps/default/c', plain);
    fake.values.set('/registry/example.com/widgets/default/w', Buffer.from('{}'));
    fake.values.set('/registry/services/specs/default/kubernetes', plain);
    fake.values.set('/registry2/secrets/default/other', cbc('elsewhere'));
    fake.values.set('compact_rev_key', Buffer.from('1'));
    const seen = await census(etcd, { prefix: '/registry', signal });
    expect(seen).toMatchObject({ revision: 100n, clusterId: '14841639068965178418', total: 11 });
    expect(counts(seen.groups)).toEqual({
      secrets: { 'aescbc:old': 7, 'aescbc:new': 1 },
      configmaps: { identity: 1 },
      'example.com/widgets': { identity: 1 },
      'services/specs': { identity: 1 },
    });
    expect(seen.groups.get('secrets')?.get('aescbc:old')?.samples).toEqual(
      [0, 1, 2, 3, 4].map((index) => `/registry/secrets/default/a${index}`),
    );
  });

  test('the first page is linearizable, all others at its revision, none twice', async () => {
    const { fake, etcd } = await given();
    for (let index = 10_000; index < 13_000; index += 1) {
      fake.values.set(`/registry/secrets/default/s${index}`, cbc('one', 1024));
    }
    fake.onRange = ({ revision }) => {
      // Written behind the census's back: a later revision that it must not look at.
      if (revision === '100') fake.revision = 101n;
    };
    const pages: number[] = [];
    const seen = await census(etcd, { prefix: '/registry/', signal, onPage: (sofar) => pages.push(sofar) });
    expect(seen.total).toBe(3_000);
    expect(seen.revision).toBe(100n);
    const ranges = fake.ranges.filter(({ key }) => key.toString() !== 'health');
    expect(ranges.map(({ revision }) => revision)).toEqual(['0', ...ranges.slice(1).map(() => '100')]);
    expect(pages.at(-1)).toBe(3_000);
    // 200, then grown fourfold at a time.
    expect(pages.slice(0, 2)).toEqual([200, 1_000]);
  });

  test('a part of the keys is counted by the same paths', async () => {
    const { fake, etcd } = await given();
    fake.values.set('/registry/secrets/default/a', cbc('one'));
    fake.values.set('/registry/configmaps/default/a', plain);
    const seen = await census(etcd, { prefix: '/registry/secrets', root: '/registry', signal });
    expect(counts(seen.groups)).toEqual({ secrets: { 'aescbc:one': 1 } });
  });

  test('large values make small pages', async () => {
    const { fake, etcd } = await given();
    const large = cbc('one', 700 * 1024);
    for (let index = 10; index < 80; index += 1) fake.values.set(`/registry/secrets/default/${index}`, large);
    const pages: number[] = [];
    const seen = await census(etcd, { prefix: '/registry', signal, onPage: (sofar) => pages.push(sofar) });
    expect(seen.total).toBe(70);
    const sizes = pages.map((sofar, index) => sofar - (pages[index - 1] ?? 0));
    for (const size of sizes.slice(1)) expect(size).toBeLessThanOrEqual(9);
  });

  test('a revision that is compacted away meanwhile is begun anew', async () => {
    const { fake, etcd } = await given();
    for (let index = 1000; index < 1500; index += 1)
      fake.values.set(`/registry/secrets/default/${index}`, plain);
    let times = 2;
    fake.onRange = ({ revision }) => {
      if (revision === '0' || (times -= 1) < 0) return;
      fake.revision += 10n;
      fake.compacted = fake.revision;
    };
    const seen = await census(etcd, { prefix: '/registry', signal });
    expect(seen).toMatchObject({ total: 500, revision: 120n });
    expect(counts(seen.groups)).toEqual({ secrets: { identity: 500 } });
  });

  test('a revision that is compacted away again and again is an error', async () => {
    const { fake, etcd } = await given();
    for (let index = 1000; index < 1500; index += 1)
      fake.values.set(`/registry/secrets/default/${index}`, plain);
    fake.onRange = ({ revision }) => {
      if (revision === '0') return;
      fake.revision += 10n;
      fake.compacted = fake.revision;
    };
    await expect(census(etcd, { prefix: '/registry', signal })).rejects.toBeInstanceOf(TsrkeError);
  });

  test('what a trial read refuses is counted and named', async () => {
    const { fake, etcd } = await given();
    for (let index = 0; index < 8; index += 1)
      fake.values.set(`/registry/secrets/default/${index}`, cbc('one'));
    const tryRead = (_: Buffer, key: string) =>
      key.endsWith('7') ? undefined : Number(key.slice(-1)) % 2 === 0;
    const seen = await census(etcd, { prefix: '/registry', signal, tryRead });
    expect(seen.groups.get('secrets')?.get('aescbc:one')?.refused).toEqual({
      count: 3,
      samples: [1, 3, 5].map((index) => `/registry/secrets/default/${index}`),
    });
  });

  test('an empty etcd has nothing under any key', async () => {
    const { etcd } = await given();
    const seen = await census(etcd, { prefix: '/registry', signal });
    expect(seen).toMatchObject({ total: 0, revision: 100n });
    expect(seen.groups.size).toBe(0);
  });

  test('KMS v2 values are told apart by the id of their key', async () => {
    const { fake, etcd } = await given();
    const kms = (id: string) =>
      Buffer.concat([
        Buffer.from('k8s:enc:kms:v2:vault:'),
        Buffer.from([10, 1, 0, 18, id.length]),
        Buffer.from(id),
      ]);
    fake.values.set('/registry/secrets/default/a', kms('1'));
    fake.values.set('/registry/secrets/default/b', kms('2'));
    fake.values.set('/registry/secrets/default/c', kms('2'));
    const seen = await census(etcd, { prefix: '/registry', signal });
    expect(counts(seen.groups)).toEqual({ secrets: { 'kms2:vault:1': 1, 'kms2:vault:2': 2 } });
  });
});
