/** What of a cluster's certificates is made, issued again or removed, and what is kept. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Bundle } from '../../src/certificates/bundle.ts';
import { isSignedBy } from '../../src/certificates/certificate.ts';
import { changesFor, endingCas } from '../../src/certificates/changes.ts';
import { leavesOf, type CertifiedCluster, type CertifiedNode } from '../../src/certificates/cluster.ts';
import { carryOut, newBundle, systemSource } from '../../src/certificates/issue.ts';
import { certificatePem, type AltNames } from '../../src/certificates/x509.ts';
import { certificateIn, day, elementIn, rkeBundle, rkeCluster } from './rke.ts';

const [h1, h2, h3] = rkeCluster.nodes as readonly [CertifiedNode, CertifiedNode, CertifiedNode];
const node = (last: number, more: Partial<CertifiedNode> = {}): CertifiedNode => {
  const address = `198.51.100.${last}`;
  return {
    address,
    internalAddress: address,
    hostname: `h${last - 10}`,
    roles: ['controlplane', 'etcd'],
    ...more,
  };
};
const cluster = (more: Partial<CertifiedCluster>): CertifiedCluster => ({ ...rkeCluster, ...more });
const said = (wanted: CertifiedCluster, bundle: Bundle = rkeBundle, now = day) =>
  changesFor(wanted, bundle, now).map(({ what, name, why }) => `${what} ${name}: ${why}`);
const without = (...names: string[]): Bundle =>
  Object.fromEntries(Object.entries(rkeBundle).filter(([name]) => !names.includes(name)));
const etcds = [11, 12, 13].map((last) => `kube-etcd-198-51-100-${last}`);
const at = (text: string) => new Date(text);
/** New keys are none of RKE's for that name, yet of its making: each of one's own would take a tenth of a second. */
const own = {
  ...systemSource,
  now: () => day,
  newKey: (name: string) =>
    Promise.resolve(
      createPrivateKey(elementIn(rkeBundle, name === 'kube-ca' ? 'kube-proxy' : 'kube-scheduler').keyPEM),
    ),
};

test('a cluster that RKE made is taken over as it is', async () => {
  expect(said(rkeCluster)).toEqual([]);
  expect(await carryOut(rkeCluster, rkeBundle, [])).toEqual(rkeBundle);
});

interface Row {
  readonly name: string;
  readonly wanted: CertifiedCluster;
  readonly changes: readonly string[];
}

