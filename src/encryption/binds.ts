/** cluster.yml's `services.kube-api.extra_binds` on a kube-apiserver container: what it lacks, and what it has too much. */
import { bindOf, type Bind } from '../bind.ts';

export interface WantedBinds {
  /** As in cluster.yml: `/host/folder:/folder`, `/host/folder:/folder:ro`. */
  readonly wanted: readonly string[];
  /** Those of before that cluster.yml does not name any more. All others of a container are RKE's own: never touched. */
  readonly former: readonly string[];
}

export function lacking(present: readonly string[], { wanted }: WantedBinds): string[] {
  return wanted.filter((each) => !present.some((bind) => isSame(bind, each)));
}

export function spare(present: readonly string[], { wanted, former }: WantedBinds): string[] {
  return present.filter(
    (bind) => former.some((each) => isSame(bind, each)) && !wanted.some((each) => isSame(bind, each)),
  );
}

/** SELinux labels are RKE's addition on hosts that need them; Docker makes `rw` of nothing. */
function isSame(a: string, b: string): boolean {
  return normal(a) === normal(b);
}

function normal(bind: string): string {
  const { source, target, options } = bindOf(bind);
  const rest = options.filter((each) => !['z', 'Z', 'rw'].includes(each));
  return [source, target, rest.toSorted().join()].join(':');
}

/** Where a path of the container lies on its host; undefined: not in any bind. */
export function hostPathOf(binds: readonly string[], path: string): string | undefined {
  let best: Bind | undefined;
  for (const bind of binds.map(bindOf)) {
    const { target } = bind;
    const isInside = path === target || path.startsWith(`${target}/`);
    // A mount within a mount hides what lies below it.
    if (isInside && target.length >= (best?.target.length ?? 0)) best = bind;
  }
  return best === undefined ? undefined : best.source + path.slice(best.target.length);
}
