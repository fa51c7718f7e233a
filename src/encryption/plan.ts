/**
 * The transition engine's only decision: from what is wanted and what was seen to the next line of work. Pure, so
 * that a run cut off anywhere is finished by asking again. The order of the lines is what keeps data readable:
 *
 *   read     every member can read all that is in use        before any of them writes with a new key
 *   write    every member writes with the target's key       before anything is rewritten
 *   rewrite  etcd shows nothing but that key                 before any key goes
 *   prune    the target itself
 *   remake   containers as cluster.yml asks (binds, automatic reload); what one only lacks comes with whatever line is
 *            first
 */
import type { NodeName } from '../ports.ts';
import { withReadKeys } from './compose.ts';
import {
  film,
  keysOf,
  noFile,
  resourcesOf,
  sameMeaning,
  writeKeyOf,
  type KeyRef,
  type ProviderFile,
} from './configuration.ts';

/** Whether a container lacks what cluster.yml asks of it, or has what nobody asks for any more. */
export type Fit = 'as wanted' | 'lacking' | 'spare';

export interface MemberSeen {
  readonly node: NodeName;
  /** kube-apiserver runs with --encryption-provider-config. */
  readonly flag: boolean;
  /** The provider file on its disk; undefined when there is none. */
  readonly file: ProviderFile | undefined;
  /** Whether what is on its disk is what it has loaded; 'unknown': it cannot tell (before 1.34), nobody recorded it. */
  readonly loaded: 'yes' | 'no' | 'unknown';
  readonly ready: boolean;
  /** Of cluster.yml's extra_binds; with some too few and some too many: `spare`. */
  readonly binds: Fit;
  /** Of the argument for automatic reload; `as wanted` where it has no provider file to load. */
  readonly reloadFlag: Fit;
}

export interface Seen {
  readonly members: readonly MemberSeen[];
  /**
   * Keys that etcd holds values under, by resource (ids as in KeyRef, resolved to bytes by whoever looked);
   * a resource that is not in it holds nothing. Counted between two equal looks at the members: where all of them
   * write with the target's key, and it shows nothing else, that is the proof.
   */
  readonly stored: ReadonlyMap<string, readonly KeyRef[]>;
  /** Resources to be rewritten though all lie under the target's key: what stands behind that key has changed. */
  readonly outdated?: ReadonlySet<string>;
  /** A person is to look at the new key as a read key first, also where one member alone could do without. */
  readonly isPrepared?: boolean;
  /** Files that members may have loaded without its being known: what the state says they hold. */
  readonly recorded: readonly ProviderFile[];
}

/** What one member gets: a file, or `undefined` for neither flag nor file. */
export interface Push {
  readonly node: NodeName;
  readonly file: ProviderFile | undefined;
  /** What it gets back if it does not come up; undefined: neither flag nor file. */
  readonly fallback: ProviderFile | undefined;
}

export type Line =
  | {
      readonly kind: 'read' | 'write' | 'prune' | 'remake';
      readonly pushes: readonly Push[];
      readonly state: ProviderFile;
    }
  | { readonly kind: 'rewrite'; readonly resources: readonly string[] }
  | { readonly kind: 'done' };

/** What each line does, for people. */
export const lineTitles = {
  plugins: 'run the KMS plugins of cluster.yml',
  read: 'make every key readable on every node',
  write: 'write with the wanted key',
  wait: 'wait until every kube-apiserver knows the key of the KMS',
  rewrite: 'rewrite, and prove it in etcd',
  prune: 'remove what is no longer needed',
  remake: 'recreate kube-apiserver as cluster.yml asks',
  unplug: 'remove KMS plugins that cluster.yml no longer has',
} as const;

export const done: Line = { kind: 'done' };

/**
 * All lines from here to the target, as they are if nothing else happens meanwhile; none: there is nothing to do.
 * Throws KEY_CONFLICT where one of them would need a file that cannot exist.
 */
export function strip(target: ProviderFile, seen: Seen): Line[] {
  const lines: Line[] = [];
  for (let now = seen; lines.length < 24;) {
    const line = nextLine(target, now);
    if (line.kind === 'done') return lines;
    lines.push(line);
    now = after(line, target, now);
  }
  throw new Error(
    `no end: ${lines.map((each) => ('state' in each ? `${each.kind} ${film(each.state)}` : each.kind)).join(' → ')}`,
  );
}

/** What is there once the line has been carried out. */
export function after(line: Exclude<Line, { kind: 'done' }>, target: ProviderFile, seen: Seen): Seen {
  if (line.kind === 'rewrite') {
    const written = line.resources.map((each) => [each, [writeKeyOf(target, each)]] as const);
    const outdated = new Set([...(seen.outdated ?? [])].filter((each) => !line.resources.includes(each)));
    return { ...seen, stored: new Map([...seen.stored, ...written]), outdated };
  }
  const pushed = new Map(line.pushes.map(({ node, file }) => [node, file]));
  return {
    ...seen,
    recorded: line.state.entries.length === 0 ? seen.recorded : [line.state],
    members: seen.members.map((member) => {
      if (!pushed.has(member.node)) return member;
      const file = pushed.get(member.node);
      const left = (fit: Fit): Fit => (line.kind !== 'remake' && fit === 'spare' ? 'spare' : 'as wanted');
      return {
        ...{ node: member.node, flag: file !== undefined, file, loaded: 'yes', ready: true },
        binds: left(member.binds),
        reloadFlag: file === undefined ? 'as wanted' : left(member.reloadFlag),
      };
    }),
  };
}

