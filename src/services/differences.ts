/** Whether a container that is there is the one that is wanted: what RKE would recreate it for, and nothing else. */
import type { Container } from './container.ts';

export interface ContainerDifference {
  readonly kind: 'image' | 'command' | 'argument' | 'environment' | 'bind' | 'security option';
  /** `--v`, `RKE_CLOUD_CONFIG_CHECKSUM`, `/run:/run`; of an image and a command the same word as `kind`. */
  readonly name: string;
  /** Values in the container and wanted ones; none: not there. Values of the environment may be secret: not told. */
  readonly from: readonly string[];
  readonly to: readonly string[];
}

/** What of `docker inspect` is looked at. Labels, network, privileges, restart policy and user RKE leaves as they are. */
export interface InspectedContainer {
  readonly Config: {
    readonly Image: string;
    readonly Entrypoint?: readonly string[] | string | null;
    readonly Cmd?: readonly string[] | null;
    readonly Env?: readonly string[] | null;
  };
  readonly HostConfig: {
    readonly Binds?: readonly string[] | null;
    readonly SecurityOpt?: readonly string[] | null;
  };
}

/**
 * etcd reads these when it has no data yet, and never again. RKE's next run after a member was added asks for `new`
 * again and for another list, and then restarts every member for nothing.
 */
const readOnce = new Set(['--initial-cluster', '--initial-cluster-state']);

/**
 * `imageEnv` is the environment that the container's image brings, which Docker shows as the container's own. Order
 * means nothing anywhere: RKE's is another one on each run.
 */
export function differencesOf(
  wanted: Container,
  { Config, HostConfig }: InspectedContainer,
  imageEnv: readonly string[],
): ContainerDifference[] {
  // An entrypoint that was not asked for is the image's.
  const entrypoint = wanted.entrypoint === undefined ? [] : [Config.Entrypoint ?? []].flat();
  const there = wordsOf([...entrypoint, ...(Config.Cmd ?? [])]);
  const asked = wordsOf([...(wanted.entrypoint ?? []), ...(wanted.command ?? [])]);
  const args = differing(there.args, asked.args).filter(({ name }) => !readOnce.has(name));
  // Docker itself adds this to a privileged container.
  const options = (HostConfig.SecurityOpt ?? []).filter((each) => each !== 'label=disable');
  return [
    ...(Config.Image === wanted.image
      ? []
      : [{ kind: 'image' as const, name: 'image', from: [Config.Image], to: [wanted.image] }]),
    ...(there.command === asked.command
      ? []
      : [{ kind: 'command' as const, name: 'command', from: [there.command], to: [asked.command] }]),
    ...args.map((each) => ({ kind: 'argument' as const, ...each })),
    ...environment(Config.Env ?? [], wanted.env, imageEnv),
    ...lists('bind', HostConfig.Binds ?? [], wanted.binds),
    ...lists('security option', options, wanted.securityOptions),
  ];
}

/** One line for the user, e.g. `argument --v: 2 in the container, 4 wanted`. */
export function describeDifference({ kind, name, from, to }: ContainerDifference): string {
  const what = kind === name ? kind : `${kind} ${name}`;
  if (kind === 'bind' || kind === 'security option')
    return `${what}: ${to.length > 0 ? 'missing' : 'not wanted'}`;
  if (kind === 'environment') {
    return `${what}: ${from.length === 0 ? 'missing' : to.length === 0 ? 'not wanted' : 'another value'}`;
  }
  const text = (values: readonly string[]) =>
    values.map((value) => (value === '' ? '(empty)' : value)).join(' and ');
  const there = from.length === 0 ? 'not in the container' : `${text(from)} in the container`;
  return `${what}: ${there}, ${to.length === 0 ? 'not wanted' : `${text(to)} wanted`}`;
}

type Values = ReadonlyMap<string, ReadonlySet<string>>;

/** The words before the first argument, and all arguments with their values: `--name=value`, `--name value`, `--name`. */
function wordsOf(words: readonly string[]): { readonly command: string; readonly args: Values } {
  const first = words.findIndex((word) => word.startsWith('--'));
  const command = first === -1 ? words : words.slice(0, first);
  const args = new Map<string, Set<string>>();
  const add = (name: string, value: string) => args.set(name, (args.get(name) ?? new Set()).add(value));
  const rest = first === -1 ? [] : words.slice(first);
  rest.forEach((word, index) => {
    if (!word.startsWith('--')) return;
    const [, name = '', value] = /^([^=]+)(?:=(.*))?$/s.exec(word) ?? [];
    const next = rest[index + 1];
    add(name, value ?? (next === undefined || next.startsWith('--') ? '' : next));
  });
  return { command: command.join(' '), args };
}

function differing(
  there: Values,
  asked: Values,
): { readonly name: string; readonly from: readonly string[]; readonly to: readonly string[] }[] {
  return [...new Set([...there.keys(), ...asked.keys()])].sort().flatMap((name) => {
    const [from, to] = [there.get(name) ?? new Set<string>(), asked.get(name) ?? new Set<string>()];
    return isSame(from, to) ? [] : [{ name, from: [...from].sort(), to: [...to].sort() }];
  });
}

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((each) => b.has(each));
}

function environment(
  there: readonly string[],
  asked: readonly string[],
  imageEnv: readonly string[],
): ContainerDifference[] {
  // What was asked for stands in the place of the image's.
  const wanted = new Map([...variables(imageEnv), ...variables(asked)]);
  const hidden = (values: readonly string[]) => values.map(() => '[redacted]');
  return differing(variables(there), wanted).map(({ name, from, to }) => ({
    kind: 'environment' as const,
    ...{ name, from: hidden(from), to: hidden(to) },
  }));
}

function variables(env: readonly string[]): Values {
  const found = new Map<string, Set<string>>();
  for (const each of env) {
    const [, name = '', value = ''] = /^([^=]*)=?(.*)$/s.exec(each) ?? [];
    found.set(name, (found.get(name) ?? new Set()).add(value));
  }
  return found;
}

function lists(
  kind: 'bind' | 'security option',
  there: readonly string[],
  asked: readonly string[],
): ContainerDifference[] {
  return [
    ...there
      .filter((each) => !asked.includes(each))
      .map((each) => ({ kind, name: each, from: [each], to: [] })),
    ...asked
      .filter((each) => !there.includes(each))
      .map((each) => ({ kind, name: each, from: [], to: [each] })),
  ];
}
