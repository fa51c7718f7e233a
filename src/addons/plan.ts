/** Which addons are to be applied or removed, from what is wanted and what is there. Pure. */
import { differences } from '../config/differences.ts';
import type { ClusterConfig } from '../config/load.ts';
import type { RkeConfig } from '../config/rke-config.ts';
import { TsrkeError } from '../errors.ts';
import { refKey, refOf, type ObjectRef } from '../kube/manifest.ts';
import { addonNames, hashOf, type Addon, type AddonName } from './addon.ts';
import { deployedPlugin, isDeployed, userBrings } from './network.ts';
import { rkeConfigMaps, type SeenAddons } from './seen.ts';
import { settingsOf, type Settings } from './settings.ts';

/** Manifests can hold secrets: for a person there is `lineOf`. */
export interface AddonStep {
  readonly kind: 'apply' | 'remove';
  readonly name: AddonName;
  readonly title: string;
  /** Of `apply`. */
  readonly addon?: Addon;
  /** What is there of it and no longer wanted, in the order in which it came. */
  readonly removes: readonly ObjectRef[];
  /** No longer wanted either, and left: with them would go what others have put there. */
  readonly stays: readonly ObjectRef[];
  /** RKE's ConfigMaps of what is taken over. */
  readonly takesOver: readonly string[];
}

export interface AddonNote {
  readonly level: 'info' | 'warning';
  readonly text: string;
}

export interface AddonPlan {
  readonly steps: readonly AddonStep[];
  readonly notes: readonly AddonNote[];
}

export interface AddonInput {
  readonly config: ClusterConfig;
  readonly rke: RkeConfig;
  readonly wanted: readonly Addon[];
  readonly seen: SeenAddons;
  /** `currentState.rkeConfig`: what cluster.yml said when the cluster was last brought up. */
  readonly former: RkeConfig | undefined;
}

/** Empty where nothing is to be done. Throws UNSUPPORTED for what tsrke neither ships nor finds. */
export function planAddons(input: AddonInput): AddonPlan {
  const settings = settingsOf(input.rke);
  const changed = changesIn(input);
  refuseUnsupported(input, settings);
  const steps = addonNames.flatMap((name) => stepFor(name, input, settings, changed));
  return { steps, notes: notesOn(input, settings, changed) };
}

/** `apply CoreDNS: 10 objects, 1 to remove`. */
export function lineOf({ kind, title, addon, removes }: AddonStep): string {
  const objects = (count: number) => `${count} object${count === 1 ? '' : 's'}`;
  if (kind === 'remove') return `remove ${title}: ${objects(removes.length)}`;
  const more = removes.length === 0 ? '' : `, ${removes.length} to remove`;
  return `apply ${title}: ${objects(addon?.manifests.length ?? 0)}${more}`;
}

/** Whether what an addon follows from is otherwise than when RKE deployed it. */
type Changes = (name: AddonName) => boolean;

/** By addon: paths in cluster.yml, and names of images in the state. */
const sources: Readonly<Partial<Record<AddonName, { paths: RegExp; images: RegExp }>>> = {
  network: {
    paths: /^(network\.|authorization\.mode$|services\.kube-controller\.cluster_cidr$)/,
    images: /^(flannel|canal|calico|weave)/,
  },
  dns: {
    paths: /^(dns\.(?!nodelocal)|authorization\.mode$|services\.kubelet\.cluster_(domain|dns_server)$)/,
    images: /^coredns/,
  },
  nodelocal: { paths: /^dns\.nodelocal/, images: /^nodelocal/ },
  metrics: { paths: /^(monitoring\.|authorization\.mode$)/, images: /^metricsServer$/ },
  ingress: { paths: /^ingress\./, images: /^ingress/ },
};

