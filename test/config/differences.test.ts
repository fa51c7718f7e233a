import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describe, differences } from '../../src/config/differences.ts';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/rke-1.6.3/${name}`, import.meta.url));
const state = (
  JSON.parse(readFileSync(fixture('enabled.rkestate'), 'utf8')) as {
    currentState: { rkeConfig: Record<string, unknown> };
  }
).currentState.rkeConfig;
const own = readFileSync(fixture('cluster.yml'), 'utf8');

let folder = '';
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-differences-'))));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function compare(text: string, against: Record<string, unknown> = state) {
  const path = join(folder, 'cluster.yml');
  writeFileSync(path, text);
  return differences(loadConfig(path), against);
}

test.each(['enabled.rkestate', 'rotated.rkestate'])(
  "RKE's own cluster.yml says nothing else than %s",
  (name) => {
    const { desiredState, currentState } = JSON.parse(readFileSync(fixture(name), 'utf8')) as Record<
      'desiredState' | 'currentState',
      { rkeConfig: Record<string, unknown> }
    >;
    const config = loadConfig(fixture('cluster.yml'));
    expect(differences(config, desiredState.rkeConfig)).toEqual([]);
    expect(differences(config, currentState.rkeConfig)).toEqual([]);
  },
);

test.each<[string, string]>([
  ['encryption', own.replace('enabled: true', 'enabled: false')],
  [
    'how hosts are reached',
    own.replaceAll('id_ed25519', 'other') + 'ssh_agent_auth: true\nbastion_host: {address: b, user: u}\n',
  ],
  [
    'empty keys, as `rke config` writes them',
    own +
      'addons: ""\naddons_include: []\nprivate_registries: []\ncloud_provider: {name: ""}\nauthentication: {strategy: "", webhook: null}\naddon_job_timeout: 0\n',
  ],
  [
    'a default said aloud',
    own + 'prefix_path: /\nauthorization: {mode: rbac}\naddon_job_timeout: 45\nrestore: {restore: false}\n',
  ],
  ['numbers for text', own.replace('"0"', '0')],
  ['the order of roles', own.replace('[controlplane, etcd]', '[etcd, controlplane]')],
  ['the case of a name', own.replace('hostname_override: h1', 'hostname_override: H1')],
  [
    "a service's image, which RKE overwrites",
    own.replace('{snapshot: false}', '{snapshot: false, image: x}'),
  ],
])('no difference: %s', (_, text) => {
  expect(compare(text)).toEqual([]);
});

test.each<[string, string, { path: string; from: unknown; to: unknown }[]]>([
  [
    'another version',
    own.replace('v1.30.5-', 'v1.30.4-'),
    [{ path: 'kubernetes_version', from: 'v1.30.5-rancher1-1', to: 'v1.30.4-rancher1-1' }],
  ],
  [
    'an irregular key',
    own + 'upgrade_strategy: {node_drain_input: {ignore_daemonsets: false}}',
    [{ path: 'upgrade_strategy.node_drain_input.ignore_daemonsets', from: true, to: false }],
  ],
  [
    'an argument',
    own.replace('"0"', '"1"'),
    [{ path: 'services.kubeproxy.extra_args.conntrack-max-per-core', from: '0', to: '1' }],
  ],
  [
    'a role',
    own.replace('[controlplane, etcd]', '[controlplane]'),
    [{ path: 'nodes[198.51.100.11].role', from: ['controlplane', 'etcd'], to: ['controlplane'] }],
  ],
  [
    'a name',
    own.replace('hostname_override: h1', 'hostname_override: h9'),
    [{ path: 'nodes[198.51.100.11].hostname_override', from: 'h1', to: 'h9' }],
  ],
  [
    'a node replaced',
    own.replace('address: 198.51.100.13', 'address: 198.51.100.14'),
    [
      { path: 'nodes[198.51.100.14]', from: undefined, to: 'h3 (controlplane, etcd)' },
      { path: 'nodes[198.51.100.13]', from: 'h3 (controlplane, etcd)', to: undefined },
    ],
  ],
  [
    'a manifest, by its length',
    own + 'addons: |-\n  a: 1\n  password: hunter2\n',
    [{ path: 'addons', from: undefined, to: '[2 lines]' }],
  ],
  [
    'secrets, redacted',
    own + 'private_registries: [{url: r, password: hunter2}]\n',
    [{ path: 'private_registries', from: undefined, to: [{ url: 'r', password: '[redacted]' }] }],
  ],
  [
    'secrets in the environment, redacted',
    own.replace(
      '{snapshot: false}',
      '{snapshot: false, extra_env: ["AWS_SECRET_ACCESS_KEY=hunter2", "A=b"]}',
    ),
    [{ path: 'services.etcd.extra_env', from: undefined, to: ['AWS_SECRET_ACCESS_KEY=[redacted]', 'A=b'] }],
  ],
])('a difference: %s', (_, text, expected) => {
  expect(compare(text)).toEqual(expected);
});

/** The state of the cluster that this cluster.yml made, defaults and all. */
function stateOf(text: string): Record<string, unknown> {
  const path = join(folder, 'before.yml');
  writeFileSync(path, text);
  return JSON.parse(JSON.stringify(rkeConfigOf(loadConfig(path)))) as Record<string, unknown>;
}

/** Everything that a long cluster.yml may say, and that leaves traces in the state. */
const long = readFileSync(new URL('../../cluster.example.yml', import.meta.url), 'utf8');

test.each<[string, string]>([
  ['the long example', long],
  ['the smallest file', 'nodes: [{address: 192.0.2.1, user: u, role: [controlplane, etcd]}]\n'],
  [
    'with every part that has defaults of its own',
    `${own}authentication: {strategy: x509|webhook}
