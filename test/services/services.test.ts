/** Containers that the fixtures do not show, and what they have besides arguments. */
import { describe, expect, test } from 'vitest';
import { dockerHostOf, wishOf } from '../../src/services/cluster.ts';
import { definitionOf } from '../../src/services/container.ts';
import type { Container, ServiceName } from '../../src/services/container.ts';
import { serviceNames } from '../../src/services/container.ts';
import { servicesOf } from '../../src/services/services.ts';
import { configOf, debian, inspected, kubeApi, nodes, only, planned, plannedIn } from './inputs.ts';
import type { Planned } from './inputs.ts';

const controlplane: ServiceName[] = [
  'service-sidekick',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
];

describe('which containers a node has, in their order', () => {
  test.each<[string, ServiceName[]]>([
    ['cp-1', controlplane],
    ['cp-2', controlplane],
    [
      'etcd-1',
      ['etcd', 'etcd-rolling-snapshots', 'nginx-proxy', 'service-sidekick', 'kubelet', 'kube-proxy'],
    ],
    ['all-1', serviceNames.filter((name) => name !== 'nginx-proxy')],
    ['worker-1', ['nginx-proxy', 'service-sidekick', 'kubelet', 'kube-proxy']],
  ])('%s', (node, names) => {
    expect(planned(node).map(({ name }) => name)).toEqual(names);
  });

  test('planes follow each other', () => {
    const planes = planned('all-1').map(({ plane }) => plane);
    const order = ['etcd', 'controlplane', 'worker'];
    expect(planes).toEqual([...planes].sort((a, b) => order.indexOf(a) - order.indexOf(b)));
    expect(only('service-sidekick', planned('worker-1')).plane).toBe('worker');
    expect(only('service-sidekick', planned('cp-2')).plane).toBe('controlplane');
  });

  test('no snapshots where they are turned off', () => {
    const names = planned('etcd-1', { more: 'services: {etcd: {snapshot: false}}' }).map(({ name }) => name);
    expect(names).not.toContain('etcd-rolling-snapshots');
  });
});

