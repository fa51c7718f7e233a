/** The cluster that RKE 1.6.3 made (test/fixtures), put on real hosts again: its files, containers and objects. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ContainerCreateOptions, ContainerInspectInfo } from 'dockerode';
import { load } from 'js-yaml';
import type { Bundle, BundleElement } from '../../src/certificates/bundle.ts';
import { changesFor } from '../../src/certificates/changes.ts';
import { certifiedClusterOf } from '../../src/certificates/cluster.ts';
import { carryOut as issue } from '../../src/certificates/issue.ts';
import type { RkeConfig } from '../../src/config/rke-config.ts';
import { extraArgs, poll, withExtraArgs, type Lab, type LabHost, type LabOptions } from './lab.ts';
import { names } from './real-hosts.ts';

const fixtures = join(dirname(dirname(fileURLToPath(import.meta.url))), 'fixtures/rke-1.6.3');

interface ClusterState {
  rkeConfig: {
    nodes: { address: string; sshKeyPath: string }[];
    services: {
      kubeApi: {
        secretsEncryptionConfig?: unknown;
        extraArgs?: Readonly<Record<string, string>>;
      };
      etcd: { extraArgs: Record<string, string> };
    };
  };
  certificatesBundle: Bundle;
  encryptionConfig?: string;
}

type State = Record<'desiredState' | 'currentState', ClusterState>;

interface ClusterYaml {
  nodes: { ssh_key_path: string }[];
  services: { 'kube-api'?: Record<string, unknown>; etcd: Record<string, unknown> };
}

export interface Fixture {
  readonly state: State;
  readonly yaml: ClusterYaml;
  readonly current: ClusterState;
  certificate(name: string): BundleElement;
}

async function json<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

/**
 * A lone etcd waits out its election timeout whenever it starts, with RKE's default up to 5 s. Nobody can take its
 * leadership away, so there it is shorter: in cluster.yml, as the user would, in the state and in the container.
 */
export const loneEtcd: Readonly<Record<string, string>> = {
  'election-timeout': '500',
  'heartbeat-interval': '50',
};

export async function fixtureOf(count: number, options: LabOptions, sshKey: string): Promise<Fixture> {
  const encrypted = options.encryption === 'on';
  const extra = extraArgs(options);
  const hasExtra = Object.keys(extra).length > 0;
  const state = await json<State>(join(fixtures, 'enabled.rkestate'));
  for (const part of [state.desiredState, state.currentState]) {
    part.rkeConfig.nodes = part.rkeConfig.nodes.slice(0, count);
    for (const node of part.rkeConfig.nodes) node.sshKeyPath = sshKey;
    if (count === 1) Object.assign(part.rkeConfig.services.etcd.extraArgs, loneEtcd);
    if (!encrypted) {
      delete part.encryptionConfig;
      delete part.rkeConfig.services.kubeApi.secretsEncryptionConfig;
    }
    if (hasExtra) part.rkeConfig.services.kubeApi.extraArgs = extra;
  }
  if (count < names.length) {
    const bundle = await certificatesFor(state.currentState);
    for (const part of [state.desiredState, state.currentState]) part.certificatesBundle = bundle;
  }
  const yaml = load(await readFile(join(fixtures, 'cluster.yml'), 'utf8')) as ClusterYaml;
  yaml.nodes = yaml.nodes.slice(0, count);
  for (const node of yaml.nodes) node.ssh_key_path = sshKey;
  if (count === 1) yaml.services.etcd['extra_args'] = loneEtcd;
  if (!encrypted) delete yaml.services['kube-api'];
  if (hasExtra) yaml.services['kube-api'] = { ...yaml.services['kube-api'], extra_args: extra };
  const current = state.currentState;
  return {
    state,
    yaml,
    current,
    certificate(name) {
      const found = current.certificatesBundle[name];
      if (found === undefined) throw new Error(`the fixture has no certificate ${name}`);
      return found;
    },
  };
}

/** RKE issues them again for the nodes that are left, by the same rules as tsrke. */
async function certificatesFor({ rkeConfig, certificatesBundle }: ClusterState) {
  const cluster = certifiedClusterOf(rkeConfig as unknown as RkeConfig, './cluster.yml');
  return await issue(cluster, certificatesBundle, changesFor(cluster, certificatesBundle, new Date()));
}

/** The files that lie beside the certificates: `== name`, then the text. */
async function otherFile(name: string): Promise<string> {
  const all = await readFile(join(fixtures, 'etc-kubernetes-h1.txt'), 'utf8');
  const part = all.split(/^== /m).find((text) => text.startsWith(`${name}\n`));
  if (part === undefined) throw new Error(`the fixture has no file ${name}`);
  return `${part.slice(name.length + 1).trimEnd()}\n`;
}

export async function writeFiles(host: LabHost, { current }: Fixture): Promise<void> {
  for (const [name, { certificatePEM, keyPEM, config, path, keyPath, configPath }] of Object.entries(
    current.certificatesBundle,
  )) {
    if (name === 'kube-admin') continue;
    await host.writeFile(path, certificatePEM, 0o600);
    await host.writeFile(keyPath, keyPEM, 0o600);
    if (config !== '' && configPath.startsWith('/')) await host.writeFile(configPath, config, 0o600);
  }
  for (const name of ['admission.yaml', 'audit-policy.yaml']) {
    await host.writeFile(`/etc/kubernetes/${name}`, await otherFile(name), 0o600);
  }
  if (current.encryptionConfig !== undefined) {
    await host.writeFile('/etc/kubernetes/ssl/encryption.yaml', current.encryptionConfig, 0o600);
  }
}

