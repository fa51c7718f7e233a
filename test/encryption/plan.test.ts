import { expect, test } from 'vitest';
import {
  film as filmOf,
  noFile,
  sameMeaning,
  writeKeyOf,
  type ProviderFile,
} from '../../src/encryption/configuration.ts';
import { nextLine, strip, type Fit, type MemberSeen } from '../../src/encryption/plan.ts';
import { secretsFile, targets } from './samples.ts';

/** The strip from one file on all nodes to another, without the resource's name. */
function film(count: number, from: ProviderFile, target: ProviderFile): string[] {
  const flag = from.entries.length > 0;
  const members = Array.from({ length: count }, (_, i): MemberSeen => {
    return {
      node: `n${i}`,
      flag,
      file: flag ? from : undefined,
      loaded: 'yes',
      ready: true,
      binds: 'as wanted',
      reloadFlag: 'as wanted',
    };
  });
  const stored = new Map([['secrets', [writeKeyOf(from, 'secrets')]]]);
  return strip(target, { members, stored, recorded: flag ? [from] : [] }).map((line) => {
    if (line.kind === 'done') throw new Error('a strip ends before that');
    if (line.kind === 'rewrite') return `rewrite ${line.resources.join(',')}`;
    if (line.pushes.length !== count) throw new Error(`${line.kind} leaves a node out`);
    for (const { file } of line.pushes)
      if (!sameMeaning(file ?? noFile, line.state)) throw new Error(`${line.kind}: not what the state says`);
    const shown = filmOf(line.state)
      .replace(/^secrets: /, '')
      .replaceAll('aescbc:', '');
    return `${line.kind} ${shown}`;
  });
}

test.each<[string, number, string, ProviderFile, string[]]>([
  ['enable', 3, '', targets.a, ['read identity,a', 'write a,identity', 'rewrite secrets']],
  [
    'rotate',
    3,
    'a,identity',
    targets.b,
    ['read a,b,identity', 'write b,a,identity', 'rewrite secrets', 'prune b,identity'],
  ],
  ['disable', 3, 'a,identity', noFile, ['write identity,a', 'rewrite secrets', 'prune identity (no file)']],
  ['enable', 1, '', targets.a, ['write a,identity', 'rewrite secrets']],
  ['rotate', 1, 'a,identity', targets.b, ['write b,a,identity', 'rewrite secrets', 'prune b,identity']],
  ['disable', 1, 'a,identity', noFile, ['write identity,a', 'rewrite secrets', 'prune identity (no file)']],
  ['nothing to do', 3, 'a,identity', targets.a, []],
  ['nothing to do without encryption', 3, '', noFile, []],
])('%s on %i nodes, from "%s"', (_, count, from, target, lines) => {
  expect(film(count, secretsFile(from), target)).toEqual(lines);
});

test('with one node the file to fall back to reads the new key', () => {
  const from = targets.a;
  const line = nextLine(targets.b, {
    members: [
      {
        node: 'n0',
        flag: true,
        file: from,
        loaded: 'yes',
        ready: true,
        binds: 'as wanted',
        reloadFlag: 'as wanted',
      },
    ],
    stored: new Map([['secrets', [writeKeyOf(from, 'secrets')]]]),
    recorded: [from],
  });
  const [push] = 'pushes' in line ? line.pushes : [];
  expect(filmOf(push?.fallback ?? noFile)).toBe('secrets: aescbc:a,aescbc:b,identity');
});

test.each(['binds', 'reloadFlag'] as const)(
  'what a container lacks comes with whatever restarts a node, what is spare goes at the very end: %s',
  (what) => {
    const kinds = (fit: Fit, from: ProviderFile, target: ProviderFile) => {
      const members = ['n0', 'n1'].map((node): MemberSeen => {
        const fits = { binds: 'as wanted', reloadFlag: 'as wanted', [what]: fit } as const;
        return { node, flag: true, file: from, loaded: 'yes', ready: true, ...fits };
      });
      const stored = new Map([['secrets', [writeKeyOf(from, 'secrets')]]]);
      return strip(target, { members, stored, recorded: [from] }).map(({ kind }) => kind);
    };
    expect(kinds('lacking', targets.a, targets.b)).toEqual(['read', 'write', 'rewrite', 'prune']);
    expect(kinds('spare', targets.a, targets.b)).toEqual(['read', 'write', 'rewrite', 'prune', 'remake']);
    expect(kinds('lacking', targets.a, targets.a)).toEqual(['remake']);
    expect(kinds('spare', targets.a, targets.a)).toEqual(['remake']);
  },
);

test('automatic reload goes with the provider file: a disable recreates once', () => {
  const member: MemberSeen = {
    ...{ node: 'n0', flag: true, file: secretsFile('identity,a'), loaded: 'yes', ready: true },
    ...{ binds: 'as wanted', reloadFlag: 'spare' },
  };
  const lines = strip(noFile, {
    members: [member],
    stored: new Map(),
    recorded: [secretsFile('identity,a')],
  });
  expect(lines.map(({ kind }) => kind)).toEqual(['prune']);
});

test('a node that is not ready is worked on first', () => {
  const members = ['n0', 'n1', 'n2'].map((node): MemberSeen => {
    return {
      node,
      flag: true,
      file: targets.a,
      loaded: 'yes',
      ready: node !== 'n2',
      binds: 'as wanted',
      reloadFlag: 'as wanted',
    };
  });
  const stored = new Map([['secrets', [writeKeyOf(targets.a, 'secrets')]]]);
  const line = nextLine(targets.b, { members, stored, recorded: [targets.a] });
  expect('pushes' in line ? line.pushes.map(({ node }) => node) : []).toEqual(['n2', 'n0', 'n1']);
});
