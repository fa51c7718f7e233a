/** The files whose checksums stand in containers: the bytes are Go's. */
import { describe, expect, test } from 'vitest';
import { checksum } from '../../src/services/checksum.ts';
import { goYaml } from '../../src/services/go-yaml.ts';
import type { Json } from '../../src/services/go-yaml.ts';
import { filesOf } from '../../src/services/services.ts';
import { debian, kubeApi, nodes, rkeOf } from './inputs.ts';

function files(more: string, node = 'cp-1'): Record<string, string> {
  const rke = rkeOf(nodes + more);
  const found = rke.nodes.find((each) => each.hostnameOverride === node);
  if (found === undefined) throw new Error(`no node ${node}`);
  return Object.fromEntries(
    filesOf(found, debian, { rke, encrypted: false }).map(({ path, text }) => [path, text]),
  );
}

const admission = (more = '') => files(more)['/etc/kubernetes/admission.yaml'] ?? '';
const policy = (more = '') => files(more)['/etc/kubernetes/audit-policy.yaml'] ?? '';

describe('admission.yaml', () => {
  test('restricted, as RKE writes it', () => {
    expect(checksum(admission(kubeApi('pod_security_configuration: restricted')))).toBe(
      'fe4daf2c9a6824b6377a4826692058c5',
    );
  });

  test('before 1.25 pod security was a beta', () => {
    const v1 = 'pod-security.admission.config.k8s.io/v1\n';
    expect(admission()).toContain(v1);
    const beta = admission('kubernetes_version: v1.24.17-rancher1-1\n');
    expect(beta).toBe(admission().replace(v1, 'pod-security.admission.config.k8s.io/v1beta1\n'));
  });

  test('a limit of events', () => {
    const limits = '[{type: Namespace, qps: 50, burst: 100, cacheSize: 2000}, {type: User, qps: 10}]';
    const kind = 'apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration';
    const text = admission(
      kubeApi(`event_rate_limit: {enabled: true, configuration: {${kind}, limits: ${limits}}}`),
    );
    expect(text).toContain(`    limits:
    - burst: 100
      cacheSize: 2000
      qps: 50
      type: Namespace
    - burst: 0
      qps: 10
      type: User
  name: EventRateLimit
`);
  });

  test('one that is turned off leaves the usual one', () => {
    expect(admission(kubeApi('event_rate_limit: {enabled: false, configuration: {limits: []}}'))).toBe(
      admission(),
    );
  });

  test('of admission_configuration the two plugins that RKE has', () => {
    const text = admission(
      kubeApi(`admission_configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration,
        plugins: [{name: ImagePolicyWebhook, path: /x}, {name: PodSecurity, configuration: {kind: Mine}}]}`),
    );
    expect(text.split('- configuration:\n').at(-1)).toBe('    kind: Mine\n  name: PodSecurity\n  path: ""\n');
    expect(text).toContain('- burst: 20000');
    expect(text).not.toContain('ImagePolicyWebhook');
  });

  test('none where kube-apiserver reads another', () => {
    expect(files(kubeApi('extra_args: {admission-control-config-file: /x}'))).not.toHaveProperty([
      '/etc/kubernetes/admission.yaml',
    ]);
  });
});

describe('audit-policy.yaml', () => {
  test("one's own, with what Go adds and leaves out", () => {
    const own = `{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [
      {level: None, users: ["system:kube-proxy"], verbs: [watch, "*"], namespaces: [],
       resources: [{group: "", resources: [endpoints, services/status]}]},
      {level: Metadata}]}`;
    expect(policy(kubeApi(`audit_log: {enabled: true, configuration: {policy: ${own}}}`)))
      .toBe(`apiVersion: audit.k8s.io/v1
kind: Policy
metadata:
  creationTimestamp: null
omitStages:
- RequestReceived
rules:
- level: None
  resources:
  - resources:
    - endpoints
    - services/status
  users:
  - system:kube-proxy
  verbs:
  - watch
  - '*'
- level: Metadata
`);
  });

  test('one without rules', () => {
    const own = '{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [], omitManagedFields: false}';
    expect(policy(kubeApi(`audit_log: {enabled: true, configuration: {policy: ${own}}}`))).toBe(
      'apiVersion: audit.k8s.io/v1\nkind: Policy\nmetadata:\n  creationTimestamp: null\nrules: []\n',
    );
  });

  test.each([
    ['no audit log', 'audit_log: {enabled: false}'],
    ["a file of one's own", 'extra_args: {audit-policy-file: /x}'],
  ])('none with %s', (_, yaml) => {
    expect(files(kubeApi(yaml))).not.toHaveProperty(['/etc/kubernetes/audit-policy.yaml']);
  });
});

test('only controlplane nodes have them', () => {
  expect(files('', 'worker-1')).toEqual({});
});

test('cloud config and webhook are everywhere', () => {
  const more = `cloud_provider: {name: openstack, customCloudProvider: "[Global]"}
authentication: {strategy: x509|webhook, webhook: {config_file: "kind: Config"}}
`;
  expect(files(more, 'worker-1')).toEqual({
    '/etc/kubernetes/cloud-config': '[Global]',
    '/etc/kubernetes/kube-api-authn-webhook.yaml': 'kind: Config',
  });
});

test('a cloud config that is empty is no file', () => {
  expect(files('cloud_provider: {name: external}\n', 'worker-1')).toEqual({});
});

/** Written by sigs.k8s.io/yaml 1.3.0, RKE's. */
describe("Go's YAML", () => {
  test.each<[string, Json, string]>([
    ['keys in order', { b: 1, a: true, c: null }, 'a: true\nb: 1\nc: null\n'],
    ['what is empty', { a: {}, b: [], c: '' }, 'a: {}\nb: []\nc: ""\n'],
    ['lists in lists and maps', { a: [[1, 2], { b: [{ c: 1 }] }] }, 'a:\n- - 1\n  - 2\n- b:\n  - c: 1\n'],
    [
      'texts that are words of YAML',
      ['yes', 'n', 'null', '~', 'True'],
      '- "yes"\n- "n"\n- "null"\n- "~"\n- "True"\n',
    ],
    [
      'texts that are numbers',
      ['1', '0x1f', '1.5', '1e3', '.5', '1:30'],
      '- "1"\n- "0x1f"\n- "1.5"\n- "1e3"\n- ".5"\n- "1:30"\n',
    ],
    ['texts that are dates', ['2026-01-01'], '- "2026-01-01"\n'],
    [
      'texts that are neither',
      ['1.2.3', 'v1', '-a', '/healthz*', 'a:b'],
      '- 1.2.3\n- v1\n- -a\n- /healthz*\n- a:b\n',
    ],
    [
      'texts that YAML would read otherwise',
      ['*', '- a', 'a: b', 'a #b', "it's", "'", '@a'],
      `- '*'\n- '- a'\n- 'a: b'\n- 'a #b'\n- it's\n- ''''\n- '@a'\n`,
    ],
    [
      'texts with what cannot be printed',
      ['a\tb', '\u0000', '\u{1F600}'],
      '- "a\\tb"\n- "\\0"\n- "\\U0001F600"\n',
    ],
    ['texts that begin with blanks', ['  x\ny', '\nx\n\n'], '- |2-\n    x\n  y\n- |2+\n\n  x\n\n'],
    ['texts of several lines', { a: 'x\ny\n', b: ['x\ny'] }, 'a: |\n  x\n  y\nb:\n- |-\n  x\n  y\n'],
  ])('%s', (_, value, text) => {
    expect(goYaml(value)).toBe(text);
  });
});