/** What a container has besides arguments. */
test.each<[string, ServiceName, Planned & { node?: string }, Partial<Container>]>([
  [
    'nginx-proxy leads to every controlplane node, in the order of the file',
    'nginx-proxy',
    { node: 'worker-1' },
    {
      image: 'rancher/rke-tools:v0.1.103',
      entrypoint: ['nginx-proxy'],
      command: ['CP_HOSTS=10.0.0.1,10.0.0.2,192.0.2.4'],
      env: ['CP_HOSTS=10.0.0.1,10.0.0.2,192.0.2.4'],
      binds: [],
      volumesFrom: [],
      network: 'host',
      restart: 'always',
    },
  ],
  [
    'service-sidekick is only there for its volume',
    'service-sidekick',
    { node: 'etcd-1' },
    { entrypoint: ['/bin/bash'], network: 'none', restart: undefined, volumesFrom: [] },
  ],
  [
    'snapshots, in the newest rke-tools whatever the version',
    'etcd-rolling-snapshots',
    { node: 'etcd-1', more: 'kubernetes_version: v1.26.8-rancher1-1\n' },
    {
      image: 'rancher/rke-tools:v0.1.103',
      command: [
        ...['/opt/rke-tools/rke-etcd-backup', 'etcd-backup', 'save'],
        ...['--cacert', '/etc/kubernetes/ssl/kube-ca.pem', '--cert', '/etc/kubernetes/ssl/kube-node.pem'],
        ...['--key', '/etc/kubernetes/ssl/kube-node-key.pem', '--name', 'etcd-rolling-snapshots'],
        ...['--endpoints=10.0.0.3:2379', '--retention=72h', '--creation=12h'],
      ],
      env: [],
      binds: ['/opt/rke/etcd-snapshots/:/backup', '/etc/kubernetes:/etc/kubernetes'],
      labels: {},
    },
  ],
  [
    "snapshots in an image of one's own",
    'etcd-rolling-snapshots',
    { node: 'etcd-1', more: 'system_images: {alpine: "r.example/mine/tools:1"}\n' },
    { image: 'r.example/mine/tools:1' },
  ],
  [
    'snapshots that go to S3',
    'etcd-rolling-snapshots',
    {
      node: 'etcd-1',
      more: `services: {etcd: {extra_env: [A=1], backup_config: {s3backupconfig: {access_key: id, secret_key: s3cret,
        endpoint: s3.example, bucket_name: b, region: r, folder: f}}}}\n`,
    },
    {
      command: [
        ...['/opt/rke-tools/rke-etcd-backup', 'etcd-backup', 'save'],
        ...['--cacert', '/etc/kubernetes/ssl/kube-ca.pem', '--cert', '/etc/kubernetes/ssl/kube-node.pem'],
        ...['--key', '/etc/kubernetes/ssl/kube-node-key.pem', '--name', 'etcd-rolling-snapshots'],
        ...['--endpoints=10.0.0.3:2379', '--creation=12h', '--retention=72h', '--s3-backup=true'],
        ...['--s3-endpoint=s3.example', '--s3-bucketName=b', '--s3-region=r', '--s3-folder=f'],
      ],
      env: ['A=1', 'S3_ACCESS_KEY=aWQ=', 'S3_SECRET_KEY=czNjcmV0'],
    },
  ],
  [
    'etcd on ARM, as its own user',
    'etcd',
    {
      node: 'etcd-1',
      host: { architecture: 'aarch64' },
      more: 'services: {etcd: {uid: 52034, gid: 52035, extra_env: [GOGC=50], extra_binds: ["/a:/b:ro"]}}\n',
    },
    {
      user: '52034:52034',
      env: [
        'ETCDCTL_API=3',
        'ETCDCTL_CACERT=/etc/kubernetes/ssl/kube-ca.pem',
        'ETCDCTL_CERT=/etc/kubernetes/ssl/kube-etcd-10-0-0-3.pem',
        'ETCDCTL_KEY=/etc/kubernetes/ssl/kube-etcd-10-0-0-3-key.pem',
        'ETCDCTL_ENDPOINTS=https://10.0.0.3:2379',
        'ETCD_UNSUPPORTED_ARCH=arm64',
        'GOGC=50',
      ],
      binds: ['/var/lib/etcd:/var/lib/rancher/etcd/', '/etc/kubernetes:/etc/kubernetes', '/a:/b:ro'],
      volumesFrom: [],
      health: { url: 'https://10.0.0.3:2379/health', certificate: 'kube-node' },
    },
  ],
  [
    'binds and variables of the user, and the sockets of KMS plugins; those for Windows are not for here',
    'kube-apiserver',
    {
      more: kubeApi(
        'audit_log: {enabled: false}, extra_binds: ["/a:/b"], extra_env: [A=1, " A=1 "], win_extra_env: [W=1], ' +
          'win_extra_binds: ["c:/a:c:/b"], win_extra_args: {w: 1}',
      ),
      wish: { socketBinds: ['/var/run/kms:/var/run/kms'] },
    },
    {
      binds: ['/etc/kubernetes:/etc/kubernetes', '/var/run/kms:/var/run/kms', '/a:/b'],
      env: ['RKE_ADMISSION_CONFIG_CHECKSUM=69ff71a7958fe5108686fd89fcbff80d', 'A=1'],
    },
  ],
  [
    "no checksum of an admission file that is not RKE's",
    'kube-apiserver',
    { more: kubeApi('audit_log: {enabled: false}, extra_args: {admission-control-config-file: /x}') },
    { env: [] },
  ],
  [
    'kubelet with two families of addresses and a stream server',
    'kubelet',
    {
      more: `network: {plugin: calico}
cri_dockerd_stream_server_address: 127.0.0.1
cri_dockerd_stream_server_port: 10010
services:
  kube-api: {service_cluster_ip_range: "10.43.0.0/16,fd98::/108"}
  kube-controller: {cluster_cidr: "10.42.0.0/16,fd01::/64", service_cluster_ip_range: "10.43.0.0/16,fd98::/108"}
`,
    },
    {
      env: [
        'RKE_KUBELET_CRIDOCKERD=true',
        'CRIDOCKERD_STREAM_SERVER_ADDRESS=127.0.0.1',
        'CRIDOCKERD_STREAM_SERVER_PORT=10010',
        'RKE_KUBELET_CRIDOCKERD_DUALSTACK=true',
      ],
    },
  ],
  [
    'kubelet with registries, whose log-ins are written for pods',
    'kubelet',
    {
      host: { operatingSystem: 'Flatcar' },
      more: `private_registries:
- {url: r.example/a&b, user: u, password: p}
- {user: hub, password: x}
- {url: 1.dkr.ecr.example, ecr_credential_plugin: {aws_access_key_id: a}}
`,
    },
    {
      env: [
        'RKE_KUBELET_CRIDOCKERD=true',
        `RKE_KUBELET_DOCKER_CONFIG=${Buffer.from(
          '{"auths":{"docker.io":{"auth":"aHViOng="},"r.example/a\\u0026b":{"auth":"dTpw"}},' +
            '"credHelpers":{"1.dkr.ecr.example":"ecr-login"}}',
        ).toString('base64')}`,
        'RKE_KUBELET_DOCKER_FILE=/opt/rke/var/lib/kubelet/config.json',
      ],
    },
  ],
  [
    'the checksum of a cloud config',
    'kube-controller-manager',
    { more: 'cloud_provider: {name: openstack, customCloudProvider: "[Global]\\n"}\n' },
    { env: ['RKE_CLOUD_CONFIG_CHECKSUM=b5b36c507f054284a4fd3bb538da6444'] },
  ],
  [
    'a cloud that needs none',
    'kube-controller-manager',
    { more: 'cloud_provider: {name: external}\n' },
    { env: ['RKE_CLOUD_CONFIG_CHECKSUM=d41d8cd98f00b204e9800998ecf8427e'] },
  ],
  [
    'the scheduler reads no cloud config',
    'kube-scheduler',
    { more: 'cloud_provider: {name: external}\n' },
    { env: [] },
  ],
  [
    'SELinux: etcd',
    'etcd',
    { node: 'etcd-1', host: { selinux: true } },
    { securityOptions: ['label=type:rke_container_t'] },
  ],
  [
    'SELinux: what shares the volume',
    'kube-scheduler',
    { host: { selinux: true } },
    { securityOptions: ['label=level:s0:c1000,c1001', 'label=type:rke_container_t'] },
  ],
  [
    'SELinux: the volume itself',
    'service-sidekick',
    { host: { selinux: true } },
    { securityOptions: ['label=level:s0:c1000,c1001', 'label=type:rke_container_t'] },
  ],
  ['SELinux: nothing for the privileged', 'kubelet', { host: { selinux: true } }, { securityOptions: [] }],
  [
    'an old rke-tools has its entrypoint elsewhere',
    'kube-scheduler',
    { more: 'system_images: {kubernetes_services_sidecar: "rancher/rke-tools:v0.1.12"}\n' },
    {
      entrypoint: [
        ...['/opt/rke/entrypoint.sh', 'kube-scheduler'],
        '--authentication-kubeconfig=/etc/kubernetes/ssl/kubecfg-kube-scheduler.yaml',
        '--authorization-kubeconfig=/etc/kubernetes/ssl/kubecfg-kube-scheduler.yaml',
        '--kubeconfig=/etc/kubernetes/ssl/kubecfg-kube-scheduler.yaml',
        ...['--leader-elect=true', '--profiling=false', '--v=2'],
      ],
    },
  ],
])('%s (%s)', (_, name, { node = 'cp-1', ...input }, wanted) => {
  expect(only(name, planned(node, input))).toMatchObject(wanted);
});

