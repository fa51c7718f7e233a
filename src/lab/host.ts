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
  readonly folders = new Set(['/', '/etc', '/etc/kubernetes', '/etc/kubernetes/ssl', '/var/log/kube-audit']);
  readonly #files = new Map<string, LabFile>();
  readonly #changed: () => void;

  constructor(node: LabNode, changed: () => void) {
    this.node = node;
    this.#changed = changed;
  }

  read(path: string): LabFile | undefined {
    return this.#files.get(path);
  }

  write(path: string, bytes: Buffer, mode = 0o600, uid = 0): void {
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
