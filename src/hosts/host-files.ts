/**
 * HostFiles by Docker alone: contents travel in the bodies of its archive calls, and short-lived containers run the
 * scripts of host-scripts.ts. One at a time on each node, as all have one name.
 */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import type Docker from 'dockerode';
import { extract, pack, type Header } from 'tar-stream';
import { bindOf } from '../bind.ts';
import { TsrkeError } from '../errors.ts';
import type { Delivered, HostFiles, NodeName } from '../ports.ts';
import type { ServiceName } from '../services/container.ts';
import { inspect } from './containers.ts';
import { bytesOf, statusOf } from './docker-client.ts';
import {
  discardScript,
  emptyScript,
  folderInTheWayCode,
  freeScript,
  holdsScript,
  linkCode,
  nothingThereCode,
  onItsWay,
  ownScript,
  placeScript,
  unmountScript,
} from './host-scripts.ts';
import { runOneShot, type OneShot, type Outcome } from './one-shot.ts';

/** Removed after each use, and by the next one where that was cut off. */
const helper = 'tsrke-files';
const folder = '/etc/kubernetes';
/** Where folders of the host are in a helper, each in one of its own. */
const hostFolder = (index: number) => `/host/${index}`;

/** Those that mount RKE's folder, the likeliest first. */
const holders: readonly ServiceName[] = [
  'kube-apiserver',
  'kubelet',
  'kube-proxy',
  'etcd',
  'kube-controller-manager',
  'kube-scheduler',
];

/** Folders that a host cannot do without, whatever a prefix path makes of them. */
const shared = new Set(['/var/lib', '/var/log', '/var/run', '/var/tmp', '/etc/ssl', '/opt/rke']);

