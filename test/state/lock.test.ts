import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lockHolder, lockState, thisOwner, type Owner } from '../../src/state/lock.ts';

let path = '';
beforeEach(() => (path = join(mkdtempSync(join(tmpdir(), 'tsrke-lock-')), 'cluster.rkestate')));
afterEach(() => {
  rmSync(join(path, '..'), { recursive: true });
});

const since = new Date('2026-01-02T03:04:05Z');
const gone = spawnSync(process.execPath, ['-e', '']).pid;

test('a live owner keeps the lock and is named; given back, it is free', () => {
  const release = lockState(path, since);
  expect(statSync(`${path}.lock`).mode & 0o777).toBe(0o600);
  expect(lockHolder(path)).toContain(`process ${process.pid} on `);
  const message = `process ${process.pid} on ${thisOwner(since).host} since 2026-01-02T03:04:05.000Z`;
  expect(() => lockState(path, new Date())).toThrow(
    expect.objectContaining({ code: 'LOCKED', message: expect.stringContaining(message) as string }),
  );
  release();
  expect(existsSync(`${path}.lock`)).toBe(false);
  expect(lockHolder(path)).toBeUndefined();
  lockState(path, since)();
});

test.each<[string, Partial<Owner>]>([
  ['its process is gone', { pid: gone }],
  ['its pid belongs to a later process', { started: '1' }],
  ['the machine was booted since', { boot: 'another' }],
])('a dead owner: %s', (_, owner) => {
  writeFileSync(`${path}.lock`, JSON.stringify({ ...thisOwner(since), ...owner }));
  expect(lockHolder(path)).toBeUndefined();
  const release = lockState(path, since);
  expect(JSON.parse(readFileSync(`${path}.lock`, 'utf8'))).toMatchObject({ pid: process.pid });
  release();
});

test.each<[string, string]>([
  [
    'on another machine',
    JSON.stringify({ ...thisOwner(since), host: 'elsewhere', pid: gone, boot: 'another' }),
  ],
  ['whose name was not written', ''],
])('never taken from an owner %s', (_, text) => {
  writeFileSync(`${path}.lock`, text);
  expect(() => lockState(path, since)).toThrow(expect.objectContaining({ code: 'LOCKED' }));
  expect(readFileSync(`${path}.lock`, 'utf8')).toBe(text);
});