/** What the member works with, as far as its disk says. Flag there but file gone: what the state says it had. */
export function effectiveFile(member: MemberSeen, recorded: readonly ProviderFile[]): ProviderFile {
  if (!member.flag) return noFile;
  return member.file ?? recorded[0] ?? noFile;
}

/** `target`: the wanted file; no entries: encryption off. Throws KEY_CONFLICT. */
export function nextLine(target: ProviderFile, seen: Seen): Line {
  const owns = seen.members.map((member) => ({ member, own: effectiveFile(member, seen.recorded) }));
  const resources = [
    ...new Set([...resourcesOf(target, ...owns.map(({ own }) => own)), ...seen.stored.keys()]),
  ];
  const inUse = (resource: string) => keysInUse(resource, target, seen);
  const readFile = (own: ProviderFile) => withReadKeys(own, inUse, resources, 'last');
  const off = target.entries.length === 0;

  const asTarget = (member: MemberSeen): boolean =>
    off
      ? !member.flag && member.file === undefined
      : member.flag && member.file !== undefined && sameMeaning(member.file, target);
  const isWritten = (resource: string): boolean => {
    const write = writeKeyOf(target, resource).id;
    if (seen.outdated?.has(resource) === true) return false;
    return (seen.stored.get(resource) ?? []).every((ref) => ref.id === write);
  };
  const onlyWriteKeys = resources.every(isWritten);
  const settled =
    onlyWriteKeys &&
    seen.members.every((each) => asTarget(each) && each.loaded !== 'no' && each.ready && fits(each));
  if (settled) return done;

  // A member that is not ready is worked on first: no other is restarted until it serves.
  const order = (pushes: Push[]): Push[] => {
    const ready = new Map(seen.members.map((member) => [member.node, member.ready]));
    return pushes.toSorted((a, b) => Number(ready.get(a.node) ?? false) - Number(ready.get(b.node) ?? false));
  };

  const unsettled = owns.filter(({ member, own }) => {
    const lacks = resources.some((resource) => {
      const present = new Set(keysOf(own, resource).map((ref) => ref.id));
      return inUse(resource).some((ref) => !present.has(ref.id));
    });
    return lacks || member.loaded !== 'yes' || !member.ready || (member.flag && member.file === undefined);
  });
  const reads = seen.members.length > 1 || seen.isPrepared === true;
  if (unsettled.length > 0 && (reads || unsettled.some(({ member }) => !member.ready))) {
    // Those that only lack read keys come before those that would start to write with what is on their disk.
    const pushes = unsettled
      .toSorted((a, b) => Number(a.member.loaded !== 'yes') - Number(b.member.loaded !== 'yes'))
      .map(({ member, own }): Push => {
        const file = readFile(own);
        const none = file.entries.length === 0 && !member.flag;
        return { node: member.node, file: none ? undefined : file, fallback: member.flag ? own : undefined };
      });
    const canonical = seen.recorded[0] ?? owns[0]?.own ?? noFile;
    return { kind: 'read', pushes: order(pushes), state: readFile(canonical) };
  }

  const writing = owns.filter(({ member, own }) => {
    const differs = resources.some(
      (resource) => writeKeyOf(own, resource).id !== writeKeyOf(target, resource).id,
    );
    return differs || member.loaded !== 'yes';
  });
  const orNone = (file: ProviderFile) => (file.entries.length === 0 ? undefined : file);
  const writeFile = (own: ProviderFile) =>
    withReadKeys(target, (resource) => [...inUse(resource), ...keysOf(own, resource)], resources, 'second');
  if (writing.length > 0) {
    const pushes = writing.map(({ member, own }): Push => ({
      node: member.node,
      file: orNone(writeFile(own)),
      fallback: orNone(readFile(own)),
    }));
    return { kind: 'write', pushes: order(pushes), state: writeFile(writing[0]?.own ?? noFile) };
  }

  if (!onlyWriteKeys) return { kind: 'rewrite', resources: resources.filter((each) => !isWritten(each)) };

  const pruning = owns.filter(({ member }) => !asTarget(member));
  const pushes = pruning.map(({ member, own }): Push => ({
    node: member.node,
    file: off ? undefined : target,
    fallback: member.flag ? own : undefined,
  }));
  if (pushes.length > 0) return { kind: 'prune', pushes: order(pushes), state: target };
  const remade = seen.members
    .filter((member) => !fits(member))
    .map(({ node, file }): Push => ({ node, file, fallback: file }));
  return remade.length > 0 ? { kind: 'remake', pushes: order(remade), state: target } : done;
}

function fits({ binds, reloadFlag }: MemberSeen): boolean {
  return binds === 'as wanted' && reloadFlag === 'as wanted';
}

/** Every key that a member writes with (loaded, or by the file on its disk), that etcd holds, or that the target writes. */
function keysInUse(resource: string, target: ProviderFile, seen: Seen): KeyRef[] {
  const found = new Map<string, KeyRef>();
  const add = (ref: KeyRef) => found.set(ref.id, ref);
  for (const member of seen.members) {
    add(writeKeyOf(effectiveFile(member, seen.recorded), resource));
    // What it has in memory is one of the files that were ever meant for it.
    if (member.loaded !== 'yes' && member.flag) {
      for (const file of seen.recorded) if (file.entries.length > 0) add(writeKeyOf(file, resource));
    }
  }
  for (const ref of seen.stored.get(resource) ?? []) add(ref);
  add(writeKeyOf(target, resource));
  return [...found.values()];
}
