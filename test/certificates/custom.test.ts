/** Certificates of a CA of the user's own: what is taken, and what is refused before a node could see it. */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { certDirReader } from '../../src/certificates/cert-dir.ts';
import { changesFor } from '../../src/certificates/changes.ts';
import { leavesOf, type CertifiedCluster } from '../../src/certificates/cluster.ts';
import { customBundle, type CustomOptions } from '../../src/certificates/custom.ts';
import { certificatePem, type CertificateOptions } from '../../src/certificates/x509.ts';
import { TsrkeError } from '../../src/errors.ts';
import { certificateIn, day, elementIn, rkeBundle, rkeCluster } from './rke.ts';

/** The folder as `cert generate-csr` and a CA leave it: here with what RKE has made. */
const files = new Map(
  Object.entries(rkeBundle)
    .filter(([name]) => name !== 'kube-service-account-token')
    .flatMap(([name, { certificatePEM, keyPEM }]) => [
      [`${name}.pem`, certificatePEM],
      [`${name}-key.pem`, keyPEM],
    ]),
);

const take = (
  more: Partial<CustomOptions> = {},
  changed: Readonly<Record<string, string | undefined>> = {},
) =>
  customBundle({
    ...{ cluster: rkeCluster, where: 'certs', bundle: undefined, now: day },
    read: (file) => (file in changed ? changed[file] : files.get(file)),
    ...more,
  });

/** What it says is wrong. */
function refusal(...args: Parameters<typeof take>): readonly string[] {
  try {
    take(...args);
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    expect(error.code).toBe('CERTIFICATES_INVALID');
    return error.details.length > 0 ? error.details : [error.message.replace(/^certs: /, '')];
  }
  return [];
}

/** kube-ca's certificate for this leaf's own key, as an unmindful CA would make it. */
function issued(name: string, more: Partial<CertificateOptions>): string {
  const leaf = leavesOf(rkeCluster).find((each) => each.name === name);
  if (leaf === undefined) throw new Error(`there is no ${name}`);
  const ca = certificateIn(rkeBundle, leaf.ca);
  return certificatePem({
    ...leaf,
    publicKey: createPublicKey(elementIn(rkeBundle, name).keyPEM),
    issuer: { ...ca, privateKey: createPrivateKey(elementIn(rkeBundle, leaf.ca).keyPEM) },
    ...{ serial: 7n, notBefore: ca.notBefore, notAfter: ca.notAfter, ca: false },
    ...more,
  });
}

test('what RKE made is taken as it is, with RKE’s names for it', () => {
  const { bundle, warnings } = take();
  expect(warnings).toEqual([]);
  expect(Object.keys(bundle)).toEqual(Object.keys(rkeBundle));
  for (const [name, element] of Object.entries(bundle)) {
    // RKE names these by the file, and the first node's address stands in the kubeconfig.
    const { commonName: _c, ...theirs } = elementIn(rkeBundle, name);
    const { commonName, ...ours } = element;
    expect({ ...ours, config: ours.config.replace('198.51.100.11', '198.51.100.13') }).toEqual(theirs);
    expect(commonName).toBe(name === 'kube-node' ? 'system:node' : name);
  }
  expect(changesFor(rkeCluster, bundle, day)).toEqual([]);
});

test('a cluster that exists keeps the key that signs its tokens', () => {
  const token = elementIn(rkeBundle, 'kube-scheduler');
  const had = { ...rkeBundle, 'kube-service-account-token': token };
  expect(elementIn(take({ bundle: had }).bundle, 'kube-service-account-token').keyPEM).toBe(token.keyPEM);
  const brought = {
    'kube-service-account-token.pem': elementIn(rkeBundle, 'kube-apiserver').certificatePEM,
    'kube-service-account-token-key.pem': elementIn(rkeBundle, 'kube-apiserver').keyPEM,
  };
  expect(refusal({ bundle: had }, brought)).toEqual([
    'kube-service-account-token-key.pem is not the cluster’s: every token in use would end',
  ]);
  expect(refusal({ bundle: rkeBundle }, brought)).toEqual([]);
});

