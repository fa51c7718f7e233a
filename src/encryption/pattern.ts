/** Names of resources in a provider file: `secrets`, `widgets.example.com`, `*.` (core group), `*.apps`, `*.*`. */

/** kube-apiserver's way: what stands before the first dot is the resource, the rest is the group. */
export function splitPattern(pattern: string): { resource: string; group: string } {
  const dot = pattern.indexOf('.');
  return dot === -1
    ? { resource: pattern, group: '' }
    : { resource: pattern.slice(0, dot), group: pattern.slice(dot + 1) };
}

export function isWildcard(pattern: string): boolean {
  return pattern.startsWith('*');
}

/**
 * The names under which a file can speak of a resource, the one that counts first: its own, its group's wildcard, all
 * (kube-apiserver from 1.27). A wildcard stands for the resources that nobody has named yet, by the same rule.
 */
export function namesFor(resource: string): string[] {
  return [...new Set([resource, `*.${splitPattern(resource).group}`, '*.*'])];
}
