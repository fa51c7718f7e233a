import { nodeCertificateName } from '../certificates/cluster.ts';
import { caPath, certificatePath, keyPath, kubeconfigPath } from '../certificates/paths.ts';
import { isIPv4, isIPv6 } from 'node:net';
import type { RkeConfig } from '../config/rke-config.ts';
import { atLeast } from '../config/versions.ts';
import { argumentsOf } from './arguments.ts';
import type { Arguments } from './arguments.ts';
import { cloudArguments, cloudEnv, namedByCloud } from './cloud.ts';
import type { ServiceInput } from './cluster.ts';
import { componentContainer } from './component.ts';
import type { Container } from './container.ts';
import { controlplaneTaint, taintText } from './node.ts';
import { registryEnv } from './registries.ts';

export function kubeletContainer(input: ServiceInput): Container {
  const { wish, options, onHost } = input;
  const { rke } = wish;
  const service = rke.services.kubelet;
  const cache = rke.dns?.nodelocal?.ipAddress ?? '';
  return componentContainer(input, {
    name: 'kubelet',
    plane: 'worker',
    service,
    args: argumentsOf({
      base: baseArguments(input),
      options: options['kubelet'],
      service,
      // Pods ask the cache on their node, whatever else was said.
      ...(cache !== '' && { fixed: { 'cluster-dns': cache } }),
    }),
    env: [...runtimeEnv(rke), ...cloudEnv(wish), ...registryEnv(rke, onHost('/var/lib/kubelet/config.json'))],
    binds: bindsOf(input),
    onHost: true,
    health: { url: 'http://localhost:10248/healthz' },
  });
}

function baseArguments({ node, wish, version, onHost }: ServiceInput): Arguments {
  const { kubelet } = wish.rke.services;
  const serving = nodeCertificateName('kube-kubelet', node);
  const reserved = node.role.includes('controlplane') && !node.role.includes('worker');
  return {
    ...cloudArguments(wish),
    'client-ca-file': caPath,
    'cluster-dns': kubelet.clusterDnsServer ?? '',
    'cluster-domain': kubelet.clusterDomain ?? '',
    'fail-swap-on': String(kubelet.failSwapOn === true),
    // RKE finds a node by the label kubernetes.io/hostname, which follows this.
    ...(!namedByCloud(wish, ['external-aws']) && { 'hostname-override': node.hostnameOverride }),
    kubeconfig: kubeconfigPath('kube-node'),
    'pod-infra-container-image': kubelet.infraContainerImage ?? '',
    'root-dir': onHost('/var/lib/kubelet'),
    ...(reserved && { 'register-with-taints': taintText(controlplaneTaint) }),
    ...(node.internalAddress !== node.address && { 'node-ip': node.internalAddress }),
    ...(kubelet.generateServingCertificate === true && {
      'tls-cert-file': certificatePath(serving),
      'tls-private-key-file': keyPath(serving),
    }),
    ...(usesCriDockerd(wish.rke) && {
      'container-runtime-endpoint': 'unix:///var/run/cri-dockerd.sock',
      // The flag is gone from Kubernetes 1.27 on.
      ...(!atLeast(version, 27) && { 'container-runtime': 'remote' }),
    }),
  };
}

function usesCriDockerd(rke: RkeConfig): boolean {
  return rke.enableCriDockerd === true;
}

/** Read by rke-tools' entrypoint, which starts cri-dockerd beside kubelet. */
function runtimeEnv(rke: RkeConfig): string[] {
  if (!usesCriDockerd(rke)) return [];
  const { criDockerdStreamServerAddress: address = '', criDockerdStreamServerPort: port = '' } = rke;
  return [
    'RKE_KUBELET_CRIDOCKERD=true',
    ...(address === '' ? [] : [`CRIDOCKERD_STREAM_SERVER_ADDRESS=${address}`]),
    ...(port === '' ? [] : [`CRIDOCKERD_STREAM_SERVER_PORT=${port}`]),
    ...(isDualStack(rke) ? ['RKE_KUBELET_CRIDOCKERD_DUALSTACK=true'] : []),
  ];
}

function isDualStack(rke: RkeConfig): boolean {
  const addresses = (rke.services.kubeController.clusterCidr ?? '')
    .split(',')
    .map((one) => one.split('/')[0] ?? '');
  return addresses.some((each) => isIPv4(each)) && addresses.some((each) => isIPv6(each));
}

function bindsOf({ wish, host, onHost }: ServiceInput): string[] {
  const kubelet = onHost('/var/lib/kubelet');
  return [
    ...(usesCriDockerd(wish.rke) ? [`${onHost('/var/lib/cri-dockerd')}:/var/lib/cri-dockerd`] : []),
    `${onHost('/etc/kubernetes')}:/etc/kubernetes`,
    '/etc/cni:/etc/cni:rw',
    '/opt/cni:/opt/cni:rw',
    `${onHost('/var/lib/cni')}:/var/lib/cni`,
    '/var/lib/calico:/var/lib/calico',
    '/etc/resolv.conf:/etc/resolv.conf',
    '/sys:/sys:rprivate',
    `${host.rootFolder}:${host.rootFolder}:rw,rslave`,
    `${kubelet}:${kubelet}:shared`,
    '/var/lib/rancher:/var/lib/rancher:shared',
    '/var/run:/var/run:rw,rprivate',
    '/run:/run:rprivate',
    `${onHost('/etc/ceph')}:/etc/ceph`,
    '/dev:/host/dev:rprivate',
    '/var/log/containers:/var/log/containers',
    '/var/log/pods:/var/log/pods',
    '/usr:/host/usr:ro',
    '/etc:/host/etc:ro',
    // volume-plugin-dir does not follow the prefix.
    ...(kubelet === '/var/lib/kubelet'
      ? []
      : ['/var/lib/kubelet/volumeplugins:/var/lib/kubelet/volumeplugins:shared']),
  ];
}
