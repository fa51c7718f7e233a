import { expect, test } from 'vitest';
import { film, renderProviderFile, type ProviderFile } from '../../src/encryption/configuration.ts';
import { chooseTarget, type TargetRequest } from '../../src/encryption/target.ts';
import { parseState, type RkeHalf } from '../../src/state/rkestate.ts';
import { key, secretsFile } from './samples.ts';

function half(strip: string): RkeHalf {
  return strip === '' ? {} : { encryptionConfig: renderProviderFile(secretsFile(strip)) };
}

function request(current: string, desired: string, more: Partial<TargetRequest> = {}): TargetRequest {
  const text = JSON.stringify({ desiredState: half(desired), currentState: half(current) });
  return {
    action: 'up',
    enabled: true,
    state: parseState(text, 'it'),
    onNodes: [],
    now: new Date(0),
    newKey: () => key('minted'),
    ...more,
  };
}

const short = (file: ProviderFile) => film(file).replace('secrets: ', '').replaceAll('aescbc:', '');

// "What a taken-over state can look like": current text, desired text, on the nodes.
test.each<[string, string, string, string, Partial<TargetRequest>, string, RegExp | undefined]>([
  ['normal', 'k,identity', 'k,identity', '', {}, 'k,identity', undefined],
  [
    'rotation interrupted in phase A',
    'new,old,identity',
    'old,identity',
    '',
    {},
    'new,identity',
    /no further key/,
  ],
  [
    'the same, asked to rotate',
    'new,old,identity',
    'old,identity',
    '',
    { action: 'rotate' },
    'new,identity',
    /no further key/,
  ],
  [
    'phase B reached, desired not written',
    'new,identity',
    'old,identity',
    '',
    {},
    'new,identity',
    /desiredState/,
  ],
  [
    'the same, asked to rotate',
    'new,identity',
    'old,identity',
    '',
    { action: 'rotate' },
    'new,identity',
    /desiredState/,
  ],
  ['enable not finished', '', 'k,identity', '', {}, 'k,identity', /enable.*interrupted/],
  ['enable not finished, key only on nodes', '', '', 'k,identity', {}, 'k,identity', /enable.*interrupted/],
  [
    'disable interrupted, k first on nodes',
    'k,identity',
    '',
    'k,identity',
    { enabled: false },
    'identity (no file)',
    undefined,
  ],
  [
    'disable interrupted, identity first on nodes',
    'k,identity',
    '',
    'identity,k',
    { enabled: false },
    'identity (no file)',
    undefined,
  ],
  [
    'disable interrupted, no file on nodes',
    'k,identity',
    '',
    '',
    { enabled: false },
    'identity (no file)',
    undefined,
  ],
  [
    'enable not finished, then off',
    '',
    'k,identity',
    '',
    { enabled: false },
    'identity (no file)',
    /taken back/,
  ],
  ['disable interrupted, then on again', 'identity,k', '', '', {}, 'k,identity', /disable was interrupted/],
])('%s: current "%s", desired "%s", nodes "%s"', (_, current, desired, nodes, more, target, note) => {
  const onNodes = nodes === '' ? [] : [secretsFile(nodes)];
  const chosen = chooseTarget(request(current, desired, { onNodes, ...more }));
  expect(short(chosen.file)).toBe(target);
  expect(chosen.minted).toBe(false);
  if (note === undefined) expect(chosen.note).toBeUndefined();
  else expect(chosen.note).toMatch(note);
});

test.each<[string, string, Partial<TargetRequest>]>([
  ['enable', '', {}],
  ['rotate', 'k,identity', { action: 'rotate' }],
])('%s makes one key, and takes it up again when cut off', (kind, strip, more) => {
  const first = chooseTarget(request(strip, strip, more));
  expect(short(first.file)).toBe('minted,identity');
  expect(first.minted).toBe(true);
  expect(first.state.tsrke.keyRing.map(({ name }) => name)).toContain('minted');
  expect(first.state.tsrke.transition?.kind).toBe(kind);
  const again = chooseTarget({
    ...request(strip, strip, more),
    state: first.state,
    newKey: () => key('second'),
  });
  expect(short(again.file)).toBe('minted,identity');
  expect(again.minted).toBe(false);
});

