/** Plans as files: read back, and compared with the world of today. */
import { expect, test } from 'vitest';
import {
  expectSameWorld,
  parsePlan,
  type PlanDocument,
  type PlannedWorld,
} from '../../src/encryption/plan-document.ts';
import { filmWithPrints, loadsOf, plannedKey, restartsOf, stepsOf } from '../../src/encryption/preview.ts';
import { managedFile, type ProviderFile } from '../../src/encryption/configuration.ts';
import { strip, type MemberSeen, type Seen } from '../../src/encryption/plan.ts';
import { key, secretsFile, targets } from './samples.ts';

const world: PlannedWorld = {
  state: { serial: 3, lineage: 'l', sha256: 'aa' },
  wanted: 'bb',
  nodes: ['n1', 'n2'].map((node) => ({
    node,
    flag: true,
    file: 'cc',
    loaded: 'yes',
    ready: true,
    binds: 'as wanted',
    reloadFlag: 'as wanted',
  })),
  stored: { secrets: ['aescbc:a#1'] },
};
const plan: PlanDocument = {
  ...{ type: 'plan', formatVersion: 1, time: '', cluster: 'c', action: 'up', somethingToDo: true },
  ...{ keys: [], due: [], differences: [], steps: [], restarts: 0, objects: 0, world },
};
const [n1, n2] = world.nodes as [PlannedWorld['nodes'][0], PlannedWorld['nodes'][0]];

test('the same world', () => {
  expect(() => expectSameWorld(JSON.parse(JSON.stringify(plan)) as PlanDocument, world)).not.toThrow();
});

test.each<[string, Partial<PlannedWorld>, string]>([
  ['cluster.yml', { wanted: 'x' }, 'cluster.yml asks for another encryption'],
  ['the state', { state: { ...world.state, serial: 4 } }, 'the state is another: serial 4, the plan is of 3'],
  ['a file', { nodes: [n1, { ...n2, file: 'dd' }] }, 'n2: file was cc, is dd'],
  ['what is loaded', { nodes: [{ ...n1, loaded: 'no' }, n2] }, 'n1: loaded was yes, is no'],
  [
    'automatic reload',
    { nodes: [{ ...n1, reloadFlag: 'lacking' }, n2] },
    'n1: reloadFlag was as wanted, is lacking',
  ],
  ['readiness', { nodes: [{ ...n1, ready: false }, n2] }, 'n1: ready was true, is false'],
  ['a node gone', { nodes: [n1] }, 'n2: is there no more'],
  ['a node more', { nodes: [n1, n2, { ...n2, node: 'n3' }] }, 'n3: was not there'],
  [
    'etcd',
    { stored: { secrets: ['aescbc:a#1', 'identity'] } },
    'secrets lay under aescbc:a#1, lie under aescbc:a#1, identity',
  ],
])('another one: %s', (_, change, detail) => {
  expect(() => expectSameWorld(plan, { ...world, ...change })).toThrow(
    expect.objectContaining({ code: 'PLAN_STALE', exitCode: 4, details: [detail] }),
  );
});

test.each([
  ['nonsense', 'it is not JSON'],
  ['{}', 'its type is another one'],
  [JSON.stringify({ ...plan, formatVersion: 2 }), 'another version'],
  [JSON.stringify({ ...plan, action: 'abort' }), 'it names no action'],
  [JSON.stringify({ ...plan, world: {} }), 'nothing of the nodes'],
])('no plan: %s', (text, words) => {
  expect(() => parsePlan(text, 'plan.json')).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining(words) as string }),
  );
});

const seen = (file: string, stored: string, more: Partial<MemberSeen> = {}): Seen => ({
  members: ['n1', 'n2'].map((node) => ({
    ...{ node, flag: file !== '', file: file === '' ? undefined : secretsFile(file) },
    ...{ loaded: 'yes', ready: true, binds: 'as wanted', reloadFlag: 'as wanted' },
    ...more,
  })),
  stored: new Map([
    [
      'secrets',
      stored === 'identity' ? [{ id: 'identity', stored: 'identity', provider: { kind: 'identity' } }] : [],
    ],
  ]),
  recorded: file === '' ? [] : [secretsFile(file)],
});

