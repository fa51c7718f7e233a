/** kube-apiserver's automatic reload of its provider file: what cluster.yml asks of a container, and what it has. */
import { TsrkeError } from '../errors.ts';
import type { ApiserverContainer } from '../ports.ts';
import type { MemberLook } from './observe.ts';
import type { Fit } from './plan.ts';
import { isReloadFlag, reloadsOf } from './server-options.ts';
import { providerFlag } from './world.ts';

/** `on`: `reload: automatic`; `off`: nobody asks for it; `as it is`: RKE gave it, by `extra_args`. */
export type WantedReload = 'on' | 'off' | 'as it is';

/** The argument came with this minor version. */
const firstMinor = 26;

/** `flag`: it has a provider file; kube-apiserver does not start with automatic reload and none. */
export function reloadFitOf(
  { args }: Pick<ApiserverContainer, 'args'>,
  flag: boolean,
  wanted: WantedReload,
): Fit {
  const has = reloadsOf(args);
  if (!flag || wanted === 'as it is' || has === (wanted === 'on')) return 'as wanted';
  return has ? 'spare' : 'lacking';
}

/** The same arguments with automatic reload, or without; RKE compares them in their order. */
export function withReload(args: readonly string[], on: boolean): readonly string[] {
  if (reloadsOf(args) === on) return args;
  const others = args.filter((each) => !isReloadFlag(each));
  return on ? [...others, `${providerFlag}-automatic-reload=true`] : others;
}

/** `minor`: cluster.yml's, for members that do not answer. Throws UNSUPPORTED where one is older than the argument. */
export function expectReloadKnown(
  members: readonly Pick<MemberLook, 'node' | 'minor'>[],
  minor: number,
  wanted: WantedReload,
): void {
  if (wanted !== 'on') return;
  for (const { node, minor: own = minor } of members) {
    if (own >= firstMinor) continue;
    throw new TsrkeError(
      'UNSUPPORTED',
      `kube-apiserver 1.${own} cannot load a changed provider file by itself; from 1.${firstMinor} on it can`,
      {
        node,
        next: 'take `reload: automatic` out of secrets_encryption_config; nothing was touched',
      },
    );
  }
}
