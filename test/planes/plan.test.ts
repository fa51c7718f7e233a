import { describe, expect, test } from 'vitest';
import type { SeenService } from '../../src/ports.ts';
import type { ServiceName } from '../../src/services/container.ts';
import { bare, host, planesFrom, sightOf, state, toldOf } from './seen.ts';

const all = () => [host('h1'), host('h2'), host('h3')];

/** h1 with another container, or without it. */
function h1(name: ServiceName, change?: (seen: SeenService) => SeenService) {
  const seen = host('h1');
  const services = new Map(seen.services);
  const found = services.get(name);
  if (found === undefined) throw new Error(`no ${name}`);
  if (change === undefined) services.delete(name);
  else services.set(name, change(found));
  return { ...seen, services };
}

const withArg = (from: string, to: string) => (seen: SeenService) => {
  const { Entrypoint } = seen.inspect.Config;
  const words = [Entrypoint ?? []].flat().map((word) => (word === from ? to : word));
  return { ...seen, inspect: { ...seen.inspect, Config: { ...seen.inspect.Config, Entrypoint: words } } };
};

test('a cluster as RKE left it wants nothing', () => {
  expect(toldOf(planesFrom(), sightOf(all()))).toEqual([]);
});

test('bare hosts get everything, in the order of planes', () => {
  const planes = planesFrom();
  const sight = sightOf(planes.rke.nodes.map(bare));
  expect(toldOf({ ...planes, recorded: undefined }, sight).filter((line) => !/ h[23]: /.test(line))).toEqual([
    'images:',
    '  h1: pull rancher/mirrored-coreos-etcd:v3.5.12, rancher/rke-tools:v0.1.103, rancher/hyperkube:v1.30.5-rancher1',
    'certificates and files:',
    '  h1: write 32 files below /etc/kubernetes',
    'etcd:',
    '  h1: create etcd',
    'control plane:',
    '  h1: create service-sidekick',
    '  h1: create kube-apiserver',
    '  h1: create kube-controller-manager',
    '  h1: create kube-scheduler',
    'worker plane:',
    '  h1: create kubelet',
    '  h1: create kube-proxy',
  ]);
});

describe('on a cluster that is there', () => {
  test('a missing container is made, and no other is touched', () => {
    const nodes = [h1('kube-scheduler'), host('h2'), host('h3')];
    expect(toldOf(planesFrom(), sightOf(nodes))).toEqual([
      'controlplane nodes:',
      '  h1: create kube-scheduler',
    ]);
  });

  test('a kubelet with another argument is made anew while the node takes no pods', () => {
    const nodes = [h1('kubelet', withArg('--v=2', '--v=4')), host('h2'), host('h3')];
    expect(toldOf(planesFrom(), sightOf(nodes))).toEqual([
      'controlplane nodes:',
      '  h1: take no new pods (cordon)',
      '  h1: make kubelet anew (argument --v: 4 in the container, 2 wanted)',
      '  h1: take pods again (uncordon)',
    ]);
  });

  test('what belongs to encryption is left to its engine: the flag, whether it is there or not', () => {
    const flag = '--encryption-provider-config=/etc/kubernetes/ssl/encryption.yaml';
    const nodes = [h1('kube-apiserver', withArg(flag, '--profiling=false')), host('h2'), host('h3')];
    expect(toldOf(planesFrom(), sightOf(nodes))).toEqual([]);
  });

  test('a certificate that lies there no more comes back, and its readers start again', () => {
    const seen = host('h1');
    const files = new Map(seen.files);
    files.delete('/etc/kubernetes/ssl/kube-proxy.pem');
    const nodes = [{ ...seen, files }, host('h2'), host('h3')];
    expect(toldOf(planesFrom(), sightOf(nodes))).toEqual([
      'certificates and files:',
      '  h1: write /etc/kubernetes/ssl/kube-proxy.pem',
      'controlplane nodes:',
      '  h1: restart kube-proxy (it has not read kube-proxy.pem)',
    ]);
  });

  test('after a change of certificates that was cut off, readers start again although the files are there', () => {
    const cut = state();
    const current = cut.document.currentState?.certificatesBundle?.['kube-scheduler'];
    if (current === undefined) throw new Error('no certificate');
    current['certificatePEM'] = 'an older one';
    expect(toldOf(planesFrom(cut), sightOf(all()))).toEqual([
      'controlplane nodes:',
      ...['h1', 'h2', 'h3'].map(
        (name) => `  ${name}: restart kube-scheduler (it has not read kube-scheduler.pem)`,
      ),
    ]);
  });
});
