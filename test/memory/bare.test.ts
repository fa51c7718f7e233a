/** Bare hosts of the lab: what becomes of them follows from the containers, files and data that somebody puts there. */
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Bundle } from '../../src/certificates/bundle.ts';
import { certifiedClusterOf } from '../../src/certificates/cluster.ts';
import { newBundle } from '../../src/certificates/issue.ts';
import { certificatePath } from '../../src/certificates/paths.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import { createBundle } from '../../src/lab/certificates.ts';
import { Effects } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { labMembership } from '../../src/lab/membership.ts';
import { LabModel } from '../../src/lab/model.ts';
import { plainConfig } from '../../src/lab/rke.ts';
import type { LabNode } from '../../src/lab/surface.ts';
import type { EtcdMembership } from '../../src/ports.ts';
import type { Links } from '../../src/provision/links.ts';
import { dockerHostOf } from '../../src/services/cluster.ts';
import type { Container, ServiceName } from '../../src/services/container.ts';
import { driftOf } from '../../src/services/drift.ts';
import { filesOf, servicesOf } from '../../src/services/services.ts';
import { linksInto } from './lab-links.ts';
import { silent } from './silent.ts';

const { signal } = new AbortController();
const hosts: readonly LabNode[] = [
  { name: 'cp-1', address: '198.51.100.11' },
  { name: 'cp-2', address: '198.51.100.12' },
  { name: 'cp-3', address: '198.51.100.13' },
  { name: 'worker-1', address: '198.51.100.14', roles: ['worker'] },
];
const config = plainConfig(hosts, false, false);
const image = config.systemImages['alpine'] ?? '';
const data = '/var/lib/etcd';

let bundle: Bundle;
let strange: Bundle;
let clock: VirtualClock;
let model: LabModel;
let links: Links;
let members: EtcdMembership;

beforeAll(async () => {
  bundle = await createBundle({ nodes: hosts, clusterName: 'lab' });
  strange = await newBundle(certifiedClusterOf(config, './cluster.yml'));
});

beforeEach(() => {
  clock = new VirtualClock();
  model = new LabModel({ nodes: hosts, clock, bare: true });
  const effects = new Effects({ clock });
  links = labLink(
    model,
    effects,
  )({
    config: { raw: {} } as never,
    nodes: [],
    ca: '',
    admin: { cert: '', key: '' },
    hostKeys: {},
    report: silent,
  });
  members = labMembership(
    model,
    effects,
    hosts.slice(0, 3).map(({ name, address }) => ({ node: name, url: `https://${address}:2379` })),
  );
});

async function containersOf(name: string, joining: readonly string[] = []): Promise<Container[]> {
  const node = config.nodes.find(({ hostnameOverride }) => hostnameOverride === name);
  if (node === undefined) throw new Error(name);
  const host = dockerHostOf(await links.services.info(name, signal), name);
  return servicesOf(node, host, { rke: config, encrypted: false, joining: new Set(joining) });
}

async function deliver(name: string, from = bundle): Promise<void> {
  const node = config.nodes.find(({ hostnameOverride }) => hostnameOverride === name);
  if (node === undefined) throw new Error(name);
  const host = dockerHostOf(await links.services.info(name, signal), name);
  const files = [
    ...filesOf(node, host, { rke: config, encrypted: false }),
    ...Object.entries(from)
      .filter(([each]) => each !== 'kube-admin')
      .flatMap(([, { path, certificatePEM, keyPath, keyPEM, configPath, config: text }]) => [
        { path, text: certificatePEM },
        { path: keyPath, text: keyPEM },
        ...(configPath === '' ? [] : [{ path: configPath, text }]),
      ]),
  ];
  await links.services.needImage(name, image, signal);
  await links.hostFiles.deliver(name, { image, folder: '/etc/kubernetes', files }, signal);
}

async function make(
  name: string,
  services: readonly ServiceName[],
  change: (container: Container) => Container = (each) => each,
): Promise<void> {
  for (const container of await containersOf(name)) {
    if (!services.includes(container.name)) continue;
    await links.services.needImage(name, container.image, signal);
    await links.services.create(name, change(container), signal);
  }
}

const client = () => ({
  cert: bundle['kube-node']?.certificatePEM ?? '',
  key: bundle['kube-node']?.keyPEM ?? '',
});

async function etcdHealth(name: string): Promise<string | undefined> {
  const { address } = hosts.find((each) => each.name === name) ?? { address: '' };
  return await links.health.ask(name, { url: `https://${address}:2379/health` }, client(), signal);
}

/** Another list of members, and that there is a cluster already. */
const joins = (names: readonly string[]) => (container: Container) => ({
  ...container,
  command: (container.command ?? []).map((word) => {
    const peers = names.map((name) => {
      const { address } = hosts.find((each) => each.name === name) ?? { address: '' };
      return `etcd-${name}=https://${address}:2380`;
    });
    if (word.startsWith('--initial-cluster=')) return `--initial-cluster=${peers.join()}`;
    return word.replace('--initial-cluster-state=new', '--initial-cluster-state=existing');
  }),
});

