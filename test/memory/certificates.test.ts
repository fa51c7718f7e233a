/** A lab's certificates beside those that RKE made. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { createBundle, type Bundle, type BundleElement } from '../../src/lab/certificates.ts';

const { currentState } = JSON.parse(
  readFileSync(new URL('../fixtures/rke-1.6.3/enabled.rkestate', import.meta.url), 'utf8'),
) as { currentState: { certificatesBundle: Record<string, BundleElement> } };
const rke = currentState.certificatesBundle;

let ours: Bundle;
beforeAll(async () => {
  ours = await createBundle({
    nodes: ['h1', 'h2', 'h3'].map((name, index) => ({ name, address: `198.51.100.${11 + index}` })),
    clusterName: 'local',
    server: 'https://198.51.100.13:6443',
    kubeconfig: './kube_config_cluster.yml',
  });
});

const parsed = (bundle: Bundle, name: string) => new X509Certificate(bundle[name]?.certificatePEM ?? '');

test('the bundle has the elements of RKE’s, in its order', () => {
  expect(Object.keys(ours)).toEqual(Object.keys(rke));
});

describe.each(Object.keys(rke))('%s', (name) => {
  test('has RKE’s twelve fields, equal save certificate and key', () => {
    const comparable = (bundle: Bundle) => {
      const { certificatePEM: _c, keyPEM: _k, config, ...rest } = { ...bundle[name] } as BundleElement;
      return { ...rest, config: config.replace(/-data: .*/g, '-data: …') };
    };
    expect(Object.keys(ours[name] ?? {})).toEqual(Object.keys(rke[name] ?? {}));
    expect(comparable(ours)).toEqual(comparable(rke));
    expect(ours[name]?.keyPEM).toMatch(/^-----BEGIN RSA PRIVATE KEY-----\n/);
  });

  test('is the certificate that RKE makes', () => {
    const [mine, theirs] = [parsed(ours, name), parsed(rke, name)];
    expect(mine.subject).toBe(theirs.subject);
    expect(mine.issuer).toBe(theirs.issuer);
    expect(mine.ca).toBe(theirs.ca);
    expect(mine.subjectAltName).toBe(theirs.subjectAltName);
    expect(mine.keyUsage).toEqual(theirs.keyUsage);
    const days = (one: X509Certificate) =>
      Math.floor((Date.parse(one.validTo) - Date.parse(one.validFrom)) / 86_400_000);
    expect(days(mine)).toBe(days(theirs));
    // The same length of everything but the serial number, which Go makes 7 or 8 bytes long.
    expect(Math.abs(mine.raw.length - theirs.raw.length)).toBeLessThanOrEqual(2);
  });

  test('is signed by its CA, and its key is its own', () => {
    const certificate = parsed(ours, name);
    const ca = parsed(ours, certificate.issuer.replace('CN=', ''));
    expect(certificate.verify(ca.publicKey)).toBe(true);
    expect(certificate.checkPrivateKey(createPrivateKey(ours[name]?.keyPEM ?? ''))).toBe(true);
  });
});

test('tokens are signed with kube-apiserver’s own pair, as on a fresh cluster of RKE’s', () => {
  expect(ours['kube-service-account-token']?.keyPEM).toBe(ours['kube-apiserver']?.keyPEM);
});
