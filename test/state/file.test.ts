import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readState, writeState } from '../../src/state/file.ts';
import { parseState, serialiseState } from '../../src/state/rkestate.ts';

let path = '';
beforeEach(() => (path = join(mkdtempSync(join(tmpdir(), 'tsrke-state-')), 'cluster.rkestate')));
afterEach(() => {
  rmSync(join(path, '..'), { recursive: true });
});

const state = parseState('{"desiredState":{},"currentState":{}}', 'it');
const mode = (file: string) => statSync(file).mode & 0o777;

test('no file is no state; an empty one is an error', () => {
  expect(readState(path)).toBeUndefined();
  writeFileSync(path, '');
  expect(() => readState(path)).toThrow(expect.objectContaining({ code: 'STATE_INVALID' }));
});

test('only the owner can read what is written, and the file before it is kept', async () => {
  await writeState(path, state);
  expect(readdirSync(join(path, '..'))).toEqual(['cluster.rkestate']);
  expect(mode(path)).toBe(0o600);
  const before = '{"currentState": {}}';
  writeFileSync(path, before, { mode: 0o644 });
  rmSync(path);
  writeFileSync(path, before, { mode: 0o644 });
  await writeState(path, state);
  expect(mode(path)).toBe(0o600);
  expect(mode(`${path}.backup`)).toBe(0o600);
  expect(readFileSync(`${path}.backup`, 'utf8')).toBe(before);
  expect(readFileSync(path, 'utf8')).toBe(serialiseState(state));
  expect(readdirSync(join(path, '..')).toSorted()).toEqual(['cluster.rkestate', 'cluster.rkestate.backup']);
});

test('STATE_WRITE where there is no folder', async () => {
  await expect(writeState(join(path, 'x', 'y'), state)).rejects.toMatchObject({ code: 'STATE_WRITE' });
});