test('the sockets of KMS plugins that tsrke runs are mounted, each folder once', () => {
  const plugins = '[{image: k:1, socket: /var/run/a/s.sock}, {image: k:2, socket: /var/run/b/s.sock}]';
  const encryption = `secrets_encryption_config: {enabled: true, kms_plugin: ${plugins}}`;
  const wish = wishOf(
    configOf(nodes + kubeApi(`${encryption}, extra_binds: ["/var/run/a:/var/run/a"]`)),
    true,
  );
  const node = wish.rke.nodes.find((each) => each.hostnameOverride === 'cp-1');
  if (node === undefined) throw new Error('no node');
  expect(only('kube-apiserver', servicesOf(node, debian, wish)).binds).toEqual([
    ...['/etc/kubernetes:/etc/kubernetes', '/var/log/kube-audit:/var/log/kube-audit'],
    ...['/var/run/b:/var/run/b', '/var/run/a:/var/run/a'],
  ]);
});

test('with a prefix, only what RKE keeps there is moved', () => {
  const usual = only('kubelet', planned('cp-1')).binds;
  const moved = only('kubelet', planned('cp-1', { more: 'prefix_path: /opt/rke\n' })).binds;
  expect(moved.filter((bind) => !usual.includes(bind))).toEqual([
    '/opt/rke/var/lib/cri-dockerd:/var/lib/cri-dockerd',
    '/opt/rke/etc/kubernetes:/etc/kubernetes',
    '/opt/rke/var/lib/cni:/var/lib/cni',
    '/opt/rke/var/lib/kubelet:/opt/rke/var/lib/kubelet:shared',
    '/opt/rke/etc/ceph:/etc/ceph',
    '/var/lib/kubelet/volumeplugins:/var/lib/kubelet/volumeplugins:shared',
  ]);
});

