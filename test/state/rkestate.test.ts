import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { parseState, serialiseState } from '../../src/state/rkestate.ts';

const fixture = (name: string) =>
  readFileSync(new URL(`../fixtures/rke-1.6.3/${name}.rkestate`, import.meta.url), 'utf8');

test.each(['enabled', 'rotated'])('%s.rkestate of RKE comes back byte for byte', (name) => {
  // No diff on failure: it would print keys.
  expect(serialiseState(parseState(fixture(name), name)) === fixture(name)).toBe(true);
});

test('with a block of our own, fields that nobody knows are kept, and again byte for byte', () => {
  const state = parseState('{"x":1,"desiredState":{"y":"<&>"},"currentState":{}}', 'it');
  const text = serialiseState({ ...state, tsrke: { ...state.tsrke, serial: 1 } });
  expect(text).toContain('"y": "\\u003c\\u0026\\u003e"');
  expect(JSON.parse(text)).toMatchObject({ x: 1, tsrke: { serial: 1, keyRing: [] } });
  expect(serialiseState(parseState(text, 'it'))).toBe(text);
});

test.each<[string, string]>([
  ['truncated', fixture('enabled').slice(0, 60_000)],
  ['empty', ''],
  ['white space', ' \n'],
  ['a list', '[]'],
  ['null', 'null'],
  ['another object', '{"kind":"Secret"}'],
  ['a half that is a text', '{"currentState":"MjQ4MTFFQjA0MDA1"}'],
  ['encryptionConfig that is no text', '{"currentState":{"encryptionConfig":["MjQ4MTFFQjA0MDA1"]}}'],
  ['a block of a later version', '{"currentState":{},"tsrke":{"formatVersion":2}}'],
  ['a ring that is none', '{"currentState":{},"tsrke":{"formatVersion":1,"keyRing":"MjQ4MTFFQjA0MDA1"}}'],
])('STATE_INVALID, without a value from the file: %s', (_, text) => {
  let error: unknown;
  try {
    parseState(text, 'it');
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ code: 'STATE_INVALID' });
  expect(inspect(error)).not.toContain('MjQ4MTFFQjA0MDA1');
});
