/** Whose word on automatic reload counts: cluster.yml's own, or what RKE gave by extra_args. */
import { expect, test } from 'vitest';
import type { ClusterConfig } from '../../src/config/load.ts';
import type { ClusterState } from '../../src/state/rkestate.ts';
import { wantedReload } from '../../src/provision/wanted.ts';

const args = { 'encryption-provider-config-automatic-reload': 'true' };

function wanted(reload: 'automatic' | 'restart' | undefined, now: boolean, recorded: boolean): string {
  const api = now ? { extra_args: args } : {};
  const kubeApi = recorded ? { extraArgs: args } : {};
  const config = { encryption: { reload }, raw: { services: { 'kube-api': api } } };
  const state = { document: { currentState: { rkeConfig: { services: { kubeApi } } } } };
  return wantedReload(config as unknown as ClusterConfig, state as unknown as ClusterState);
}

test.each([
  ['nobody asks', undefined, false, false, 'off'],
  ['extra_args ask', undefined, true, true, 'as it is'],
  ['extra_args asked when RKE was here last', undefined, false, true, 'as it is'],
  ['cluster.yml asks', 'automatic', false, false, 'on'],
  ['cluster.yml asks for restarts', 'restart', false, false, 'off'],
  ['cluster.yml asks for restarts, and took the extra_args of before out', 'restart', false, true, 'off'],
] as const)('%s', (_, reload, now, recorded, expected) => {
  expect(wanted(reload, now, recorded)).toBe(expected);
});
