import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import { describeDifference, differencesOf } from '../../src/services/differences.ts';
import type { InspectedContainer } from '../../src/services/differences.ts';
import { definitionOf } from '../../src/services/container.ts';
import type { Container } from '../../src/services/container.ts';
import { servicesOf } from '../../src/services/services.ts';
import { debian, fixture, inspected, only, pathVariable, planned } from './inputs.ts';
import type { Inspect } from './inputs.ts';

const rke = rkeConfigOf(loadConfig(fixture('cluster.yml')));

/** What is told of a container on a host that RKE has set up, after `edit`. */
function told(
  name: string,
  edit: (container: Inspect) => unknown = () => undefined,
  host: 'h1' | 'h2' | 'h3' = 'h1',
) {
  const node = rke.nodes.find((each) => each.hostnameOverride === host);
  const there = inspected(host).find((each) => each.Name === `/${name}`);
  if (node === undefined || there === undefined) throw new Error(`no ${name} on ${host}`);
  edit(there);
  const wanted = servicesOf(node, debian, { rke, encrypted: true }).find((each) => each.name === name);
  if (wanted === undefined) throw new Error(`no ${name} is wanted`);
  return differencesOf(wanted, there, [pathVariable]);
}

const names = [
  'etcd',
  'service-sidekick',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
];

describe.each(['h1', 'h2', 'h3'] as const)('on %s as RKE left it', (host) => {
  test.each(names)('%s is as wanted', (name) => {
    expect(told(name, undefined, host)).toEqual([]);
  });
});

function replace(list: string[] | null, from: string, ...to: string[]): void {
  const at = list?.indexOf(from) ?? -1;
  if (at === -1) throw new Error(`no ${from}`);
  list?.splice(at, 1, ...to);
}

