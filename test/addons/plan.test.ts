import { describe, expect, test } from 'vitest';
import { hashOf, type AddonName } from '../../src/addons/addon.ts';
import { lineOf, planAddons, type AddonPlan } from '../../src/addons/plan.ts';
import { nothingSeen, type Recorded, type SeenAddons } from '../../src/addons/seen.ts';
import { wantedAddons } from '../../src/addons/wanted.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import { parseManifests, refOf } from '../../src/kube/manifest.ts';
import { configOf, nodes } from '../services/inputs.ts';

const version = 'kubernetes_version: v1.30.5-rancher1-1\n';
/** No addon but RBAC. */
const bare =
  'network: {plugin: none}\ndns: {provider: none}\nmonitoring: {provider: none}\ningress: {provider: none}\n';
const flannel = bare.replace('plugin: none', 'plugin: flannel');
const granted = { ...nothingSeen, rbac: true };

function rkeOf(more: string) {
  return rkeConfigOf(configOf((more.includes('kubernetes_version') ? '' : version) + nodes + more));
}

function plan(more: string, seen: SeenAddons = nothingSeen, former?: string): AddonPlan {
  const config = configOf((more.includes('kubernetes_version') ? '' : version) + nodes + more);
  const rke = rkeConfigOf(config);
  const wanted = wantedAddons(rke, []);
  return planAddons({
    ...{ config, rke, wanted, seen },
    former: former === undefined ? undefined : rkeOf(former),
  });
}

const lines = (...given: Parameters<typeof plan>) => plan(...given).steps.map(lineOf);
const notes = (...given: Parameters<typeof plan>) => plan(...given).notes.map(({ text }) => text);

/** RKE has deployed this, and granted its rights. */
function rkeMade(deployed: Readonly<Record<string, string>>, daemonSets: string[] = []): SeenAddons {
  const ofRke = Object.entries(deployed).map(([name, text]) => [name, parseManifests(text, name)] as const);
  return { ...granted, ofRke: new Map(ofRke), daemonSets: new Set(daemonSets) };
}

function recorded(entries: Partial<Record<AddonName, Recorded>>): SeenAddons {
  return { ...granted, record: new Map(Object.entries(entries)) as unknown as SeenAddons['record'] };
}

/** The record after this cluster.yml was applied. */
function appliedBefore(more: string): SeenAddons {
  const wanted = wantedAddons(rkeOf(more), []);
  const entries = wanted.map(({ name, manifests }) => {
    const objects = manifests.map(({ object }) => refOf(object));
    return [name, { sha256: hashOf(manifests), objects }] as const;
  });
  return { ...recorded(Object.fromEntries(entries)), daemonSets: new Set(['kube-flannel']) };
}

const object = (kind: string, name: string, more = '') =>
  `---\n{apiVersion: v1, kind: ${kind}, metadata: {name: ${name}}${more}}\n`;
const asAddons = (text: string) => `addons: |-\n${text.replace(/^/gm, '  ')}\n`;

