/** What RKE refuses beyond wrong types and words, in its order (RKE 1.6). */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { isMap } from './keys.ts';
import { atLeast, defaultVersion, kubernetesVersion } from './versions.ts';
import type { KubernetesVersion } from './versions.ts';

/** `pointer` is a JSON pointer into cluster.yml. */
type Reporter = (pointer: string, text: string) => void;
type Struct = Record<string, unknown>;

/** Of `raw` nothing is taken for granted: mistakes of type are told elsewhere and passed over here. */
export function checkRules(raw: Struct, report: Reporter): void {
  const version = checkVersion(raw, report);
  checkNames(raw, report);
  checkAuthentication(raw, report);
  checkNetwork(raw, version, report);
  checkIngress(raw, report);
  checkRuntime(raw, version, report);
  checkPodSecurity(raw, version, report);
  checkEtcd(raw, report);
}

function below(raw: Struct, ...keys: string[]): Struct {
  return keys.reduce<Struct>((struct, key) => (isMap(struct[key]) ? struct[key] : {}), raw);
}

/** Texts count as not set when they are empty, as in RKE. */
function text(struct: Struct, key: string): string | undefined {
  const value = struct[key];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function checkVersion(raw: Struct, report: Reporter): KubernetesVersion | undefined {
  const written = text(raw, 'kubernetes_version') ?? defaultVersion;
  const version = kubernetesVersion(written);
  if (version === undefined) {
    report(
      '/kubernetes_version',
      `kubernetes_version is ${JSON.stringify(written)}, not a version in RKE's form such as ${defaultVersion}`,
    );
  }
  return version;
}

const subdomain = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

/** A DNS-1123 subdomain, as Kubernetes wants it of names of nodes. */
export function isNodeName(name: string): boolean {
  return name.length <= 253 && subdomain.test(name);
}

function checkNames(raw: Struct, report: Reporter): void {
  const nodes = Array.isArray(raw['nodes']) ? (raw['nodes'] as unknown[]) : [];
  nodes.forEach((node, index) => {
    if (!isMap(node)) return;
    const key = text(node, 'hostname_override') === undefined ? 'address' : 'hostname_override';
    const name = text(node, key)?.toLowerCase();
    if (name === undefined || isNodeName(name)) return;
    const also = key === 'address' ? ', and there is no `hostname_override`' : '';
    report(
      `/nodes/${index}/${key}`,
      `\`${key}\` of nodes[${index}] is ${JSON.stringify(name)}, which cannot be the name of a node: ` +
        `letters, digits, - and . are allowed${also}`,
    );
  });
}

function checkAuthentication(raw: Struct, report: Reporter): void {
  const strategy = text(below(raw, 'authentication'), 'strategy') ?? 'x509';
  const names = strategy.split('|').map((name) => name.trim().toLowerCase());
  const foreign = names.filter((name) => name !== 'x509' && name !== 'webhook');
  if (foreign.length === 0 && names.includes('x509')) return;
  report(
    '/authentication/strategy',
    `authentication.strategy is ${JSON.stringify(strategy)}, not x509 or x509|webhook`,
  );
}

function checkNetwork(raw: Struct, version: KubernetesVersion | undefined, report: Reporter): void {
  const network = below(raw, 'network');
  const plugin = text(network, 'plugin') ?? 'canal';
  if (plugin === 'flannel' && typeof network['mtu'] === 'number' && network['mtu'] !== 0) {
    report('/network/mtu', 'network.mtu cannot be set with the plugin flannel');
  }
  if (plugin === 'weave' && version !== undefined && atLeast(version, 30)) {
    report('/network/plugin', `network.plugin is weave, which RKE no longer has for ${version.version}`);
  }
  const api = below(raw, 'services', 'kube-api');
  const services = text(api, 'service_cluster_ip_range');
  const pods = text(below(raw, 'services', 'kube-controller'), 'cluster_cidr');
  for (const [pointer, range] of [
    ['/services/kube-api/service_cluster_ip_range', services],
    ['/services/kube-controller/cluster_cidr', pods],
  ] as const) {
    if (range === undefined) continue;
    const networks = range.split(',');
    if (!networks.every((one) => isNetwork(one.trim()))) {
      const name = pointer.slice(1).replaceAll('/', '.');
      report(pointer, `${name} is ${JSON.stringify(range)}, not a network such as 10.43.0.0/16`);
    } else if (networks.length > 1 && plugin !== 'calico' && plugin !== 'aci') {
      report(pointer, `the plugin ${plugin} has no dual stack: calico and aci have`);
    }
  }
  if (plugin !== 'aci') return;
  const aci = below(raw, 'network', 'aci_network_provider');
  for (const key of ['apic_hosts', 'l3out_external_networks']) {
    if (!Array.isArray(aci[key]) || aci[key].length === 0) {
      report('/network/aci_network_provider', `\`${key}\` of network.aci_network_provider is missing`);
    }
  }
}

/** Such as `10.43.0.0/16`. */
export function isNetwork(range: string): boolean {
  const [address = '', bits = '', ...more] = range.split('/');
  const family = isIP(address);
  return family !== 0 && more.length === 0 && /^\d+$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128);
}

