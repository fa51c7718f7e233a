/**
 * NodeFiles through the kube-apiserver container's own bind mounts: Docker's archive calls put a file beside its
 * target and read it back, and a `mv` inside puts it in place. Contents travel in request bodies alone, never in a
 * command, an environment or a container's definition.
 */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { extract, pack } from 'tar-stream';
import { TsrkeError } from '../errors.ts';
import type { NodeFile, NodeFiles, NodeName } from '../ports.ts';
import { apiserverName, heirOf, inspect, inspectThree, isUp, remove } from './containers.ts';
import { bytesOf, demultiplex, statusOf } from './docker-client.ts';
import { runOneShot, type Outcome } from './one-shot.ts';
import { inUse } from './recreation.ts';

/** The one-shot container that stands in for a kube-apiserver that does not run; removed afterwards, or by `clear`. */
const mover = 'tsrke-file-mover';
const temporary = (path: string) => `${path}.tsrke-tmp`;

/** Exit codes of the scripts below; all others are failures. */
export const changedCode = 10;
export const directoryCode = 11;

/**
 * `$1` the file, `$2` the sha256 it must still have (empty: there must be none). Hashing and flushing are done where
 * the image has the tools: the first has also been done over the archive call, a moment before.
 */
const guard = `
if [ -d "$1" ]; then exit ${directoryCode}; fi
if [ -z "$2" ]; then
  if [ -e "$1" ]; then rm -f "$1.tsrke-tmp"; exit ${changedCode}; fi
else
  if [ ! -e "$1" ]; then rm -f "$1.tsrke-tmp"; exit ${changedCode}; fi
  if command -v sha256sum >/dev/null 2>&1; then
    have=$(sha256sum <"$1") || exit 1
    if [ "\${have%% *}" != "$2" ]; then rm -f "$1.tsrke-tmp"; exit ${changedCode}; fi
  fi
fi`;
const flush = (what: string) => `sync ${what} 2>/dev/null || sync 2>/dev/null || true`;
// Flushed before it is renamed: after a power cut the name must not stand for an empty file.
export const replaceScript = `${guard}
${flush('"$1.tsrke-tmp"')}
mv -f "$1.tsrke-tmp" "$1" || exit 1
${flush('"${1%/*}"')}`;
export const removeScript = `${guard}
rm -f "$1" "$1.tsrke-tmp" || exit 1
${flush('"${1%/*}"')}`;
export const clearScript = `
rm -f "$1.tsrke-tmp" || exit 1
${flush('"${1%/*}"')}`;

export function dockerFiles(options: {
  /** A client for the node whose calls end with the signal. */
  readonly docker: (node: NodeName, signal: AbortSignal) => Promise<Docker>;
}): NodeFiles {
  return {
    async read(node, path, signal) {
      const docker = await options.docker(node, signal);
      return readFile(docker, node, await container(docker, node), path, signal);
    },

    async replace(node, path, text, seen, signal) {
      const docker = await options.docker(node, signal);
      const info = await container(docker, node);
      expectSeen(node, path, seen, await readFile(docker, node, info, path, signal));
      await putFile(docker, info, temporary(path), text, signal);
      await run(docker, node, path, replaceScript, seen, signal);
      const written = await readFile(docker, node, await container(docker, node), path, signal);
      if (written?.text !== text) throw fileChanged(node, path, 'right after it was written');
      if (written.mode !== 0o600 || written.uid !== 0) {
        throw new TsrkeError(
          'DOCKER',
          `${path} is there, but with mode ${written.mode.toString(8)} and owner ${written.uid} instead of 600 and 0`,
          { node, next: `see what file system holds ${path}; it must keep owners and modes` },
        );
      }
      return written;
    },

    async remove(node, path, seen, signal) {
      const docker = await options.docker(node, signal);
      const found = await readFile(docker, node, await container(docker, node), path, signal);
      expectSeen(node, path, seen, found);
      if (found !== undefined) await run(docker, node, path, removeScript, seen, signal);
    },

    async clear(node, path, signal) {
      const docker = await options.docker(node, signal);
      if ((await inspect(docker, mover)) !== undefined) await remove(docker, mover, signal);
      const beside = await readFile(docker, node, await container(docker, node), temporary(path), signal);
      if (beside !== undefined) await run(docker, node, path, clearScript, undefined, signal);
    },
  };
}

async function container(docker: Docker, node: NodeName): Promise<ContainerInspectInfo> {
  // Hardly ever is there none of this name, and it is asked for with every file.
  const info = (await inspect(docker, inUse)) ?? heirOf(await inspectThree(docker, apiserverName));
  if (info !== undefined) return info;
  throw new TsrkeError('APISERVER_MISSING', 'there is no kube-apiserver container to reach files through', {
    node,
    next: 'see with `docker ps -a` on the node; `up` deploys one',
  });
}

