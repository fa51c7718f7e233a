/** `tsrke encrypt validate` on real files, without a cluster: what it prints, with which place, and its exit code. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { validate, type ValidateFlags } from '../../src/cli/validate.ts';
import { providerFileOfCustomConfig } from '../../src/encryption/custom-config.ts';
import { validateProviderFile } from '../../src/encryption/validation/validate.ts';

const secret = Buffer.from('aQwErTy1UiOp2AsDf\x803GhJk4L\x01\x02\x03\x04\x05\x06\x07', 'latin1').toString(
  'base64',
);

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-validate-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function clusterYml(encryption: string, { version = 'v1.30.5-rancher1-1', extra = '' } = {}): void {
  const nodes = 'nodes:\n- {address: 198.51.100.11, user: root, role: [controlplane, etcd]}\n';
  const text = `${nodes}kubernetes_version: ${version}\nservices:\n  kube-api:\n${extra}    secrets_encryption_config:\n${encryption}`;
  writeFileSync(join(dir, 'cluster.yml'), text);
}

/** As it stands under `secrets_encryption_config`, from line 7 of cluster.yml on. */
function custom(providers: string, header = ''): string {
  return `      enabled: true\n      custom_config:\n${header}        resources:\n        - resources: [secrets]\n          providers:\n${providers}        \n`;
}

const local = `          - aescbc:\n              keys:\n              - name: k-1\n                secret: ${secret}\n`;
const identity = '          - identity: {}\n';
const ownHeader = '        apiVersion: apiserver.config.k8s.io/v1\n        kind: EncryptionConfiguration\n';
const kms = `          - kms:
              name: aws-encryption-provider
              endpoint: unix:///var/run/kmsplugin/socket.sock
              cachesize: 1000
              timeout: 3s
`;

function run(flags: Partial<ValidateFlags> = {}): { code: number; lines: string[] } {
  const lines: string[] = [];
  const code = validate({ config: join(dir, 'cluster.yml'), ...flags }, (line) => lines.push(line));
  expect(lines.join('\n')).not.toContain(secret);
  return { code, lines };
}

test.each([
  ['without a header of its own', ''],
  ['with one', ownHeader],
  ['with the legacy one', '        apiVersion: v1\n        kind: EncryptionConfig\n'],
])('a good custom_config %s is accepted by every version', (_name, header) => {
  clusterYml(custom(local + identity, header));
  for (const version of ['v1.24', '1.26.3', 'v1.30.5-rancher1-1', 'v1.31', 'v1.37']) {
    const minor = /1\.(\d+)/.exec(version)?.[1] ?? '';
    expect(run({ kubernetesVersion: version })).toEqual({
      code: 0,
      lines: [`kube-apiserver 1.${minor} starts with this provider file: 0 errors, 0 warnings`],
    });
  }
});

test("RKE's KMS example works where the version has KMS v1, and elsewhere it is said what to change", () => {
  clusterYml(custom(kms + identity, ownHeader));
  expect(run({ kubernetesVersion: 'v1.28' }).code).toBe(0);
  const refused = run();
  expect(refused.code).toBe(3);
  expect(refused.lines).toHaveLength(3);
  expect(refused.lines[0]).toMatch(
    /^cluster\.yml:14:13: error: resources\[0\]\.providers\[0\]\.kms: KMSv1 is deprecated/,
  );
  expect(refused.lines[1]).toContain('Set --feature-gates=KMSv1=true');
  expect(refused.lines[2]).toMatch(/^next: .* write `apiVersion: v2` and leave out `cachesize`/);
  clusterYml(custom(kms + identity, ownHeader), {
    extra: '    extra_args:\n      feature_gates: A=false,KMSv1=true\n',
  });
  expect(run().code).toBe(0);
});

test('automatic reload counts, in extra_args and as `reload`: KMS names are then unique, v1 too', () => {
  const two = kms + kms;
  clusterYml(custom(two), { version: 'v1.28.1-rancher1-1' });
  expect(run().code).toBe(0);
  clusterYml(custom(two), {
    version: 'v1.28.1-rancher1-1',
    extra: '    extra_args_array:\n      encryption-provider-config-automatic-reload: ["true"]\n',
  });
  const duplicate = 'duplicate KMS provider name aws-encryption-provider';
  expect(run().lines.at(-1)).toContain(duplicate);
  clusterYml(`      reload: automatic\n${custom(two)}`, { version: 'v1.28.1-rancher1-1' });
  expect(run().lines.at(-1)).toContain(duplicate);
});

