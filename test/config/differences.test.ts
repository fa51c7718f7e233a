import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { differences } from '../../src/config/differences.ts';
import { loadConfig } from '../../src/config/load.ts';

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

test("RKE's own cluster.yml says nothing else than its state", () => {
  expect(differences(loadConfig(fixture('cluster.yml')), state)).toEqual([]);
});

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
    [{ path: 'kubernetesVersion', from: 'v1.30.5-rancher1-1', to: 'v1.30.4-rancher1-1' }],
  ],
  [
    'an irregular key',
    own + 'upgrade_strategy: {node_drain_input: {ignore_daemonsets: false}}',
    [{ path: 'upgradeStrategy.nodeDrainInput.ignoreDaemonSets', from: true, to: false }],
  ],
  [
    'an argument',
    own.replace('"0"', '"1"'),
    [{ path: 'services.kubeproxy.extraArgs.conntrack-max-per-core', from: '0', to: '1' }],
  ],
  [
    'a role',
    own.replace('[controlplane, etcd]', '[controlplane]'),
    [{ path: 'nodes[198.51.100.11].role', from: ['controlplane', 'etcd'], to: ['controlplane'] }],
  ],
  [
    'a name',
    own.replace('hostname_override: h1', 'hostname_override: h9'),
    [{ path: 'nodes[198.51.100.11].hostnameOverride', from: 'h1', to: 'h9' }],
  ],
  [
    'a node replaced',
    own.replace('address: 198.51.100.13', 'address: 198.51.100.14'),
    [
      { path: 'nodes[198.51.100.14]', from: undefined, to: 'h3 (controlplane, etcd)' },
      { path: 'nodes[198.51.100.13]', from: 'h3', to: undefined },
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
    [{ path: 'privateRegistries', from: undefined, to: [{ url: 'r', password: '[redacted]' }] }],
  ],
  [
    'secrets in the environment, redacted',
    own.replace(
      '{snapshot: false}',
      '{snapshot: false, extra_env: ["AWS_SECRET_ACCESS_KEY=hunter2", "A=b"]}',
    ),
    [{ path: 'services.etcd.extraEnv', from: undefined, to: ['AWS_SECRET_ACCESS_KEY=[redacted]', 'A=b'] }],
  ],
])('a difference: %s', (_, text, expected) => {
  expect(compare(text)).toEqual(expected);
});

test('images of a default registry are stored with its name', () => {
  const said =
    own + 'private_registries: [{url: r.example, is_default: true}]\nsystem_images: {etcd: "x/etcd:1"}\n';
  const stored = {
    ...state,
    privateRegistries: [{ url: 'r.example', isDefault: true }],
    systemImages: { etcd: 'r.example/x/etcd:1' },
  };
  expect(compare(said, stored)).toEqual([]);
});