export function hostFiles(options: {
  /** A client for the node whose calls end with the signal. */
  readonly docker: (node: NodeName, signal: AbortSignal) => Promise<Docker>;
}): HostFiles {
  const inLine = lines();

  /** Runs one of the scripts on these folders, bound by themselves or by the folder above each. */
  async function run(
    node: NodeName,
    script: string,
    { image, paths, by }: { image: string; paths: readonly string[]; by: 'itself' | 'parent' },
    more: { readonly args?: readonly string[]; readonly isHeard?: boolean },
    signal: AbortSignal,
  ): Promise<Outcome> {
    const docker = await options.docker(node, signal);
    const sources = by === 'itself' ? paths : [...new Set(paths.map((path) => posix.dirname(path)))];
    const seen = paths.map((path) =>
      by === 'itself'
        ? hostFolder(sources.indexOf(path))
        : posix.join(hostFolder(sources.indexOf(posix.dirname(path))), posix.basename(path)),
    );
    const binds = sources.map((source, index) => `${source}:${hostFolder(index)}`);
    const definition = helperOf(image, binds, script, [...seen, ...(more.args ?? [])]);
    const { isHeard = false } = more;
    return inLine(node, () => runOneShot({ docker, node, name: helper, definition, isHeard }, signal));
  }

  /** As `run`, by the folder above: Docker makes none that is not there. One that is a link is bound by itself. */
  async function look(
    node: NodeName,
    script: string,
    { image, path }: { image: string; path: string },
    more: { readonly isHeard?: boolean },
    signal: AbortSignal,
  ): Promise<Outcome> {
    const paths = [plain(node, path)];
    const outcome = await run(node, script, { image, paths, by: 'parent' }, more, signal);
    if (outcome.code !== linkCode) return outcome;
    return run(node, script, { image, paths, by: 'itself' }, more, signal);
  }

  return {
    async list(node, signal) {
      const docker = await options.docker(node, signal);
      for (const name of holders) {
        const info = await inspect(docker, name);
        const binds = info?.HostConfig.Binds ?? [];
        if (info === undefined || !binds.some((bind) => bindOf(bind).target === folder)) continue;
        const files = await filesIn(docker, node, info.Id, signal);
        const own = [...files].filter(([path]) => [folder, `${folder}/ssl`].includes(posix.dirname(path)));
        return new Map(own.map(([path, { sha256 }]) => [path, sha256]));
      }
      return undefined;
    },

    async deliver(node, { image, folder: source, files }, signal) {
      if (files.length === 0) return;
      const folders = [...new Set(files.map(({ path }) => posix.dirname(path)))];
      for (const each of folders) {
        if (each !== folder && !each.startsWith(`${folder}/`)) throw new Error(`${each} is not in ${folder}`);
      }
      const docker = await options.docker(node, signal);
      // Each is bound by itself: where it is not there, Docker makes it as RKE does (root's, mode 0755).
      const binds = [folder, ...folders.filter((each) => each !== folder)].map(
        (each) => `${posix.join(source, posix.relative(folder, each))}:${each}`,
      );
      const paths = files.map(({ path }) => path);
      const delivery: OneShot = {
        ...{ docker, node, name: helper },
        definition: helperOf(image, binds, placeScript, paths),
        before: async (container) => {
          for (const each of folders) {
            const own = files.filter(({ path }) => posix.dirname(path) === each);
            const archive = await archiveOf(own);
            signal.throwIfAborted();
            await container.putArchive(archive, { path: each, noOverwriteDirNonDir: 'true' });
          }
        },
        after: async (container) => {
          const there = await filesIn(docker, node, container.id, signal);
          for (const file of files) expectDelivered(node, file, there.get(file.path));
        },
      };
      const outcome = await inLine(node, () => runOneShot(delivery, signal));
      if (outcome.code === folderInTheWayCode) {
        throw new TsrkeError('UNSUPPORTED', `a folder is where a file belongs: ${outcome.output.trim()}`, {
          node,
          next: 'move it away, then run the same command again',
        });
      }
      expectDone(node, outcome, `files could not be put into ${source}`);
    },

    async own(node, { image, path, uid }, signal) {
      // Bound by itself: Docker makes it where it is not there.
      const paths = [plain(node, path)];
      const args = [String(uid)];
      const outcome = await run(node, ownScript, { image, paths, by: 'itself' }, { args }, signal);
      expectDone(node, outcome, `${path} could not be given to user ${uid}`);
    },

    async holdsAnything(node, { image, path }, signal) {
      const outcome = await look(node, holdsScript, { image, path }, {}, signal);
      if (outcome.code === nothingThereCode) return false;
      expectDone(node, outcome, `what is in ${path} could not be seen`);
      return true;
    },

    async empty(node, { image, paths }, signal) {
      const all = [...new Set(paths.map((path) => emptiable(node, path)))];
      if (all.length === 0) return;
      const outcome = await run(node, emptyScript, { image, paths: all, by: 'parent' }, {}, signal);
      if (outcome.code !== linkCode) {
        expectDone(node, outcome, `${all.join(', ')} could not be emptied`);
        return;
      }
      for (const path of all) {
        const each = await look(node, emptyScript, { image, path }, {}, signal);
        expectDone(node, each, `${path} could not be emptied`);
      }
    },

    async unmount(node, { image, paths }, signal) {
      const there: string[] = [];
      // Docker would make one that is not there.
      for (const path of new Set(paths.map((each) => emptiable(node, each)))) {
        const { code } = await look(node, holdsScript, { image, path }, {}, signal);
        if (code === 0) there.push(path);
      }
      if (there.length === 0) return;
      const docker = await options.docker(node, signal);
      const binds = there.map((path, index) => `${path}:${hostFolder(index)}:rshared`);
      const plainHelper = helperOf(
        image,
        binds,
        unmountScript,
        there.map((_, index) => hostFolder(index)),
      );
      const definition = { ...plainHelper, HostConfig: { ...plainHelper.HostConfig, Privileged: true } };
      const outcome = await inLine(node, () =>
        runOneShot({ docker, node, name: helper, definition }, signal),
      );
      expectDone(node, outcome, `what is mounted below ${there.join(', ')} could not be unmounted`);
    },

    async discard(node, { image, paths }, signal) {
      const all = [...new Set(paths.map((path) => plain(node, path)))].filter(
        (path) => path.split('/').length > 2 && (!shared.has(path) || path === '/opt/rke'),
      );
      const outcome = await run(node, discardScript, { image, paths: all, by: 'parent' }, {}, signal);
      expectDone(node, outcome, `empty folders could not be removed`);
    },

    async free(node, { image, path }, signal) {
      const outcome = await look(node, freeScript, { image, path }, { isHeard: true }, signal);
      expectDone(node, outcome, `how much room is left on ${path} could not be seen`);
      // Device names may have spaces: counted from the end of the numbers.
      const kilobytes = /\s(\d+)\s+\d+%/.exec(outcome.output)?.[1];
      if (kilobytes !== undefined) return Number(kilobytes) * 1024;
      throw new TsrkeError('DOCKER', `df told nothing of ${path}`, {
        node,
        details: [outcome.output.trim()],
      });
    },

    async refuses(node, { image, securityOption }, signal) {
      const docker = await options.docker(node, signal);
      const definition = {
        ...{ Image: image, Entrypoint: ['true'], Cmd: [] },
        HostConfig: { SecurityOpt: [securityOption] },
      };
      try {
        const { code, output } = await inLine(node, () =>
          runOneShot({ docker, node, name: helper, definition }, signal),
        );
        return code === 0 ? undefined : output.trim() || `exit code ${code}`;
      } catch (error) {
        if (statusOf(error) === undefined) throw error;
        return (error as TsrkeError & { cause: Error }).cause.message;
      }
    },
  };
}

