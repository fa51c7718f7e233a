/** kube-apiserver, and which of its files the container depends on. */
import { isIP } from 'node:net';
import { caPath, certificatePath, keyPath } from '../certificates/paths.ts';
import type { RkeKubeApi } from '../config/rke-config.ts';
import { providerFlag, providerPath } from '../encryption/world.ts';
import { admissionFile } from './admission.ts';
import { argumentsOf } from './arguments.ts';
import type { Arguments } from './arguments.ts';
import { auditPolicyFile } from './audit-policy.ts';
import { checksum } from './checksum.ts';
import { cloudArguments, cloudEnv } from './cloud.ts';
import { nodesWith } from './cluster.ts';
import type { ServiceInput } from './cluster.ts';
import { componentContainer } from './component.ts';
import type { Container } from './container.ts';
import { admissionPath, auditPolicyPath, webhookPath } from './paths.ts';

const own = 'kube-apiserver';
const proxyClient = 'kube-apiserver-proxy-client';
const tokens = 'kube-service-account-token';

export function apiserverContainer(input: ServiceInput): Container {
  const { wish, options, onHost } = input;
  const { kubeApi } = wish.rke.services;
  const audited = kubeApi.auditLog?.enabled === true;
  return componentContainer(input, {
    name: own,
    plane: 'controlplane',
    service: kubeApi,
    args: argumentsOf({
      base: { ...baseArguments(input), ...etcdArguments(input), ...conditionalArguments(input) },
      options: options['kubeapi'],
      computed: (soFar) => computedArguments(input, soFar),
      service: kubeApi,
    }),
    env: [
      ...cloudEnv(wish),
      ...checksumOf('RKE_ADMISSION_CONFIG_CHECKSUM', admissionFile(input.version, kubeApi)),
      ...checksumOf('RKE_AUDITLOG_CONFIG_CHECKSUM', audited ? auditPolicyFile(kubeApi) : undefined),
    ],
    binds: [
      `${onHost('/etc/kubernetes')}:/etc/kubernetes`,
      ...(audited ? [`${onHost('/var/log/kube-audit')}:/var/log/kube-audit`] : []),
      ...(wish.socketBinds ?? []),
    ],
    health: { url: 'https://localhost:6443/healthz', certificate: own },
  });
}

/** kube-apiserver reads these files at its start only: with another content RKE recreates the container. */
function checksumOf(name: string, file: string | undefined): string[] {
  return file === undefined ? [] : [`${name}=${checksum(file)}`];
}

function baseArguments({ wish }: ServiceInput): Arguments {
  const { serviceClusterIpRange = '', serviceNodePortRange = '' } = wish.rke.services.kubeApi;
  return {
    'admission-control-config-file': admissionPath,
    'client-ca-file': caPath,
    'kubelet-client-certificate': certificatePath(own),
    'kubelet-client-key': keyPath(own),
    'proxy-client-cert-file': certificatePath(proxyClient),
    'proxy-client-key-file': keyPath(proxyClient),
    'requestheader-allowed-names': proxyClient,
    'requestheader-client-ca-file': certificatePath('kube-apiserver-requestheader-ca'),
    'service-account-key-file': keyPath(tokens),
    'service-cluster-ip-range': serviceClusterIpRange,
    'service-node-port-range': serviceNodePortRange,
    'tls-cert-file': certificatePath(own),
    'tls-private-key-file': keyPath(own),
  };
}

function etcdArguments({ node, wish }: ServiceInput): Arguments {
  const { externalUrls = [], path = '' } = wish.rke.services.etcd;
  if (externalUrls.length > 0) {
    return {
      'etcd-cafile': certificatePath('kube-etcd-client-ca'),
      'etcd-certfile': certificatePath('kube-etcd-client'),
      'etcd-keyfile': keyPath('kube-etcd-client'),
      'etcd-prefix': path,
      'etcd-servers': externalUrls.join(),
    };
  }
  const addresses = nodesWith(wish.rke, 'etcd').map(({ internalAddress }) => internalAddress);
  // Its own first: a server asks the first one that answers.
  const inOrder = [
    ...addresses.filter((each) => each === node.internalAddress),
    ...addresses.filter((each) => each !== node.internalAddress),
  ];
  return {
    'etcd-cafile': caPath,
    'etcd-certfile': certificatePath('kube-node'),
    'etcd-keyfile': keyPath('kube-node'),
    'etcd-prefix': '/registry',
    'etcd-servers': inOrder.map((address) => `https://${address}:2379`).join(),
  };
}

function conditionalArguments({ wish }: ServiceInput): Arguments {
  const webhook = wish.rke.authentication?.webhook;
  return {
    ...cloudArguments(wish),
    ...(webhook !== undefined && {
      'authentication-token-webhook-config-file': webhookPath,
      'authentication-token-webhook-cache-ttl': webhook.cacheTimeout ?? '',
    }),
    ...(wish.encrypted && { [providerFlag.slice(2)]: providerPath }),
    ...(wish.rke.services.kubelet.generateServingCertificate === true && {
      'kubelet-certificate-authority': caPath,
    }),
  };
}

function computedArguments({ node, wish }: ServiceInput, soFar: Arguments): Arguments {
  const { kubeApi } = wish.rke.services;
  const plugins = [
    soFar['enable-admission-plugins'] ?? '',
    ...(kubeApi.alwaysPullImages === true ? ['AlwaysPullImages'] : []),
    ...(kubeApi.eventRateLimit?.enabled === true ? ['EventRateLimit'] : []),
  ];
  return {
    ...(wish.rke.authorization?.mode === 'rbac' && { 'authorization-mode': 'Node,RBAC' }),
    ...(isIP(node.internalAddress) !== 0 && { 'advertise-address': node.internalAddress }),
    'enable-admission-plugins': plugins.join(),
    ...auditArguments(kubeApi),
  };
}

function auditArguments({ auditLog }: RkeKubeApi): Arguments {
  const log = auditLog?.configuration;
  if (log === undefined) return {};
  return {
    'audit-log-path': log.path ?? '',
    'audit-log-maxage': String(log.maxAge ?? 0),
    'audit-log-maxbackup': String(log.maxBackup ?? 0),
    'audit-log-maxsize': String(log.maxSize ?? 0),
    'audit-log-format': log.format ?? '',
    'audit-policy-file': auditPolicyPath,
  };
}
