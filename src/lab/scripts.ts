/**
 * The commands that run in the lab's containers: the shell scripts of hosts/files.ts and hosts/host-scripts.ts, known by
 * their very text and carried out as written there, and `true`. Any other is answered as a shell answers an unknown
 * command.
 */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { changedCode, clearScript, directoryCode, removeScript, replaceScript } from '../hosts/files.ts';
import {
  discardScript,
  emptyScript,
  folderInTheWayCode,
  freeScript,
  holdsScript,
  nothingThereCode,
  onItsWay,
  ownScript,
  placeScript,
  unmountScript,
} from '../hosts/host-scripts.ts';
import type { Host } from './host.ts';

export interface Ran {
  readonly code: number;
  readonly output: string;
}

/** A path in the container as the host has it; undefined: in none of its binds. */
type HostPath = (path: string) => string | undefined;

type Script = (host: Host, hostPath: HostPath, args: readonly string[]) => Ran;

const done: Ran = { code: 0, output: '' };
const failed = (output: string): Ran => ({ code: 1, output: `${output}\n` });
const noSuch = (path: string) => failed(`${path}: No such file or directory`);

/** `command` as in a container's Entrypoint and Cmd. */
export function runCommand(command: readonly string[], host: Host, hostPath: HostPath): Ran {
  const [program, option, text = '', , ...args] = command;
  if (program === 'true') return done;
  const script = program === 'sh' && option === '-c' ? scripts.get(text) : undefined;
  return script?.(host, hostPath, args) ?? { code: 127, output: `${program ?? ''}: not found\n` };
}

const scripts: ReadonlyMap<string, Script> = new Map([
  [replaceScript, guarded((host, target, temporary) => replaceFile(host, target, temporary))],
  [
    removeScript,
    guarded((host, target, temporary) => {
      host.remove(target);
      host.remove(temporary);
      return done;
    }),
  ],
  [
    clearScript,
    (host, hostPath, [path = '']) => {
      const target = hostPath(path);
      if (target === undefined) return noSuch(path);
      host.remove(`${target}${onItsWay}`);
      return done;
    },
  ],
  [placeScript, place],
  [ownScript, own],
  [holdsScript, holds],
  [emptyScript, empty],
  [unmountScript, unmount],
  [discardScript, discard],
  [freeScript, free],
]);

/** Only where the file has the hash that was seen. */
function guarded(work: (host: Host, target: string, temporary: string) => Ran): Script {
  return (host, hostPath, [path = '', seen = '']) => {
    const target = hostPath(path);
    if (target === undefined) return noSuch(path);
    const temporary = `${target}${onItsWay}`;
    if (host.hasFolder(target)) return { code: directoryCode, output: '' };
    const file = host.read(target);
    const have = file === undefined ? '' : createHash('sha256').update(file.bytes).digest('hex');
    if (have === seen) return work(host, target, temporary);
    host.remove(temporary);
    return { code: changedCode, output: '' };
  };
}

function replaceFile(host: Host, target: string, temporary: string): Ran {
  if (host.move(temporary, target)) return done;
  return failed(`mv: cannot stat '${temporary}': No such file or directory`);
}

function place(host: Host, hostPath: HostPath, files: readonly string[]): Ran {
  const targets = files.map((file) => hostPath(file) ?? file);
  const inTheWay = files.find((_, index) => host.hasFolder(targets[index] ?? ''));
  if (inTheWay !== undefined) return { code: folderInTheWayCode, output: `${inTheWay} is a folder\n` };
  for (const target of targets) {
    const moved = replaceFile(host, target, `${target}${onItsWay}`);
    if (moved.code !== 0) return moved;
  }
  for (const folder of new Set(targets.map((target) => posix.dirname(target)))) {
    for (const path of host.below(folder).files) {
      if (posix.dirname(path) === folder && path.endsWith(onItsWay)) host.remove(path);
    }
  }
  return done;
}

function own(host: Host, hostPath: HostPath, [path = '', uid = '']: readonly string[]): Ran {
  const folder = hostPath(path);
  if (folder === undefined || !host.hasFolder(folder)) return noSuch(path);
  host.own(folder, Number(uid));
  return done;
}

function holds(host: Host, hostPath: HostPath, [path = '']: readonly string[]): Ran {
  const folder = hostPath(path) ?? path;
  const { files, folders } = host.below(folder);
  const lost = posix.join(folder, 'lost+found');
  const something = [...files, ...folders].some((each) => each !== lost && !each.startsWith(`${lost}/`));
  return something || host.read(folder) !== undefined ? done : { code: nothingThereCode, output: '' };
}

function empty(host: Host, hostPath: HostPath, paths: readonly string[]): Ran {
  for (const path of paths) host.empty(hostPath(path) ?? path);
  return done;
}

function unmount(host: Host, hostPath: HostPath, paths: readonly string[]): Ran {
  const below = (mount: string) => paths.some((path) => mount.startsWith(`${hostPath(path) ?? path}/`));
  for (const mount of host.mounts.toReversed()) if (below(mount)) host.unmount(mount);
  return done;
}

function discard(host: Host, hostPath: HostPath, paths: readonly string[]): Ran {
  for (const path of paths) host.removeFolder(hostPath(path) ?? path);
  return done;
}

function free(): Ran {
  const head = 'Filesystem     1024-blocks     Used Available Capacity Mounted on';
  return { code: 0, output: `${head}\n/dev/vda1         41152812  4938340  34324660      13% /\n` };
}
