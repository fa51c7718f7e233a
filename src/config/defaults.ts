/** RKE 1.6's defaults, on rkeConfig in its JSON keys. Empty text and 0 mean "not set", as in Go. */
import { isMap } from './keys.ts';
import { atLeast, defaultVersion } from './versions.ts';
import type { KubernetesVersion } from './versions.ts';

type Struct = Record<string, unknown>;

const flexVolumes = '/usr/libexec/kubernetes/kubelet-plugins/volume/exec/nodeagent~uds';

/** Clouds whose settings have a block of their own (`awsCloudProvider`, …); RKE writes the cloud's file from it. */
export const cloudsWithFields = ['aws', 'azure', 'openstack', 'vsphere', 'harvester'];

/** Changes `rke`. `version` is undefined when `written` is not a version in RKE's form: no default depends on it then. */
export function fillDefaults(rke: Struct, version: KubernetesVersion | undefined, written: string): void {
  const since = (minor: number) => version !== undefined && atLeast(version, minor);
  fill(rke, {
    sshKeyPath: '~/.ssh/id_rsa',
    kubernetesVersion: written === '' ? defaultVersion : written,
    clusterName: 'local',
    prefixPath: '/',
    addonJobTimeout: 45,
    rotateEncryptionKey: false,
  });
  if (typeof rke['enableCriDockerd'] !== 'boolean') rke['enableCriDockerd'] = since(24) ? true : null;
  fill(part(rke, 'authorization'), { mode: 'rbac' });
  part(rke, 'restore');
  nodes(rke);
  systemImages(rke, version);
  cloudProvider(rke);
  dns(rke);
  services(rke, since);
  network(rke);
  authentication(rke);
  upgradeStrategy(rke);
  addons(rke, since);
}

/** Sets what is missing, empty or 0. */
function fill(struct: Struct, defaults: Struct): void {
  for (const [key, value] of Object.entries(defaults)) {
    const now = struct[key];
    if (now === undefined || now === null || now === '' || now === 0) struct[key] = value;
  }
}

/** The struct below a key, made when it is not there. */
function part(struct: Struct, key: string): Struct {
  const now = struct[key];
  if (isMap(now)) return now;
  const made: Struct = {};
  struct[key] = made;
  return made;
}

function nodes(rke: Struct): void {
  const agent = rke['sshAgentAuth'];
  for (const node of Array.isArray(rke['nodes']) ? rke['nodes'].filter(isMap) : []) {
    fill(node, { internalAddress: node['address'], hostnameOverride: node['address'] });
    fill(node, { sshKeyPath: rke['sshKeyPath'], port: '22' });
    node['hostnameOverride'] = String(node['hostnameOverride']).toLowerCase();
    node['sshAgentAuth'] = agent;
  }
  const bastion = part(rke, 'bastionHost');
  if (bastion['address'] === undefined || bastion['address'] === '') return;
  fill(bastion, { port: '22', sshKeyPath: rke['sshKeyPath'] });
  bastion['sshAgentAuth'] = agent;
}

function systemImages(rke: Struct, version: KubernetesVersion | undefined): void {
  const registries = Array.isArray(rke['privateRegistries']) ? rke['privateRegistries'].filter(isMap) : [];
  const url = registries.find((registry) => registry['isDefault'] === true)?.['url'];
  const prefix = typeof url === 'string' && url !== '' ? `${url}/` : '';
  const images = Object.entries(version?.systemImages ?? {}).map(([key, image]) => [key, prefix + image]);
  fill(part(rke, 'systemImages'), Object.fromEntries(images) as Struct);
}

function cloudProvider(rke: Struct): void {
  const cloud = part(rke, 'cloudProvider');
  for (const name of cloudsWithFields) {
    if (isMap(cloud[`${name}CloudProvider`])) fill(cloud, { name });
  }
  if (cloud['name'] === 'aws') cloud['useInstanceMetadataHostname'] ??= false;
}

function dns(rke: Struct): void {
  fill(part(rke, 'dns'), { provider: 'coredns' });
}