test.each<[string, string, (container: Inspect) => unknown, string[]]>([
  [
    'another image',
    'kube-scheduler',
    ({ Config }) => Object.assign(Config, { Image: 'rancher/hyperkube:v1.30.4-rancher1' }),
    ['image: rancher/hyperkube:v1.30.4-rancher1 in the container, rancher/hyperkube:v1.30.5-rancher1 wanted'],
  ],
  [
    'another value of an argument',
    'kubelet',
    ({ Config }) => replace(Config.Entrypoint, '--v=2', '--v=4'),
    ['argument --v: 4 in the container, 2 wanted'],
  ],
  [
    'an argument too much',
    'kubelet',
    ({ Config }) => Config.Entrypoint?.push('--protect-kernel-defaults=true'),
    ['argument --protect-kernel-defaults: true in the container, not wanted'],
  ],
  [
    'a missing one, whose value is empty',
    'kube-controller-manager',
    ({ Config }) => replace(Config.Entrypoint, '--cloud-provider='),
    ['argument --cloud-provider: not in the container, (empty) wanted'],
  ],
  [
    'one that is given twice',
    'kube-apiserver',
    ({ Config }) => Config.Entrypoint?.push('--runtime-config=api/all=true'),
    [
      'argument --runtime-config: api/all=true and authorization.k8s.io/v1beta1=true in the container, ' +
        'authorization.k8s.io/v1beta1=true wanted',
    ],
  ],
  [
    "RKE's one argument in Cmd",
    'kube-controller-manager',
    ({ Config }) => Object.assign(Config, { Cmd: null }),
    ['argument --use-service-account-credentials: not in the container, true wanted'],
  ],
  [
    'another entrypoint',
    'kube-proxy',
    ({ Config }) => replace(Config.Entrypoint, '/opt/rke-tools/entrypoint.sh', '/bin/sh'),
    ['command: /bin/sh kube-proxy in the container, /opt/rke-tools/entrypoint.sh kube-proxy wanted'],
  ],
  [
    'etcd-servers in another order',
    'kube-apiserver',
    ({ Config }) => {
      const at = Config.Entrypoint?.findIndex((each) => each.startsWith('--etcd-servers=')) ?? -1;
      Config.Entrypoint?.splice(
        at,
        1,
        '--etcd-servers=https://198.51.100.12:2379,https://198.51.100.11:2379,https://198.51.100.13:2379',
      );
    },
    [
      'argument --etcd-servers: https://198.51.100.12:2379,https://198.51.100.11:2379,https://198.51.100.13:2379 in the container, ' +
        'https://198.51.100.11:2379,https://198.51.100.12:2379,https://198.51.100.13:2379 wanted',
    ],
  ],
  [
    'a checksum, of which the value is not told',
    'kube-apiserver',
    ({ Config }) =>
      replace(
        Config.Env,
        'RKE_AUDITLOG_CONFIG_CHECKSUM=856f426399fb14a50b78e721d15c168c',
        'RKE_AUDITLOG_CONFIG_CHECKSUM=0',
      ),
    ['environment RKE_AUDITLOG_CONFIG_CHECKSUM: another value'],
  ],
  [
    'a variable too much and one too few',
    'kubelet',
    ({ Config }) => replace(Config.Env, 'RKE_KUBELET_CRIDOCKERD=true', 'HTTPS_PROXY=http://u:p@192.0.2.9'),
    ['environment HTTPS_PROXY: not wanted', 'environment RKE_KUBELET_CRIDOCKERD: missing'],
  ],
  [
    'binds',
    'kube-proxy',
    ({ HostConfig }) => replace(HostConfig.Binds, '/run:/run', '/run:/run:z'),
    ['bind /run:/run:z: not wanted', 'bind /run:/run: missing'],
  ],
  [
    'a label of SELinux',
    'etcd',
    ({ HostConfig }) => Object.assign(HostConfig, { SecurityOpt: ['label=type:rke_container_t'] }),
    ['security option label=type:rke_container_t: not wanted'],
  ],
  [
    'no difference: how etcd was started at first',
    'etcd',
    ({ Config }) => {
      replace(Config.Cmd, '--initial-cluster-state=new', '--initial-cluster-state=existing');
    },
    [],
  ],
  [
    'no difference: the order of arguments',
    'kube-apiserver',
    ({ Config }) => Config.Entrypoint?.splice(2, Infinity, ...Config.Entrypoint.slice(2).reverse()),
    [],
  ],
  [
    'no difference: what RKE leaves alone',
    'kube-proxy',
    ({ Config, HostConfig }) => [
      Object.assign(Config, { Labels: {} }),
      Object.assign(HostConfig, { RestartPolicy: { Name: 'no' } }),
    ],
    [],
  ],
])('%s (%s)', (_, name, edit, lines) => {
  const found = told(name, edit);
  expect(found.map(describeDifference)).toEqual(lines);
  expect(JSON.stringify(found)).not.toMatch(/u:p@|CHECKSUM=/);
});

describe('where the image brings the entrypoint', () => {
  const wanted = only('etcd-rolling-snapshots', planned('etcd-1'));
  const there: InspectedContainer = {
    Config: {
      Image: wanted.image,
      Entrypoint: ['/usr/bin/tini'],
      Cmd: wanted.command ?? null,
      Env: ['A=of the image'],
    },
    HostConfig: { Binds: wanted.binds, SecurityOpt: null },
  };

  test('that is no difference', () => {
    expect(differencesOf(wanted, there, ['A=of the image'])).toEqual([]);
  });

  test('arguments whose value is a word of its own are compared with it', () => {
    const Cmd =
      wanted.command?.map((word) => (word.endsWith('kube-node-key.pem') ? '/elsewhere' : word)) ?? null;
    expect(differencesOf(wanted, { ...there, Config: { ...there.Config, Cmd } }, ['A=of the image'])).toEqual(
      [
        {
          kind: 'argument',
          name: '--key',
          from: ['/elsewhere'],
          to: ['/etc/kubernetes/ssl/kube-node-key.pem'],
        },
      ],
    );
  });
});

