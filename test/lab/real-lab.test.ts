/** The lab itself: its cluster is one, and survives what scenarios do to it. */
import { afterAll, expect, it } from 'vitest';
import { closeHosts, openRealLab } from './real-lab.ts';

afterAll(closeHosts);

it('stores secrets encrypted, and is back after a reboot', async () => {
  const lab = await openRealLab({ hosts: 1, encryption: 'on', secrets: 20 });
  try {
    const before = await lab.etcd.prefixes();
    expect(before.size).toBeGreaterThanOrEqual(21);
    expect(new Set(before.values())).toEqual(new Set(['k8s:enc:aescbc:v1:k-7mrb6:']));
    expect(before.has('/registry/secrets/kube-system/full-cluster-state')).toBe(true);

    const [host] = lab.hosts;
    if (host === undefined) throw new Error('no host');
    const started = (await host.inspect()).State.StartedAt;
    await host.reboot();
    await lab.ready();
    expect((await host.inspect()).State.StartedAt).not.toBe(started);
    expect(await lab.etcd.prefixes()).toEqual(before);
    const path = '/api/v1/namespaces/default/secrets/secret-00001';
    expect(await lab.kube(host, 'GET', path)).toMatchObject({ status: 200 });

    const clients = await lab.startClients();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    const { hosts, bothDown } = await clients.stop();
    expect(hosts['h1']).toMatchObject({ refused: 0, decryption: 0, other: [] });
    expect(hosts['h1']?.ok).toBeGreaterThan(20);
    expect(bothDown).toBe(0);
  } finally {
    await lab.close();
  }
});
