import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDocument } from '../../src/config/document.ts';
import { interview, type Ask, type Question } from '../../src/config/interview.ts';
import { configOf } from '../../src/config/load.ts';
import { clusterYaml, emptyYaml } from '../../src/config/new-config.ts';
import { knownVersions } from '../../src/config/versions.ts';

/** Answers by a part of the question; all others are left empty. Asked again, a question takes the next one. */
type Script = Readonly<Record<string, string | readonly string[]>>;

async function run(script: Script, version?: string) {
  const asked: string[] = [];
  const refusals: string[] = [];
  const left = new Map(
    Object.entries(script).map(([part, answers]) => [
      part,
      typeof answers === 'string' ? [answers] : [...answers],
    ]),
  );
  const ask: Ask = async (question: Question) => {
    asked.push(question.text);
    for (;;) {
      const [, answers] = [...left].find(([part]) => question.text.includes(part)) ?? [];
      const given = answers?.shift() ?? '';
      const answer = given === '' ? question.usual : given;
      const refusal = answer === undefined ? 'an answer is needed' : await question.refuse?.(answer);
      if (answer !== undefined && refusal === undefined) return answer;
      refusals.push(refusal ?? '');
      if (given === '') throw new Error(`${question.text}: ${refusal}`);
    }
  };
  const answers = await interview(ask, {
    refuseKey: (text) => Promise.resolve(text.includes('BEGIN') ? undefined : 'no key'),
    ...(version !== undefined && { version }),
  });
  const yaml = clusterYaml(answers);
  configOf(yaml, 'cluster.yml');
  return {
    asked,
    refusals,
    yaml,
    value: parseDocument(yaml, 'cluster.yml').value as Record<string, unknown>,
  };
}

const one: Script = { 'address of host 1': '192.0.2.11' };
const two: Script = {
  'how many': '2',
  'address of host 1': '192.0.2.11',
  'address of host 2': 'worker.example',
};

