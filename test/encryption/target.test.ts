import { expect, test } from 'vitest';
import { film, renderProviderFile, type ProviderFile } from '../../src/encryption/configuration.ts';
import { withFinished } from '../../src/encryption/apply.ts';
import { chooseTarget, type Target, type TargetRequest } from '../../src/encryption/target.ts';
import type { Wanted } from '../../src/encryption/wanted.ts';
import { parseState, type RkeHalf } from '../../src/state/rkestate.ts';
import { key, secretsFile } from './samples.ts';

const off: Wanted = { kind: 'off' };
const on: Wanted = { kind: 'managed', provider: 'aescbc', resources: ['secrets'] };

function half(strip: string): RkeHalf {
  return strip === '' ? {} : { encryptionConfig: renderProviderFile(secretsFile(strip)) };
}

function request(current: string, desired: string, more: Partial<TargetRequest> = {}): TargetRequest {
  const text = JSON.stringify({ desiredState: half(desired), currentState: half(current) });
  return {
    action: 'up',
    wanted: on,
    state: parseState(text, 'it'),
    onNodes: [],
    now: new Date(0),
    newKey: (provider) => ({ ...key('minted'), provider }),
    namedKey: (provider, name) => ({ ...key(name, `made ${name}`), provider }),
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
    { wanted: off },
    'identity (no file)',
    undefined,
  ],
  [
    'disable interrupted, identity first on nodes',
    'k,identity',
    '',
    'identity,k',
    { wanted: off },
    'identity (no file)',
    undefined,
  ],
  [
    'disable interrupted, no file on nodes',
    'k,identity',
    '',
    '',
    { wanted: off },
    'identity (no file)',
    undefined,
  ],
  [
    'enable not finished, then off',
    '',
    'k,identity',
    '',
    { wanted: off },
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
  expect(() => chooseTarget(request(strip, strip, { wanted: enabled ? on : off, action: 'rotate' }))).toThrow(
    expect.objectContaining({ code: 'NOT_ENABLED' }),
  );
});

/** The state as it is once the change is finished: its file in both halves, no transition, other keys retired. */
function finished({ file, state }: Target): TargetRequest['state'] {
  const text = file.entries.length === 0 ? {} : { encryptionConfig: renderProviderFile(file) };
  const done = withFinished(file, state, new Date(1));
  return { ...done, document: { desiredState: text, currentState: text } };
}

test.each<[string, Partial<Extract<Wanted, { kind: 'managed' }>>, string, boolean]>([
  [
    'another provider gets a key of its own',
    { provider: 'secretbox' },
    'secrets: secretbox:minted,identity',
    true,
  ],
  [
    'more resources go on with the same key',
    { resources: ['secrets', 'configmaps'] },
    'secrets+configmaps: aescbc:k,identity',
    false,
  ],
])('%s', (_, more, target, minted) => {
  const chosen = chooseTarget(request('k,identity', 'k,identity', { wanted: { ...on, ...more } as Wanted }));
  expect(film(chosen.file)).toBe(target);
  expect(chosen.minted).toBe(minted);
  expect(chosen.state.tsrke.transition?.kind).toBe('change');
  const again = chooseTarget({
    ...request('', ''),
    wanted: { ...on, ...more },
    state: finished(chosen),
  });
  expect(film(again.file)).toBe(target);
  expect(again.minted).toBe(false);
});

test('a target that changes midway goes on with the key that was made for it', () => {
  const wanted: Wanted = { ...on, resources: ['secrets', 'configmaps'] };
  const chosen = chooseTarget({ ...begun('', {}), wanted });
  expect(film(chosen.file)).toBe('secrets+configmaps: aescbc:minted,identity');
  expect(chosen.minted).toBe(false);
});

/** As cluster.yml has it: `made` without a secret, `own` with one. */
const custom = (...names: string[]): Wanted => ({
  kind: 'custom',
  text: JSON.stringify({
    kind: 'EncryptionConfiguration',
    apiVersion: 'apiserver.config.k8s.io/v1',
    resources: [
      {
        resources: ['secrets', 'configmaps'],
        providers: [
          {
            aesgcm: {
              keys: names.map((name) => ({
                name,
                ...(name === 'own' ? { secret: key('own').secret.reveal() } : {}),
              })),
            },
          },
          { identity: {} },
        ],
      },
    ],
  }),
});

test('a custom file is taken as it is; keys without a secret are made, kept and rotated by generations', () => {
  const first = chooseTarget(request('', '', { wanted: custom('made', 'own') }));
  const strip = (names: string) => `secrets+configmaps: ${names},identity`;
  expect(film(first.file)).toBe(strip('aesgcm:made,aesgcm:own'));
  expect(first.minted).toBe(true);
  const kept = { ...request('', ''), wanted: custom('made', 'own') };
  const cutOff = chooseTarget({ ...kept, state: first.state });
  expect([cutOff.file, cutOff.minted]).toEqual([first.file, false]);
  const same = chooseTarget({ ...kept, state: finished(first) });
  expect([same.file, same.minted]).toEqual([first.file, false]);

  const rotated = chooseTarget({ ...kept, action: 'rotate', state: finished(first) });
  expect(film(rotated.file)).toBe(strip('aesgcm:made-2,aesgcm:own'));
  const onceMore = chooseTarget({ ...kept, action: 'rotate', state: rotated.state });
  expect([onceMore.file, onceMore.minted]).toEqual([rotated.file, false]);
  const after = chooseTarget({ ...kept, state: finished(rotated) });
  expect([after.file, after.minted]).toEqual([rotated.file, false]);

  const back = chooseTarget({ ...kept, wanted: on, state: finished(rotated) });
  expect(film(back.file)).toBe('secrets: aescbc:minted,identity');
  const taken = chooseTarget({ ...kept, state: finished(back) });
  expect(film(taken.file)).toBe(strip('aesgcm:made-3,aesgcm:own'));
});

test('NOT_ROTATABLE: the write key’s secret stands in cluster.yml', () => {
  const wanted = custom('own', 'made');
  const { state } = chooseTarget(request('', '', { wanted }));
  expect(() =>
    chooseTarget({
      ...request('', ''),
      wanted,
      state: finished({
        file: chooseTarget({ ...request('', ''), wanted, state }).file,
        state,
        note: undefined,
        minted: false,
      }),
      action: 'rotate',
    }),
  ).toThrow(expect.objectContaining({ code: 'NOT_ROTATABLE' }));
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
  ['a disable', 'k,identity', { wanted: off }, 'k,identity'],
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
  ['a disable', 'k,identity', { wanted: off }, 'identity (no file)'],
])('resume finishes %s, whatever cluster.yml says by now', (_, strip, more, target) => {
  for (const wanted of [on, off]) {
    const resumed = chooseTarget({ ...begun(strip, more), wanted, action: 'resume' });
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
  expect(() => chooseTarget(request(strip, strip, { action, wanted: enabled ? on : off }))).toThrow(
    expect.objectContaining({ code: 'NOTHING_OPEN' }),
  );
});

test('every key that state or nodes hold comes into the ring', () => {
  const { state } = chooseTarget(
    request('new,identity', 'old,identity', { onNodes: [secretsFile('other,new,identity')] }),
  );
  expect(state.tsrke.keyRing.map(({ name }) => name).toSorted()).toEqual(['new', 'old', 'other']);
});
