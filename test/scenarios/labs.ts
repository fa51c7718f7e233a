/** Which scenarios run on which lab. */

/** As much on the real lab as on the memory lab, or nearly: what is left is on the model (test/memory). */
export const asRealOnes: readonly string[] = [
  ...['whole-cluster', 'cycle', 'not-ready', 'bad-input', 'members', 'paging', 'before-1.34', 'status'],
  ...['without-etcd', 'reload', 'kms', 'kms-v1', 'kms-down', 'kms-names', 'kms-plugin', 'secrecy'],
  ...['two-at-once', 'plan', 'verify', 'interrupted'],
  // Elsewhere all of the memory lab's hosts are behind a bastion of its own.
  ...(process.platform === 'linux' ? ['ssh'] : []),
].map(pathOf);

/** On both labs, but in more situations or on more hosts where they are not real. */
export const onBothLabs: readonly string[] = ['pairs', 'taken-over', 'recreation', 'abort', 'steps'].map(
  pathOf,
);

/** Those that stand between tsrke and the cluster, or that others already show on the real lab. */
export const onMemoryLab: readonly string[] = [
  ...['faults', 'at-a-glance', 'pipeline', 'lost-files', 'bare-hosts', 'custom-certificates'],
].map(pathOf);

function pathOf(name: string): string {
  return `test/scenarios/${name}.test.ts`;
}
