/** Which tests run on which lab. */
import { inPart } from '../part.ts';

/** On the real lab in each run: what it is for. */
export const always: readonly string[] = [
  ...['taken-over', 'cycle', 'not-ready'].map(scenario),
  ...['test/lab/real-lab.test.ts', 'test/readme.test.ts'],
];

/**
 * On the real lab in turns, a share in each part, about as long as the others; else on the memory lab, where that shows
 * as much or nearly (what is left is on the model, test/memory).
 */
export const inTurns: readonly (readonly string[])[] = [
  [...['whole-cluster', 'kms-names', 'paging', 'out-of-the-way'].map(scenario)],
  [
    ...['members', 'status', 'verify', 'abort', 'secrecy', 'kms-plugin', 'bad-input', 'steps'].map(scenario),
    ...['pods'].map(lab),
  ],
  [
    ...[
      'interrupted',
      'two-at-once',
      'ssh',
      'plan',
      'recreation',
      'reload',
      'before-1.34',
      'custom-certificates',
    ].map(scenario),
    ...['first-up'].map(lab),
  ],
  [
    ...['kms', 'kms-v1', 'kms-down', 'pairs', 'without-etcd', 'etcd-overrides', 'rotate-ca'].map(scenario),
    ...['kubelets'].map(lab),
  ],
];

/** Those that stand between tsrke and the cluster, or that others already show on the real lab. */
export const onMemoryLab: readonly string[] = [
  ...['faults', 'at-a-glance', 'pipeline', 'lost-files', 'bare-hosts'],
].map(scenario);

/** In more situations, or on more hosts, where they are not real. */
const onBothLabs = ['pairs', 'taken-over', 'recreation', 'abort', 'steps'].map(scenario);

/** What a run of all tests brings to real hosts. */
export const realNow: readonly string[] = [...always, ...inTurns.filter((_, index) => inPart(index)).flat()];

/** What no memory lab has: etcd's own arguments; all of its hosts are behind a bastion where there are no addresses. */
const onlyReal = (process.platform === 'linux' ? ['etcd-overrides'] : ['etcd-overrides', 'ssh']).map(
  scenario,
);

/** All that can run on the memory lab. */
export const memory: readonly string[] = [...always, ...inTurns.flat(), ...onMemoryLab].filter(
  (path) => path.startsWith('test/scenarios/') && !onlyReal.includes(path),
);

/** Of them those that a run with a real lab needs beside it. */
export const besideReal: readonly string[] = memory.filter(
  (path) => onBothLabs.includes(path) || !realNow.includes(path),
);

function scenario(name: string): string {
  return `test/scenarios/${name}.test.ts`;
}

function lab(name: string): string {
  return `test/lab/${name}.test.ts`;
}
