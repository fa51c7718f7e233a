import { expect, test } from 'vitest';
import { etcdArguments } from '../../src/etcd/arguments.ts';

test('all there is', () => {
  const seen = etcdArguments([
    '--etcd-servers=https://198.51.100.11:2379,https://198.51.100.12:2379',
    '--etcd-prefix=/custom',
    '--etcd-cafile=/ca.pem',
    '--etcd-certfile=/cert.pem',
    '--etcd-keyfile=/key.pem',
    '--etcd-servers-overrides=/events#https://a:2379;https://b:2379,apps/deployments#http://c:2379',
    '--etcd-prefix=/kubernetes',
  ]);
  expect(seen).toEqual({
    servers: ['https://198.51.100.11:2379', 'https://198.51.100.12:2379'],
    prefix: '/kubernetes',
    caFile: '/ca.pem',
    certFile: '/cert.pem',
    keyFile: '/key.pem',
    overrides: [
      { resource: '/events', servers: ['https://a:2379', 'https://b:2379'] },
      { resource: 'apps/deployments', servers: ['http://c:2379'] },
    ],
  });
});

test('as little as there can be', () => {
  expect(etcdArguments(['--etcd-servers=http://127.0.0.1:2379', '--etcd-cafile='])).toEqual({
    servers: ['http://127.0.0.1:2379'],
    prefix: '/registry',
    caFile: undefined,
    certFile: undefined,
    keyFile: undefined,
    overrides: [],
  });
});
