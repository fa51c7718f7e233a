/** New CAs for a cluster that runs: what each pass changes, and who trusts whom between them. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Bundle } from '../../src/certificates/bundle.ts';
import { nextCaPass, type CaPass } from '../../src/certificates/ca-rotation.ts';
import { isSignedBy, readCertificate, certificatesIn } from '../../src/certificates/certificate.ts';
import { changesFor } from '../../src/certificates/changes.ts';
import { caNames, leavesOf, type Leaf } from '../../src/certificates/cluster.ts';
import { systemSource } from '../../src/certificates/issue.ts';
import { certificatePem, keyPem, selfIssuer } from '../../src/certificates/x509.ts';
import { certificateIn, day, elementIn, rkeBundle, rkeCluster } from './rke.ts';

/** One for each CA that comes, and one for all leaves: they take long to make. */
const pool = new Map<string, KeyObject>();
const source = {
  ...systemSource,
  now: () => day,
  newKey: (name: string) => {
    const own = caNames.some((ca) => ca === name) ? name : 'leaves';
    const key = pool.get(own) ?? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    pool.set(own, key);
    return Promise.resolve(key);
  },
};

const leaves = leavesOf(rkeCluster);
const token = 'kube-service-account-token';
let both: CaPass;
let issued: CaPass;
let retired: CaPass;

async function passAfter(bundle: Bundle, before?: CaPass): Promise<CaPass> {
  const pass = await nextCaPass(rkeCluster, bundle, before && { ...before.rotation, done: true }, source);
  if (pass === undefined) throw new Error('there is no pass left');
  return pass;
}

beforeAll(async () => {
  both = await passAfter(rkeBundle);
  issued = await passAfter(both.bundle, both);
  retired = await passAfter(issued.bundle, issued);
});

/** As kube-apiserver and etcd have it: by any CA of the file. */
function trusts(trusting: Bundle, { name, ca }: Leaf, showing: Bundle): boolean {
  return certificatesIn(elementIn(trusting, ca).certificatePEM).some((pem) => {
    const issuer = readCertificate(pem);
    return issuer !== undefined && isSignedBy(certificateIn(showing, name), issuer);
  });
}

/** Names of elements that are not the same in both. */
const changed = (from: Bundle, to: Bundle) =>
  Object.keys(to).filter((name) => JSON.stringify(from[name]) !== JSON.stringify(to[name]));

test('nodes of one pass and of the next trust each other, and one pass can be left out by nobody', () => {
  const passes = [rkeBundle, both.bundle, issued.bundle, retired.bundle];
  for (const [index, one] of passes.entries()) {
    for (const [other, two] of passes.entries()) {
      const isTrusted = leaves.every((leaf) => trusts(one, leaf, two) && trusts(two, leaf, one));
      expect(isTrusted, `${index} and ${other}`).toBe(Math.abs(index - other) <= 1);
    }
  }
});

test('up finds nothing to issue in any of them', () => {
  for (const { bundle } of [both, issued, retired]) expect(changesFor(rkeCluster, bundle, day)).toEqual([]);
});

test('first both are trusted: the CAs’ files and the admin’s kubeconfig change, nothing else', () => {
  expect(both.rotation).toMatchObject({ phase: 'trust-both', done: false });
  expect(changed(rkeBundle, both.bundle).sort()).toEqual([...caNames, 'kube-admin'].sort());
  for (const name of caNames) {
    const [first, second] = certificatesIn(elementIn(both.bundle, name).certificatePEM);
    expect(first).toBe(elementIn(rkeBundle, name).certificatePEM.trim());
    expect(second).toBe(both.rotation.next?.[name]?.certificatePEM.trim());
    expect(elementIn(both.bundle, name).keyPEM).toBe(elementIn(rkeBundle, name).keyPEM);
  }
  const admin = elementIn(both.bundle, 'kube-admin');
  expect(admin.certificatePEM).toBe(elementIn(rkeBundle, 'kube-admin').certificatePEM);
  const data = /certificate-authority-data: (.*)/.exec(admin.config)?.[1] ?? '';
  expect(Buffer.from(data, 'base64').toString()).toBe(elementIn(both.bundle, 'kube-ca').certificatePEM);
});