test('every mistake has its line in cluster.yml, and the last line says what the server would', () => {
  clusterYml(
    custom(
      '          - aescbc:\n              keys:\n              - name: k-1\n                secret: AAAA\n          - {}\n',
    ),
  );
  const { code, lines } = run();
  expect(code).toBe(3);
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatch(
    /^cluster\.yml:15:17: error: .*aescbc\.keys\[0\]\.secret: .*got 3, expected one of/,
  );
  expect(lines[1]).toMatch(
    /^cluster\.yml:16:13: error: resources\[0\]\.providers\[1\]: .*does not contain any/,
  );
  expect(lines[2]).toMatch(
    /^kube-apiserver 1\.30 does not start with this provider file: error while parsing file: \[/,
  );
});

test('a misspelt field is an error before 1.31 too, where the server would drop it', () => {
  clusterYml(custom(kms.replace('cachesize', 'cacheSize') + identity), { version: 'v1.28.1-rancher1-1' });
  const { code, lines } = run();
  expect(code).toBe(3);
  expect(lines[0]).toMatch(
    /^cluster\.yml:15:15: error: resources\[0\]\.providers\[0\]\.kms\.cacheSize: kube-apiserver does not know/,
  );
  expect(lines.at(-1)).toBe('kube-apiserver 1.28 starts with this provider file: 1 error, 1 warning');
});

test.each([
  ['      enabled: false\n', 'cluster.yml: encryption is off, there is no provider file'],
  ['      enabled: true\n', 'cluster.yml: no custom_config, tsrke makes the provider file itself'],
])('nothing to judge: %j', (encryption, line) => {
  clusterYml(encryption);
  expect(run()).toEqual({ code: 0, lines: [line] });
});

test('a file of its own needs no cluster.yml where the version is given', () => {
  const file = join(dir, 'provider.yaml');
  writeFileSync(
    file,
    `kind: EncryptionConfiguration\nkind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers: [{identity: {}}]\n`,
  );
  expect(run({ file, kubernetesVersion: 'v1.30' }).lines).toEqual([
    'provider.yaml:2: error: kind: this field is there twice and the last one counts; from 1.31 on kube-apiserver does not start with it',
    'kube-apiserver 1.30 starts with this provider file: 1 error, 0 warnings',
  ]);
  expect(run({ file, kubernetesVersion: 'v1.31' })).toEqual({
    code: 3,
    lines: [
      'provider.yaml:2: error: kind: duplicate field',
      'kube-apiserver 1.31 does not start with this provider file: error while parsing file: error decoding encryption provider configuration file "/etc/kubernetes/ssl/encryption.yaml": strict decoding error: yaml: unmarshal errors:\n  line 2: key "kind" already set in map',
    ],
  });
});

test.each([
  ['v1.23', /known for 1\.24 to 1\.37/],
  ['1.38.0', /known for 1\.24 to 1\.37/],
  ['latest', /known for 1\.24 to 1\.37/],
])('%s is no version to judge by', (kubernetesVersion, message) => {
  clusterYml('      enabled: true\n');
  expect(() => run({ kubernetesVersion })).toThrow(message);
});

test('a file that is not there is named', () => {
  expect(() => run({ file: join(dir, 'none.yaml'), kubernetesVersion: 'v1.30' })).toThrow(
    /none\.yaml cannot be read/,
  );
});

test('the header of custom_config appears once, whatever of it is there', () => {
  const resources = [{ resources: ['secrets'], providers: [{ identity: {} }] }];
  for (const part of [
    {},
    { kind: 'EncryptionConfiguration' },
    { apiVersion: 'apiserver.config.k8s.io/v1' },
    { apiVersion: 'v1' },
    { kind: 'EncryptionConfig' },
    { apiVersion: 'v1', kind: 'EncryptionConfig' },
  ]) {
    const text = providerFileOfCustomConfig({ ...part, resources });
    expect(text.match(/"(kind|apiVersion)":/g)).toHaveLength(2);
    expect(validateProviderFile(text, { minor: 37 })).toEqual({ verdict: 'accepted', findings: [] });
  }
  for (const wrong of ['text', 5, null, undefined, [resources]]) {
    expect(() => providerFileOfCustomConfig(wrong)).toThrow(/no mapping/);
  }
});