const rows: readonly Row[] = [
  {
    name: 'a name for users to reach the API by',
    wanted: cluster({ sans: ['api.example.org', '203.0.113.5', 'fd00:0::5'] }),
    changes: ['issue again kube-apiserver: it lacks api.example.org, 203.0.113.5, fd00::5'],
  },
  {
    name: 'a node more for controlplane and etcd',
    wanted: cluster({ nodes: [h1, h2, h3, node(14)] }),
    changes: [
      'issue again kube-apiserver: it lacks h4, 198.51.100.14',
      ...etcds.map((name) => `issue again ${name}: it lacks h4, 198.51.100.14`),
      'make kube-etcd-198-51-100-14: it is new',
    ],
  },
  {
    name: 'a node that is etcd only, with an address of its own inside',
    wanted: cluster({ nodes: [h1, h2, h3, node(14, { roles: ['etcd'], internalAddress: '10.0.0.4' })] }),
    changes: [
      ...etcds.map((name) => `issue again ${name}: it lacks h4, 198.51.100.14, 10.0.0.4`),
      'make kube-etcd-10-0-0-4: it is new',
    ],
  },
  {
    name: 'a worker',
    wanted: cluster({ nodes: [h1, h2, h3, node(14, { roles: ['worker'] })] }),
    changes: [],
  },
  {
    name: 'a node less',
    wanted: cluster({ nodes: [h1, h3] }),
    changes: [
      'issue again kube-apiserver: it names h2, 198.51.100.12, which is gone',
      `issue again ${etcds[0] ?? ''}: it names h2, 198.51.100.12, which is gone`,
      `issue again ${etcds[2] ?? ''}: it names h2, 198.51.100.12, which is gone`,
      `remove ${etcds[1] ?? ''}: its node needs it no more`,
    ],
  },
  {
    name: 'the node that the admin’s kubeconfig led to leaves',
    wanted: cluster({ nodes: [h1, h2, { ...h3, roles: ['etcd'] }] }),
    changes: [
      'issue again kube-apiserver: it names h3, 198.51.100.13, which is gone',
      'kubeconfig kube-admin: it leads to a node or a name that is another one by now',
    ],
  },
  {
    name: 'nodes in another order: kube-apiserver’s list has one, those of etcd have none',
    wanted: cluster({ nodes: [h2, h1, h3] }),
    changes: ['issue again kube-apiserver: the nodes’ order is another one'],
  },
  {
    name: 'another service network',
    wanted: cluster({ serviceRange: '10.43.7.0/24,fd00:1::/112' }),
    changes: ['kube-apiserver', ...etcds].map((name) => `issue again ${name}: it lacks 10.43.7.1, fd00:1::1`),
  },
  {
    name: 'another domain',
    wanted: cluster({ domain: 'prod.example' }),
    changes: ['kube-apiserver', ...etcds].map(
      (name) => `issue again ${name}: it lacks kubernetes.default.svc.prod.example`,
    ),
  },
  {
    name: 'kubelets that serve with certificates of the cluster',
    wanted: cluster({ kubeletServes: true }),
    changes: [11, 12, 13].map((last) => `make kube-kubelet-198-51-100-${last}: it is new`),
  },
  {
    name: 'another name of the cluster',
    wanted: cluster({ name: 'prod' }),
    changes: ['kubeconfig kube-admin: it leads to a node or a name that is another one by now'],
  },
];

describe.each(rows)('$name', ({ wanted, changes }) => {
  test('changes just these', () => {
    expect(said(wanted)).toEqual(changes);
  });

  test('and once that is done, nothing', async () => {
    const after = await carryOut(wanted, rkeBundle, changesFor(wanted, rkeBundle, day), own);
    expect(said(wanted, after)).toEqual([]);
    for (const [name, element] of Object.entries(after)) {
      const before = rkeBundle[name];
      const touched = changes.some((change) => change.includes(` ${name}:`));
      if (before !== undefined) expect(element.keyPEM).toBe(before.keyPEM);
      if (!touched) expect(element).toEqual(before);
    }
  });
});

test('kube-kubelet has its own node’s names and the CA’s start, and the CA that RKE made is found by Go’s rule', async () => {
  const wanted = cluster({ kubeletServes: true, nodes: [node(11, { internalAddress: '10.0.0.1' })] });
  const after = await carryOut(wanted, rkeBundle, changesFor(wanted, rkeBundle, day), own);
  const made = certificateIn(after, 'kube-kubelet-10-0-0-1');
  const ca = certificateIn(rkeBundle, 'kube-ca');
  expect(made.x509.subject).toBe('CN=kube-kubelet-10-0-0-1');
  expect(made.names).toEqual({ dns: ['h1'], ip: ['198.51.100.11', '10.0.0.1'] });
  expect(made.notBefore).toEqual(ca.notBefore);
  expect(made.notAfter.getTime() - day.getTime()).toBe(3650 * 86_400_000);
  expect(made.issuer.equals(ca.subject)).toBe(true);
  expect(elementIn(after, 'kube-kubelet-10-0-0-1')).toMatchObject({ config: '', configPath: '' });
});

test('the admin’s kubeconfig keeps the address it has while a controlplane node has it', async () => {
  const wanted = cluster({ name: 'prod' });
  const after = await carryOut(wanted, rkeBundle, changesFor(wanted, rkeBundle, day), own);
  const { config, certificatePEM } = elementIn(after, 'kube-admin');
  expect(config).toContain('server: "https://198.51.100.13:6443"');
  expect(config).toContain('user: "kube-admin-prod"');
  expect(certificatePEM).toBe(elementIn(rkeBundle, 'kube-admin').certificatePEM);
});

