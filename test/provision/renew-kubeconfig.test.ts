/** The kubeconfig beside cluster.yml, when certificates are renewed. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Bundle } from '../../src/certificates/bundle.ts';
import type { Report } from '../../src/ports.ts';
import { renewKubeconfig } from '../../src/provision/get-files.ts';
import { elementIn, rkeBundle } from '../certificates/rke.ts';
import { silent } from '../memory/silent.ts';

let dir = '';
let notes: string[] = [];
const report: Report = { ...silent, note: (_level, text) => notes.push(text) };
const path = () => join(dir, 'kube_config_cluster.yml');
const had = elementIn(rkeBundle, 'kube-admin').config;
const config = had.replace(/(client-key-data: ).*/, '$1bmV3');
const renewed: Bundle = { ...rkeBundle, 'kube-admin': { ...elementIn(rkeBundle, 'kube-admin'), config } };

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-kubeconfig-'));
  notes = [];
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('leads where it led, with the new certificates', async () => {
  const other = (text: string) => text.replace('198.51.100.13', '203.0.113.5');
  writeFileSync(path(), `${other(had)}\n`);
  await renewKubeconfig(path(), renewed, report);
  expect(readFileSync(path(), 'utf8')).toBe(other(config));
  expect(notes).toEqual([]);
});

test('of an operator’s own making is left alone, and that is said', async () => {
  const own = had.replace('user: "kube-admin', 'user: "me');
  writeFileSync(path(), own);
  await renewKubeconfig(path(), renewed, report);
  expect(readFileSync(path(), 'utf8')).toBe(own);
  expect(notes).toEqual([expect.stringContaining('stays as it is')]);
});

test('that is not there is not made', async () => {
  await renewKubeconfig(path(), renewed, report);
  expect(() => readFileSync(path())).toThrow();
});
