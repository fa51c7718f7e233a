/**
 * KMS plugins are asked before anything is pushed that needs them: a kube-apiserver whose plugin is not there does not
 * become ready, and one whose plugin has another key writes what its neighbours cannot read.
 */
import { randomBytes } from 'node:crypto';
import { allToTheirEnd, TsrkeError } from '../../errors.ts';
import type { KmsPlugin, NodeName, WrappedKey } from '../../ports.ts';
import { hostPathOf, lacking } from '../binds.ts';
import { kmsProvidersIn, type KmsProvider } from '../configuration.ts';
import type { Look, MemberLook } from '../observe.ts';
import type { Line } from '../plan.ts';
import type { World } from '../world.ts';

/** A plugin as one node will use it. */
export interface Use {
  readonly node: NodeName;
  readonly plugin: KmsPlugin;
}

export interface Wrapped {
  readonly by: NodeName;
  readonly plain: Buffer;
  readonly key: WrappedKey;
}

const socketScheme = 'unix://';

/** The KMS providers of all files that these lines push. */
export function kmsProvidersOf(lines: readonly Line[]): KmsProvider[] {
  const files = lines.flatMap((line) => ('pushes' in line ? line.pushes.map(({ file }) => file) : []));
  const found = new Map<string, KmsProvider>();
  for (const file of files) {
    for (const each of kmsProvidersIn(file))
      found.set(JSON.stringify([each.apiVersion, each.name, each.endpoint]), each);
  }
  return [...found.values()];
}

/**
 * Every plugin on every member: its socket is mounted where kube-apiserver will look, it is healthy, what it encrypts
 * it decrypts, and so do those of all other members. Where members know the same name at another socket, these plugins
 * and those decrypt each other's too: no file can hold both. Throws KMS_UNMOUNTED, KMS_UNHEALTHY, KMS_KEYS_DIFFER or,
 * for two sockets that do not go together, KEY_CONFLICT.
 */
export async function preflightKms(
  providers: readonly KmsProvider[],
  { members }: Pick<Look, 'members'>,
  world: Preflight,
  signal: AbortSignal,
): Promise<void> {
  for (const provider of providers) {
    await world.report.task(`try the KMS plugin ${provider.name} on every node`, async (task) => {
      if (isAbstract(provider)) {
        const text = `${provider.endpoint} is an abstract socket, which cannot be tried from here`;
        world.report.note('warning', text);
        return;
      }
      const uses = usesOf(provider, members, world);
      const formers = formersOf(provider, members).map((former) => {
        const holders = members.filter(({ file }) => kmsProvidersIn(file).some((each) => isAt(each, former)));
        return { former, used: usesOf(former, holders, world) };
      });
      try {
        const wrapped = await allToTheirEnd(uses.map((use) => tryAlone(use, provider, signal)));
        await allToTheirEnd(uses.map((use) => tryTogether(use, wrapped, provider, signal)));
        for (const { former, used } of formers) {
          const before = await allToTheirEnd(used.map((use) => tryAlone(use, former, signal)));
          const sides = [
            { uses, others: before },
            { uses: used, others: wrapped },
          ];
          await tryMoved(provider, sides, signal);
        }
      } finally {
        for (const { plugin } of [...uses, ...formers.flatMap(({ used }) => used)]) plugin.close();
      }
      task.done(`the KMS plugin ${provider.name} works on ${uses.length} node(s)`);
    });
  }
}

/**
 * Once more before a kube-apiserver loads a file with these providers: the plugins of all members answer. It may need its
 * own to come up; and it writes with a new data key from then on, which all others have theirs open. Throws KMS_UNHEALTHY.
 */
export async function expectAnswering(
  providers: readonly KmsProvider[],
  members: readonly MemberLook[],
  world: Pick<World, 'plugins' | 'binds'>,
  signal: AbortSignal,
): Promise<void> {
  for (const provider of providers) {
    await allToTheirEnd(
      usesOf(provider, members, world).map(async ({ node, plugin }) => {
        try {
          const { healthz } = await plugin.status(signal);
          if (healthz !== 'ok')
            throw unhealthy(node, provider.name, healthz, 'no further node was restarted');
        } finally {
          plugin.close();
        }
      }),
    );
  }
}

type Preflight = Pick<World, 'plugins' | 'binds' | 'report'>;

const pathOf = ({ endpoint }: KmsProvider) => endpoint.slice(socketScheme.length);

/** Its socket is in no file system, and no forwarding of SSH leads there. So kube-apiserver writes it, with the slash. */
const isAbstract = (provider: KmsProvider) => pathOf(provider).startsWith('/@');

/** The plugin of each of these; none where nothing can be tried. Throws KMS_UNMOUNTED. */
export function usesOf(
  provider: KmsProvider,
  members: readonly MemberLook[],
  world: Pick<World, 'plugins' | 'binds'>,
): Use[] {
  if (isAbstract(provider)) return [];
  return members.map((member) => {
    const where = mountedAt(member, provider, pathOf(provider), world);
    return { node: member.node, plugin: world.plugins.plugin(member.node, where, provider.apiVersion) };
  });
}

