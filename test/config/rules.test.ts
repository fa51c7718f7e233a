import fc from 'fast-check';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { TsrkeError } from '../../src/errors.ts';

const node = 'nodes: [{address: 192.0.2.1, user: u, role: [controlplane]}]\n';

let folder = '';
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tsrke-rules-'))));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function refusal(text: string): TsrkeError | undefined {
  const path = join(folder, 'cluster.yml');
  writeFileSync(path, text);
  try {
    loadConfig(path);
  } catch (error) {
    if (error instanceof TsrkeError) return error;
    throw error;
  }
  return undefined;
}

const at = (kind: string, settings: string) => `${node}services: {${kind}: {${settings}}}\n`;

describe("RKE's rules", () => {
  test.each<[string, string]>([
    ['kubernetes_version: 1.30', 'kubernetes_version is "1.30", not a version'],
    ['kubernetes_version: v1.30.5', 'such as v1.30.5-rancher1-1'],
    ['authentication: {strategy: webhook}', 'authentication.strategy is "webhook", not x509 or x509|webhook'],
    ['authentication: {strategy: x509|oidc}', 'authentication.strategy is "x509|oidc"'],
    ['network: {plugin: flannel, mtu: 1400}', 'network.mtu cannot be set with the plugin flannel'],
    ['network: {plugin: weave}', 'network.plugin is weave, which RKE no longer has for v1.30.5-rancher1-1'],
    ['network: {plugin: aci}', '`apic_hosts` of network.aci_network_provider is missing'],
    ['ingress: {http_port: 443}', 'ingress.http_port and ingress.https_port are both 443'],
    ['ingress: {https_port: 70000}', 'ingress.https_port is 70000, not a number from 0 to 65535'],
    [
      'kubernetes_version: v1.20.15-rancher1-1\nenable_cri_dockerd: true',
      'enable_cri_dockerd is for Kubernetes 1.21',
    ],
    ['cloud_provider: {name: aws}', 'takes external-aws'],
    ['authorization: {mode: none}', 'authorization.mode is none, but pod security'],
  ])('%s', (text, words) => {
    const error = refusal(`${node}${text}\n`);
    expect(error?.code).toBe('CONFIG_INVALID');
    expect([error?.message, ...(error?.details ?? [])].join('\n')).toContain(words);
  });

  test.each<[string, string]>([
    [
      at('kube-api', 'service_cluster_ip_range: 10.43.0.0'),
      'is "10.43.0.0", not a network such as 10.43.0.0/16',
    ],
    [
      at('kube-api', 'service_cluster_ip_range: "10.43.0.0/16,fd00::/108"'),
      'the plugin canal has no dual stack',
    ],
    [
      at('kube-controller', 'cluster_cidr: 10.42.0.0/33'),
      'services.kube-controller.cluster_cidr is "10.42.0.0/33"',
    ],
    [
      at('etcd', 'external_urls: [https://e], ca_cert: a, cert: b, path: /c'),
      '`key` of services.etcd is missing',
    ],
    [
      at('etcd', 'backup_config: {s3backupconfig: {endpoint: e}}'),
      '`bucket_name` of services.etcd.backup_config',
    ],
    [
      at('etcd', 'backup_config: {s3backupconfig: {endpoint: e, bucket_name: b, custom_ca: c}}'),
      'not a certificate',
    ],
    ['nodes: [{address: a_b, user: u, role: [controlplane]}]', 'which cannot be the name of a node'],
    ['nodes: [{address: "::1", user: u, role: [controlplane]}]', 'and there is no `hostname_override`'],
    [
      'nodes: [{address: a, user: u, role: [controlplane, etcd]}]\n' +
        'services: {etcd: {external_urls: [u], ca_cert: a, cert: b, key: c, path: d}}',
      'nodes[0] has the role etcd, but services.etcd.external_urls is set',
    ],
  ])('%s', (text, words) => {
    const error = refusal(text);
    expect(error?.code).toBe('CONFIG_INVALID');
    expect(error?.message).toContain(words);
  });

  test.each([
    `${node}kubernetes_version: v1.31.99-rancher7-1\n`,
    `${node}network: {plugin: weave}\nkubernetes_version: v1.29.9-rancher1-1\n`,
    `${node}cloud_provider: {name: aws}\nkubernetes_version: v1.26.8-rancher1-1\n`,
    `${node}ingress: {http_port: 443, network_mode: hostNetwork}\n`,
    `${node}authorization: {mode: none}\nservices: {kube-api: {extra_args: {admission-control-config-file: /x}}}\n`,
    `${node}authentication: {strategy: X509 | webhook}\n`,
    `${node}network: {plugin: calico}\nservices: {kube-api: {service_cluster_ip_range: "10.43.0.0/16,fd00::/108"}}\n`,
    'nodes: [{address: "::1", hostname_override: CP-1, user: u, role: [controlplane]}]\n',
  ])('accepted: %s', (text) => {
    expect(refusal(text)).toBeUndefined();
  });

  test('mistakes of type do not hide or break the others', () => {
    const error = refusal(
      'nodes: {a: 1}\nnetwork: []\nservices: {etcd: x, kube-api: {extra_args: 3}}\ningress: 1\n',
    );
    expect(error?.details).toHaveLength(5);
  });
});

