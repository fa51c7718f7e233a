/** A host: its files, its power, its Docker engine. What is on disk outlives everything but a lost disk. */
import type { LabNode } from './surface.ts';

export interface LabFile {
  readonly bytes: Buffer;
  /** Permission bits, e.g. 0o600. */
  readonly mode: number;
  readonly uid: number;
}

export class Host {
  readonly node: LabNode;
  powered = true;
  readonly #folders = new Set([
    '',
    '/etc',
    '/opt',
    '/run',
    '/usr',
    '/var',
    '/var/lib',
    '/var/log',
    '/var/run',
  ]);
  readonly #files = new Map<string, LabFile>();
  /** Folders at which something else is mounted, as the volumes of pods are. */
  readonly #mounts = new Set<string>();
  readonly #changed: () => void;

  constructor(node: LabNode, changed: () => void) {
    this.node = node;
    this.#changed = changed;
  }

  read(path: string): LabFile | undefined {
    return this.#files.get(path);
  }

  hasFolder(path: string): boolean {
    return this.#folders.has(trimmed(path));
  }

  /** With all above it, as Docker makes the source of a bind. */
  makeFolder(path: string): void {
    for (let at = trimmed(path); at !== ''; at = at.slice(0, at.lastIndexOf('/'))) this.#folders.add(at);
  }

  /** Files in this folder and below, and folders below. */
  below(folder: string): { readonly files: string[]; readonly folders: string[] } {
    const isBelow = (path: string) => path.startsWith(`${trimmed(folder)}/`);
    return { files: [...this.#files.keys()].filter(isBelow), folders: [...this.#folders].filter(isBelow) };
  }

  /** All files below become this user's. */
  own(folder: string, uid: number): void {
    for (const path of this.below(folder).files) {
      const file = this.#files.get(path);
      if (file !== undefined) this.#files.set(path, { ...file, uid });
    }
    this.#changed();
  }

  /** All that `below` finds, but for what is mounted there and the folders on the way. */
  empty(folder: string): void {
    const { files, folders } = this.below(folder);
    const mounts = [...this.#mounts].filter((each) => each !== folder);
    const isMounted = (path: string) => mounts.some((each) => path === each || path.startsWith(`${each}/`));
    const holdsMount = (path: string) => mounts.some((each) => each.startsWith(`${path}/`));
    for (const path of files) if (!isMounted(path)) this.#files.delete(path);
    for (const path of folders) {
      if (!isMounted(path) && !holdsMount(path)) this.#folders.delete(path);
    }
    this.#changed();
  }

  mount(folder: string): void {
    this.makeFolder(folder);
    this.#mounts.add(folder);
  }

  get mounts(): readonly string[] {
    return [...this.#mounts];
  }

  /** What is mounted there goes out of sight with all that is in it. */
  unmount(folder: string): void {
    const { files, folders } = this.below(folder);
    for (const path of files) this.#files.delete(path);
    for (const path of folders) this.#folders.delete(path);
    this.#mounts.delete(folder);
    this.#changed();
  }

  /** Where nothing is in it. */
  removeFolder(path: string): void {
    const { files, folders } = this.below(path);
    if (files.length + folders.length > 0 || this.#mounts.has(path)) return;
    this.#folders.delete(path);
    this.#changed();
  }

  /** Makes the folder, too. */
  write(path: string, bytes: Buffer, mode = 0o600, uid = 0): void {
    this.makeFolder(path.slice(0, path.lastIndexOf('/')));
    this.#files.set(path, { bytes, mode, uid });
    this.#changed();
  }

  /** As `mv -f`: keeps bytes, mode and owner. */
  move(from: string, to: string): boolean {
    const file = this.#files.get(from);
    if (file === undefined) return false;
    this.#files.delete(from);
    this.#files.set(to, file);
    this.#changed();
    return true;
  }

  remove(path: string): void {
    if (this.#files.delete(path)) this.#changed();
  }

  get files(): ReadonlyMap<string, LabFile> {
    return this.#files;
  }
}

function trimmed(path: string): string {
  return path.replace(/\/+$/, '');
}
