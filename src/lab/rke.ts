/** What RKE 1.6 makes of a host: its containers and files, by the same data that tsrke plans with. */
import { elementOf, type Bundle } from '../certificates/bundle.ts';
import { caNames, certifiedClusterOf, leavesOf, tokenName } from '../certificates/cluster.ts';
import { rkeConfigOf, type RkeConfig, type RkeNode } from '../config/rke-config.ts';
import { defaultVersion, kubernetesVersion, serviceOptions } from '../config/versions.ts';
import { providerFlag } from '../encryption/world.ts';
import { dockerHostOf, type ClusterWish } from '../services/cluster.ts';
import { definitionOf, type Container } from '../services/container.ts';
import { filesOf, servicesOf, type ServiceFile } from '../services/services.ts';
import { dockerInfo, type DockerEngine } from './docker-engine.ts';
import { rolesOf, type LabNode } from './surface.ts';

/** A cluster as RKE has made it. */
export interface RkeCluster {
  readonly config: RkeConfig;
  /** kube-apiserver runs with the provider file, which has to be there already. */
  readonly encrypted: boolean;
  /** Undefined: placeholders stand for certificates and keys. */
  readonly bundle: Bundle | undefined;
}

/** cluster.yml of these nodes, with nothing said but encryption; `reload`: automatic, as the user has asked RKE for it. */
export function plainConfig(nodes: readonly LabNode[], encrypted: boolean, reload: boolean): RkeConfig {
  const id = JSON.stringify({ nodes, encrypted, reload });
  const known = plain.get(id) ?? madePlain(nodes, encrypted, reload);
  plain.set(id, known);
  return known;
}

const plain = new Map<string, RkeConfig>();

function madePlain(nodes: readonly LabNode[], encrypted: boolean, reload: boolean): RkeConfig {
  const raw = {
    nodes: nodes.map((node) => ({
      ...{ address: node.address, user: 'lab', role: rolesOf(node), hostname_override: node.name },
    })),
    services: {
      'kube-api': {
        secrets_encryption_config: { enabled: encrypted },
        ...(encrypted && reload && { extra_args: { [`${providerFlag.slice(2)}-automatic-reload`]: 'true' } }),
      },
      etcd: { snapshot: false },
    },
  };
  return rkeConfigOf({ raw, nodes: [], ignoreDockerVersion: false });
}

interface Plan {
  readonly node: RkeNode;
  readonly containers: readonly Container[];
  readonly files: readonly ServiceFile[];
}

/** Thousands of labs are made of one cluster.yml. */
const plans = new WeakMap<RkeConfig, Map<string, Plan>>();

/** Writes files, creates and starts containers at `now`. */
export function deployRke(
  engine: DockerEngine,
  { config, encrypted, bundle }: RkeCluster,
  now: number,
): void {
  const { host } = engine;
  const { node, containers, files } = planFor(host.node.name, config, encrypted);
  const certificates = certificatesOn(node, bundle ?? placeholders(config));
  for (const { path, text } of [...files, ...certificates]) host.write(path, Buffer.from(text));
  for (const container of containers) {
    engine.addImage(container.image);
    const definition = { ...definitionOf(container), Image: container.image };
    const made = engine.create(container.name, definition, now);
    if (container.restart !== undefined) engine.start(made, now);
  }
}

function planFor(name: string, config: RkeConfig, encrypted: boolean): Plan {
  const ofConfig = plans.get(config) ?? new Map<string, Plan>();
  plans.set(config, ofConfig);
  const id = `${name} ${encrypted}`;
  const known = ofConfig.get(id);
  if (known !== undefined) return known;
  const node = config.nodes.find(({ hostnameOverride }) => hostnameOverride === name);
  if (node === undefined) throw new Error(`cluster.yml has no node ${name}`);
  const wish: ClusterWish = { rke: ofKnownVersion(config), encrypted };
  const host = dockerHostOf(dockerInfo, name);
  const plan = { node, containers: servicesOf(node, host, wish), files: filesOf(node, host, wish) };
  ofConfig.set(id, plan);
  return plan;
}

/** Nobody knows the arguments of a version that RKE 1.6 never had: it runs with those of its newest. */
function ofKnownVersion(config: RkeConfig): RkeConfig {
  const version = kubernetesVersion(config.kubernetesVersion);
  if (version?.known === true && serviceOptions(version) !== undefined) return config;
  const { systemImages = {} } = kubernetesVersion(defaultVersion) ?? {};
  return {
    ...config,
    kubernetesVersion: defaultVersion,
    systemImages: { ...systemImages, ...config.systemImages },
  };
}

/** All nodes have what kubelet and kube-proxy need; the admin's certificate is on none. */
function certificatesOn({ role }: RkeNode, bundle: Bundle): ServiceFile[] {
  const has = (name: string) => {
    if (name === 'kube-admin') return false;
    if (name.startsWith('kube-etcd-')) return role.includes('etcd');
    return role.includes('controlplane') || ['kube-ca', 'kube-node', 'kube-proxy'].includes(name);
  };
  return Object.entries(bundle)
    .filter(([name]) => has(name))
    .flatMap(([name, element]) => [
      { path: element.path, text: element.certificatePEM },
      ...(name === 'kube-ca' && !role.includes('controlplane')
        ? []
        : [{ path: element.keyPath, text: element.keyPEM }]),
      ...(element.configPath === '' ? [] : [{ path: element.configPath, text: element.config }]),
    ]);
}

const bundles = new WeakMap<RkeConfig, Bundle>();

function placeholders(config: RkeConfig): Bundle {
  const known = bundles.get(config);
  if (known !== undefined) return known;
  const leaves = leavesOf(certifiedClusterOf(config, './cluster.yml')).map(({ name }) => name);
  const element = (name: string) =>
    elementOf(name, { certificatePEM: `certificate of ${name}`, keyPEM: `key of ${name}` }, {});
  const bundle = Object.fromEntries([...caNames, tokenName, ...leaves].map((name) => [name, element(name)]));
  bundles.set(config, bundle);
  return bundle;
}