describe('automatic reload', () => {
  const reload = 'encryption-provider-config-automatic-reload';
  test.each<[string, string, boolean]>([
    ['with encryption', `secrets_encryption_config: {enabled: true}, extra_args: {${reload}: true}`, true],
    ['without', `extra_args: {${reload}: true}`, false],
    ['without, as a list', `extra_args_array: {${reload}: ["true"]}`, false],
    ['spelled with _', `extra_args: {${reload.replaceAll('-', '_')}: true}`, false],
    ['switched off', `extra_args: {${reload}: false}`, true],
  ])('%s', (_, settings, accepted) => {
    expect(refusal(at('kube-api', settings))?.message ?? '').toContain(
      accepted ? '' : 'keeps kube-apiserver from',
    );
    expect(refusal(at('kube-api', settings)) === undefined).toBe(accepted);
  });

  test.each<[string, string, boolean]>([
    ['both ask for it', `{enabled: true, reload: automatic}, extra_args: {${reload}: true}`, true],
    ['neither does', `{enabled: true, reload: restart}, extra_args: {${reload}: false}`, true],
    ['only extra_args', `{enabled: true, reload: restart}, extra_args: {${reload}: true}`, false],
    ['only reload', `{enabled: true, reload: automatic}, extra_args_array: {${reload}: ["false"]}`, false],
    ['reload alone', '{enabled: true, reload: automatic}', true],
    ['reload without encryption', '{enabled: false, reload: automatic}', true],
  ])('in extra_args and in `reload`: %s', (_, settings, accepted) => {
    const error = refusal(at('kube-api', `secrets_encryption_config: ${settings}`));
    if (accepted) expect(error).toBeUndefined();
    else expect(error?.message).toContain('says otherwise than `reload: ');
  });

  test('the file itself is refused however it is spelled', () => {
    const error = refusal(at('kube-api', 'extra_args: {encryption_provider_config: /x}'));
    expect(error?.message).toContain('secrets_encryption_config.custom_config');
  });
});

describe('the line of a syntax error', () => {
  test.each<[string, string, string]>([
    [
      'shows the words of every cluster.yml',
      'nodes: []\nnetwork: [plugin\n  canal: c]]\n',
      '3 |   canal: …]]',
    ],
    ['hides a password', 'private_registries:\n- password: *hunter2\n', '2 | - password: *…'],
    ['hides a tag that is a secret', 'secret: !hunter2\n', '1 | secret: !…'],
    [
      'hides a key in braces',
      'nodes: {name: k1, secret: hunter2, role: *c}\n',
      '1 | nodes: {name: …, secret: …, role: *…}',
    ],
    ['hides the rest of a private key', 'ssh_key: |\n  -----BEGIN\n hunter2\n', '3 |  …'],
  ])('%s', (_, text, line) => {
    const error = refusal(text);
    expect(error?.code).toBe('CONFIG_SYNTAX');
    expect(error?.details).toEqual([line]);
    expect(JSON.stringify([error?.message, error?.details])).not.toContain('hunter2');
  });

  test('never tells what stands in place of a tag', () => {
    const error = refusal('private_registries:\n- {url: r, password: !aHVudGVyMg"}\n');
    expect(JSON.stringify([error?.message, error?.details])).not.toContain('aHVudGVyMg');
  });

  test('never tells an alias that holds quotes', () => {
    const error = refusal('private_registries:\n- {url: r, password: *"aHVudGVyMg"}\n');
    expect(JSON.stringify([error?.message, error?.details])).not.toContain('aHVudGVyMg');
  });

  test('never tells the value of a secret, however the file is broken', () => {
    const whole = [
      'nodes:',
      '- address: a',
      '  ssh_key: |-',
      '    -----BEGIN RSA PRIVATE KEY-----',
      '    aHVudGVyMg',
      '    -----END RSA PRIVATE KEY-----',
      'services:',
      '  kube-api:',
      '    secrets_encryption_config:',
      '      custom_config:',
      '        resources: [{providers: [{aescbc: {keys: [{name: k, secret: aHVudGVyMg}]}}]}]',
      'private_registries:',
      '- {url: r, password: "aHVudGVyMg"}',
      '',
    ].join('\n');
    fc.assert(
      fc.property(
        fc.nat(whole.length),
        fc.nat(6),
        fc.constantFrom('', '"', '{', ']', '*', '!', '\t', ': ', '\n', '  '),
        (start, cut, put) => {
          const broken = whole.slice(0, start) + put + whole.slice(start + cut);
          const error = refusal(broken);
          const said = JSON.stringify([error?.message, error?.details, error?.next]);
          if (said.includes('aHVudGVyMg')) throw new Error(`${broken}\n=> ${said}`);
        },
      ),
      { numRuns: 1500 },
    );
  });
});
