/** etcd, and the container that takes its snapshots. */
import { nodeCertificateName } from '../certificates/cluster.ts';
import { caPath, certificatePath, keyPath } from '../certificates/paths.ts';
import type { RkeBackups, RkeNode } from '../config/rke-config.ts';
import { defaultVersion, kubernetesVersion } from '../config/versions.ts';
import { argumentsOf } from './arguments.ts';
import { imageOf, nodesWith, tagOf } from './cluster.ts';
import type { ServiceInput } from './cluster.ts';
import { labelsOf, securityOptions, unique } from './component.ts';
import type { Container } from './container.ts';

const dataFolder = '/var/lib/rancher/etcd/';

/** It runs without service-sidekick, and etcd's image has no entrypoint: all of the command stands in Cmd. */
export function etcdContainer(input: ServiceInput): Container {
  const { node, host, wish, options, onHost } = input;
  const service = wish.rke.services.etcd;
  const certificate = nodeCertificateName('kube-etcd', node);
  // Without an internal address the public one may be the router's (DNAT), which nothing here can listen at.
  const listen = node.internalAddress === node.address ? '0.0.0.0' : node.internalAddress;
  const joins = wish.joining?.has(node.address) === true;
  const members = nodesWith(wish.rke, 'etcd').map(peer);
  const args = argumentsOf({
    base: {
      name: `etcd-${node.hostnameOverride}`,
      'data-dir': dataFolder,
      'listen-client-urls': `https://${listen}:2379`,
      'listen-peer-urls': `https://${listen}:2380`,
      'advertise-client-urls': `https://${node.internalAddress}:2379`,
      'initial-advertise-peer-urls': `https://${node.internalAddress}:2380`,
      'initial-cluster-token': 'etcd-cluster-1',
      'initial-cluster': (joins ? (wish.initialCluster ?? members) : members).join(),
      'initial-cluster-state': joins ? 'existing' : 'new',
      'trusted-ca-file': caPath,
      'peer-trusted-ca-file': caPath,
      'cert-file': certificatePath(certificate),
      'key-file': keyPath(certificate),
      'peer-cert-file': certificatePath(certificate),
      'peer-key-file': keyPath(certificate),
      'cipher-suites': 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384',
    },
    options: options['etcd'],
    service,
  });
  const own =
    service.uid !== undefined && service.uid !== 0 && service.gid !== undefined && service.gid !== 0;
  return {
    name: 'etcd',
    plane: 'etcd',
    image: imageOf(wish.rke, 'etcd'),
    command: ['/usr/local/bin/etcd', ...args],
    env: [
      'ETCDCTL_API=3',
      `ETCDCTL_CACERT=${caPath}`,
      `ETCDCTL_CERT=${certificatePath(certificate)}`,
      `ETCDCTL_KEY=${keyPath(certificate)}`,
      `ETCDCTL_ENDPOINTS=https://${listen === '0.0.0.0' ? '127.0.0.1' : listen}:2379`,
      `ETCD_UNSUPPORTED_ARCH=${host.architecture === 'aarch64' ? 'arm64' : host.architecture}`,
      ...(service.extraEnv ?? []),
    ],
    binds: unique([
      `${onHost('/var/lib/etcd')}:${dataFolder}`,
      `${onHost('/etc/kubernetes')}:/etc/kubernetes`,
      ...(service.extraBinds ?? []),
    ]),
    volumesFrom: [],
    // Group = user is RKE's slip; the data folder of every cluster it made belongs to that group.
    ...(own && { user: `${service.uid}:${service.uid}` }),
    network: 'host',
    hostPid: false,
    privileged: false,
    securityOptions: securityOptions(host.selinux, false),
    labels: labelsOf('etcd'),
    restart: 'always',
    health: { url: `https://${node.internalAddress}:2379/health`, certificate: 'kube-node' },
  };
}

function peer(node: RkeNode): string {
  return `etcd-${node.hostnameOverride}=https://${node.internalAddress}:2380`;
}

/** Undefined where `services.etcd.snapshot` is false. */
export function snapshotsContainer(input: ServiceInput): Container | undefined {
  const { node, host, wish, onHost } = input;
  const { snapshot, retention, creation, backupConfig, extraEnv = [] } = wish.rke.services.etcd;
  if (snapshot === false) return undefined;
  const s3 = backupConfig?.s3BackupConfig ?? undefined;
  return {
    name: 'etcd-rolling-snapshots',
    plane: 'etcd',
    image: snapshotImage(imageOf(wish.rke, 'alpine')),
    command: [
      ...['/opt/rke-tools/rke-etcd-backup', 'etcd-backup', 'save'],
      ...['--cacert', caPath, '--cert', certificatePath('kube-node'), '--key', keyPath('kube-node')],
      ...['--name', 'etcd-rolling-snapshots', `--endpoints=${node.internalAddress}:2379`],
      ...(backupConfig === undefined
        ? [`--retention=${retention ?? ''}`, `--creation=${creation ?? ''}`]
        : schedule(backupConfig)),
      ...(s3 === undefined ? [] : s3Arguments(s3)),
    ],
    env: [...extraEnv, ...(s3 === undefined ? [] : s3Env(s3))],
    binds: ['/opt/rke/etcd-snapshots/:/backup', `${onHost('/etc/kubernetes')}:/etc/kubernetes`],
    volumesFrom: [],
    network: 'host',
    hostPid: false,
    privileged: false,
    securityOptions: securityOptions(host.selinux, false),
    labels: {},
    restart: 'always',
  };
}

/** RKE takes the newest rke-tools for it, whatever the cluster's version; an image of one's own stays. */
function snapshotImage(alpine: string): string {
  const newest = kubernetesVersion(defaultVersion)?.systemImages['alpine'] ?? '';
  const tag = tagOf(alpine);
  if (!alpine.includes('rancher/rke-tools') || tag === '') return alpine;
  return `${alpine.slice(0, -tag.length)}${tagOf(newest)}`;
}

/** `backup_config` counts snapshots; the program wants the hours that so many span. */
function schedule({ intervalHours = 0, retention = 0 }: RkeBackups): string[] {
  return [`--creation=${intervalHours}h`, `--retention=${retention * intervalHours}h`];
}

function s3Arguments(s3: Readonly<Record<string, string>>): string[] {
  const { endpoint = '', bucketName = '', region = '', customCa = '', folder = '' } = s3;
  return [
    '--s3-backup=true',
    `--s3-endpoint=${endpoint}`,
    `--s3-bucketName=${bucketName}`,
    `--s3-region=${region}`,
    ...(customCa === '' ? [] : [`--s3-endpoint-ca=${base64(customCa)}`]),
    ...(folder === '' ? [] : [`--s3-folder=${folder}`]),
  ];
}

function s3Env({ accessKey = '', secretKey = '' }: Readonly<Record<string, string>>): string[] {
  if (accessKey === '' && secretKey === '') return [];
  return [`S3_ACCESS_KEY=${base64(accessKey)}`, `S3_SECRET_KEY=${base64(secretKey)}`];
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