function services(rke: Struct, since: (minor: number) => boolean): void {
  const all = part(rke, 'services');
  const images = part(rke, 'systemImages');
  const etcd = part(all, 'etcd');
  const api = part(all, 'kubeApi');
  const controller = part(all, 'kubeController');
  const kubelet = part(all, 'kubelet');
  for (const service of [api, controller, part(all, 'scheduler'), kubelet, part(all, 'kubeproxy')]) {
    service['image'] = images['kubernetes'];
  }
  etcd['image'] = images['etcd'];
  etcd['snapshot'] ??= true;
  fill(etcd, { creation: '12h', retention: '72h' });
  const args = part(etcd, 'extraArgs');
  args['election-timeout'] ??= '5000';
  args['heartbeat-interval'] ??= '500';
  backups(etcd);

  fill(api, { serviceClusterIpRange: '10.43.0.0/16', serviceNodePortRange: '30000-32767' });
  admission(api, since);
  auditLog(api);
  encryption(api);
  fill(controller, { serviceClusterIpRange: '10.43.0.0/16', clusterCidr: '10.42.0.0/16' });
  fill(kubelet, {
    clusterDnsServer: '10.43.0.10',
    clusterDomain: 'cluster.local',
    infraContainerImage: images['podInfraContainer'],
  });
}

function backups(etcd: Struct): void {
  const backup = etcd['backupConfig'];
  if (!isMap(backup)) return;
  backup['s3BackupConfig'] ??= null;
  if (isMap(backup['s3BackupConfig'])) backup['s3BackupConfig']['endpoint'] ??= '';
  if (backup['enabled'] !== false) fill(backup, { intervalHours: 12, retention: 6, timeout: 300 });
}

function admission(api: Struct, since: (minor: number) => boolean): void {
  if (isMap(api['extraArgs']) && 'admission-control-config-file' in api['extraArgs']) return;
  const limit = api['eventRateLimit'];
  if (isMap(limit) && limit['enabled'] === true) {
    limit['configuration'] ??= {
      kind: 'Configuration',
      apiVersion: 'eventratelimit.admission.k8s.io/v1alpha1',
      limits: [{ type: 'Server', qps: 5000, burst: 20000 }],
    };
  }
  if (since(23)) fill(api, { podSecurityConfiguration: 'privileged' });
}

function auditLog(api: Struct): void {
  api['auditLog'] ??= { enabled: true };
  const log = api['auditLog'];
  if (!isMap(log) || log['enabled'] !== true) return;
  const policy = {
    kind: 'Policy',
    apiVersion: 'audit.k8s.io/v1',
    metadata: { creationTimestamp: null },
    rules: [{ level: 'Metadata' }],
  };
  if (isMap(log['configuration'])) {
    // Missing numbers stay 0 here: RKE fills in the policy only.
    log['configuration']['policy'] ??= policy;
    return;
  }
  log['configuration'] = {
    maxAge: 30,
    maxBackup: 10,
    maxSize: 100,
    path: '/var/log/kube-audit/audit-log.json',
    format: 'json',
    policy,
  };
}

/** RKE takes over a custom config only while encryption is on. */
function encryption(api: Struct): void {
  const block = api['secretsEncryptionConfig'];
  if (!isMap(block)) return;
  if (block['enabled'] !== true) delete block['customConfig'];
  // Fields that RKE does not know stay out of its part of the state.
  for (const own of ['provider', 'resources']) Reflect.deleteProperty(block, own);
}

function network(rke: Struct): void {
  const settings = part(rke, 'network');
  fill(settings, { plugin: 'canal' });
  const vxlan = { backend_type: 'vxlan', backend_port: '8472', backend_vni: '1' };
  const under = (prefix: string) =>
    Object.fromEntries(Object.entries(vxlan).map(([key, value]) => [`${prefix}_${key}`, value]));
  const defaults: Readonly<Record<string, Struct>> = {
    canal: { ...under('canal_flannel'), canal_flex_volume_plugin_dir: flexVolumes },
    calico: { calico_cloud_provider: 'none', calico_flex_volume_plugin_dir: flexVolumes },
    flannel: under('flannel'),
  };
  const options = part(settings, 'options');
  // Only what is missing: an empty option is kept.
  for (const [key, value] of Object.entries(defaults[String(settings['plugin'])] ?? {}))
    options[key] ??= value;
}

