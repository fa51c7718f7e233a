/** The lab with kubelets: RKE's whole cluster, and hosts that have nothing yet. */
import { afterAll, expect, it } from 'vitest';
import { poll, type LabHost } from './lab.ts';
import { closeHosts, openRealLab, type RealLab } from './real-lab.ts';

afterAll(closeHosts);

interface Conditions {
  readonly metadata: { readonly name: string };
  readonly status: {
    readonly conditions?: readonly { type: string; status: string; message: string }[];
    readonly nodeInfo?: { readonly kubeletVersion: string };
  };
}

const conflist = JSON.stringify({
  cniVersion: '0.3.1',
  name: 'lab',
  plugins: [{ type: 'bridge', ipam: { type: 'host-local', subnet: '10.42.9.0/24' } }],
});

async function nodes(lab: RealLab, host: LabHost): Promise<readonly Conditions[]> {
  const { text } = await lab.kube(host, 'GET', '/api/v1/nodes');
  return (JSON.parse(text) as { items: Conditions[] }).items;
}

const ready = ({ status }: Conditions) => status.conditions?.find(({ type }) => type === 'Ready');

it('runs all containers of RKE; its nodes become ready with a network plugin', async () => {
  const lab = await openRealLab({ hosts: 3, encryption: 'on', kubelets: true });
  try {
    const [first] = lab.hosts;
    if (first === undefined) throw new Error('no host');
    await poll('a kubelet on each host', async () => {
      const waiting = (await nodes(lab, first)).map((node) => ready(node)?.message ?? 'silent');
      return waiting.every((message) => message.includes('cni plugin not initialized')) || waiting.join();
    });
    for (const host of lab.hosts) await host.writeFile('/etc/cni/net.d/10-lab.conflist', conflist, 0o600);
    await poll('all nodes to be ready', async () => {
      const all = (await nodes(lab, first)).map(ready);
      return all.every((condition) => condition?.status === 'True') || JSON.stringify(all);
    });
    expect((await nodes(lab, first)).map(({ status }) => status.nodeInfo?.kubeletVersion)).toEqual(
      lab.hosts.map(() => 'v1.34.4'),
    );
    for (const host of lab.hosts) {
      const containers = await host.docker.listContainers();
      expect(containers.map(({ Names: [name = ''] }) => name.slice(1)).toSorted()).toEqual([
        'etcd',
        'kube-apiserver',
        'kube-controller-manager',
        'kube-proxy',
        'kube-scheduler',
        'kubelet',
      ]);
    }
  } finally {
    await lab.close();
  }
});

it('has bare hosts with the images for a cluster, and new ones the next time', async () => {
  const options = {
    hosts: 3,
    bare: true,
    roles: [['controlplane', 'etcd'], ['etcd', 'worker'], ['worker']],
  } as const;
  const lab = await openRealLab(options);
  try {
    for (const host of lab.hosts) {
      expect(await host.docker.listContainers({ all: true })).toEqual([]);
      expect(await host.list('/etc/kubernetes')).toEqual([]);
      expect(await host.list('/var/lib/etcd')).toEqual([]);
      const images = (await host.docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? []);
      expect(images).toEqual(
        expect.arrayContaining([
          'rancher/hyperkube:v1.30.5-rancher1',
          'rancher/hyperkube:v1.30.4-rancher1',
          'rancher/mirrored-coreos-etcd:v3.5.12',
          'rancher/rke-tools:v0.1.103',
          'rancher/rke-tools:v0.1.102',
        ]),
      );
      await host.writeFile('/etc/kubernetes/left', 'behind', 0o600);
    }
    await expect(lab.kube(lab.hosts[0] as LabHost, 'GET', '/readyz')).rejects.toThrow('cluster.rkestate');
  } finally {
    await lab.close();
  }
  const next = await openRealLab({ ...options, hosts: 1 });
  try {
    expect(next.hosts).toHaveLength(1);
    expect(await next.hosts[0]?.list('/etc/kubernetes')).toEqual([]);
  } finally {
    await next.close();
  }
});
