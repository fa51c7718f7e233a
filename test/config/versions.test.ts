import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  atLeast,
  defaultVersion,
  knownVersions,
  kubernetesVersion,
  newestVersions,
  runsOnDocker,
  serviceOptions,
} from '../../src/config/versions.ts';

function version(text: string) {
  const found = kubernetesVersion(text);
  if (found === undefined) throw new Error(`${text} is no version`);
  return found;
}

describe('the catalogue', () => {
  test('has 61 versions, the newest of them the default', () => {
    expect(knownVersions).toHaveLength(61);
    expect(knownVersions.at(-1)).toBe(defaultVersion);
    expect(version(defaultVersion)).toMatchObject({ major: 1, minor: 30, known: true });
  });

  test('is in order, and complete for each version', () => {
    const minors = knownVersions.map((known) => version(known).minor);
    expect(minors).toEqual([...minors].sort((a, b) => a - b));
    for (const known of knownVersions) {
      const { systemImages } = version(known);
      expect(systemImages['kubernetes']).toBe(`rancher/hyperkube:${known.replace(/-\d+$/, '')}`);
      for (const image of ['etcd', 'alpine', 'podInfraContainer', 'nginxProxy', 'coredns', 'metricsServer']) {
        expect(systemImages[image]).toMatch(/^rancher\/.+:.+$/);
      }
    }
  });

  test.each([
    ['v1.24.2-rancher1-1', 'etcd', 'rancher/mirrored-coreos-etcd:v3.5.4'],
    ['v1.24.8-rancher1-1', 'alpine', 'rancher/rke-tools:v0.1.88'],
    ['v1.30.5-rancher1-1', 'nginxProxy', 'rancher/rke-tools:v0.1.103'],
    ['v1.24.2-rancher1-1', 'kubedns', 'rancher/mirrored-k8s-dns-kube-dns:1.21.1'],
    ['v1.29.9-rancher1-1', 'weaveNode', 'weaveworks/weave-kube:2.8.1'],
    ['v1.30.2-rancher1-1', 'weaveNode', undefined],
    ['v1.30.4-rancher1-1', 'aciHostContainer', 'noiro/aci-containers-host:6.0.4.3.81c2369'],
  ])('%s has %s %s', (known, image, wanted) => {
    expect(version(known).systemImages[image]).toBe(wanted);
  });

  test('says which arguments belong to a minor version', () => {
    expect(serviceOptions(version('v1.24.2-rancher1-1'))?.['kubeController']).toHaveProperty(
      'pod-eviction-timeout',
    );
    expect(serviceOptions(version('v1.30.5-rancher1-1'))?.['kubeController']).not.toHaveProperty(
      'pod-eviction-timeout',
    );
  });

  test.each<[string | undefined, string, boolean]>([
    ['v1.24.2-rancher1-1', '20.10.24', true],
    ['v1.24.2-rancher1-1', '25.0.1', false],
    ['v1.26.8-rancher1-1', '25.0.1', true],
    ['v1.30.5-rancher1-1', '27.2.0', true],
    ['v1.30.5-rancher1-1', '27.20.0', false],
    ['v1.30.5-rancher1-1', '1.13.1', true],
    ['v1.30.5-rancher1-1', '1.130.1', false],
    [undefined, '27.3.1', false],
    // Of these nobody can say.
    ['v1.31.1-rancher1-1', '99.0.0', true],
    ['my own', '99.0.0', true],
  ])('%s runs on Docker %s: %s', (kubernetes, docker, wanted) => {
    expect(runsOnDocker(kubernetes, docker)).toBe(wanted);
  });

  test('knows the arguments and Docker versions of each minor version that it has', () => {
    for (const known of newestVersions()) {
      expect(serviceOptions(version(known))).toHaveProperty('kubelet.authorization-mode', 'Webhook');
      expect(runsOnDocker(known, '0.9.1')).toBe(false);
    }
  });

  test('has one newest version of each minor version', () => {
    const newest = newestVersions();
    expect(newest.map((each) => version(each).minor)).toEqual([24, 25, 26, 27, 28, 29, 30]);
    expect(newest[0]).toBe('v1.24.17-rancher1-1');
    expect(newest.at(-1)).toBe(defaultVersion);
  });

  test('knows nothing of a minor version beyond it', () => {
    const later = version('v1.31.1-rancher1-1');
    expect(later).toMatchObject({ known: false, systemImages: {} });
    expect(serviceOptions(later)).toBeUndefined();
  });
});

test.each([
  '1.30.5-rancher1-1',
  'v1.30-rancher1-1',
  'v1.30.5',
  'v1.30.5-k3s1',
  'latest',
  '',
  'v1.30.5-rancher1-1 ',
])("%j is not a version in RKE's form", (text) => {
  expect(kubernetesVersion(text)).toBeUndefined();
});

test('at least compares minor versions', () => {
  fc.assert(
    fc.property(fc.nat(60), fc.nat(60), (minor, than) => {
      if (atLeast(version(`v1.${minor}.0-rancher1-1`), than) !== minor >= than) throw new Error('differs');
    }),
  );
});