/** An argument of etcd or kube-apiserver, cut down to the hosts and to the encryption there is. */
function cut(args: readonly string[] | null, count: number, encrypted: boolean): string[] {
  return (args ?? [])
    .filter((arg) => encrypted || !arg.startsWith('--encryption-provider-config='))
    .map((arg) => {
      const [, flag, value] = /^--([^=]+)=(.*)$/.exec(arg) ?? [];
      if (flag === undefined || value === undefined) return arg;
      if (flag === 'etcd-servers' || flag === 'initial-cluster') {
        return `--${flag}=${value.split(',').slice(0, count).join(',')}`;
      }
      return count === 1 && flag in loneEtcd ? `--${flag}=${loneEtcd[flag] ?? ''}` : arg;
    });
}

/** In the order that RKE starts them. */
const services = [
  ...['service-sidekick', 'etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
  ...['kubelet', 'kube-proxy'],
];

export async function createContainers(host: LabHost, count: number, options: LabOptions): Promise<void> {
  if (options.kubelets !== true) {
    const image = host.docker.getImage(`tsrke-lab/hyperkube:${options.version ?? '1.34'}`);
    await image.tag({ repo: 'rancher/hyperkube', tag: 'v1.30.5-rancher1' });
  }
  const inspected = await json<ContainerInspectInfo[]>(join(fixtures, `docker-inspect-${host.name}.json`));
  for (const name of services) {
    const one = inspected.find((candidate) => candidate.Name === `/${name}`);
    if (one === undefined) throw new Error(`the fixture has no container ${name} on ${host.name}`);
    const { Config } = one;
    // dockerode's types leave some of it `any`.
    const HostConfig = one.HostConfig as {
      readonly NetworkMode: string;
      readonly RestartPolicy: { readonly Name: string };
      readonly Privileged: boolean;
      readonly PidMode: string;
      readonly Binds: string[] | null;
      readonly SecurityOpt: string[] | null;
      readonly VolumesFrom: string[] | null;
    };
    const encrypted = options.encryption === 'on';
    const wanted: ContainerCreateOptions = {
      name,
      Image: Config.Image,
      Env: Config.Env,
      Labels: Config.Labels,
      User: Config.User,
      HostConfig: {
        NetworkMode: HostConfig.NetworkMode,
        RestartPolicy: HostConfig.RestartPolicy,
        Privileged: HostConfig.Privileged,
        PidMode: HostConfig.PidMode,
        ...(HostConfig.Binds !== null && { Binds: HostConfig.Binds }),
        ...(HostConfig.SecurityOpt !== null && { SecurityOpt: HostConfig.SecurityOpt }),
        ...(HostConfig.VolumesFrom !== null && { VolumesFrom: HostConfig.VolumesFrom }),
      },
    };
    const entrypoint = cut(Config.Entrypoint as string[] | null, count, encrypted);
    if (name === 'kube-apiserver') {
      const [script = '', component = '', ...args] = entrypoint;
      wanted.Entrypoint = [script, component, ...withExtraArgs(args, extraArgs(options))];
    } else if (entrypoint.length > 0) wanted.Entrypoint = entrypoint;
    const cmd = cut(Config.Cmd, count, encrypted);
    if (cmd.length > 0) wanted.Cmd = cmd;
    if ((Config.Volumes as object | null) !== null) wanted.Volumes = Config.Volumes;
    const container = await host.docker.createContainer(wanted);
    if (name !== 'service-sidekick') await container.start();
  }
}

export async function seed(lab: Lab, fixture: Fixture): Promise<void> {
  const [host] = lab.hosts;
  if (host === undefined) return;
  const send = (method: 'POST' | 'PUT', path: string, body: unknown) =>
    poll(`${method} ${path}`, async () => {
      const { status, text } = await lab.kube(host, method, path, body);
      return status === 200 || status === 201 || status === 409 || text;
    });
  const create = (path: string, body: unknown) => send('POST', path, body);
  // kube-apiserver makes it by itself, with nobody in it; RKE puts the nodes there.
  const rbac = 'rbac.authorization.k8s.io';
  await send('PUT', `/apis/${rbac}/v1/clusterrolebindings/system:node`, {
    metadata: { name: 'system:node' },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'system:node' },
    subjects: [{ apiGroup: rbac, kind: 'Group', name: 'system:nodes' }],
  });
  // With these kube-apiserver asks kubelets.
  const proxyRole = 'proxy-clusterrole-kubeapiserver';
  await create(`/apis/${rbac}/v1/clusterroles`, {
    metadata: { name: proxyRole },
    rules: [
      {
        apiGroups: [''],
        resources: ['nodes/metrics', 'nodes/proxy', 'nodes/stats', 'nodes/log', 'nodes/spec'],
        verbs: ['get', 'list', 'watch', 'create'],
      },
    ],
  });
  await create(`/apis/${rbac}/v1/clusterrolebindings`, {
    metadata: { name: 'proxy-role-binding-kubernetes-master' },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: proxyRole },
    subjects: [{ apiGroup: rbac, kind: 'User', name: 'kube-apiserver' }],
  });
  await create('/api/v1/namespaces/kube-system/secrets', {
    metadata: { name: 'full-cluster-state' },
    type: 'Opaque',
    data: { 'full-cluster-state': Buffer.from(JSON.stringify(fixture.state)).toString('base64') },
  });
  await create('/api/v1/namespaces', { metadata: { name: 'default' } });
  const { items } = await json<{ items: { metadata: Record<string, unknown>; spec: unknown }[] }>(
    join(fixtures, 'nodes.json'),
  );
  for (const { metadata, spec } of items.slice(0, lab.hosts.length)) {
    const { name, labels, annotations } = metadata;
    await create('/api/v1/nodes', { metadata: { name, labels, annotations }, spec });
  }
}