function changesIn({ config, rke, former }: AddonInput): Changes {
  // Of a cluster without a record nobody can say: what RKE has deployed stays.
  if (former === undefined) return () => false;
  const paths = differences(config, former).map(({ path }) => path);
  const images = Object.keys({ ...rke.systemImages, ...former.systemImages }).filter(
    (name) => rke.systemImages[name] !== former.systemImages[name],
  );
  return (name) => {
    const source = sources[name];
    if (source === undefined) return false;
    return paths.some((path) => source.paths.test(path)) || images.some((image) => source.images.test(image));
  };
}

function stepFor(name: AddonName, input: AddonInput, settings: Settings, changed: Changes): AddonStep[] {
  const { wanted, seen } = input;
  const addon = wanted.find((each) => each.name === name);
  const recorded = seen.record.get(name);
  const takesOver = rkeConfigMaps[name].filter((each) => seen.ofRke.has(each));
  if (addon === undefined) {
    // RKE leaves its ConfigMap behind when it removes an addon.
    const former = input.former && settingsOf(input.former);
    const isThere =
      recorded !== undefined || (takesOver.length > 0 && former !== undefined && !isOff(name, former));
    return isThere && (isUsersOwn(name) || isOff(name, settings)) ? removal(name, input, takesOver) : [];
  }
  const hash = hashOf(addon.manifests);
  if (recorded?.sha256 === hash) return [];
  if (recorded === undefined) {
    if (name === 'rbac' && seen.rbac) return [];
    if (takesOver.length > 0 && !changed(name) && !isUsersOwn(name)) return [];
    const deployed = takesOver.map((each) => seen.ofRke.get(each));
    if (isUsersOwn(name) && deployed.some((each) => each !== undefined && hashOf(each) === hash)) return [];
  }
  const { removes, stays } = leftovers(name, input, takesOver);
  return [{ kind: 'apply', name, title: addon.title, addon, removes, stays, takesOver }];
}

function isUsersOwn(name: AddonName): boolean {
  return name === 'addons' || name === 'includes';
}

/** Said to be not wanted. The network of a running cluster stays whatever is said, as with RKE. */
function isOff(name: AddonName, settings: Settings): boolean {
  const { dns, monitoring, ingress, addons, addonsInclude } = settings;
  switch (name) {
    case 'rbac':
    case 'network':
      return false;
    case 'dns':
      return dns.provider === 'none';
    case 'nodelocal':
      return (dns.nodelocal?.ipAddress ?? '') === '';
    case 'metrics':
      return monitoring.provider === 'none';
    case 'ingress':
      return ingress.provider === 'none';
    case 'addons':
      return addons === '';
    case 'includes':
      return addonsInclude.length === 0;
  }
}

const titles: Readonly<Record<AddonName, string>> = {
  rbac: 'RBAC',
  network: 'the network plugin',
  dns: 'the DNS of the cluster',
  nodelocal: 'NodeLocal DNS',
  metrics: 'metrics-server',
  ingress: 'the ingress controller',
  addons: '`addons`',
  includes: '`addons_include`',
};

function removal(name: AddonName, input: AddonInput, takesOver: readonly string[]): AddonStep[] {
  return [{ kind: 'remove', name, title: titles[name], ...leftovers(name, input, takesOver), takesOver }];
}

/** With these go objects, or data, that nobody has asked to remove. */
const neverRemoved = ['Namespace', 'CustomResourceDefinition', 'PersistentVolumeClaim', 'PersistentVolume'];

/** Of an addon's former versions, what no addon wants now: a manifest may have moved from one to the other. */
function leftovers(
  name: AddonName,
  { wanted, seen }: AddonInput,
  takesOver: readonly string[],
): Pick<AddonStep, 'removes' | 'stays'> {
  const keep = new Set(
    wanted.flatMap(({ manifests }) => manifests.map(({ object }) => refKey(refOf(object)))),
  );
  const former = [
    ...(seen.record.get(name)?.objects ?? []),
    ...takesOver.flatMap((each) => (seen.ofRke.get(each) ?? []).map(({ object }) => refOf(object))),
  ];
  const distinct = [...new Map(former.map((ref) => [refKey(ref), ref])).values()];
  const left = distinct.filter((ref) => !keep.has(refKey(ref)));
  return {
    removes: left.filter(({ kind }) => !neverRemoved.includes(kind)),
    stays: left.filter(({ kind }) => neverRemoved.includes(kind)),
  };
}