describe('a new cluster', () => {
  test('gets all that is asked for, in its order', () => {
    expect(lines(`network: {plugin: flannel}\n${asAddons(object('Pod', 'a'))}`)).toEqual([
      'apply RBAC: 3 objects',
      'apply flannel: 5 objects',
      'apply CoreDNS: 10 objects',
      'apply metrics-server: 9 objects',
      'apply `addons`: 1 object',
    ]);
  });

  test('gets nothing that is turned off', () => {
    expect(lines(bare, granted)).toEqual([]);
  });

  test.each([
    ['', 'tsrke has no manifests of the network plugin canal for a new cluster'],
    ['network: {plugin: calico}', 'tsrke has no manifests of the network plugin calico for a new cluster'],
    [
      'kubernetes_version: v1.28.14-rancher1-1\nnetwork: {plugin: weave}',
      'tsrke has no manifests of the network plugin weave for a new cluster',
    ],
    [
      'network: {plugin: aci, aci_network_provider: {apic_hosts: [a], l3out_external_networks: [b]}}',
      'tsrke has no manifests of the network plugin aci for a new cluster',
    ],
    [
      'network: {plugin: flannel}\ndns: {provider: kube-dns}',
      'tsrke does not deploy the DNS provider kube-dns',
    ],
    [
      'network: {plugin: flannel}\ndns: {nodelocal: {ip_address: 169.254.20.10}}',
      'tsrke does not deploy NodeLocal DNS',
    ],
  ])('with %j is declined', (more, message) => {
    expect(() => plan(more)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED', message }) as Error);
  });

  test('may bring canal itself', () => {
    const own = bare.replace('network: {plugin: none}\n', '') + asAddons(object('DaemonSet', 'canal'));
    expect(lines(own, granted)).toEqual(['apply `addons`: 1 object']);
    expect(() => plan(own.replace('name: canal', 'name: other'))).toThrow('canal');
  });

  test('without an ingress controller is told how to come by one, once', () => {
    const open = flannel.replace('ingress: {provider: none}\n', '');
    const text = expect.stringContaining('no ingress controller is deployed') as string;
    expect(notes(open)).toEqual([text]);
    expect(notes(flannel)).toEqual([]);
    expect(notes(open + asAddons(object('IngressClass', 'nginx')))).toEqual([]);
    expect(notes(open, appliedBefore(flannel))).toEqual([]);
  });
});

describe('a cluster that tsrke has made', () => {
  const before = `network: {plugin: flannel}\n${asAddons(object('Pod', 'a') + object('Service', 'b'))}`;

  test('has nothing to do', () => {
    expect(lines(before, appliedBefore(before), before)).toEqual([]);
  });

  test('gets what has changed, and loses what is no longer in it', () => {
    const after = before
      .replace('flannel}', 'flannel, options: {flannel_iface: eth1}}')
      .replace('Pod', 'Secret');
    expect(lines(after, appliedBefore(before), before)).toEqual([
      'apply flannel: 5 objects',
      'apply `addons`: 2 objects, 1 to remove',
    ]);
  });

  test('is finished where it was cut off', () => {
    const seen = recorded({ addons: { sha256: '', objects: [] } });
    expect(lines(bare + asAddons(object('Pod', 'a')), seen, bare)).toEqual(['apply `addons`: 1 object']);
  });

  test('loses what is turned off, but never its network', () => {
    expect(lines(bare, appliedBefore(before), before)).toEqual([
      'remove the DNS of the cluster: 10 objects',
      'remove metrics-server: 9 objects',
      'remove `addons`: 2 objects',
    ]);
    expect(notes(bare, appliedBefore(before), before)).toEqual([
      'the network plugin flannel stays where it is: `none` removes nothing',
    ]);
  });

  test('keeps namespaces, custom kinds and volumes that are no longer in cluster.yml', () => {
    const kinds = ['Namespace', 'CustomResourceDefinition', 'PersistentVolumeClaim', 'PersistentVolume'];
    const text = bare + asAddons([...kinds, 'Pod'].map((kind) => object(kind, 'x')).join(''));
    const [step] = plan(bare, appliedBefore(text), text).steps;
    expect(step?.removes.map(({ kind }) => kind)).toEqual(['Pod']);
    expect(step?.stays.map(({ kind }) => kind)).toEqual(kinds);
  });

  test('keeps a manifest that has moved from one addon to another', () => {
    const before = bare + asAddons(object('Pod', 'a') + object('Pod', 'b'));
    const config = configOf(version + nodes + bare);
    const rke = rkeConfigOf(config);
    const wanted = wantedAddons(rke, [{ place: 'pods.yml', text: object('Pod', 'a') }]);
    const input = { config, rke, wanted, seen: appliedBefore(before), former: rkeOf(before) };
    expect(planAddons(input).steps.map(lineOf)).toEqual([
      'remove `addons`: 1 object',
      'apply `addons_include`: 1 object',
    ]);
  });

  test('cannot exchange its network', () => {
    const seen = appliedBefore(before);
    expect(() => plan('network: {plugin: calico}', seen, before)).toThrow(
      'network.plugin is calico, but the cluster runs flannel: the network of a running cluster cannot be exchanged',
    );
  });
});

describe('a cluster that RKE has made', () => {
  const all = rkeMade(
    {
      'rke-network-plugin': object('DaemonSet', 'canal'),
      'rke-coredns-addon':
        object('Service', 'kube-dns, namespace: kube-system') + object('ConfigMap', 'coredns-old'),
      'rke-metrics-addon': object('Service', 'metrics-server, namespace: kube-system'),
      'rke-ingress-controller': object('Namespace', 'ingress-nginx') + object('ServiceAccount', 'nginx'),
      'rke-user-addon': object('Pod', 'a') + object('Pod', 'b'),
    },
    ['canal', 'nginx-ingress-controller'],
  );
  const before = asAddons(object('Pod', 'a') + object('Pod', 'b'));

  test('has nothing to do, and is told nothing', () => {
    expect(plan(before, all, before)).toEqual({ steps: [], notes: [] });
  });

  test('has nothing to do either where its state does not tell what RKE deployed', () => {
    expect(plan(before, all)).toEqual({ steps: [], notes: [] });
  });

  test('with every plugin that RKE knows is left alone', () => {
    const aci =
      'network: {plugin: aci, aci_network_provider: {apic_hosts: [a], l3out_external_networks: [b]}}\n';
    const seen = rkeMade({ 'rke-network-plugin': '' });
    const rest = bare.replace('network: {plugin: none}\n', '');
    expect(plan(aci + rest, seen, aci + rest)).toEqual({ steps: [], notes: [] });
    expect(plan(rest, { ...granted, daemonSets: new Set(['canal']) }, rest).steps).toEqual([]);
    const dns = 'dns: {provider: kube-dns, nodelocal: {ip_address: 169.254.20.10}}\n';
    const more = bare.replace('dns: {provider: none}\n', dns);
    const seenDns = rkeMade({ 'rke-kube-dns-addon': '', 'rke-nodelocal-addon': '' });
    expect(plan(more, seenDns, more)).toEqual({ steps: [], notes: [] });
  });

  test('gets from tsrke only what cluster.yml now asks for otherwise', () => {
    const dns = plan(`${before}dns: {upstreamnameservers: [192.0.2.53]}`, all, before);
    expect(dns.steps.map(lineOf)).toEqual(['apply CoreDNS: 10 objects, 1 to remove']);
    expect(dns.steps[0]?.takesOver).toEqual(['rke-coredns-addon']);
    expect(dns.steps[0]?.removes.map(({ name }) => name)).toEqual(['coredns-old']);
    expect(lines(before.replace('name: b', 'name: c'), all, before)).toEqual([
      'apply `addons`: 2 objects, 1 to remove',
    ]);
    expect(lines(`${before}monitoring: {replicas: 2}`, all, before)).toEqual([
      'apply metrics-server: 9 objects',
    ]);
    expect(lines(`${before}services: {kubelet: {cluster_domain: k8s.example}}`, all, before)).toEqual([
      'apply CoreDNS: 10 objects, 1 to remove',
    ]);
  });

  test('gets the images of another version, and is told what stays', () => {
    const old = `kubernetes_version: v1.28.7-rancher1-1\n${before}`;
    const { steps, notes: told } = plan(before, all, old);
    expect(steps.map(({ title }) => title)).toEqual(['CoreDNS', 'metrics-server']);
    expect(told.map(({ text }) => text.split(' stays')[0])).toEqual(['canal', 'ingress-nginx']);
  });

  test('an order of keys, or a comment, is no change', () => {
    const same = asAddons(`# mine\n{kind: Pod, metadata: {name: a}, apiVersion: v1}\n${object('Pod', 'b')}`);
    expect(lines(same, all, before)).toEqual([]);
  });

  test('loses what is turned off', () => {
    const off = 'dns: {provider: none}\nmonitoring: {provider: none}\ningress: {provider: none}\n';
    const { steps } = plan(off, all, before);
    expect(steps.map(lineOf)).toEqual([
      'remove the DNS of the cluster: 2 objects',
      'remove metrics-server: 1 object',
      'remove the ingress controller: 1 object',
      'remove `addons`: 2 objects',
    ]);
    expect(steps[2]?.stays.map(({ name }) => name)).toEqual(['ingress-nginx']);
    // RKE leaves its ConfigMaps behind: what was off before is not removed once more.
    expect(lines(off, all, off)).toEqual([]);
  });

  test('cannot exchange its network', () => {
    expect(() => plan('network: {plugin: flannel}', all, '')).toThrow('the cluster runs canal');
    const aci =
      'network: {plugin: aci, aci_network_provider: {apic_hosts: [a], l3out_external_networks: [b]}}\n';
    const seen = rkeMade({ 'rke-network-plugin': '' });
    expect(() => plan('network: {plugin: flannel}', seen, aci)).toThrow('the cluster runs aci');
  });

  test('gets rights that are missing', () => {
    expect(lines(before, { ...all, rbac: false }, before)).toEqual(['apply RBAC: 3 objects']);
  });
});
