/** A bind of a container, as cluster.yml and Docker write it. */

export interface Bind {
  /** On the host. Paths are without slashes at their end, and the root is empty. */
  readonly source: string;
  /** In the container; empty for one that names none. */
  readonly target: string;
  /** Such as `ro` and `z`. */
  readonly options: readonly string[];
}

/** `/host/folder:/folder`, `/host/folder:/folder:ro`. */
export function bindOf(text: string): Bind {
  const [source = '', target = '', options = ''] = text.split(':');
  const trimmed = (path: string) => path.replace(/\/+$/, '');
  return { source: trimmed(source), target: trimmed(target), options: options.split(',').filter(Boolean) };
}