test('then the new ones sign everything but tokens, and stand first, with their key', () => {
  expect(issued.rotation).toEqual({ phase: 'issue', done: false });
  expect(changed(both.bundle, issued.bundle)).toEqual(
    Object.keys(rkeBundle).filter((name) => name !== token),
  );
  for (const name of caNames) {
    const { certificatePEM, keyPEM } = elementIn(issued.bundle, name);
    const made = both.rotation.next?.[name];
    expect(certificatesIn(certificatePEM)).toEqual(
      certificatesIn(elementIn(both.bundle, name).certificatePEM).reverse(),
    );
    expect(keyPEM).toBe(made?.keyPEM);
  }
  for (const { name, ca } of leaves) {
    expect(isSignedBy(certificateIn(issued.bundle, name), certificateIn(issued.bundle, ca))).toBe(true);
    expect(elementIn(issued.bundle, name).keyPEM).not.toBe(elementIn(rkeBundle, name).keyPEM);
  }
});

test('last the old ones are forgotten', async () => {
  expect(retired.rotation).toEqual({ phase: 'retire', done: false });
  expect(changed(issued.bundle, retired.bundle).sort()).toEqual([...caNames, 'kube-admin'].sort());
  for (const name of caNames) {
    const { certificatePEM, keyPEM } = elementIn(retired.bundle, name);
    expect(certificatePEM).toBe(both.rotation.next?.[name]?.certificatePEM);
    expect(keyPEM).toBe(both.rotation.next?.[name]?.keyPEM);
  }
  expect(
    await nextCaPass(rkeCluster, retired.bundle, { ...retired.rotation, done: true }, source),
  ).toBeUndefined();
});

test('a new CA is valid for those whose clock is late', () => {
  expect(certificateIn(retired.bundle, 'kube-ca').notBefore).toEqual(new Date(day.getTime() - 3_600_000));
  expect(certificateIn(retired.bundle, 'kube-scheduler').notBefore < day).toBe(true);
});

describe('an old CA', () => {
  const ca = (change: object): Bundle => ({
    ...rkeBundle,
    'kube-ca': { ...elementIn(rkeBundle, 'kube-ca'), ...change },
  });

  test.each([['kube-ca'], ['kube-apiserver-requestheader-ca']])(
    '%s without its key is left alone',
    async (name) => {
      const bundle = { ...rkeBundle, [name]: { ...elementIn(rkeBundle, name), keyPEM: '' } };
      await expect(passAfter(bundle)).rejects.toThrow(
        expect.objectContaining({ code: 'CERTIFICATES_INVALID' }),
      );
    },
  );

  test('without a key id has a successor of another name: OpenSSL would take one for the other', async () => {
    const key = await source.newKey('leaves');
    const subject = { commonName: 'kube-ca' };
    const certificatePEM = certificatePem({
      ...{
        subject,
        publicKey: createPublicKey(key),
        issuer: selfIssuer(subject, key),
        serial: 1n,
        ca: false,
      },
      ...{ notBefore: day, notAfter: new Date(day.getTime() + 1e10), usages: [], names: { dns: [], ip: [] } },
    });
    const keyPEM = keyPem(key);
    const { rotation } = await passAfter(ca({ certificatePEM, keyPEM }));
    const name = (ca: string) => readCertificate(rotation.next?.[ca]?.certificatePEM ?? '')?.x509.subject;
    expect(caNames.map(name)).toEqual(['CN=kube-ca-2', 'CN=kube-apiserver-requestheader-ca']);
  });
});

test('a state that has lost the new CAs says so before any node sees anything', async () => {
  const rotation = { phase: 'trust-both', done: true } as const;
  await expect(nextCaPass(rkeCluster, both.bundle, rotation, source)).rejects.toThrow(
    expect.objectContaining({ code: 'STATE_INVALID' }),
  );
});