describe('the questions for a new cluster.yml', () => {
  test("are RKE's in RKE's order, and whether to encrypt; usual answers leave next to nothing to write", async () => {
    const { asked, value, yaml } = await run(one);
    expect(asked).toEqual([
      "path of the cluster's private SSH key",
      'how many hosts',
      'address of host 1 for SSH',
      'SSH port of 192.0.2.11',
      'path of the private SSH key of 192.0.2.11 (empty: the key itself)',
      "private SSH key of 192.0.2.11 (empty: the cluster's)",
      'SSH user of 192.0.2.11',
      'does 192.0.2.11 have the role controlplane (y/n)',
      'does 192.0.2.11 have the role worker (y/n)',
      'does 192.0.2.11 have the role etcd (y/n)',
      'name of 192.0.2.11 in Kubernetes (empty: its address)',
      'address of 192.0.2.11 inside the cluster (empty: the same)',
      "Docker's socket on 192.0.2.11",
      'network plugin (canal, calico, flannel, weave, none)',
      'authentication (x509, x509|webhook)',
      'authorization (rbac)',
      'Kubernetes version',
      'domain of the cluster',
      'network of services',
      'network of pods',
      "address of the cluster's DNS service",
      'add manifests (files or URLs) (y/n)',
      'encrypt secrets at rest (y/n)',
    ]);
    expect(value).toEqual({
      nodes: [{ address: '192.0.2.11', user: 'ubuntu', role: ['controlplane', 'etcd'] }],
      kubernetes_version: 'v1.30.5-rancher1-1',
      services: { 'kube-api': { secrets_encryption_config: { enabled: true } } },
    });
    expect(yaml.split('\n').slice(0, 3)).toEqual([
      expect.stringMatching(/^# /),
      expect.stringMatching(/^# /),
      '',
    ]);
  });

  test('what differs from the defaults is written where RKE reads it', async () => {
    const key = '-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n';
    const { value } = await run({
      ...two,
      "cluster's private SSH key": '~/.ssh/id',
      'SSH port of worker': '2222',
      'path of the private SSH key of 192': '~/.ssh/one',
      'private SSH key of worker.example (empty: the cl': key,
      'SSH user of 192': 'core',
      'worker.example have the role controlplane': 'n',
      'worker.example have the role worker': 'y',
      '192.0.2.11 have the role etcd': 'Yes',
      'name of 192': 'CP-1',
      'address of 192.0.2.11 inside': '10.0.0.1',
      "Docker's socket on 192": '/run/docker.sock',
      'network plugin': 'calico',
      authentication: 'x509|webhook',
      'Kubernetes version': 'rancher/hyperkube:v1.29.9-rancher1',
      domain: 'example.internal',
      'network of services': '10.96.3.0/12',
      'network of pods': '172.20.0.0/16',
      'add manifests': 'y',
      'path or URL': ['./a.yml', 'https://manifests.example/b.yml'],
      'add another': ['y', 'n'],
      encrypt: 'n',
    });
    expect(value).toEqual({
      nodes: [
        {
          ...{ address: '192.0.2.11', internal_address: '10.0.0.1', user: 'core' },
          role: ['controlplane', 'etcd'],
          ...{ hostname_override: 'CP-1', docker_socket: '/run/docker.sock', ssh_key_path: '~/.ssh/one' },
        },
        { address: 'worker.example', port: 2222, user: 'ubuntu', role: ['worker'], ssh_key: key },
      ],
      ssh_key_path: '~/.ssh/id',
      kubernetes_version: 'v1.29.9-rancher1-1',
      network: { plugin: 'calico' },
      authentication: { strategy: 'x509|webhook' },
      services: {
        'kube-api': { service_cluster_ip_range: '10.96.3.0/12' },
        'kube-controller': { cluster_cidr: '172.20.0.0/16', service_cluster_ip_range: '10.96.3.0/12' },
        kubelet: { cluster_domain: 'example.internal', cluster_dns_server: '10.96.0.10' },
      },
      addons_include: ['./a.yml', 'https://manifests.example/b.yml'],
    });
  });

  test.each<[string, Script, string]>([
    ['a number of hosts', { ...one, 'how many': ['none', '0', '1'] }, 'a number from 1 to 1000'],
    ['an address', { 'address of host 1': ['10.0.0.256', 'h1'] }, 'an IP address or a host name'],
    ['no address', { 'address of host 1': ['-', 'h1'] }, 'an IP address or a host name'],
    [
      'the address of another',
      { ...two, 'address of host 2': ['192.0.2.11', 'h2'] },
      'another host has this address',
    ],
    ['a port', { ...one, 'SSH port': ['65536', '22'] }, 'a port is a number from 1 to 65535'],
    ['a key', { ...one, '(empty: the cl': ['secret', 'BEGIN'] }, 'no key'],
    ['yes or no', { ...one, 'role worker': ['maybe', 'y'] }, 'y or n'],
    ['no control plane', { ...one, controlplane: ['n', 'y'] }, 'no other host has it'],
    ['no etcd', { ...one, etcd: ['n', 'y'] }, 'no other host has it'],
    [
      'a host without a role',
      { ...two, '11 have the role controlplane': 'n', '11 have the role etcd': ['n', 'y'] },
      'a host needs a role',
    ],
    ['a name', { ...one, 'name of': ['my_host', 'h'] }, 'letters, digits, - and .'],
    ['the name of another', { ...two, 'name of worker': ['192.0.2.11', 'w'] }, 'another host has this name'],
    ['an internal address', { ...one, inside: ['10.0.0', '10.0.0.1'] }, 'an IP address'],
    [
      'the internal address of another',
      { ...two, 'worker.example inside': ['192.0.2.11', '10.0.0.1'] },
      'another host has this address',
    ],
    ['a socket', { ...one, "Docker's": ['docker.sock', '/docker.sock'] }, 'a path that begins with /'],
    ['a plugin', { ...one, plugin: ['cilium', 'none'] }, /^canal or calico/.source],
    ['aci', { ...one, plugin: ['aci', 'none'] }, 'aci needs settings of its own'],
    ['authorization', { ...one, authorization: ['none', 'rbac'] }, 'needs rbac'],
    ['a version', { ...one, version: ['v1.31.0', ''] }, 'one of v1.24.2-rancher1-1'],
    [
      'weave from 1.30 on',
      { ...one, plugin: 'weave', version: ['v1.30.5-rancher1-1', ''] },
      'weave ends with',
    ],
    ['a network', { ...one, 'network of services': ['10.43.0.0', '10.43.0.0/16'] }, 'a network such as'],
    [
      'two networks where one is all there is',
      { ...one, 'network of services': ['10.43.0.0/16,fd00::/112', '10.43.0.0/16'] },
      'canal has no dual stack',
    ],
    [
      'networks that overlap',
      { ...one, 'network of pods': ['10.43.128.0/17', '10.42.0.0/16'] },
      'it overlaps with the network of services, 10.43.0.0/16',
    ],
    [
      'a DNS address elsewhere',
      { ...one, 'DNS service': ['10.42.0.10', '10.43.0.53'] },
      'an address in the network of services, 10.43.0.0/16',
    ],
  ])('%s is checked at once', async (_, script, refusal) => {
    const { refusals } = await run(script);
    expect(refusals.length).toBeGreaterThan(0);
    for (const each of refusals)
      expect(each).toMatch(refusal.startsWith('^') ? new RegExp(refusal) : refusal);
  });

  test('a host that is reached by IPv6 needs a name', async () => {
    const { refusals, value } = await run({ 'address of host 1': 'fd00::1', 'name of': ['fd00::1', 'h1'] });
    expect(refusals).toEqual(['letters, digits, - and .']);
    expect(value['nodes']).toMatchObject([{ address: 'fd00::1', hostname_override: 'h1' }]);
  });

  test('another version is offered where one is named', async () => {
    const { value } = await run(one, 'v1.26.15-rancher1-1');
    expect(value['kubernetes_version']).toBe('v1.26.15-rancher1-1');
  });

  test('whatever is answered and not refused makes a file that loads', async () => {
    const label = fc.constantFrom('y', 'no', '012', '1.30', 'h-1', '2020-01-01', '0x1f', 'ON', 'null', 'a.b');
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(label, { minLength: 3, maxLength: 3, selector: (text) => text.toLowerCase() }),
        fc.constantFrom(...knownVersions),
        fc.constantFrom('canal', 'calico', 'flannel', 'weave', 'none'),
        fc.array(fc.boolean(), { minLength: 9, maxLength: 9 }),
        async (names, version, plugin, flags) => {
          const hosts = names.flatMap((name, index): [string, string][] => [
            [`address of host ${index + 1}`, `198.51.100.${index + 1}`],
            [`name of 198.51.100.${index + 1}`, name],
            ...['controlplane', 'worker', 'etcd'].map((role, at): [string, string] => [
              `198.51.100.${index + 1} have the role ${role}`,
              flags[index * 3 + at] === true || role === 'etcd' ? 'y' : '',
            ]),
          ]);
          const { yaml } = await run({
            'how many': '3',
            ...Object.fromEntries(hosts),
            'network plugin': plugin,
            'Kubernetes version': plugin === 'weave' ? '' : version,
          });
          const nodes = configOf(yaml, 'cluster.yml').nodes;
          if (nodes.map(({ name }) => name).join() !== names.join().toLowerCase()) {
            throw new Error(`${names.join()} became ${nodes.map(({ name }) => name).join()}`);
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('an empty cluster.yml', () => {
  const example = readFileSync(new URL('../../cluster.example.yml', import.meta.url), 'utf8');
  const empty = emptyYaml(example);

  test('sets nothing', () => {
    expect(empty.split('\n').filter((line) => !/^\s*(#|$)/.test(line))).toEqual([]);
  });

  test('is the example where every # without a blank behind it is taken away', () => {
    const taken = empty.replace(/^(\s*)#(?=[^ \n])/gm, '$1');
    expect(configOf(taken, 'cluster.yml').raw).toEqual(configOf(example, 'cluster.yml').raw);
    expect(empty).toContain('\n#services:\n  #kube-api:\n');
  });
});