test.each([
  ['encryption is off in cluster.yml', 'k,identity', false],
  ['encryption was never enabled', '', true],
])('NOT_ENABLED: rotate while %s', (_, strip, enabled) => {
  expect(() => chooseTarget(request(strip, strip, { enabled, action: 'rotate' }))).toThrow(
    expect.objectContaining({ code: 'NOT_ENABLED' }),
  );
});

test('a custom configuration in force is refused', () => {
  const custom: ProviderFile = {
    entries: [{ resources: ['configmaps'], providers: [{ kind: 'identity' }] }],
  };
  expect(() => chooseTarget(request('', '', { onNodes: [custom] }))).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED' }),
  );
});

/** What was begun from there: the state as it was saved before the first push. */
function begun(strip: string, more: Partial<TargetRequest>): TargetRequest {
  const first = chooseTarget(request(strip, strip, more));
  return {
    ...request(strip, strip, more),
    state: first.state,
    newKey: () => expect.unreachable('no key is made'),
  };
}

test.each<[string, string, Partial<TargetRequest>, string]>([
  ['an enable', '', {}, 'identity (no file)'],
  ['a rotation', 'k,identity', { action: 'rotate' }, 'k,identity'],
  ['a disable', 'k,identity', { enabled: false }, 'k,identity'],
])('abort goes back from %s, and goes on when it was cut off itself', (_, strip, more, target) => {
  const aborted = chooseTarget({ ...begun(strip, more), action: 'abort' });
  expect(short(aborted.file)).toBe(target);
  expect(aborted.state.tsrke.transition?.kind).toBe('abort');
  const again = chooseTarget({ ...begun(strip, more), state: aborted.state, action: 'abort' });
  expect(short(again.file)).toBe(target);
  const resumed = chooseTarget({ ...begun(strip, more), state: aborted.state, action: 'resume' });
  expect(short(resumed.file)).toBe(target);
});

test.each<[string, string, Partial<TargetRequest>, string]>([
  ['an enable', '', {}, 'minted,identity'],
  ['a rotation', 'k,identity', { action: 'rotate' }, 'minted,identity'],
  ['a disable', 'k,identity', { enabled: false }, 'identity (no file)'],
])('resume finishes %s, whatever cluster.yml says by now', (_, strip, more, target) => {
  for (const enabled of [true, false]) {
    const resumed = chooseTarget({ ...begun(strip, more), enabled, action: 'resume' });
    expect(short(resumed.file)).toBe(target);
    expect(resumed.minted).toBe(false);
  }
});

test('abort of a rotation that RKE left half-way goes back to its old key', () => {
  const aborted = chooseTarget(request('new,old,identity', 'old,identity', { action: 'abort' }));
  expect(short(aborted.file)).toBe('old,identity');
});

test.each<['resume' | 'abort', string, boolean]>([
  ['resume', 'k,identity', true],
  ['resume', 'k,identity', false],
  ['resume', '', false],
  ['resume', '', true],
  ['abort', 'k,identity', true],
  ['abort', '', false],
])('NOTHING_OPEN: %s with "%s" at rest', (action, strip, enabled) => {
  expect(() => chooseTarget(request(strip, strip, { action, enabled }))).toThrow(
    expect.objectContaining({ code: 'NOTHING_OPEN' }),
  );
});

test('every key that state or nodes hold comes into the ring', () => {
  const { state } = chooseTarget(
    request('new,identity', 'old,identity', { onNodes: [secretsFile('other,new,identity')] }),
  );
  expect(state.tsrke.keyRing.map(({ name }) => name).toSorted()).toEqual(['new', 'old', 'other']);
});
