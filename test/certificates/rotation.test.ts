/** `cert rotate`: what gets a new key and certificate, and what must not. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Bundle } from '../../src/certificates/bundle.ts';
import { changesFor } from '../../src/certificates/changes.ts';
import { carryOut, systemSource } from '../../src/certificates/issue.ts';
import { rotatedServices, rotationFor, type Rotation } from '../../src/certificates/rotation.ts';
import { certificateIn, day, elementIn, rkeBundle, rkeCluster } from './rke.ts';

/** The same few again and again, each for one name: they take long to make. */
const pool = new Map<string, KeyObject>();
const own = {
  ...systemSource,
  now: () => day,
  newKey: (name: string) => {
    const key = pool.get(name) ?? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    pool.set(name, key);
    return Promise.resolve(key);
  },
};

const rotate = (rotation: Rotation, cluster = rkeCluster, bundle = rkeBundle): Promise<Bundle> =>
  carryOut(cluster, bundle, rotationFor(cluster, bundle, rotation, day), own);

/** Names whose key, and whose certificate, is another one than RKE's. */
function renewed(after: Bundle): string[] {
  const names = Object.keys(rkeBundle);
  const differ = (field: 'keyPEM' | 'certificatePEM') =>
    names.filter((name) => elementIn(after, name)[field] !== elementIn(rkeBundle, name)[field]);
  expect(differ('keyPEM')).toEqual(differ('certificatePEM'));
  return differ('keyPEM');
}

const cas = ['kube-apiserver-requestheader-ca', 'kube-ca'];
const token = 'kube-service-account-token';
const etcds = [11, 12, 13].map((last) => `kube-etcd-198-51-100-${last}`);

test.each(rotatedServices)('--service %s', async (service) => {
  const after = await rotate({ services: [service] });
  expect(renewed(after)).toEqual(
    service === 'etcd' ? etcds : [service === 'kubelet' ? 'kube-node' : service],
  );
  expect(changesFor(rkeCluster, after, day)).toEqual([]);
});

describe('without --service', () => {
  test('everything but the CAs and the key that signs tokens', async () => {
    const after = await rotate({ services: [] });
    expect(renewed(after)).toEqual(
      Object.keys(rkeBundle).filter((name) => name !== token && !cas.includes(name)),
    );
    expect(changesFor(rkeCluster, after, day)).toEqual([]);
    expect(elementIn(after, 'kube-admin').config).toContain('server: "https://198.51.100.13:6443"');
    const key = Buffer.from(elementIn(after, 'kube-admin').keyPEM).toString('base64');
    expect(elementIn(after, 'kube-admin').config).toContain(`client-key-data: ${key}`);
  });

  test('kube-node and kube-proxy share their key no longer, as in RKE', async () => {
    const after = await rotate({ services: [] });
    expect(elementIn(after, 'kube-node').keyPEM).not.toBe(elementIn(after, 'kube-proxy').keyPEM);
  });
});

test('a CA without its key can issue nothing', async () => {
  const bundle = { ...rkeBundle, 'kube-ca': { ...elementIn(rkeBundle, 'kube-ca'), keyPEM: '' } };
  await expect(rotate({ services: [] }, rkeCluster, bundle)).rejects.toThrow(
    expect.objectContaining({ code: 'CERTIFICATES_INVALID' }),
  );
});

test('what cluster.yml changes comes along', async () => {
  const cluster = { ...rkeCluster, sans: ['api.example.org'] };
  const after = await rotate({ services: ['kube-scheduler'] }, cluster);
  expect(certificateIn(after, 'kube-apiserver').names.dns).toContain('api.example.org');
  expect(elementIn(after, 'kube-apiserver').keyPEM).toBe(elementIn(rkeBundle, 'kube-apiserver').keyPEM);
  expect(elementIn(after, 'kube-scheduler').keyPEM).not.toBe(elementIn(rkeBundle, 'kube-scheduler').keyPEM);
});

test('a cluster that signs tokens with kube-apiserver’s key goes on doing so with the key of before', async () => {
  const { [token]: _without, ...bundle } = rkeBundle;
  const after = await rotate({ services: [] }, rkeCluster, bundle);
  expect(elementIn(after, token).keyPEM).toBe(elementIn(rkeBundle, 'kube-apiserver').keyPEM);
});
