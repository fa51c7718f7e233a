/**
 * The commands that run in the lab's containers: the shell scripts of hosts/files.ts, known by their very text and
 * carried out line by line as written there, and `true`. Any other is answered as a shell answers an unknown command.
 */
import { createHash } from 'node:crypto';
import { changedCode, clearScript, directoryCode, removeScript, replaceScript } from '../hosts/files.ts';
import type { Host } from './host.ts';

export interface Ran {
  readonly code: number;
  readonly output: string;
}

/** `command` as in a container's Entrypoint and Cmd; `hostPath` turns a path in the container into the host's. */
export function runCommand(
  command: readonly string[],
  host: Host,
  hostPath: (path: string) => string | undefined,
): Ran {
  const [program, option, script, , path = '', seen = ''] = command;
  if (program === 'true') return { code: 0, output: '' };
  const known = [replaceScript, removeScript, clearScript];
  if (program !== 'sh' || option !== '-c' || script === undefined || !known.includes(script)) {
    return { code: 127, output: `${program ?? ''}: not found\n` };
  }
  const target = hostPath(path);
  if (target === undefined) return { code: 1, output: `${path}: No such file or directory\n` };
  const temporary = `${target}.tsrke-tmp`;
  if (script === clearScript) {
    host.remove(temporary);
    return { code: 0, output: '' };
  }
  if (host.hasFolder(target)) return { code: directoryCode, output: '' };
  const file = host.read(target);
  const have = file === undefined ? '' : createHash('sha256').update(file.bytes).digest('hex');
  if (have !== seen) {
    host.remove(temporary);
    return { code: changedCode, output: '' };
  }
  if (script === removeScript) {
    host.remove(target);
    host.remove(temporary);
    return { code: 0, output: '' };
  }
  return host.move(temporary, target)
    ? { code: 0, output: '' }
    : { code: 1, output: `mv: cannot stat '${temporary}': No such file or directory\n` };
}