/** Works on one node follow each other, whatever becomes of one of them. */
function lines(): <T>(node: NodeName, work: () => Promise<T>) => Promise<T> {
  const last = new Map<NodeName, Promise<unknown>>();
  return (node, work) => {
    const next = (last.get(node) ?? Promise.resolve()).then(work, work);
    last.set(node, next);
    return next;
  };
}

function helperOf(image: string, binds: readonly string[], script: string, args: readonly string[]) {
  return {
    Image: image,
    Entrypoint: ['sh'],
    Cmd: ['-c', script, 'tsrke', ...args],
    HostConfig: {
      Binds: binds,
      // Folders of the host have labels of their own where it has SELinux; elsewhere Docker passes it over.
      SecurityOpt: ['label=disable'],
      // Whatever the engine's own logging is, what this one says can be read.
      LogConfig: { Type: 'json-file', Config: {} },
    },
  };
}

interface Found {
  readonly sha256: string;
  readonly mode: number;
  readonly uid: number;
}

/** The plain files below RKE's folder, as a container sees them. */
async function filesIn(
  docker: Docker,
  node: NodeName,
  container: string,
  signal: AbortSignal,
): Promise<Map<string, Found>> {
  const stream = await docker.getContainer(container).getArchive({ path: folder });
  const archive = await bytesOf(node, stream, signal);
  const found = new Map<string, Found>();
  const entries = extract();
  const reading = (async () => {
    for await (const entry of entries) {
      const hash = createHash('sha256');
      for await (const chunk of entry) hash.update(chunk as Buffer);
      const { type, mode, uid } = entry.header;
      if (type !== 'file') continue;
      found.set(pathOf(entry.header), { sha256: hash.digest('hex'), mode: mode & 0o7777, uid });
    }
  })();
  entries.end(archive);
  await reading;
  return found;
}

/** Docker names what is in a folder by the folder's own name: `kubernetes/ssl/kube-ca.pem`. */
function pathOf({ name }: Header): string {
  return posix.join(posix.dirname(folder), name);
}

async function archiveOf(files: readonly Delivered[]): Promise<Buffer> {
  const archive = pack();
  for (const { path, text, mode = 0o600, uid = 0 } of files) {
    archive.entry({ name: `${posix.basename(path)}${onItsWay}`, mode, uid, gid: 0, mtime: new Date() }, text);
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function expectDelivered(
  node: NodeName,
  { path, text, mode = 0o600, uid = 0 }: Delivered,
  found: Found | undefined,
): void {
  if (found?.sha256 !== createHash('sha256').update(text).digest('hex')) {
    throw new TsrkeError('FILE_CHANGED', `${path} was changed by somebody else right after it was written`, {
      node,
      next: 'see who else is at work on this node, then run the same command again',
    });
  }
  if (found.mode === mode && found.uid === uid) return;
  throw new TsrkeError(
    'DOCKER',
    `${path} is there, but with mode ${found.mode.toString(8)} and owner ${found.uid} instead of ${mode.toString(8)} and ${uid}`,
    { node, next: `see what file system holds ${path}; it must keep owners and modes` },
  );
}

function expectDone(node: NodeName, { code, output }: Outcome, what: string): void {
  if (code === 0) return;
  throw new TsrkeError('DOCKER', `${what} (exit code ${code})`, {
    node,
    details: output.split('\n').filter((line) => line !== ''),
    next: `see on ${node} whether the file system there is writable, then run the same command again`,
  });
}

/** Throws UNSUPPORTED for a path that is none, or goes up. */
function plain(node: NodeName, path: string): string {
  const trimmed = path.length > 1 ? path.replace(/\/+$/, '') : path;
  if (/^\/[^:]+$/.test(trimmed) && posix.normalize(trimmed) === trimmed) return trimmed;
  throw new TsrkeError('UNSUPPORTED', `${path} is not a folder's plain, absolute path`, {
    node,
    next: 'see `prefix_path` in cluster.yml',
  });
}

function emptiable(node: NodeName, path: string): string {
  const trimmed = plain(node, path);
  if (trimmed.split('/').length > 2 && !shared.has(trimmed) && !trimmed.startsWith('/usr/')) return trimmed;
  throw new TsrkeError('UNSUPPORTED', `${path} is a folder of the host's own, which is never emptied`, {
    node,
    next: 'see `prefix_path` in cluster.yml',
  });
}
