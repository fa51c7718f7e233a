import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kubeconfigPathOf, loadConfig, statePathOf } from '../../src/config/load.ts';
import type { LoadOptions } from '../../src/config/load.ts';
import { TsrkeError } from '../../src/errors.ts';
import type { SshNode } from '../../src/hosts/ssh.ts';

const repo = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const node = 'nodes: [{address: 192.0.2.1, user: u, role: [controlplane]}]\n';

let folder = '';
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-config-'))));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function load(text: string, options?: LoadOptions) {
  const path = join(folder, 'cluster.yml');
  writeFileSync(path, text);
  return loadConfig(path, options);
}

function refusal(text: string, options?: LoadOptions): TsrkeError {
  try {
    load(text, options);
  } catch (error) {
    if (error instanceof TsrkeError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('what is read', () => {
  test('the example', () => {
    const config = loadConfig(repo('cluster.example.yml'));
    expect(config.nodes.map((one) => one.name)).toEqual(['cp-1', 'cp-2', 'cp-3', 'worker-1']);
    expect(config.encryption).toEqual({
      enabled: true,
      provider: 'aescbc',
      resources: ['secrets'],
      maxKeyAge: undefined,
    });
  });

  test("RKE's own cluster.yml", () => {
    const config = loadConfig(repo('test/fixtures/rke-1.6.3/cluster.yml'));
    expect(config).toMatchObject({ kubernetesVersion: 'v1.30.5-rancher1-1', ignoreDockerVersion: true });
    const first: SshNode | undefined = config.nodes[0];
    expect(first).toEqual({
      name: 'h1',
      address: '198.51.100.11',
      internalAddress: '198.51.100.11',
      port: 22,
      user: 'root',
      roles: ['controlplane', 'etcd'],
      sshKeyPath: '~/.ssh/id_ed25519',
      sshAgentAuth: false,
      dockerSocket: '/var/run/docker.sock',
    });
  });

  test.each<[string, string, LoadOptions, object]>([
    ['defaults', node, {}, { name: 'local', prefixPath: '/', encryption: { enabled: false } }],
    [
      'a name is lower-cased',
      node.replace('{', '{hostname_override: CP-1, '),
      {},
      { nodes: [{ name: 'cp-1' }] },
    ],
    ['a port as a number', node.replace('{', '{port: 2222, '), {}, { nodes: [{ port: 2222 }] }],
    ['the key of the cluster', `${node}ssh_key_path: /k`, {}, { nodes: [{ sshKeyPath: '/k' }] }],
    ['the agent from the command line', node, { sshAgentAuth: true }, { nodes: [{ sshAgentAuth: true }] }],
    ['yes is true', `${node}ssh_agent_auth: yes`, {}, { nodes: [{ sshAgentAuth: true }] }],
    [
      "a node's own agent setting has no effect",
      node.replace('{', '{ssh_agent_auth: true, '),
      {},
      { nodes: [{ sshAgentAuth: false }] },
    ],
    ['a name that looks like a number', `${node}cluster_name: 1.30`, {}, { name: '1.30' }],
    [
      'the command line wins',
      `${node}ignore_docker_version: true`,
      { ignoreDockerVersion: false },
      { ignoreDockerVersion: false },
    ],
    [
      'text as written',
      `${node}services: {kubelet: {extra_args: {a: 0777, b: yes, c: 2026-01-01}}}`,
      {},
      { raw: { services: { kubelet: { extra_args: { a: '0777', b: 'yes', c: '2026-01-01' } } } } },
    ],
    [
      'merged maps',
      'x: 1\nnodes:\n- &a {address: 192.0.2.1, user: u, role: [controlplane]}\n- {<<: *a, address: 192.0.2.2}',
      { ignoreUnknownKeys: true },
      { nodes: [{ user: 'u' }, { address: '192.0.2.2', user: 'u' }] },
    ],
    [
      'a bastion',
      `${node}bastion_host: {address: 192.0.2.9, user: b, port: "2022"}`,
      {},
      {
        bastion: {
          name: '192.0.2.9',
          address: '192.0.2.9',
          port: 2022,
          user: 'b',
          sshKeyPath: '~/.ssh/id_rsa',
          sshAgentAuth: false,
        },
      },
    ],
    [
      'a custom encryption config',
      `${node}services: {kube-api: {secrets_encryption_config: {enabled: true, custom_config: {resources: []}}}}`,
      {},
      { encryption: { enabled: true, customConfig: { resources: [] } } },
    ],
    [
      'how old a key may become',
      `${node}services: {kube-api: {secrets_encryption_config: {enabled: true, max_key_age: 1d12h}}}`,
      {},
      { encryption: { maxKeyAge: 129_600_000 } },
    ],
    [
      'no limit',
      `${node}services: {kube-api: {secrets_encryption_config: {enabled: true, max_key_age: 0}}}`,
      {},
      { encryption: { maxKeyAge: 0 } },
    ],
    [
      'how a changed provider file is loaded',
      `${node}services: {kube-api: {secrets_encryption_config: {enabled: true, reload: automatic}}}`,
      {},
      { encryption: { reload: 'automatic' } },
    ],
    ['empty sections', `${node}services:\nnetwork:\nbastion_host: {}\naddons: ""\n`, {}, { name: 'local' }],
  ])('%s', (_, text, options, expected) => {
    expect(load(text, options)).toMatchObject(expected);
  });

  test('where the state and the kubeconfig are', () => {
    expect(statePathOf('/a/b/prod.yml')).toBe('/a/b/prod.rkestate');
    expect(statePathOf('cluster.yaml')).toBe('cluster.rkestate');
    expect(kubeconfigPathOf('/a/b/prod.yml')).toBe('/a/b/kube_config_prod.yml');
  });
});

describe('what is refused', () => {
  test.each<[string, string, string]>([
    [
      'a misspelt key',
      `${node}kubernets_version: v1`,
      'cluster.yml:2:1: unknown key `kubernets_version`; did you mean `kubernetes_version`?',
    ],
    [
      'a key in the wrong case',
      node.replace('{', '{hostnameOverride: a, '),
      'cluster.yml:1:10: unknown key `hostnameOverride` in nodes[0]; did you mean `hostname_override`?',
    ],
    [
      'a key in the wrong place',
      `${node}secrets_encryption_config: {enabled: true}`,
      'cluster.yml:2:1: unknown key `secrets_encryption_config`; it belongs in services.kube-api',
    ],
    ['a key unlike all others', `${node}frobnicate: 1`, 'cluster.yml:2:1: unknown key `frobnicate`'],
    [
      'text where true or false goes',
      `${node}ignore_docker_version: "true"`,
      'cluster.yml:2:1: ignore_docker_version is text, not true or false',
    ],
    [
      'a list where a map goes',
      `${node}services:\n  etcd: [1]`,
      'cluster.yml:3:3: services.etcd is a list, not a map',
    ],
    ['a map where text goes', `${node}addons: {a: 1}`, 'cluster.yml:2:1: addons is a map, not text'],
    [
      'text where a number goes',
      `${node}addon_job_timeout: soon`,
      'cluster.yml:2:1: addon_job_timeout is text, not a whole number',
    ],
    [
      'text where a list goes',
      'nodes: [{address: a, user: u, role: controlplane}, {address: b, user: u, role: [controlplane]}]',
      'cluster.yml:1:31: nodes[0].role is text, not a list',
    ],
    [
      'a role nobody knows',
      node.replace('controlplane]', 'controlplane, master]'),
      'cluster.yml:1:60: nodes[0].role[1] is "master", not one of controlplane, etcd, worker',
    ],
    [
      'a plugin nobody knows',
      `${node}network: {plugin: cilium}`,
      'cluster.yml:2:11: network.plugin is "cilium", not one of canal, calico, flannel, weave, aci, none',
    ],
    [
      'no control plane',
      node.replace('controlplane', 'etcd'),
      'cluster.yml:1:1: no node has the role `controlplane`',
    ],
    ['no nodes', 'cluster_name: a', 'cluster.yml: `nodes` is missing'],
    [
      'no user',
      'nodes: [{address: a, role: [controlplane]}]',
      'cluster.yml:1:9: `user` of nodes[0] is missing',
    ],
    [
      'an empty address',
      'nodes: [{address: "", user: u, role: [controlplane]}]',
      'cluster.yml:1:9: `address` of nodes[0] is missing',
    ],
    [
      'the same address twice',
      'nodes:\n- &n {address: a, user: u, role: [controlplane]}\n- *n',
      'cluster.yml:3:4: nodes[1] has the same `address` a as nodes[0]',
    ],
    [
      'the same name twice',
      'nodes:\n- {address: a, hostname_override: N, user: u, role: [controlplane]}\n- {address: b, hostname_override: n, user: u, role: [etcd]}',
      'cluster.yml:3:16: nodes[1] has the same name n (`hostname_override`) as nodes[0]',
    ],
    [
      'a port that is none',
      node.replace('{', '{port: ssh, '),
      'cluster.yml:1:10: `port` is "ssh", not a number from 1 to 65535',
    ],
    [
      'a bastion without a user',
      `${node}bastion_host: {address: b}`,
      'cluster.yml:2:1: `user` of bastion_host is missing',
    ],
    [
      'an age without a unit',
      `${node}services: {kube-api: {secrets_encryption_config: {max_key_age: 90}}}`,
      'cluster.yml:2:51: services.kube-api.secrets_encryption_config.max_key_age is "90", not in a form such as 90d or 2160h',
    ],
    [
      'a reload of another kind',
      `${node}services: {kube-api: {secrets_encryption_config: {reload: auto}}}`,
      'cluster.yml:2:51: services.kube-api.secrets_encryption_config.reload is "auto", not one of restart, automatic',
    ],
    ['a list for a file', '- a', 'cluster.yml: not a map of keys such as `nodes` and `services`'],
  ])('%s', (_, text, message) => {
    const error = refusal(text);
    expect({ code: error.code, message: error.message }).toEqual({ code: 'CONFIG_INVALID', message });
  });

  test.each([
    'extra_args: {encryption-provider-config: /e.yaml}',
    'extra_args_array: {encryption-provider-config: [/e.yaml]}',
  ])('encryption beside tsrke: %s', (args) => {
    const error = refusal(`${node}services:\n  kube-api:\n    ${args}`);
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toMatch(
      /^cluster\.yml:4:\d+: .*move .* to `services\.kube-api\.secrets_encryption_config\.custom_config`$/,
    );
  });

  test('all mistakes at once, in the order of the file', () => {
    const error = refusal(`foo: 1\n${node}services:\n  bar: 1\naddons: []\n`);
    expect(error.message).toBe('cluster.yml has 3 mistakes');
    expect(error.details.map((line) => line.split(': ')[0])).toEqual([
      'cluster.yml:1:1',
      'cluster.yml:4:3',
      'cluster.yml:5:1',
    ]);
  });

  test('unknown keys may be left alone, wrong values may not', () => {
    expect(load(`${node}foo: 1`, { ignoreUnknownKeys: true }).nodes).toHaveLength(1);
    expect(refusal(`${node}foo: 1\naddons: []`, { ignoreUnknownKeys: true }).details).toHaveLength(1);
  });

  test('a rotation that would repeat on every run', () => {
    const error = refusal(`${node}rotate_encryption_key: true`);
    expect(error.code).toBe('UNSUPPORTED');
    expect(error.next).toContain('`tsrke encrypt rotate-key`');
    expect(load(`${node}rotate_encryption_key: false`).nodes).toHaveLength(1);
  });

  test.each<[string, string, string]>([
    ['a broken list', 'a: 1\nb: [x\nc: 2', 'cluster.yml:3:1: deficient indentation'],
    ['the same key twice', 'a: 1\na: 2', 'cluster.yml:2:1: duplicated mapping key'],
    ['an empty file', '', 'cluster.yml: expected a document, but the input is empty'],
  ])('%s', (_, text, message) => {
    const error = refusal(text);
    expect({ code: error.code, message: error.message }).toEqual({ code: 'CONFIG_SYNTAX', message });
  });

  test('a file that is not there', () => {
    expect(() => loadConfig(join(folder, 'none.yml'))).toThrow(
      expect.objectContaining({ code: 'CONFIG_UNREADABLE' }) as Error,
    );
  });

  test.each([
    `${node}private_registries: [{password: {a: hunter2}}]`,
    `${node}private_registries: [{passwrd: hunter2}]`,
    'nodes: [{address: a, ssh_key: [hunter2], user: u, role: [controlplane]}]',
    `${node}services: {kube-api: {secrets_encryption_config: {custom_config: hunter2}}}`,
    `secret: hunter2\nb: [x\nc: 2`,
  ])('a secret is not told: %s', (text) => {
    const error = refusal(text);
    expect([error.message, ...error.details, error.stack, String(error.cause)].join('\n')).not.toContain(
      'hunter2',
    );
  });
});