private_registries: [{url: r.example, user: u, password: hunter2, is_default: true}]
system_images: {etcd: "x/etcd:1"}
bastion_host: {address: b, user: u}
upgrade_strategy: {drain: true, node_drain_input: {force: true}}
cloud_provider: {vsphereCloudProvider: {virtual_center: {vc: {port: 443}}}}
`.replace(
      'kube-api:\n',
      'kube-api:\n    audit_log: {enabled: true, configuration: {max_age: 6}}\n    event_rate_limit: {enabled: true}\n    extra_args: {v: 4}\n',
    ),
  ],
])('no difference from the state that the file itself made: %s', (_, text) => {
  expect(compare(text, stateOf(text))).toEqual([]);
});

test.each<[string, string, string, string[]]>([
  [
    'an argument',
    own.replace('conntrack-max-per-core: "0"', 'conntrack-max-per-core: "0", v: "4"'),
    own,
    ['services.kubeproxy.extra_args.v: 4 in the state, not in cluster.yml'],
  ],
  [
    'a switch, whose default is another',
    own,
    own.replace('{snapshot: false}', '{}'),
    ['services.etcd.snapshot: false in the state, true in cluster.yml'],
  ],
  [
    'a number',
    own.replace('{snapshot: false}', '{snapshot: false, retention: 24h}'),
    own,
    ['services.etcd.retention: 24h in the state, 72h in cluster.yml'],
  ],
  [
    'a whole section',
    `${own}authentication: {sans: [api.example]}\naddons_include: [./a.yml]\n`,
    own,
    [
      'authentication.sans: ["api.example"] in the state, not in cluster.yml',
      'addons_include: ["./a.yml"] in the state, not in cluster.yml',
    ],
  ],
  [
    'a service',
    own.replace('{snapshot: false}', '{snapshot: false, extra_binds: ["/a:/a"]}'),
    own,
    ['services.etcd.extra_binds: ["/a:/a"] in the state, not in cluster.yml'],
  ],
  [
    'a label of a node',
    own.replace('hostname_override: h1', 'hostname_override: h1\n  labels: {zone: a}'),
    own,
    ['nodes[198.51.100.11].labels.zone: a in the state, not in cluster.yml'],
  ],
  [
    'a registry, and no image for it',
    `${own}private_registries: [{url: r.example, password: hunter2, is_default: true}]\n`,
    own,
    [
      'private_registries: [{"url":"r.example","password":"[redacted]","is_default":true}] in the state, not in cluster.yml',
    ],
  ],
  [
    "an image of one's own",
    `${own}system_images: {etcd: "x/etcd:1"}\n`,
    own,
    ['system_images.etcd: x/etcd:1 in the state, rancher/mirrored-coreos-etcd:v3.5.12 in cluster.yml'],
  ],
  [
    'a network, which is one difference and not all its options',
    own.replace('{plugin: none}', '{plugin: flannel}'),
    own.replace('network: {plugin: none}\n', ''),
    ['network.plugin: flannel in the state, canal in cluster.yml'],
  ],
  [
    'the version, which is one difference and not all its images',
    own.replace('v1.30.5-rancher1-1', 'v1.24.17-rancher1-1'),
    own.replace('kubernetes_version: v1.30.5-rancher1-1\n', ''),
    ['kubernetes_version: v1.24.17-rancher1-1 in the state, v1.30.5-rancher1-1 in cluster.yml'],
  ],
])('taken out of the file: %s', (_, before, text, wanted) => {
  expect(text).not.toBe(before);
  expect(compare(text, stateOf(before)).map(describe)).toEqual(wanted);
});

test('added', () => {
  const [one, ...others] = compare(own.replace('{snapshot: false}', '{snapshot: false, uid: 52034}'));
  expect(others).toEqual([]);
  expect(one && describe(one)).toBe('services.etcd.uid: not in the state, 52034 in cluster.yml');
});

test.each<[string, Record<string, unknown>]>([
  [
    'images that another release of RKE has for this version',
    { systemImages: { etcd: 'rancher/mirrored-coreos-etcd:v3.5.9' } },
  ],
  [
    'what only RKE writes',
    { rotateCertificates: { services: ['kubelet'] }, restore: { restore: true, snapshotName: 's' } },
  ],
  ['fields that cluster.yml has no words for', { unknownField: 1 }],
])('no difference: %s', (_, more) => {
  expect(differences(loadConfig(fixture('cluster.yml')), { ...state, ...more })).toEqual([]);
});