function checkIngress(raw: Struct, report: Reporter): void {
  const ingress = below(raw, 'ingress');
  if ((text(ingress, 'network_mode') ?? 'hostPort') !== 'hostPort') return;
  const port = (key: string, usual: number) =>
    typeof ingress[key] === 'number' && ingress[key] !== 0 ? ingress[key] : usual;
  const ports = { http_port: port('http_port', 80), https_port: port('https_port', 443) };
  for (const [key, value] of Object.entries(ports)) {
    if (value < 0 || value > 65535) {
      report(`/ingress/${key}`, `ingress.${key} is ${value}, not a number from 0 to 65535`);
    }
  }
  if (ports.http_port === ports.https_port) {
    const key = 'https_port' in ingress ? 'https_port' : 'http_port';
    report(`/ingress/${key}`, `ingress.http_port and ingress.https_port are both ${ports.http_port}`);
  }
}

function checkRuntime(raw: Struct, version: KubernetesVersion | undefined, report: Reporter): void {
  if (version === undefined) return;
  if (raw['enable_cri_dockerd'] === true && !atLeast(version, 21)) {
    report(
      '/enable_cri_dockerd',
      `enable_cri_dockerd is for Kubernetes 1.21 and later, not ${version.version}`,
    );
  }
  const cloud = below(raw, 'cloud_provider');
  const name = text(cloud, 'name') ?? (isMap(cloud['awsCloudProvider']) ? 'aws' : undefined);
  if (name === 'aws' && atLeast(version, 27)) {
    report(
      '/cloud_provider',
      `cloud_provider aws ends with Kubernetes 1.26; ${version.version} takes external-aws`,
    );
  }
}

function checkPodSecurity(raw: Struct, version: KubernetesVersion | undefined, report: Reporter): void {
  if (version === undefined) return;
  const api = below(raw, 'services', 'kube-api');
  const level = text(api, 'pod_security_configuration');
  if (level !== undefined && !atLeast(version, 23)) {
    report(
      '/services/kube-api/pod_security_configuration',
      `services.kube-api.pod_security_configuration is for Kubernetes 1.23 and later, not ${version.version}`,
    );
  }
  // RKE sets `privileged` by itself, and then refuses its own choice.
  const own = 'admission-control-config-file' in below(api, 'extra_args');
  const secured = level !== undefined || (atLeast(version, 23) && !own);
  if (secured && text(below(raw, 'authorization'), 'mode') === 'none') {
    report('/authorization/mode', 'authorization.mode is none, but pod security (from 1.23 on) needs rbac');
  }
}

function checkEtcd(raw: Struct, report: Reporter): void {
  const etcd = below(raw, 'services', 'etcd');
  const at = '/services/etcd';
  if (Array.isArray(etcd['external_urls']) && etcd['external_urls'].length > 0) {
    for (const key of ['ca_cert', 'cert', 'key', 'path']) {
      if (text(etcd, key) !== undefined) continue;
      report(`${at}/external_urls`, `\`${key}\` of services.etcd is missing, which an external etcd needs`);
    }
    const nodes = Array.isArray(raw['nodes']) ? (raw['nodes'] as unknown[]) : [];
    nodes.forEach((node, index) => {
      if (!isMap(node) || !Array.isArray(node['role']) || !node['role'].includes('etcd')) return;
      report(
        `/nodes/${index}/role`,
        `nodes[${index}] has the role etcd, but services.etcd.external_urls is set`,
      );
    });
  }
  const backups = below(etcd, 'backup_config');
  const s3 = backups['s3backupconfig'];
  if (!isMap(s3)) return;
  const pointer = `${at}/backup_config/s3backupconfig`;
  for (const key of ['endpoint', 'bucket_name']) {
    if (text(s3, key) !== undefined) continue;
    report(pointer, `\`${key}\` of services.etcd.backup_config.s3backupconfig is missing`);
  }
  const ca = text(s3, 'custom_ca');
  if (ca !== undefined && !isCertificate(ca)) {
    report(`${pointer}/custom_ca`, '`custom_ca` of s3backupconfig is not a certificate in PEM');
  }
}

function isCertificate(pem: string): boolean {
  try {
    new X509Certificate(pem);
    return true;
  } catch {
    return false;
  }
}
