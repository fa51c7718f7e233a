/**
 * Recreating the kube-apiserver container so that a crash or a reboot at any point leaves something the next run
 * finishes. What to do next is a function of the containers that are there; nothing else is remembered.
 *
 * Three names: the one in use, the new one before it takes that name, and the old one (RKE's name for it) until the
 * new one has proved itself. Docker does not start by itself a container that was never started, nor one without a
 * restart policy, so at no point do two of them come up with the host.
 */

export const inUse = 'kube-apiserver';
export const fresh = 'tsrke-new-kube-apiserver';
export const old = 'old-kube-apiserver';

export interface ContainerState {
  readonly running: boolean;
  readonly paused: boolean;
  /** Docker's restart policy name; `no` for none. */
  readonly policy: string;
}

export interface Containers {
  readonly [inUse]?: ContainerState | undefined;
  readonly [fresh]?: ContainerState | undefined;
  readonly [old]?: ContainerState | undefined;
}

type Name = keyof Containers;

export type Move =
  | { readonly kind: 'stop' | 'start' | 'remove' | 'unpause'; readonly name: Name }
  | { readonly kind: 'rename'; readonly name: Name; readonly to: Name }
  | { readonly kind: 'restore-policy'; readonly name: typeof inUse }
  /** The new container runs and the old one is only kept to fall back on. */
  | { readonly kind: 'remove-fallback'; readonly name: typeof old };

/** The next move towards one running container named `kube-apiserver`; undefined when that is all there is. */
export function nextMove(seen: Containers): Move | undefined {
  const current = seen[inUse];
  const made = seen[fresh];
  const aside = seen[old];

  if (made !== undefined) {
    // Only where the restart policy was taken away, as the second step of a recreation does, is the new container the
    // successor. Otherwise it was cut off before that, or RKE has been here since.
    const successor = (current ?? aside)?.policy ?? 'no';
    if (successor !== 'no') return { kind: 'remove', name: fresh };
    if (current !== undefined) {
      if (current.paused) return { kind: 'unpause', name: inUse };
      if (current.running) return { kind: 'stop', name: inUse };
      if (aside?.running === true) return { kind: 'stop', name: old };
      if (aside !== undefined) return { kind: 'remove', name: old };
      return { kind: 'rename', name: inUse, to: old };
    }
    if (aside?.running === true) return { kind: 'stop', name: old };
    return { kind: 'rename', name: fresh, to: inUse };
  }

  if (current === undefined) {
    return aside === undefined ? undefined : { kind: 'rename', name: old, to: inUse };
  }

  if (aside !== undefined) {
    // Going back takes the new container's policy away first: nothing else leaves these two like that.
    if (current.policy === 'no' && aside.policy === 'no') {
      if (current.paused) return { kind: 'unpause', name: inUse };
      if (current.running) return { kind: 'stop', name: inUse };
      return { kind: 'remove', name: inUse };
    }
    // RKE leaves the old one its policy: after a reboot both are up and fight for the port.
    if (aside.paused) return { kind: 'unpause', name: old };
    if (aside.running) return { kind: 'stop', name: old };
  }

  if (current.policy === 'no') return { kind: 'restore-policy', name: inUse };
  if (current.paused) return { kind: 'unpause', name: inUse };
  if (!current.running) return { kind: 'start', name: inUse };
  return aside === undefined ? undefined : { kind: 'remove-fallback', name: old };
}

/** Whether a recreation was cut off here; a container that is merely stopped is none. */
export function isInterrupted(seen: Containers): boolean {
  return (
    seen[fresh] !== undefined ||
    seen[old] !== undefined ||
    (seen[inUse] !== undefined && seen[inUse].policy === 'no')
  );
}

/** The container that will carry the name in the end; the one to describe, to read logs of, to reach files through. */
export function heir(seen: Containers): Name | undefined {
  if (seen[inUse] !== undefined) return inUse;
  if (seen[fresh] !== undefined && (seen[old]?.policy ?? 'no') === 'no') return fresh;
  return seen[old] === undefined ? undefined : old;
}

/** Where kube-apiserver's arguments stand in a container's Entrypoint and Cmd. */
export interface Command {
  readonly Entrypoint: readonly string[] | null;
  readonly Cmd: readonly string[] | null;
}

const isComponent = (word: string) => word === 'kube-apiserver' || word.endsWith('/kube-apiserver');

/** All that follows the component's name; RKE puts it into Entrypoint and leaves Cmd empty. */
export function argumentsOf(command: Command): string[] {
  const words = [...(command.Entrypoint ?? []), ...(command.Cmd ?? [])];
  return words.slice(words.findIndex(isComponent) + 1);
}

/** The same command with other arguments, where they stood before: RKE compares Entrypoint and Cmd each by itself. */
export function withArguments(command: Command, args: readonly string[]): Command {
  const entrypoint = command.Entrypoint ?? [];
  const cmd = command.Cmd ?? [];
  const at = entrypoint.findIndex(isComponent);
  if (at === -1) {
    return {
      Entrypoint: command.Entrypoint,
      Cmd: [...cmd.slice(0, cmd.findIndex(isComponent) + 1), ...args],
    };
  }
  if (at === entrypoint.length - 1 && cmd.length > 0) return { Entrypoint: entrypoint, Cmd: [...args] };
  return { Entrypoint: [...entrypoint.slice(0, at + 1), ...args], Cmd: cmd.length === 0 ? command.Cmd : [] };
}
