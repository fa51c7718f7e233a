/** Given what was seen ⇒ what a person is told, and what she is to type. */
import { expect, test } from 'vitest';
import type { PluginState } from '../../../src/encryption/kms/containers.ts';
import type { Sight } from '../../../src/encryption/status/sight.ts';
import { statusOf, type EncryptionStatus } from '../../../src/encryption/status/status.ts';
import type { Wanted } from '../../../src/encryption/wanted.ts';
import type { ClusterState } from '../../../src/state/rkestate.ts';
import { key } from '../samples.ts';
import { disable, inForce, node, rotation, sight, state, stored, three } from '../sights.ts';

const on: Wanted = { kind: 'managed', provider: 'aescbc', resources: ['secrets'] };
const off: Wanted = { kind: 'off' };
interface Row {
  readonly given: string;
  readonly sight: Sight;
  readonly state?: ClusterState;
  readonly wanted?: Wanted;
  /** `kind` or `kind node`. */
  readonly problems: readonly string[];
  readonly next?: RegExp;
  readonly says?: RegExp;
  readonly has?: (status: EncryptionStatus) => void;
}

const plugin = (is: PluginState) => [{ socket: '/run/kms/a.sock', state: is, container: 'tsrke-kms-1' }];

const rows: readonly Row[] = [
  {
    given: 'all as it should be',
    sight: sight(three('a,identity')),
    problems: [],
    has: ({ encryption, writeKeys, keys }) => {
      expect(encryption).toBe('on');
      expect(writeKeys).toMatchObject([
        { type: 'aescbc', name: 'a', fingerprint: key('a').secret.fingerprint, ageSeconds: 5 * 86_400 },
      ]);
      expect(keys.map(({ type, state: is, stored: count }) => [type, is, count])).toEqual([
        ['aescbc', 'active', 5],
        ['identity', 'read-only', 0],
      ]);
    },
  },
  {
    given: 'KMS plugins that tsrke runs, as they should be',
    sight: sight(three('a,identity').map((each) => ({ ...each, plugins: plugin('running') }))),
    problems: [],
    has: ({ nodes }) => {
      expect(nodes.map(({ plugins }) => plugins)).toEqual(Array.from({ length: 3 }, () => plugin('running')));
    },
  },
  ...(
    [
      ['missing', /KMS plugin at \/run\/kms\/a\.sock: it has no container/],
      ['stopped', /does not run/],
      ['unfinished', /was cut off/],
      ['other-definition', /another definition than the one in cluster\.yml/],
      ['not-wanted', /does not name it any more/],
    ] as const
  ).map(([is, says]): Row => ({
    given: `a KMS plugin's container that is ${is}`,
    sight: sight(three('a,identity', node('n3', 'a,identity', { plugins: plugin(is) }))),
    problems: ['kms-plugin n3'],
    next: /`tsrke up` does what is left/,
    says,
    has: ({ nodes }) => expect(nodes.map(({ inStep }) => inStep)).toEqual([true, true, false]),
  })),
  {
    given: 'off, and wanted so',
    sight: sight(three(''), { stored: stored({ identity: 5 }) }),
    state: state('', undefined, []),
    wanted: off,
    problems: [],
  },
  {
    given: 'a retired key',
    sight: sight(three('a,identity')),
    state: {
      ...inForce,
      tsrke: {
        ...inForce.tsrke,
        keyRing: [
          ...inForce.tsrke.keyRing,
          {
            ...key('old'),
            created: '2026-01-01T00:00:00.000Z',
            retired: '2026-11-20T12:00:00.000Z',
            why: 'enable',
          },
        ],
      },
    },
    problems: [],
    has: ({ keys }) => {
      expect(keys.at(-1)).toMatchObject({
        name: 'old',
        state: 'retired',
        stored: 0,
        writesOn: [],
        readsOn: [],
      });
    },
  },
  {
    given: 'cluster.yml asks for encryption, and nothing was begun',
    sight: sight(three(''), { stored: stored({ identity: 5 }) }),
    state: state('', undefined, []),
    problems: ['cluster-yml-differs'],
    next: /`tsrke up` does what is left/,
    says: /asks for encryption on/,
  },
  {
    given: 'a node that cannot be reached',
    sight: sight(
      three(
        'a,identity',
        node('n3', '', {
          reachable: false,
          container: undefined,
          readiness: undefined,
          failure: 'no SSH connection within 15 s',
        }),
      ),
    ),
    problems: ['node-unreachable n3'],
    next: /make n3 reachable/,
    says: /cannot be reached: no SSH connection within 15 s/,
    has: ({ nodes }) => expect(nodes.map(({ inStep }) => inStep)).toEqual([true, true, false]),
  },
  {
    given: 'a node that was taken out of cluster.yml and is gone',
    sight: sight(
      three(
        'a,identity',
        node('n3', '', {
          named: false,
          reachable: false,
          container: undefined,
          readiness: undefined,
          failure: 'refused',
        }),
      ),
    ),
    problems: [],
    says: /taken for gone/,
  },
  {
    given: 'a node of the state without a kube-apiserver',
    sight: sight(three('a,identity', node('n3', '', { container: undefined, readiness: undefined }))),
    problems: ['node-without-apiserver n3'],
    next: /find out why n3/,
  },
  {
    given: 'a new node without one yet',
    sight: sight(
      three('a,identity', node('n3', '', { container: undefined, readiness: undefined, recorded: false })),
    ),
    problems: [],
    says: /runs no kube-apiserver yet/,
  },
  {
    given: 'a node with another file',
    sight: sight(three('a,identity', node('n3', 'identity'))),
    problems: ['node-not-in-step n3'],
    next: /`tsrke up`/,
    says: /its file is not the one of the state: secrets: identity/,
    has: ({ encryption }) => expect(encryption).toBe('partly'),
  },
  {
    given: 'a node with a file that no server takes',
    sight: sight(
      three('a,identity', node('n3', 'a,identity', { file: undefined, fileProblem: 'it is not YAML' })),
    ),
    problems: ['node-not-in-step n3'],
    says: /its next start would fail: it is not YAML/,
  },
  {
    given: 'a node with the right file, and the old one loaded',
    sight: sight(three('a,identity', node('n3', 'a,identity', { reported: 'f'.repeat(64), loaded: 'no' }))),
    problems: ['node-not-in-step n3'],
    next: /`tsrke up`/,
    says: /has loaded another file than the one on its disk/,
  },
  {
    given: 'a node that does not say what it has loaded (before 1.34), and whose start nobody recorded',
    sight: sight(
      three('a,identity', node('n3', 'a,identity', { minor: 33, reported: undefined, loaded: 'unknown' })),
    ),
    problems: ['node-not-in-step n3'],
    says: /nothing shows that it has loaded its file/,
  },
  {
    given: 'a node with the flag and no file',
    sight: sight(
      three('a,identity', node('n3', 'a,identity', { file: undefined, onDisk: undefined, loaded: 'no' })),
    ),
    problems: ['node-not-in-step n3'],
    says: /its next start would fail: \S+ is gone/,
  },
  {
    given: 'a node that is not ready',
    sight: sight(
      three(
        'a,identity',
        node('n3', 'a,identity', { readiness: { serves: true, ready: false, failing: ['informer-sync'] } }),
      ),
    ),
    problems: ['node-not-ready n3'],
    says: /is not ready: informer-sync/,
  },
  {
    given: 'a container without a bind that cluster.yml names',
    sight: sight(three('a,identity', node('n3', 'a,identity', { binds: 'lacking' }))),
    problems: ['node-not-in-step n3'],
    next: /`tsrke up`/,
    says: /other binds than the extra_binds of cluster\.yml/,
  },
  {
    given: 'a container without automatic reload, which cluster.yml asks for',
    sight: sight(three('a,identity', node('n3', 'a,identity', { reloadFlag: 'lacking' }))),
    problems: ['node-not-in-step n3'],
    next: /`tsrke up`/,
    says: /runs without automatic reload, which cluster\.yml asks for/,
  },
  {
    given: 'a container with automatic reload, which nobody asks for',
    sight: sight(three('a,identity', node('n3', 'a,identity', { reloadFlag: 'spare' }))),
    problems: ['node-not-in-step n3'],
    next: /`tsrke up`/,
    says: /runs with automatic reload, which cluster\.yml does not ask for/,
  },
  {
    given: 'a file that others can read',
    sight: sight(
      three('a,identity', node('n3', 'a,identity', { onDisk: { sha256: '0', mode: 0o644, uid: 0 } })),
    ),
    problems: ['file-exposed n3'],
    next: /on n3: chown root and chmod 600/,
  },
  {
    given: 'an apiserver that no file names',
    sight: sight(three('a,identity'), { strangers: ['10.0.0.9'] }),
    problems: ['member-unknown'],
    next: /add that host/,
    says: /does not name: 10\.0\.0\.9/,
  },
  {
    given: 'objects in plain text, as an enable that RKE did not finish leaves them',
    sight: sight(three('a,identity'), { stored: stored({ a: 3, identity: 2 }) }),
    problems: ['plaintext'],
    next: /`tsrke up`/,
    says: /2 secrets lie in plain text \(e\.g\. default\/s1, default\/s2\)/,
  },
  {
    given: 'objects in plain text that came after the last proof, which up does not take again',
    sight: sight(three('a,identity'), { stored: stored({ a: 3, identity: 2 }) }),
    state: {
      ...inForce,
      tsrke: { ...inForce.tsrke, proof: { taken: '', at: [], objects: 5, target: 'hash' } },
    },
    problems: ['plaintext'],
    next: /`tsrke encrypt rotate-key`/,
    has: ({ problems: [problem] }) =>
      expect(problem).toMatchObject({
        resource: 'secrets',
        count: 2,
        next: expect.stringMatching(/rotate-key/) as unknown,
      }),
  },
  {
    given: 'objects under a key that was retired',
    sight: sight(three('a,identity'), { stored: stored({ a: 3, b: 2 }) }),
    state: state('a,identity', undefined, ['a', 'b']),
    problems: ['under-other-key'],
    says: /2 secrets lie under aescbc:b/,
  },
  {
    given: 'objects under a key that nobody has',
    sight: sight(three('a,identity'), { stored: stored({ a: 3, '?x': 2 }) }),
    problems: ['key-missing'],
    next: /older state file/,
    has: ({ keys }) =>
      expect(keys.find(({ name }) => name === 'x')).toMatchObject({ state: 'missing', stored: 2 }),
  },
  {
    given: 'objects that do not open with the key of their name',
    sight: sight(three('a,identity'), { stored: stored({ a: 3, '!a': 2 }) }),
    problems: ['value-unreadable'],
    next: /older state file/,
  },
  {
    given: 'no etcd that can be read',
    sight: sight(three('a,identity'), { stored: { unavailable: 'no etcd member answered' } }),
    problems: ['etcd-unread'],
    next: /make etcd reachable/,
    has: ({ keys }) => expect(keys[0]).not.toHaveProperty('stored'),
  },
  {
    given: 'a state file that is older than the cluster’s own copy',
    sight: sight(three('a,identity'), { stale: 'the state file is older' }),
    problems: ['state-stale'],
    next: /newest state file/,
  },
  {
    given: 'a rotation in steps that waits: no node lacks what its next step brings',
    sight: sight(three('a,b,identity')),
    state: state('a,b,identity', { ...rotation, held: 'read' }, ['a', 'b']),
    problems: ['transition-open'],
    next: /`tsrke encrypt rotate` is the next step/,
    has: ({ nodes }) => {
      expect(nodes.map(({ inStep, why }) => ({ inStep, why }))).toEqual(
        Array.from({ length: 3 }, () => ({ inStep: true, why: [] })),
      );
    },
  },
  {
    given: 'a rotation in steps that waits, and a node that lost what the step before brought',
    sight: sight(three('a,b,identity', node('n3', 'a,identity'))),
    state: state('a,b,identity', { ...rotation, held: 'read' }, ['a', 'b']),
    problems: ['node-not-in-step n3', 'transition-open'],
    says: /n3.*has secrets: aescbc:a,identity; its next file is still to come/s,
  },
  {
    given: 'a rotation cut off while its key is made readable',
    sight: sight([node('n1', 'a,b,identity'), node('n2', 'a,identity'), node('n3', 'a,identity')]),
    state: state('a,b,identity', rotation, ['a', 'b']),
    problems: ['node-not-in-step n2', 'node-not-in-step n3', 'transition-open'],
    next: /`tsrke encrypt resume` finishes the open change, `tsrke encrypt abort` goes back/,
    has: ({ transition, writeKeys }) => {
      expect(transition).toMatchObject({
        ...{ kind: 'rotate', started: rotation.started, phase: 'read' },
        from: 'secrets: aescbc:a,identity',
        to: 'secrets: aescbc:b,identity',
      });
      expect(writeKeys.map(({ name }) => name)).toEqual(['a']);
    },
  },
  {
    given:
      'a rotation cut off while objects are rewritten: those under the old key are no problem of their own',
    sight: sight(three('b,a,identity'), { stored: stored({ a: 3, b: 2 }) }),
    state: state('b,a,identity', rotation, ['a', 'b']),
    problems: ['transition-open'],
    has: ({ transition }) =>
      expect(transition?.steps.map(({ state: is }) => is)).toEqual([
        'done',
        'done',
        'next',
        'to do',
        'to do',
      ]),
  },
  {
    given: 'a rotation of which only the state does not know that it is done',
    sight: sight(three('b,identity'), { stored: stored({ b: 5 }) }),
    state: state('b,identity', rotation, ['a', 'b']),
    problems: ['transition-open'],
    has: ({ transition }) => expect(transition?.phase).toBe('record'),
  },
  {
    given: 'the same with a run at work',
    sight: sight(three('b,a,identity'), { atWork: 'process 7 on ci' }),
    state: state('b,a,identity', rotation, ['a', 'b']),
    problems: ['transition-open'],
    next: /wait for the run that is at work: process 7 on ci/,
  },
  {
    given: 'a rotation that RKE did not finish',
    sight: sight(three('b,a,identity')),
    state: state('b,a,identity', undefined, []),
    problems: ['transition-open'],
    says: /a rotation to key b was interrupted/,
    has: ({ transition }) => {
      expect(transition).toMatchObject({
        kind: 'rotate',
        phase: 'rewrite',
        from: 'secrets: aescbc:a,identity',
      });
      expect(transition).not.toHaveProperty('started');
    },
  },
  {
    given: 'a disable cut off, and cluster.yml asks for encryption again',
    sight: sight(three('identity,a')),
    state: state('identity,a', disable),
    problems: ['transition-open', 'cluster-yml-differs'],
    next: /`tsrke up` goes where cluster\.yml says, `tsrke encrypt resume` finishes/,
  },
  {
    given: 'no node that can be seen, in the middle of a rotation',
    sight: sight(
      three('').map(({ node: name }) =>
        node(name, '', { reachable: false, container: undefined, readiness: undefined, failure: 'refused' }),
      ),
      { stored: { unavailable: 'no node could be asked where etcd is' } },
    ),
    state: state('a,b,identity', rotation, ['a', 'b']),
    problems: [
      ...['n1', 'n2', 'n3'].map((name) => `node-unreachable ${name}`),
      'transition-open',
      'etcd-unread',
    ],
    has: ({ encryption, transition }) => {
      expect(encryption).toBe('unknown');
      expect(transition).not.toHaveProperty('phase');
      expect(transition?.steps.every(({ state: is }) => is === 'to do')).toBe(true);
    },
  },
];

test.each(rows)(
  '$given',
  ({ sight: seen, state: known = inForce, wanted = on, problems, next, says, has }) => {
    const status = statusOf({ sight: seen, state: known, wanted });
    const told = status.problems.map(({ kind, node: name }) =>
      name === undefined ? kind : `${kind} ${name}`,
    );
    expect(told).toEqual(problems);
    expect(status.asItShouldBe).toBe(problems.length === 0);
    if (problems.length === 0) expect(status).not.toHaveProperty('next');
    if (next !== undefined) expect(status.next).toMatch(next);
    if (says !== undefined) expect(JSON.stringify([status.problems, status.nodes])).toMatch(says);
    has?.(status);
    for (const name of ['a', 'b']) expect(JSON.stringify(status)).not.toContain(key(name).secret.reveal());
  },
);
