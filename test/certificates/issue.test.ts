/** Certificates as tsrke makes them beside those that RKE made for the same cluster.yml. */
import { createPrivateKey } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { bundleForState, bundleIn, type Bundle } from '../../src/certificates/bundle.ts';
import { isSignedBy } from '../../src/certificates/certificate.ts';
import { leavesOf } from '../../src/certificates/cluster.ts';
import { newBundle, systemSource } from '../../src/certificates/issue.ts';
import { certificateIn, elementIn, rkeBundle, rkeCluster, stored } from './rke.ts';

const names = Object.keys(rkeBundle);

test('RKE’s own bundle is written as it was read', () => {
  expect(JSON.stringify(bundleForState(bundleIn(stored)))).toBe(JSON.stringify(stored));
});

describe('with RKE’s keys, serial numbers and time', () => {
  const serials = leavesOf(rkeCluster).map(({ name }) =>
    BigInt(`0x${certificateIn(rkeBundle, name).x509.serialNumber}`),
  );
  const made = newBundle(rkeCluster, {
    now: () => certificateIn(rkeBundle, 'kube-ca').notBefore,
    newKey: (name) => Promise.resolve(createPrivateKey(elementIn(rkeBundle, name).keyPEM)),
    newSerial: () => serials.shift() ?? 0n,
  });

  test('the bundle has the elements of RKE’s, in its order', async () => {
    expect(Object.keys(await made)).toEqual(names);
  });

  test.each(names)('%s is RKE’s, byte by byte', async (name) => {
    // RKE writes the address that answered first into the admin's kubeconfig; and one certificate it made a second later.
    const comparable = ({ config, ...rest }: ReturnType<typeof elementIn>) => ({
      ...rest,
      config: config.replace('198.51.100.13', '198.51.100.11'),
    });
    const element = elementIn(await made, name);
    const theirs = elementIn(rkeBundle, name);
    expect(Object.keys(element)).toEqual(Object.keys(theirs));
    const late = certificateIn(rkeBundle, name).notAfter > certificateIn(rkeBundle, 'kube-ca').notAfter;
    expect(late).toBe(name === 'kube-etcd-198-51-100-13');
    if (late) {
      expect({ ...comparable(element), certificatePEM: '' }).toEqual({
        ...comparable(theirs),
        certificatePEM: '',
      });
      expect(element.certificatePEM).toHaveLength(theirs.certificatePEM.length);
    } else expect(comparable(element)).toEqual(comparable(theirs));
  });
});

describe('with keys of its own', () => {
  let bundle: Bundle;
  beforeAll(async () => (bundle = await newBundle(rkeCluster)));

  test.each(names)('%s is signed by its CA, and its key is RSA 2048 and its own', (name) => {
    const certificate = certificateIn(bundle, name);
    const ca = certificateIn(bundle, certificate.x509.issuer.replace('CN=', ''));
    expect(isSignedBy(certificate, ca)).toBe(true);
    const key = createPrivateKey(elementIn(bundle, name).keyPEM);
    expect(certificate.x509.checkPrivateKey(key)).toBe(true);
    expect(key.asymmetricKeyDetails?.modulusLength).toBe(2048);
    expect(elementIn(bundle, name).keyPEM).toMatch(/^-----BEGIN RSA PRIVATE KEY-----\n/);
  });

  test('only those share a key that do in RKE', () => {
    const sharing = (which: Bundle) =>
      names.map((name) =>
        names.find((other) => elementIn(which, other).keyPEM === elementIn(which, name).keyPEM),
      );
    expect(sharing(bundle)).toEqual(sharing(rkeBundle));
  });

  test('no CA is another’s, though they bear one name', () => {
    const certificate = certificateIn(bundle, 'kube-scheduler');
    const other = certificateIn(rkeBundle, 'kube-ca');
    expect(certificate.issuer.equals(other.subject)).toBe(true);
    expect(isSignedBy(certificate, other)).toBe(false);
  });

  test('serial numbers are of 63 bits', () => {
    const serials = Array.from({ length: 50 }, () => systemSource.newSerial());
    expect(serials.every((serial) => serial >= 0n && serial < 1n << 63n)).toBe(true);
    expect(new Set(serials).size).toBe(50);
  });
});