function authentication(rke: Struct): void {
  const settings = part(rke, 'authentication');
  fill(settings, { strategy: 'x509' });
  const strategies = String(settings['strategy']).split('|');
  if (strategies.some((name) => name.trim().toLowerCase() === 'webhook')) part(settings, 'webhook');
  // RKE also fills in `configFile`, a kubeconfig for http://127.0.0.1:6440; where a cluster has it, it is in the state.
  if (isMap(settings['webhook'])) fill(settings['webhook'], { cacheTimeout: '5s' });
}

/** How workers are drained where cluster.yml does not say. */
export const drainDefaults = { ignoreDaemonSets: true, gracePeriod: -1, timeout: 120 };

function upgradeStrategy(rke: Struct): void {
  const missing = !isMap(rke['upgradeStrategy']);
  const strategy = part(rke, 'upgradeStrategy');
  fill(strategy, { maxUnavailableWorker: '10%', maxUnavailableControlplane: '1' });
  const drain = strategy['nodeDrainInput'];
  if (isMap(drain)) {
    for (const [field, value] of Object.entries(drainDefaults)) drain[field] ??= value;
  } else if (!missing && strategy['drain'] !== true) {
    strategy['nodeDrainInput'] = { ...drainDefaults };
  }
}

function addons(rke: Struct, since: (minor: number) => boolean): void {
  const ingress = part(rke, 'ingress');
  fill(ingress, { provider: 'nginx', httpPort: 80, httpsPort: 443 });
  fill(ingress, { networkMode: since(21) ? 'hostPort' : 'hostNetwork' });
  ingress['defaultBackend'] ??= !since(21);
  ingress['defaultIngressClass'] ??= true;
  rolling(ingress, { maxUnavailable: 1 }, 'replace');
  rolling(part(rke, 'network'), { maxUnavailable: 1 }, 'replace');

  const names = part(rke, 'dns');
  if (names['provider'] === 'coredns') rolling(names, { maxUnavailable: 1, maxSurge: 0 }, 'unavailable');
  if (names['provider'] === 'kube-dns') rolling(names, { maxUnavailable: 0, maxSurge: '10%' }, 'surge');
  names['linearAutoscalerParams'] ??= {
    coresPerReplica: 128,
    nodesPerReplica: 4,
    min: 1,
    preventSinglePointFailure: true,
  };

  const monitoring = part(rke, 'monitoring');
  fill(monitoring, { provider: 'metrics-server' });
  rolling(monitoring, { maxUnavailable: '25%', maxSurge: '25%' }, 'both');
  monitoring['replicas'] ??= 1;
}

/**
 * How the pods of an add-on are replaced. Another strategy than RollingUpdate is left alone; of an incomplete one RKE
 * fills in different parts for each add-on: `replace`s it, or sets what is missing of the named parts.
 */
function rolling(
  addon: Struct,
  defaults: Struct,
  missing: 'replace' | 'unavailable' | 'surge' | 'both',
): void {
  const now = addon['updateStrategy'];
  const whole = { strategy: 'RollingUpdate', rollingUpdate: { ...defaults } };
  if (!isMap(now)) {
    addon['updateStrategy'] = whole;
    return;
  }
  const unnamed = now['strategy'] === undefined || now['strategy'] === '';
  const forDns = missing === 'unavailable' || missing === 'surge';
  if (now['strategy'] !== 'RollingUpdate' && !(forDns && unnamed)) return;
  const update = now['rollingUpdate'];
  if (!isMap(update) || (missing === 'replace' && (update['maxUnavailable'] ?? null) === null)) {
    addon['updateStrategy'] = whole;
    return;
  }
  if (missing !== 'surge' && missing !== 'replace') update['maxUnavailable'] ??= defaults['maxUnavailable'];
  if (missing === 'surge' || missing === 'both') update['maxSurge'] ??= defaults['maxSurge'];
}