test('arguments are in one order, whatever the order in cluster.yml', () => {
  const of = (args: string) =>
    planned('cp-1', { more: `services: {kubelet: {extra_args: {${args}}}}\n` }).map(definitionOf);
  expect(of('a: 1, zz: 2, v: 3')).toEqual(of('v: 3, zz: 2, a: 1'));
});

describe('what is not known is refused', () => {
  test.each<[string, Planned, RegExp]>([
    [
      'the arguments of a version',
      { more: 'kubernetes_version: v1.31.1-rancher1-1\n' },
      /services of v1\.31\.1-rancher1-1 is not known/,
    ],
    [
      'those of an image',
      { more: 'system_images: {kubernetes: "rancher/hyperkube:v1.31.1-rancher1"}\n' },
      /services of v1\.31\.1-rancher1 is not known/,
    ],
    [
      'the image of a version',
      { more: 'kubernetes_version: v1.30.99-rancher1-1\n' },
      /no image is known for kubernetes_services_sidecar of v1\.30\.99-rancher1-1/,
    ],
    [
      "a cloud config in RKE's own fields",
      { more: 'cloud_provider: {azureCloudProvider: {tenantId: t}}\n' },
      /cloud config of azure/,
    ],
  ])('%s', (_, input, message) => {
    expect(() => planned('cp-1', input)).toThrow(message);
  });

  test('such a cloud config that is there already is taken as it is', () => {
    const input = {
      more: 'cloud_provider: {azureCloudProvider: {tenantId: t}}\n',
      wish: { cloudConfig: '{}' },
    };
    expect(only('kubelet', planned('cp-1', input)).env).toContain(
      'RKE_CLOUD_CONFIG_CHECKSUM=99914b932bd37a50b983c5e7c90ae93b',
    );
  });
});

describe('of docker info', () => {
  const info = {
    Architecture: 'x86_64',
    DockerRootDir: '/var/lib/docker',
    OperatingSystem: 'Debian GNU/Linux 12 (bookworm)',
    OSType: 'linux',
    SecurityOptions: ['name=seccomp,profile=builtin'],
  };

  test('the facts of a host are taken', () => {
    expect(dockerHostOf(info, 'cp-1')).toEqual(debian);
    expect(dockerHostOf({ ...info, SecurityOptions: null }, 'cp-1').selinux).toBe(false);
  });

  test.each(['selinux', 'name=selinux'])('%s is SELinux', (option) => {
    expect(dockerHostOf({ ...info, SecurityOptions: [option] }, 'cp-1').selinux).toBe(true);
  });

  test('Windows is declined', () => {
    expect(() => dockerHostOf({ ...info, OSType: 'windows' }, 'win-1')).toThrow(/runs Windows/);
  });
});

test("Docker's definition of a container is the one that it shows of RKE's", () => {
  const rke = inspected('h1').find(({ Name }) => Name === '/kube-proxy');
  const node = `nodes: [{address: 198.51.100.11, hostname_override: h1, user: u, role: [controlplane, etcd]}]
services: {kubeproxy: {extra_args: {conntrack-max-per-core: "0"}}}
`;
  const definition = definitionOf(only('kube-proxy', plannedIn(node, 'h1')));
  expect(definition).toMatchObject({
    Image: rke?.Config.Image,
    Labels: rke?.Config.Labels,
    HostConfig: {
      Binds: rke?.HostConfig.Binds,
      VolumesFrom: ['service-sidekick'],
      NetworkMode: 'host',
      PidMode: 'host',
      Privileged: true,
      RestartPolicy: { Name: 'always' },
    },
  });
  expect(definition).not.toHaveProperty('Cmd');
  expect(definitionOf(only('service-sidekick', planned('cp-1')))).not.toHaveProperty(
    'HostConfig.RestartPolicy',
  );
  expect(definitionOf(only('etcd', planned('etcd-1')))).not.toHaveProperty('Entrypoint');
});