test('the CA of the aggregation layer may be missing, as in RKE, and that is said', () => {
  const changed = {
    'kube-apiserver-requestheader-ca.pem': undefined,
    'kube-apiserver-requestheader-ca-key.pem': undefined,
    'kube-apiserver-proxy-client.pem': issued('kube-apiserver-proxy-client', {
      issuer: {
        ...certificateIn(rkeBundle, 'kube-ca'),
        privateKey: createPrivateKey(elementIn(rkeBundle, 'kube-ca').keyPEM),
      },
    }),
  };
  const { bundle, warnings } = take({}, changed);
  expect(warnings).toEqual([expect.stringMatching(/kube-ca stands in/)]);
  expect(elementIn(bundle, 'kube-apiserver-requestheader-ca')).toMatchObject({
    certificatePEM: elementIn(rkeBundle, 'kube-ca').certificatePEM,
    keyPEM: '',
  });
});

test('a CA may keep its key to itself', () => {
  const { bundle } = take({}, { 'kube-ca-key.pem': undefined });
  expect(elementIn(bundle, 'kube-ca').keyPEM).toBe('');
});

test('what ends within 30 days is taken, and named', () => {
  const soon = new Date(day.getTime() + 20 * 86_400_000);
  const { warnings } = take({}, { 'kube-scheduler.pem': issued('kube-scheduler', { notAfter: soon }) });
  expect(warnings).toEqual(['kube-scheduler.pem ends on 2026-12-15']);
});

const other = elementIn(rkeBundle, 'kube-proxy');
const encrypted = createPrivateKey(other.keyPEM)
  .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' })
  .toString();

test.each<readonly [string, Readonly<Record<string, string | undefined>>, readonly string[]]>([
  ['no CA', { 'kube-ca.pem': undefined }, ['kube-ca.pem is missing']],
  [
    'no certificate of a CA',
    { 'kube-ca.pem': other.certificatePEM, 'kube-ca-key.pem': undefined },
    ['kube-ca.pem is not the certificate of a CA'],
  ],
  ['a file that is missing', { 'kube-scheduler.pem': undefined }, ['kube-scheduler.pem is missing']],
  ['a key that is missing', { 'kube-scheduler-key.pem': undefined }, ['kube-scheduler-key.pem is missing']],
  ['no PEM', { 'kube-scheduler.pem': 'hidden' }, ['kube-scheduler.pem is not a certificate in PEM']],
  [
    'a key with a passphrase',
    { 'kube-scheduler-key.pem': encrypted },
    ['kube-scheduler-key.pem is not an RSA key in PEM without a passphrase'],
  ],
  [
    'another’s key',
    { 'kube-scheduler-key.pem': other.keyPEM },
    ['kube-scheduler-key.pem is not the key of kube-scheduler.pem'],
  ],
  [
    'one that ended',
    { 'kube-scheduler.pem': issued('kube-scheduler', { notAfter: new Date('2026-11-24T00:00:00Z') }) },
    ['kube-scheduler.pem ended on 2026-11-24'],
  ],
  [
    'one that has not begun',
    { 'kube-scheduler.pem': issued('kube-scheduler', { notBefore: new Date('2027-01-01T00:00:00Z') }) },
    ['kube-scheduler.pem begins only on 2027-01-01'],
  ],
  [
    'another CA',
    {
      'kube-apiserver-proxy-client.pem': issued('kube-apiserver-proxy-client', {
        issuer: {
          ...certificateIn(rkeBundle, 'kube-ca'),
          privateKey: createPrivateKey(elementIn(rkeBundle, 'kube-ca').keyPEM),
        },
      }),
    },
    ['kube-apiserver-proxy-client.pem is not signed by kube-apiserver-requestheader-ca.pem'],
  ],
  [
    'a CA of the same name, but another one',
    {
      'kube-scheduler.pem': issued('kube-scheduler', {
        issuer: { ...certificateIn(rkeBundle, 'kube-ca'), privateKey: createPrivateKey(other.keyPEM) },
      }),
    },
    ['kube-scheduler.pem is not signed by kube-ca.pem'],
  ],
  [
    'a name that Kubernetes does not know',
    { 'kube-node.pem': issued('kube-node', { subject: { commonName: 'node' } }) },
    ['kube-node.pem has not the common name system:node and the organisation system:nodes'],
  ],
  [
    'a server that may only be a client',
    { 'kube-apiserver.pem': issued('kube-apiserver', { usages: ['client'] }) },
    ['kube-apiserver.pem is not for servers (serverAuth)'],
  ],
  [
    'a server without its names',
    {
      'kube-apiserver.pem': issued('kube-apiserver', {
        names: { dns: ['h1', 'localhost'], ip: ['198.51.100.11'] },
      }),
    },
    [
      'kube-apiserver.pem lacks h2, h3, kubernetes, kubernetes.default, kubernetes.default.svc, ' +
        'kubernetes.default.svc.cluster.local, 198.51.100.12, 198.51.100.13, 127.0.0.1, 10.43.0.1 among its alternative names',
    ],
  ],
  [
    'several at once',
    { 'kube-scheduler.pem': undefined, 'kube-etcd-198-51-100-12-key.pem': undefined },
    ['kube-scheduler.pem is missing', 'kube-etcd-198-51-100-12-key.pem is missing'],
  ],
])('%s: refused', (_name, changed, problems) => {
  expect(refusal({}, changed)).toEqual(problems);
});