function brief(target: ProviderFile, now: Seen, isWanted = false): string[] {
  const steps = stepsOf(strip(target, now), target, now, () => 7, {
    now: new Set(),
    then: new Set(['n1', 'n2']),
    isWanted,
  });
  const lines = steps.map((step) =>
    step.line === 'rewrite'
      ? `rewrite ${step.resources.map(({ resource, objects }) => `${resource} ${objects}`).join()}`
      : `${step.line} ${step.nodes.map((each) => `${each.node} ${each.providerFile} ${each.apiserver}`).join(', ')}`,
  );
  return [...lines, `${restartsOf(steps)} restarts`];
}

test('the steps of an enable: the flag comes by a recreation, once', () => {
  expect(brief(managedFile(plannedKey('aescbc')), seen('', 'identity'))).toEqual([
    'read n1 written recreated, n2 written recreated',
    'write n1 written restarted, n2 written restarted',
    'rewrite secrets 7',
    '4 restarts',
  ]);
});

test('the steps of a disable: the flag goes before the file', () => {
  expect(brief(targets.off, seen('identity,a', 'identity'))).toEqual([
    'prune n1 removed recreated, n2 removed recreated',
    '2 restarts',
  ]);
});

test('binds that are lacking come with the first line, a recreation in place of a restart', () => {
  expect(brief(targets.a, seen('identity,a', '', { binds: 'lacking' }))[0]).toBe(
    'write n1 written recreated, n2 written recreated',
  );
});

test('automatic reload comes with the recreation of an enable, and then spares the restarts', () => {
  expect(brief(managedFile(plannedKey('aescbc')), seen('', 'identity'), true)).toEqual([
    'read n1 written recreated, n2 written recreated',
    'write n1 written left alone, n2 written left alone',
    'rewrite secrets 7',
    '2 restarts',
  ]);
});

test.each(['lacking', 'spare'] as const)(
  'automatic reload that is %s, and nothing else to do',
  (reloadFlag) => {
    const now = seen('a,identity', '', { reloadFlag });
    const [step] = stepsOf(strip(targets.a, now), targets.a, now, () => 0, {
      ...{ now: new Set(), then: new Set(), isWanted: reloadFlag === 'lacking' },
    });
    const node = {
      ...{ providerFile: 'as it is', apiserver: 'recreated' },
      automaticReload: reloadFlag === 'lacking' ? 'added' : 'removed',
    };
    expect(step).toMatchObject({ line: 'remake', nodes: [node, node] });
  },
);

test('a line of nodes that load a file by themselves is waited for twice: the first, then the rest', () => {
  const nodes = (count: number) =>
    Array.from({ length: count }, (_, at) => ({
      ...({ node: `n${at}`, providerFile: 'written', apiserver: 'left alone' } as const),
    }));
  const steps = [1, 2, 3].map((count) => ({ line: 'read', file: '', nodes: nodes(count) }) as const);
  expect(steps.map((step) => loadsOf([step]))).toEqual([1, 2, 2]);
  expect(loadsOf(steps)).toBe(5);
});

test('keys have their fingerprints behind them, but for those that the run will make', () => {
  const print = key('a').secret.fingerprint;
  expect(filmWithPrints(secretsFile('a,identity'))).toBe(`secrets: aescbc:a#${print},identity`);
  expect(filmWithPrints(managedFile(plannedKey('secretbox')))).toBe('secrets: secretbox:(new key),identity');
  expect(filmWithPrints(managedFile(plannedKey('aesgcm', 'mine-2')))).toBe(
    'secrets: aesgcm:mine-2 (new),identity',
  );
  expect(filmWithPrints(targets.off)).toBe('no file');
});