const founds = (names: readonly string[]) => (container: Container) => {
  const { command } = joins(names)(container);
  return { ...container, command: command.map((word) => word.replace('state=existing', 'state=new')) };
};

async function lastWords(name: string, service: ServiceName): Promise<string> {
  clock.advance(400);
  model.advance();
  return (await links.services.logs(name, service, 5, signal)).join('\n');
}

it('has nothing, and takes what Docker brings', async () => {
  expect((await links.services.list('cp-1', signal)).size).toBe(0);
  expect(await links.hostFiles.list('cp-1', signal)).toBeUndefined();
  expect(model.host('cp-1').files.size).toBe(0);
  expect(model.listening('cp-1', 6443, true)).toBeUndefined();
  await links.services.needImage('cp-1', image, signal);
  expect(await links.hostFiles.holdsAnything('cp-1', { image, path: data }, signal)).toBe(false);
  expect(await links.hostFiles.free('cp-1', { image, path: data }, signal)).toBeGreaterThan(1e9);
  await expect(links.services.needImage('cp-1', 'rancher/none:v1', signal)).rejects.toMatchObject({
    code: 'DOCKER',
  });
});

describe('etcd', () => {
  it('answers once more than half of those in its list run', async () => {
    for (const name of ['cp-1', 'cp-2']) {
      await deliver(name);
      await make(name, ['etcd']);
      expect(await etcdHealth('cp-1')).toBe(
        name === 'cp-1' ? 'answers 503: {"health":"false","reason":"RAFT NO LEADER"}' : undefined,
      );
    }
    expect(await links.hostFiles.holdsAnything('cp-1', { image, path: data }, signal)).toBe(true);
    const seen = await members.list(signal);
    expect(seen.map(({ name, learner, clientUrls }) => [name, learner, clientUrls.length])).toEqual([
      ['etcd-cp-1', false, 1],
      ['etcd-cp-2', false, 1],
      ['etcd-cp-3', false, 0],
    ]);
    expect(
      await links.health.ask('cp-1', { url: 'https://198.51.100.11:2379/health' }, undefined, signal),
    ).toContain('certificate');
    model.powerOff('cp-1');
    await expect(members.list(signal)).rejects.toMatchObject({ code: 'ETCD' });
    model.powerOn('cp-1');
    expect(await members.list(signal)).toHaveLength(3);
  });

  it('does not start without its certificate, and hears nobody of another CA', async () => {
    await links.services.needImage('cp-1', image, signal);
    await make('cp-1', ['etcd']);
    expect(await lastWords('cp-1', 'etcd')).toContain('kube-ca.pem: no such file or directory');
    await deliver('cp-1');
    await deliver('cp-2', strange);
    clock.advance(60_000);
    await make('cp-2', ['etcd']);
    expect(await etcdHealth('cp-1')).toContain('RAFT NO LEADER');
  });

  it('takes one more where it was added, by exactly the list of the moment', async () => {
    await deliver('cp-1');
    await make('cp-1', ['etcd'], founds(['cp-1']));
    await deliver('cp-2');
    clock.advance(10_000);
    await make('cp-2', ['etcd'], joins(['cp-1', 'cp-2']));
    expect(await lastWords('cp-2', 'etcd')).toContain('member count is unequal');
    await links.services.remove('cp-2', 'etcd', signal);
    await members.addLearner('https://198.51.100.12:2380', signal);
    const [, added] = await members.list(signal);
    expect(added).toMatchObject({ name: '', learner: true });
    expect(await members.promote(added?.id ?? '', signal)).toBe(false);
    await make('cp-2', ['etcd'], joins(['cp-1', 'cp-2']));
    clock.advance(1_000);
    expect(await members.health('https://198.51.100.12:2379', signal)).toContain('learner');
    expect(await members.promote(added?.id ?? '', signal)).toBe(true);
    expect(await members.health('https://198.51.100.12:2379', signal)).toBeUndefined();
    // Both votes are needed now; and it waits for 5 s until it has settled.
    const before = clock.now().getTime();
    await members.addLearner('https://198.51.100.13:2380', signal);
    expect(clock.now().getTime() - before).toBeGreaterThan(2_000);
    model.powerOff('cp-2');
    await expect(members.list(signal)).rejects.toMatchObject({ code: 'ETCD' });
  });

  it('lets one go: it ends, and never comes back with the data it has', async () => {
    for (const name of ['cp-1', 'cp-2', 'cp-3']) {
      await deliver(name);
      await make(name, ['etcd']);
    }
    clock.advance(10_000);
    const third = (await members.list(signal)).find(({ name }) => name === 'etcd-cp-3');
    await members.remove(third?.id ?? '', signal);
    expect(await lastWords('cp-3', 'etcd')).toContain('permanently removed');
    await links.services.restart('cp-3', 'etcd', signal);
    expect(await lastWords('cp-3', 'etcd')).toContain('permanently removed');
    // One of two that is down may not cost the quorum of the other.
    model.powerOff('cp-2');
    await expect(members.list(signal)).rejects.toMatchObject({ code: 'ETCD' });
  });

  it('knows one whose data are gone, and does not take it for a new one', async () => {
    for (const name of ['cp-1', 'cp-2', 'cp-3']) {
      await deliver(name);
      await make(name, ['etcd']);
    }
    const { clusterId } = model.store;
    await links.services.remove('cp-3', 'etcd', signal);
    await links.hostFiles.empty('cp-3', { image, paths: [data] }, signal);
    await make('cp-3', ['etcd']);
    expect(await lastWords('cp-3', 'etcd')).toContain('has already been bootstrapped');
    for (const name of ['cp-1', 'cp-2', 'cp-3']) {
      await links.services.remove(name, 'etcd', signal);
      await links.hostFiles.empty(name, { image, paths: [data] }, signal);
    }
    for (const name of ['cp-1', 'cp-2']) await make(name, ['etcd']);
    expect(await etcdHealth('cp-2')).toBeUndefined();
    expect(model.store.clusterId).not.toBe(clusterId);
  });
});