/** Throws UNSUPPORTED. */
function refuseUnsupported({ wanted, seen, former }: AddonInput, { network, dns }: Settings): void {
  const { plugin } = network;
  const deployed = deployedPlugin(seen, plugin, former && settingsOf(former).network.plugin);
  if (plugin !== 'none' && deployed !== undefined && deployed !== plugin) {
    throw new TsrkeError(
      'UNSUPPORTED',
      `network.plugin is ${plugin}, but the cluster runs ${deployed}: the network of a running cluster cannot be exchanged`,
      { next: `set \`network.plugin: ${deployed}\` in cluster.yml` },
    );
  }
  const known = ['flannel', 'none'].includes(plugin) || isDeployed(seen, plugin);
  if (!known && !userBrings(wanted, plugin)) {
    throw new TsrkeError(
      'UNSUPPORTED',
      `tsrke has no manifests of the network plugin ${plugin} for a new cluster`,
      {
        next: `set \`network.plugin\` to flannel, or to none and bring it with \`addons_include\`${
          plugin === 'canal' || plugin === 'calico'
            ? ` (with ${plugin} too, if that holds its DaemonSet)`
            : ''
        }`,
      },
    );
  }
  if (dns.provider === 'kube-dns' && !seen.ofRke.has('rke-kube-dns-addon')) {
    throw new TsrkeError('UNSUPPORTED', 'tsrke does not deploy the DNS provider kube-dns', {
      next: 'set `dns.provider` to coredns in cluster.yml',
    });
  }
  if ((dns.nodelocal?.ipAddress ?? '') !== '' && !seen.ofRke.has('rke-nodelocal-addon')) {
    throw new TsrkeError('UNSUPPORTED', 'tsrke does not deploy NodeLocal DNS', {
      next: 'take `dns.nodelocal` out of cluster.yml, or bring it with `addons_include`',
    });
  }
}

function notesOn(input: AddonInput, settings: Settings, changed: Changes): AddonNote[] {
  const { wanted, seen, former } = input;
  const { network, dns, ingress } = settings;
  const notes: AddonNote[] = [];
  const warn = (text: string) => notes.push({ level: 'warning', text });
  const leftAsIs = (name: AddonName, title: string, section: string) => {
    if (rkeConfigMaps[name].some((each) => seen.ofRke.has(each)) && changed(name)) {
      warn(
        `${title} stays as RKE deployed it: tsrke has no manifests of it, so what changed in \`${section}\` or by version has no effect`,
      );
    }
  };
  if (!['flannel', 'none'].includes(network.plugin)) leftAsIs('network', network.plugin, 'network');
  const before = former && settingsOf(former).network.plugin;
  if (network.plugin === 'none' && before !== undefined && before !== 'none') {
    warn(`the network plugin ${before} stays where it is: \`none\` removes nothing`);
  }
  if (dns.provider === 'kube-dns') leftAsIs('dns', 'kube-dns', 'dns');
  if (dns.nodelocal?.ipAddress !== undefined) leftAsIs('nodelocal', 'NodeLocal DNS', 'dns.nodelocal');
  if (ingress.provider === 'nginx') {
    leftAsIs('ingress', 'ingress-nginx', 'ingress');
    const isNew = seen.record.size === 0 && seen.ofRke.size === 0;
    if (isNew && !wanted.some(bringsIngress)) {
      warn(
        'no ingress controller is deployed: tsrke has no manifests of ingress-nginx; bring one with `addons_include`, or set `ingress.provider: none`',
      );
    }
  }
  return notes;
}

function bringsIngress({ manifests }: Addon): boolean {
  return manifests.some(({ object }) => object.kind === 'IngressClass');
}
