/** The containers of RKE 1.6.3 on three hosts, argument for argument. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import type { RkeConfig } from '../../src/config/rke-config.ts';
import type { Container } from '../../src/services/container.ts';
import { marksOf } from '../../src/services/node.ts';
import { filesOf, servicesOf } from '../../src/services/services.ts';
import { debian, fixture, inspected } from './inputs.ts';
import type { Inspect } from './inputs.ts';

interface State {
  readonly currentState: {
    readonly rkeConfig: RkeConfig;
    readonly certificatesBundle: Readonly<
      Record<string, { readonly path: string; readonly keyPath: string }>
    >;
  };
}
const { currentState } = JSON.parse(readFileSync(fixture('enabled.rkestate'), 'utf8')) as State;
const sources: readonly (readonly [string, RkeConfig])[] = [
  ['cluster.yml', rkeConfigOf(loadConfig(fixture('cluster.yml')))],
  ['the state that RKE left', currentState.rkeConfig],
];
const hosts = ['h1', 'h2', 'h3'] as const;

/** Images bring PATH; privileged containers get `label=disable` from Docker. */
function ofRke({ Name, Config, HostConfig }: Inspect) {
  return {
    name: Name.slice(1),
    image: Config.Image,
    entrypoint: words(Config.Entrypoint),
    command: words(Config.Cmd),
    env: words(Config.Env.filter((each) => !each.startsWith('PATH='))),
    binds: HostConfig.Binds ?? [],
    volumesFrom: HostConfig.VolumesFrom ?? [],
    user: Config.User,
    network: HostConfig.NetworkMode,
    pid: HostConfig.PidMode,
    privileged: HostConfig.Privileged,
    securityOptions: (HostConfig.SecurityOpt ?? []).filter((each) => each !== 'label=disable'),
    labels: Config.Labels,
    restart: HostConfig.RestartPolicy.Name,
  };
}

function ofTsrke(container: Container) {
  return {
    name: container.name,
    image: container.image,
    entrypoint: words(container.entrypoint),
    command: words(container.command),
    env: words(container.env),
    binds: container.binds,
    volumesFrom: container.volumesFrom,
    user: container.user ?? '',
    network: container.network,
    pid: container.hostPid ? 'host' : '',
    privileged: container.privileged,
    securityOptions: container.securityOptions,
    labels: container.labels,
    restart: container.restart ?? '',
  };
}

/** RKE shuffles arguments on each run (they come out of a Go map), and compares them as a set itself. */
function words(list: readonly string[] | null | undefined): string[] {
  return [...(list ?? [])].sort();
}

describe.each(sources)('from %s', (_, rke) => {
  const wish = { rke, encrypted: true };
  const nodeOf = (host: string) => {
    const node = rke.nodes.find((each) => each.hostnameOverride === host);
    if (node === undefined) throw new Error(`no node ${host}`);
    return node;
  };

  test.each(hosts)('the containers of %s are those of RKE', (host) => {
    const ours = servicesOf(nodeOf(host), debian, wish).map(ofTsrke);
    // RKE leaves this one behind when it has put its state file there.
    const theirs = inspected(host).filter(({ Name }) => Name !== '/cluster-state-deployer');
    const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
    expect(ours.sort(byName)).toEqual(theirs.map(ofRke).sort(byName));
  });

  test.each(hosts)('the containers of %s name no certificate that RKE did not make', (host) => {
    const known = new Set(
      Object.values(currentState.certificatesBundle).flatMap(({ path, keyPath }) => [path, keyPath]),
    );
    const texts = JSON.stringify(servicesOf(nodeOf(host), debian, wish));
    const named = new Set(texts.match(/\/etc\/kubernetes\/ssl\/[\w-]+\.pem/g));
    expect([...named].filter((path) => !known.has(path))).toEqual([]);
    expect(named.size).toBeGreaterThan(10);
  });

  test('the files are those on h1, byte for byte', () => {
    const listing = readFileSync(fixture('etc-kubernetes-h1.txt'), 'utf8');
    const files = filesOf(nodeOf('h1'), debian, wish);
    expect(files.map(({ path }) => path)).toEqual([
      '/etc/kubernetes/admission.yaml',
      '/etc/kubernetes/audit-policy.yaml',
    ]);
    for (const { path, text } of files) {
      expect(listing).toContain(`\n== ${path.replace('/etc/kubernetes/', '')}\n${text}\n==`);
    }
  });

  test.each(hosts)('labels, annotations and taints of %s are those that RKE gave it', (host) => {
    const { items } = JSON.parse(readFileSync(fixture('nodes.json'), 'utf8')) as {
      items: {
        metadata: { name: string; labels: Record<string, string>; annotations: Record<string, string> };
        spec: { taints: { key: string; value?: string; effect: string }[] };
      }[];
    };
    const node = items.find(({ metadata }) => metadata.name === host);
    const marks = marksOf(nodeOf(host));
    expect(node?.metadata.labels).toMatchObject(marks.labels);
    expect(node?.metadata.annotations).toMatchObject(marks.annotations);
    for (const label of marks.labelsToRemove) expect(node?.metadata.labels).not.toHaveProperty([label]);
    const ofRoles = node?.spec.taints.filter(({ key }) => key.startsWith('node-role.kubernetes.io/'));
    const sorted = (taints: readonly { key: string }[] = []) =>
      [...taints].sort((a, b) => (a.key < b.key ? -1 : 1));
    expect(sorted(marks.taints)).toEqual(sorted(ofRoles));
  });
});
