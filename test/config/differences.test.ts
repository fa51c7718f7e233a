import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { differences } from '../../src/config/differences.ts';
import { loadConfig } from '../../src/config/load.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/rke-1.6.3/${name}`, import.meta.url));
const state = JSON.parse(readFileSync(fixture('enabled.rkestate'), 'utf8')) as {
  currentState: { rkeConfig: Record<string, unknown> };
};

test("RKE's own cluster.yml says nothing else than its state", () => {
  expect(differences(loadConfig(fixture('cluster.yml')), state.currentState.rkeConfig)).toEqual([]);
});