const isAt = (a: KmsProvider, b: KmsProvider) =>
  a.apiVersion === b.apiVersion && a.name === b.name && a.endpoint === b.endpoint;

/** Under the same name at other sockets, in the files that members have. */
function formersOf(provider: KmsProvider, members: readonly MemberLook[]): KmsProvider[] {
  const found = new Map<string, KmsProvider>();
  for (const each of members.flatMap(({ file }) => kmsProvidersIn(file))) {
    const sameName = each.apiVersion === provider.apiVersion && each.name === provider.name;
    if (sameName && each.endpoint !== provider.endpoint) found.set(each.endpoint, each);
  }
  return [...found.values()];
}

function mountedAt(
  { node, container }: MemberLook,
  { name }: KmsProvider,
  path: string,
  { binds }: Pick<World, 'binds'>,
): string {
  const where = hostPathOf([...container.binds, ...lacking(container.binds, binds)], path);
  if (where !== undefined) return where;
  const folder = path.slice(0, path.lastIndexOf('/')) || '/';
  throw new TsrkeError(
    'KMS_UNMOUNTED',
    `${path}, the socket of the KMS plugin ${name}, is not mounted into kube-apiserver's container`,
    {
      node,
      next: `add "${folder}:${folder}" to services.kube-api.extra_binds in cluster.yml; nothing was touched`,
    },
  );
}

/** Healthy, and with the key id that it says. Throws KMS_UNHEALTHY or KMS_KEYS_DIFFER. */
export async function tryAlone(
  { node, plugin }: Use,
  { name, apiVersion }: Pick<KmsProvider, 'name' | 'apiVersion'>,
  signal: AbortSignal,
): Promise<Wrapped> {
  const status = await plugin.status(signal);
  const speaks = apiVersion === 'v1' ? ['v1beta1'] : ['v2', 'v2beta1'];
  if (!speaks.includes(status.version)) {
    throw unusable(node, `the KMS plugin ${name} speaks ${status.version}, not ${apiVersion}`);
  }
  if (status.healthz !== 'ok') throw unhealthy(node, name, status.healthz, 'no file was pushed');
  const plain = randomBytes(32);
  const key = await plugin.encrypt(plain, signal);
  if (key.keyId !== status.keyId) {
    throw unusable(
      node,
      `the KMS plugin ${name} encrypts with key id ${key.keyId} while its Status says ${status.keyId}`,
    );
  }
  return { by: node, plain, key };
}

/** It decrypts all of these. Throws KMS_KEYS_DIFFER. */
export async function tryTogether(
  { node, plugin }: Use,
  wrapped: readonly Wrapped[],
  { name }: Pick<KmsProvider, 'name'>,
  signal: AbortSignal,
): Promise<void> {
  for (const each of wrapped) {
    const why = await whyNot(plugin, each, signal);
    if (why === undefined) continue;
    const whose = each.by === node ? 'it encrypts itself' : `the one on ${each.by} encrypts`;
    throw unusable(node, `the KMS plugin ${name} does not decrypt what ${whose} (${why})`);
  }
}

/** Those at each of two sockets read what those at the other one have wrapped. */
async function tryMoved(
  { name, endpoint }: KmsProvider,
  sides: readonly { readonly uses: readonly Use[]; readonly others: readonly Wrapped[] }[],
  signal: AbortSignal,
): Promise<void> {
  for (const { uses, others } of sides) {
    for (const { node, plugin } of uses) {
      for (const each of others) {
        const why = await whyNot(plugin, each, signal);
        if (why === undefined) continue;
        throw new TsrkeError(
          'KEY_CONFLICT',
          `the KMS plugins at the two sockets of ${name}, old and new, do not decrypt each other's (${why})`,
          {
            node,
            next: `no provider file can hold both: give the one at ${endpoint} a name of its own in cluster.yml; nothing was touched`,
          },
        );
      }
    }
  }
}

/** Why a plugin does not decrypt this; undefined: it does. */
async function whyNot(
  plugin: KmsPlugin,
  { plain, key }: Wrapped,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    return plain.equals(await plugin.decrypt(key, signal)) ? undefined : 'it gives other bytes';
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    return error.message;
  }
}

function unhealthy(node: NodeName, name: string, why: string, sofar: string): TsrkeError {
  return new TsrkeError('KMS_UNHEALTHY', `the KMS plugin ${name} is not healthy: ${why}`, {
    node,
    next: `mend the plugin, then run the same command again; ${sofar}`,
  });
}

function unusable(node: NodeName, what: string): TsrkeError {
  return new TsrkeError('KMS_KEYS_DIFFER', what, {
    node,
    next: 'all nodes need the same plugin with the same key encryption keys; no file was pushed',
  });
}
