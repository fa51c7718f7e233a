/** What etcd holds, told apart by the key that opens it. */
import { createCipheriv } from 'node:crypto';
import { expect, test } from 'vitest';
import { countHoldings } from '../../src/encryption/holdings.ts';
import type { Key } from '../../src/encryption/key.ts';
import { TsrkeError } from '../../src/errors.ts';
import type { Etcd, EtcdKeyValue } from '../../src/ports.ts';
import { key } from './samples.ts';

const { signal } = new AbortController();
const plain = Buffer.from('k8s\0plain');

/** As kube-apiserver writes it: prefix, IV, AES-CBC. */
function cbc({ name, secret }: Key): Buffer {
  const iv = Buffer.alloc(16, 9);
  const cipher = createCipheriv('aes-256-cbc', secret.bytes(), iv);
  const prefix = Buffer.from(`k8s:enc:aescbc:v1:${name}:`);
  return Buffer.concat([prefix, iv, cipher.update(plain), cipher.final()]);
}

/** Pages of two; the second one is gone the first `compactions` times it is asked for. */
function etcdWith(values: Record<string, Buffer>, clusterId = '1', compactions = 0): Etcd {
  const all = Object.entries(values)
    .map(([name, value]): EtcdKeyValue => ({ key: Buffer.from(name), value, modRevision: 1n }))
    .toSorted((a, b) => Buffer.compare(a.key, b.key));
  let left = compactions;
  return {
    range({ from, end, revision }) {
      if (revision !== 0n && (left -= 1) >= 0) {
        return Promise.reject(
          new TsrkeError('ETCD', 'etcdserver: mvcc: required revision has been compacted'),
        );
      }
      const found = all.filter(
        (each) => Buffer.compare(each.key, from) >= 0 && Buffer.compare(each.key, end) < 0,
      );
      return Promise.resolve({ kvs: found.slice(0, 2), more: found.length > 2, revision: 7n, clusterId });
    },
    compact: () => Promise.reject(new Error('it only looks')),
    size: () => Promise.reject(new Error('it only looks')),
    close: () => undefined,
  };
}

const brief = async (etcds: Etcd[], keys: Key[]) => {
  const { holdings } = await countHoldings(etcds, '/registry', keys, signal);
  return holdings.map(({ resource, id, count, refused, samples }) => [resource, id, count, refused, samples]);
};

const [a, b] = [key('a'), key('b')];
const idOf = (one: Key) => `aescbc:${one.name}#${one.secret.fingerprint}`;

test('by resource and key; names of a few; what the server never encrypts left out', async () => {
  const etcd = etcdWith({
    '/registry/secrets/default/s1': cbc(a),
    '/registry/secrets/default/s2': cbc(b),
    '/registry/secrets/default/s3': cbc(a),
    '/registry/secrets/kube-system/s4': plain,
    '/registry/configmaps/default/c': plain,
    '/registry/example.com/widgets/default/w': cbc(b),
    '/registry/masterleases/10.0.0.1': plain,
  });
  expect(await brief([etcd], [a, b])).toEqual([
    ['configmaps', 'identity', 1, 0, ['default/c']],
    ['secrets', idOf(a), 2, 0, ['default/s1', 'default/s3']],
    ['secrets', idOf(b), 1, 0, ['default/s2']],
    ['secrets', 'identity', 1, 0, ['kube-system/s4']],
    ['widgets.example.com', idOf(b), 1, 0, ['default/w']],
  ]);
});

test('two keys of one name are told apart by what opens a value; one that opens with neither is refused', async () => {
  const [first, second, third] = [key('k', 'first'), key('k', 'second'), key('k', 'third')];
  const etcd = etcdWith({
    '/registry/secrets/default/s1': cbc(first),
    '/registry/secrets/default/s2': cbc(second),
    '/registry/secrets/default/s3': cbc(third),
  });
  expect(await brief([etcd], [first, second])).toEqual([
    ['secrets', 'aescbc:k', 1, 1, ['default/s3']],
    ['secrets', idOf(first), 1, 0, ['default/s1']],
    ['secrets', idOf(second), 1, 0, ['default/s2']],
  ]);
});

test('a key that nobody has is named without a fingerprint', async () => {
  const etcd = etcdWith({ '/registry/secrets/default/s1': cbc(b) });
  expect(await brief([etcd], [a])).toEqual([['secrets', 'aescbc:b', 1, 0, ['default/s1']]]);
});

test('several etcds are one sum, and one whose revision is compacted away meanwhile counts once', async () => {
  const values = {
    '/registry/secrets/default/s1': cbc(a),
    '/registry/secrets/default/s2': cbc(a),
    '/registry/secrets/default/s3': cbc(a),
  };
  const etcds = [etcdWith(values, '1', 2), etcdWith({ '/registry/secrets/default/s4': cbc(a) }, '2')];
  const pages: number[] = [];
  const found = await countHoldings(etcds, '/registry', [a], signal, (seen) => pages.push(seen));
  expect(found).toMatchObject({
    total: 4,
    at: [
      { clusterId: '1', revision: 7n },
      { clusterId: '2', revision: 7n },
    ],
    holdings: [{ resource: 'secrets', count: 4 }],
  });
  expect(pages.at(-1)).toBe(4);
});