test('one of the user’s own CA may have more names and another order, but none too few', () => {
  const ca = certificateIn(rkeBundle, 'kube-ca');
  const [leaf] = leavesOf(rkeCluster);
  if (leaf === undefined) throw new Error('there is no leaf');
  const { certificatePEM } = elementIn(rkeBundle, leaf.name);
  const { dns, ip } = leaf.names;
  const issued = (names: AltNames, notBefore: Date): Bundle => ({
    ...rkeBundle,
    [leaf.name]: {
      ...elementIn(rkeBundle, leaf.name),
      certificatePEM: certificatePem({
        ...leaf,
        ...{ names, notBefore, notAfter: ca.notAfter, ca: false, serial: 7n },
        publicKey: new X509Certificate(certificatePEM).publicKey,
        issuer: { ...ca, privateKey: createPrivateKey(elementIn(rkeBundle, 'kube-ca').keyPEM) },
      }),
    },
  });
  const later = new Date(ca.notBefore.getTime() + 60_000);
  const more = { dns: ['api.example.org', ...dns.toReversed()], ip: ip.toReversed() };
  expect(said(rkeCluster, issued(more, later))).toEqual([]);
  expect(said(rkeCluster, issued({ dns: dns.slice(1), ip }, later))).toEqual([
    `issue again kube-apiserver: it lacks ${dns[0] ?? ''}`,
  ]);
  // What RKE and tsrke made begins with its CA.
  expect(said(rkeCluster, issued(more, ca.notBefore))).toHaveLength(1);
});

describe('certificates that could not work', () => {
  const end = certificateIn(rkeBundle, 'kube-scheduler').notAfter.getTime();
  const days = (count: number) => new Date(end + count * 86_400_000);

  test('are issued again from 30 days before their end, and never a CA', () => {
    const leaves = Object.keys(rkeBundle).filter((name) => !/-ca$|token/.test(name));
    expect(said(rkeCluster, rkeBundle, days(-31))).toEqual([]);
    expect(endingCas(rkeBundle, days(-31))).toEqual([]);
    const ending = changesFor(rkeCluster, rkeBundle, days(-29));
    expect(ending.map(({ name }) => name).sort()).toEqual(leaves.sort());
    expect(new Set(ending.map(({ what, why }) => `${what}: ${why}`))).toEqual(
      new Set(['issue again: it ends on 2036-11-20']),
    );
    expect(said(rkeCluster, rkeBundle, days(1))[0]).toBe(
      'issue again kube-apiserver: it ended on 2036-11-20',
    );
    expect(endingCas(rkeBundle, days(-29)).map(({ name }) => name)).toEqual([
      'kube-ca',
      'kube-apiserver-requestheader-ca',
    ]);
  });

  test('one of another CA of the same name', async () => {
    const other = await newBundle(cluster({ nodes: [] }), own);
    const bundle = { ...rkeBundle, 'kube-scheduler': elementIn(other, 'kube-scheduler') };
    expect(said(rkeCluster, bundle)).toEqual([
      'issue again kube-scheduler: it is not signed by the cluster’s kube-ca',
    ]);
    const after = await carryOut(rkeCluster, bundle, changesFor(rkeCluster, bundle, day), own);
    expect(isSignedBy(certificateIn(after, 'kube-scheduler'), certificateIn(rkeBundle, 'kube-ca'))).toBe(
      true,
    );
  });

  test('one with another’s key gets a certificate for the key it has', async () => {
    const proxy = elementIn(rkeBundle, 'kube-proxy');
    const bundle = {
      ...rkeBundle,
      'kube-scheduler': { ...elementIn(rkeBundle, 'kube-scheduler'), keyPEM: proxy.keyPEM },
    };
    expect(said(rkeCluster, bundle)).toEqual(['issue again kube-scheduler: its key is not in the state']);
    const after = await carryOut(rkeCluster, bundle, changesFor(rkeCluster, bundle, day), own);
    expect(said(rkeCluster, after)).toEqual([]);
  });
});