async function readFile(
  docker: Docker,
  node: NodeName,
  info: ContainerInspectInfo,
  path: string,
  signal: AbortSignal,
): Promise<NodeFile | undefined> {
  let stream: NodeJS.ReadableStream;
  try {
    stream = await docker.getContainer(info.Id).getArchive({ path });
  } catch (error) {
    if (statusOf(error) === 404 && !/no such container:/i.test(String((error as Error).cause)))
      return undefined;
    throw error;
  }
  const archive = await bytesOf(node, stream, signal);
  let file: NodeFile | undefined;
  const entries = extract();
  const reading = (async () => {
    for await (const entry of entries) {
      const chunks: Buffer[] = [];
      for await (const chunk of entry) chunks.push(chunk as Buffer);
      if (entry.header.type !== 'file' || file !== undefined) throw notAFile(node, path);
      const bytes = Buffer.concat(chunks);
      file = {
        text: bytes.toString(),
        sha256: createHash('sha256').update(bytes).digest('hex'),
        mode: entry.header.mode & 0o7777,
        uid: entry.header.uid,
      };
    }
  })();
  entries.end(archive);
  await reading;
  return file;
}

async function putFile(
  docker: Docker,
  info: ContainerInspectInfo,
  path: string,
  text: string,
  signal: AbortSignal,
): Promise<void> {
  const archive = pack();
  archive.entry({ name: posix.basename(path), mode: 0o600, uid: 0, gid: 0, mtime: new Date() }, text);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  signal.throwIfAborted();
  await docker
    .getContainer(info.Id)
    .putArchive(Buffer.concat(chunks), { path: posix.dirname(path), noOverwriteDirNonDir: 'true' });
}

/** Runs a script where kube-apiserver's files are: inside it, or in a container with the same mounts while it is down. */
async function run(
  docker: Docker,
  node: NodeName,
  path: string,
  script: string,
  seen: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const command = ['sh', '-c', script, 'tsrke', path, seen ?? ''];
  const info = await container(docker, node);
  const { code, output } =
    (isUp(info) ? await runInside(docker, node, info, command, signal) : undefined) ??
    (await runBeside(docker, node, info, command, signal));
  if (code === 0) return;
  if (code === changedCode) throw fileChanged(node, path, 'since it was looked at');
  if (code === directoryCode) throw notAFile(node, path);
  throw new TsrkeError(
    'DOCKER',
    `${path}, or what lies beside it, could not be changed (exit code ${code})`,
    {
      node,
      details: output.split('\n').filter((line) => line !== ''),
      next: `see on ${node} whether the file system of ${path} is writable, then run the same command again`,
    },
  );
}

/** Resolves to undefined when the container has stopped in the meantime. */
async function runInside(
  docker: Docker,
  node: NodeName,
  info: ContainerInspectInfo,
  command: string[],
  signal: AbortSignal,
): Promise<Outcome | undefined> {
  try {
    const exec = await docker.getContainer(info.Id).exec({
      Cmd: command,
      User: '0:0',
      AttachStdout: true,
      AttachStderr: true,
    });
    const output = demultiplex(await bytesOf(node, await exec.start({}), signal));
    const { ExitCode, Running } = await exec.inspect();
    // Killed together with the container; what was done, the other container's script will see.
    if (Running || ExitCode === null || ExitCode === 137) return undefined;
    return { code: ExitCode, output };
  } catch (error) {
    if (statusOf(error) === 409 || statusOf(error) === 404) return undefined;
    throw error;
  }
}

async function runBeside(
  docker: Docker,
  node: NodeName,
  info: ContainerInspectInfo,
  [entrypoint = '', ...cmd]: string[],
  signal: AbortSignal,
): Promise<Outcome> {
  const { Binds, Mounts, VolumesFrom, Runtime, SecurityOpt, UsernsMode } = info.HostConfig as Record<
    string,
    unknown
  >;
  const definition = {
    Image: info.Image,
    Entrypoint: [entrypoint],
    Cmd: cmd,
    HostConfig: { Binds, Mounts, VolumesFrom, Runtime, SecurityOpt, UsernsMode },
  };
  return runOneShot({ docker, node, name: mover, definition }, signal);
}

function expectSeen(
  node: NodeName,
  path: string,
  seen: string | undefined,
  found: NodeFile | undefined,
): void {
  if (found?.sha256 !== seen) throw fileChanged(node, path, 'since it was looked at');
}

function fileChanged(node: NodeName, path: string, when: string): TsrkeError {
  return new TsrkeError('FILE_CHANGED', `${path} was changed by somebody else ${when}`, {
    node,
    next: 'see who else is at work on this node, then run the same command again',
  });
}

function notAFile(node: NodeName, path: string): TsrkeError {
  return new TsrkeError('UNSUPPORTED', `${path} is not a plain file`, {
    node,
    next: 'replace the link or folder by the file itself, as RKE has it',
  });
}
