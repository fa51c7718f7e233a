/** `tsrke remove` in the lab's model: what is left of a cluster on its hosts, and who may be in its way. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { statePathOf } from '../../src/config/load.ts';
import { Effects, type Effect, type Fault } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { ClusterLock } from '../../src/provision/lock.ts';
import { remove } from '../../src/provision/remove.ts';
import type { Owner } from '../../src/state/lock.ts';
import { linksInto } from './lab-links.ts';
import { MemoryLab } from './memory-lab.ts';
import { silent } from './silent.ts';

const { signal } = new AbortController();
const written: string[] = [];
afterEach(() => {
  for (const path of written.splice(0)) rmSync(path, { force: true });
});

async function cluster(): Promise<MemoryLab> {
  const lab = new MemoryLab({ nodes: 3, bare: true, encrypted: true });
  const { error, notes } = await lab.up();
  expect(error, notes.join('\n')).toBeUndefined();
  const state = statePathOf(lab.configs.on);
  writeFileSync(state, '{}');
  written.push(state, `${state}.removed`);
  return lab;
}

async function removed(lab: MemoryLab, faultOf?: (effect: Effect) => Fault | undefined) {
  const notes: string[] = [];
  const effects = new Effects({ clock: lab.clock, ...(faultOf === undefined ? {} : { faultOf }) });
  const report = { ...silent, note: (_level: string, text: string) => void notes.push(text) };
  const options = { configPath: lab.configs.on, report, signal, confirm: () => Promise.resolve(true) };
  const run = remove(options, { store: lab.store.through(effects), link: labLink(lab.model, effects) });
  const said = await Promise.race([run, effects.died]).catch((error: unknown) => error as Error);
  effects.kill();
  return { said, effects, notes };
}

/** As cri-dockerd makes them, with a Secret's volume of each. */
function givePods(lab: MemoryLab): void {
  const now = lab.clock.now().getTime();
  for (const { name } of lab.model.nodes) {
    const engine = lab.model.engine(name);
    const [image = ''] = engine.images.keys();
    for (const part of ['POD', 'coredns']) {
      engine.create(`k8s_${part}_coredns-x1_kube-system_0f1e-2d3c_0`, { Image: image }, now);
    }
    // A run of RKE's that was cut off has left one, with keys in its environment.
    engine.create('cert-deployer', { Image: image }, now);
    engine.create('registry', { Image: image }, now);
    const host = lab.model.host(name);
    const volume = '/var/lib/kubelet/pods/0f1e/volumes/kubernetes.io~secret/token';
    host.mount(volume);
    host.write(`${volume}/token`, Buffer.from('geheim'));
    host.write('/var/lib/kubelet/pods/0f1e/etc-hosts', Buffer.from('127.0.0.1'));
    host.write('/run/flannel/subnet.env', Buffer.from('FLANNEL_MTU=1450'));
    host.write('/var/log/pods/kube-system_coredns/0.log', Buffer.from('ready'));
    host.write('/opt/rke/etcd-snapshots/daily.zip', Buffer.from('snapshot'));
    host.write('/var/lib/other/data', Buffer.from('of somebody else'));
  }
}

it('leaves the hosts as they were, but for snapshots, images and what is not of the cluster', async () => {
  const lab = await cluster();
  givePods(lab);
  const { said } = await removed(lab);
  expect(said).toMatch(
    /^\d+ containers on 3 hosts, and all data .* removed; images stay; the state is kept as/,
  );
  for (const { name } of lab.model.nodes) {
    const host = lab.model.host(name);
    expect(lab.model.engine(name).containers.map((each) => each.name)).toEqual(['registry']);
    expect(host.mounts).toEqual([]);
    expect([...host.files.keys()].sort()).toEqual([
      '/opt/rke/etcd-snapshots/daily.zip',
      '/var/lib/other/data',
    ]);
    for (const folder of [
      ...['/etc/kubernetes', '/etc/cni', '/opt/cni', '/var/lib/etcd', '/var/lib/kubelet', '/var/lib/cni'],
      ...['/run/flannel', '/var/lib/cri-dockerd', '/var/log/pods', '/var/lib/rancher'],
    ]) {
      expect([folder, host.hasFolder(folder)]).toEqual([folder, false]);
    }
    expect(host.hasFolder('/var/lib')).toBe(true);
  }
  expect(existsSync(`${statePathOf(lab.configs.on)}.removed`)).toBe(true);
});

it('cut off with mounts still there, the next run goes on', async () => {
  const lab = await cluster();
  givePods(lab);
  let met = false;
  await removed(lab, ({ what }) => {
    if (met || !/tsrke-files\/start on cp-2/.test(what)) return undefined;
    met = true;
    return { kind: 'killed', when: 'before' };
  });
  expect(met).toBe(true);
  const { said } = await removed(lab);
  expect(said).toMatch(/removed/);
  for (const { name } of lab.model.nodes) {
    expect(lab.model.engine(name).containers.map((each) => each.name)).toEqual(['registry']);
    expect(lab.model.host(name).hasFolder('/var/lib/kubelet')).toBe(false);
  }
});

const elsewhere: Owner = {
  ...{ host: 'another-machine', boot: 'b', pid: 7, started: '1' },
  since: '2025-01-01T00:00:00Z',
};

it('waits for no other run: while one is at work elsewhere nothing is touched', async () => {
  const lab = await cluster();
  const { kube, markers } = linksInto(lab.model, lab.clock);
  const names = lab.model.nodes.map(({ name }) => name);
  const lock = new ClusterLock({
    ...{ kube, markers, clock: lab.clock, report: silent, owner: elsewhere },
    nodes: () => names,
  });
  await lock.acquire(signal);
  const before = lab.model.engine('cp-1').containers.length;
  const { said } = await removed(lab);
  expect(said).toMatchObject({ code: 'LOCKED' });
  expect(lab.model.engine('cp-1').containers.length).toBe(before);
  await lock.release();
  expect((await removed(lab)).said).toMatch(/removed/);
});

it('a cluster that does not serve any more is removed all the same', async () => {
  const lab = await cluster();
  for (const { name } of lab.model.nodes) {
    const engine = lab.model.engine(name);
    engine.stop(engine.get('etcd'), lab.clock.now().getTime());
    engine.stop(engine.get('kube-apiserver'), lab.clock.now().getTime());
  }
  const { said } = await removed(lab);
  expect(said).toMatch(/removed/);
  for (const { name } of lab.model.nodes) expect(lab.model.engine(name).containers).toEqual([]);
});