describe('a cluster', () => {
  const everything: readonly ServiceName[] = [
    ...(['etcd', 'service-sidekick', 'nginx-proxy', 'kube-apiserver'] as const),
    ...(['kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy'] as const),
  ];
  const nodes = async (at: string) => {
    const answer = await links.kube.request(at, { method: 'GET', path: '/api/v1/nodes' }, signal);
    const { items } = JSON.parse(answer.text) as {
      items: { metadata: { name: string }; status: { conditions: { status: string }[] } }[];
    };
    return items.map(({ metadata, status }) => `${metadata.name} ${status.conditions[0]?.status ?? ''}`);
  };

  /** As RKE lets kubelets in. */
  const grant = async (at: string) => {
    const rbac = 'rbac.authorization.k8s.io';
    const answer = await links.kube.request(
      at,
      {
        method: 'PATCH',
        path: `/apis/${rbac}/v1/clusterrolebindings/system:node?fieldManager=tsrke&force=true`,
        contentType: 'application/apply-patch+yaml',
        body: {
          ...{ apiVersion: `${rbac}/v1`, kind: 'ClusterRoleBinding', metadata: { name: 'system:node' } },
          roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'system:node' },
          subjects: [{ apiGroup: rbac, kind: 'Group', name: 'system:nodes' }],
        },
      },
      signal,
    );
    expect(answer.status).toBe(200);
  };

  it('comes from containers and files: kube-apiservers serve, kubelets register their nodes', async () => {
    for (const { name } of hosts) await deliver(name);
    for (const { name } of hosts) await make(name, everything);
    clock.advance(5_000);
    expect(await nodes('cp-1')).toEqual([]);
    await grant('cp-1');
    expect(await nodes('cp-1')).toEqual(['cp-1 True', 'cp-2 True', 'cp-3 True', 'worker-1 True']);
    const ready = await links.kube.request('cp-2', { method: 'GET', path: '/readyz' }, signal);
    expect(ready.text).toBe('ok');
    for (const { name } of hosts) {
      const wanted = await containersOf(name);
      expect(driftOf(wanted, await links.services.list(name, signal))).toEqual([]);
      for (const { health } of wanted) {
        if (health === undefined) continue;
        expect(await links.health.ask(name, health, client(), signal)).toBeUndefined();
      }
    }
    // A worker that lost its way, and came back.
    await links.services.remove('worker-1', 'kubelet', signal);
    clock.advance(41_000);
    expect(await nodes('cp-1')).toContain('worker-1 Unknown');
    await make('worker-1', ['kubelet']);
    expect(await nodes('cp-1')).toContain('worker-1 True');
  });

  it('has no kube-apiserver without the files that its arguments name', async () => {
    await deliver('cp-1');
    const missing = certificatePath('kube-apiserver-requestheader-ca');
    model.host('cp-1').remove(missing);
    await make('cp-1', everything);
    expect(await lastWords('cp-1', 'kube-apiserver')).toContain(`open ${missing}: no such file or directory`);
  });

  it('has no kube-apiserver that is ready without etcd', async () => {
    await deliver('cp-1');
    await make('cp-1', everything);
    clock.advance(5_000);
    const ready = await links.kube.request('cp-1', { method: 'GET', path: '/readyz' }, signal);
    expect(ready.text).toContain('[-]etcd failed');
  });

  it('waits for a network plugin where the hosts have none', async () => {
    model = new LabModel({ nodes: hosts, clock, bare: true, hasNetwork: false });
    links = linksInto(model, clock);
    await deliver('cp-1');
    await make('cp-1', everything, (each) => (each.name === 'etcd' ? founds(['cp-1'])(each) : each));
    clock.advance(5_000);
    await grant('cp-1');
    expect(await nodes('cp-1')).toEqual(['cp-1 False']);
    model.store.put('/registry/daemonsets/kube-system/canal', Buffer.from('{}'));
    expect(await nodes('cp-1')).toEqual(['cp-1 True']);
  });
});