test('names beyond those needed, in any order, and certificates for any purpose are fine', () => {
  const { dns, ip } = certificateIn(rkeBundle, 'kube-apiserver').names;
  const names = { dns: ['api.example.org', ...dns.toReversed()], ip: ip.toReversed() };
  const changed = {
    'kube-apiserver.pem': issued('kube-apiserver', { names }),
    'kube-scheduler.pem': issued('kube-scheduler', { usages: [] }),
  };
  expect(refusal({}, changed)).toEqual([]);
});

test('a cluster that exists is not given another CA this way', () => {
  const had = { ...rkeBundle, 'kube-ca': elementIn(rkeBundle, 'kube-apiserver-requestheader-ca') };
  expect(refusal({ bundle: had })).toEqual(['kube-ca.pem is another CA than the cluster’s']);
});

test('each node’s certificate is asked for', () => {
  const nodes: CertifiedCluster['nodes'] = [
    ...rkeCluster.nodes,
    { address: '198.51.100.14', internalAddress: '', hostname: 'h4', roles: ['worker'] },
  ];
  expect(refusal({ cluster: { ...rkeCluster, nodes, kubeletServes: true } })).toContain(
    'kube-kubelet-198-51-100-14.pem is missing',
  );
});

test('a folder is read file by file; none at all is an error of its own', () => {
  const dir = mkdtempSync(join(tmpdir(), 'tsrke-certificates-'));
  try {
    for (const [file, text] of files) writeFileSync(join(dir, file), text);
    expect(take({ read: certDirReader(dir) }).bundle).toEqual(take().bundle);
    expect(() => certDirReader(join(dir, 'none'))).toThrow('there is no folder');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('no refusal shows a key', () => {
  const changed = {
    'kube-scheduler-key.pem': other.keyPEM,
    'kube-node.pem': 'hidden',
    'kube-ca-key.pem': encrypted,
  };
  const said = refusal({}, changed).join();
  expect(said).toContain('kube-ca-key.pem is not an RSA key');
  expect(said).not.toMatch(/hidden|BEGIN|MII/);
});