test('a variable that the image has too is wanted with the value that was asked for', () => {
  const wanted = { ...only('kubelet', planned('worker-1')), env: ['PATH=/opt/bin'] };
  const Config = { Image: wanted.image, Entrypoint: wanted.entrypoint ?? null, Cmd: null };
  const of = (Env: string[]) =>
    differencesOf(wanted, { Config: { ...Config, Env }, HostConfig: { Binds: wanted.binds } }, [
      pathVariable,
    ]);
  expect(of(['PATH=/opt/bin'])).toEqual([]);
  expect(of([pathVariable]).map(describeDifference)).toEqual(['environment PATH: another value']);
});

/** As Docker shows a container that was made from its definition; it keeps lists in their order, RKE shuffles them. */
function shown(container: Container, shuffled: <T>(list: readonly T[]) => T[]): InspectedContainer {
  const { Image, Env, HostConfig, Entrypoint, Cmd } = definitionOf(container) as {
    readonly Image: string;
    readonly Env: readonly string[];
    readonly Entrypoint?: readonly string[];
    readonly Cmd?: readonly string[];
    readonly HostConfig: { readonly Binds: readonly string[]; readonly SecurityOpt: readonly string[] };
  };
  const isArgument = (word: string) => word.startsWith('--');
  return {
    Config: {
      Image,
      Env: [...shuffled(Env), pathVariable],
      Entrypoint:
        Entrypoint === undefined
          ? null
          : [...Entrypoint.filter((word) => !isArgument(word)), ...shuffled(Entrypoint.filter(isArgument))],
      Cmd: Cmd ?? null,
    },
    HostConfig: { Binds: shuffled(HostConfig.Binds), SecurityOpt: HostConfig.SecurityOpt },
  };
}

test('what was made as wanted shows no difference, and one argument of it shows one', () => {
  const name = fc.stringMatching(/^[a-z][a-z-]{0,12}$/);
  const text = fc.string({ maxLength: 20 });
  const extra = fc.record({
    args: fc.dictionary(name, text, { maxKeys: 5 }),
    arrays: fc.dictionary(name, fc.array(text, { minLength: 1, maxLength: 3 }), { maxKeys: 3 }),
    env: fc.dictionary(fc.stringMatching(/^[A-Z_]{1,8}$/), fc.stringMatching(/^\S{0,9}$/), { maxKeys: 4 }),
    binds: fc.uniqueArray(fc.stringMatching(/^(\/[a-z]{1,5}){1,2}:(\/[a-z]{1,5}){1,2}(:ro)?$/), {
      maxLength: 4,
    }),
    seed: fc.integer(),
  });
  const node = rke.nodes[0];
  if (node === undefined) throw new Error('no node');
  const made = (service: object) => {
    const changed = {
      ...rke,
      services: { ...rke.services, kubelet: { ...rke.services.kubelet, ...service } },
    };
    return only('kubelet', servicesOf(node, debian, { rke: changed, encrypted: true }));
  };
  fc.assert(
    fc.property(extra, ({ args, arrays, env, binds, seed }) => {
      const service = {
        extraArgs: args,
        extraArgsArray: arrays,
        extraEnv: Object.entries(env).map(([key, value]) => `${key}=${value}`),
        extraBinds: binds,
      };
      const shuffled = <T>(list: readonly T[]): T[] =>
        list
          .map((item, index) => ({ item, key: (Math.imul(index + 1, seed | 1) >>> 0) % 7919 }))
          .sort((a, b) => a.key - b.key)
          .map(({ item }) => item);
      const there = shown(made(service), shuffled);
      const same = differencesOf(made(service), there, [pathVariable]);
      if (same.length > 0) throw new Error(JSON.stringify(same));
      const other = { ...service, extraArgs: { ...args, 'root-dir': '/elsewhere/than/any' } };
      const [first, ...more] = differencesOf(made(other), there, [pathVariable]).map(describeDifference);
      if (first?.startsWith('argument --root-dir: ') !== true || more.length > 0)
        throw new Error(String(first));
    }),
  );
});