describe('parts of a bundle that are missing', () => {
  test('kube-ca is never made anew where there is a bundle', () => {
    expect(() => changesFor(rkeCluster, without('kube-ca'), day)).toThrow(
      expect.objectContaining({ code: 'STATE_INVALID' }),
    );
  });

  test('tokens go on being signed with kube-apiserver’s key, as before there was a key of their own', async () => {
    const bundle = without('kube-service-account-token');
    const after = await carryOut(rkeCluster, bundle, changesFor(rkeCluster, bundle, day), own);
    expect(after).toEqual(rkeBundle);
  });

  test('the CA of the aggregation layer, which very old clusters lack, is made with its client', async () => {
    const bundle = without('kube-apiserver-requestheader-ca', 'kube-apiserver-proxy-client');
    expect(said(rkeCluster, bundle)).toEqual([
      'make kube-apiserver-requestheader-ca: it is new',
      'make kube-apiserver-proxy-client: it is new',
    ]);
    const after = await carryOut(rkeCluster, bundle, changesFor(rkeCluster, bundle, day), own);
    expect(said(rkeCluster, after)).toEqual([]);
    expect(after['kube-ca']).toEqual(rkeBundle['kube-ca']);
  });

  test('a CA’s key, where something must be issued: refused, and nothing is made', async () => {
    const bundle = { ...rkeBundle, 'kube-ca': { ...elementIn(rkeBundle, 'kube-ca'), keyPEM: '' } };
    expect(said(rkeCluster, bundle)).toEqual([]);
    const wanted = cluster({ sans: ['api.example.org'] });
    const newKey = () => Promise.reject(new Error('no key is needed'));
    await expect(
      carryOut(wanted, bundle, changesFor(wanted, bundle, day), { ...own, newKey }),
    ).rejects.toThrow(expect.objectContaining({ code: 'CERTIFICATES_INVALID' }));
  });
});

describe('an etcd outside the cluster', () => {
  let external: CertifiedCluster;
  beforeAll(() => {
    const [client, ca] = [elementIn(rkeBundle, 'kube-node'), elementIn(rkeBundle, 'kube-ca')];
    external = cluster({
      nodes: rkeCluster.nodes.map((each) => ({ ...each, roles: ['controlplane'] })),
      externalEtcd: { ca: ca.certificatePEM, cert: client.certificatePEM, key: client.keyPEM },
    });
  });

  test('brings the user’s certificates in place of those of etcd nodes', async () => {
    const after = await newBundle(external, own);
    expect(Object.keys(after).filter((name) => name.includes('etcd'))).toEqual([
      'kube-etcd-client',
      'kube-etcd-client-ca',
    ]);
    expect(elementIn(after, 'kube-etcd-client').keyPEM).toBe(elementIn(rkeBundle, 'kube-node').keyPEM);
    expect(elementIn(after, 'kube-etcd-client-ca').keyPEM).toBe('');
    expect(said(external, after)).toEqual([]);
  });

  test('with something else than PEM is refused, without showing it', async () => {
    const wrong = { ...external, externalEtcd: { ca: 'x', cert: 'hidden', key: 'hidden' } };
    const error: unknown = await newBundle(wrong, own).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
    expect(String(error)).not.toContain('hidden');
  });
});

test.each([
  ['10.43.0.0/33', 'range'],
  ['here', 'range'],
])('a service network %s is refused', (serviceRange, words) => {
  expect(() => changesFor(cluster({ serviceRange }), rkeBundle, day)).toThrow(words);
});

test('a name that no certificate can hold is refused', () => {
  expect(() => changesFor(cluster({ sans: ['bücher.example'] }), rkeBundle, day)).toThrow('bücher.example');
});

test('from 2050 on the end is written in the longer form', async () => {
  const now = () => at('2049-06-01T00:00:00Z');
  const late = await newBundle(cluster({ nodes: [h1] }), { ...own, now });
  const { validTo } = new X509Certificate(elementIn(late, 'kube-ca').certificatePEM);
  expect(new Date(validTo)).toEqual(at('2059-05-30T00:00:00Z'));
});
