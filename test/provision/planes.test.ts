import { expect, test } from 'vitest';
import { withPlanes } from '../../src/provision/planes.ts';
import type { JsonObject } from '../../src/state/rkestate.ts';
import { bundle, planesFrom, state } from '../planes/seen.ts';

const kubeApiIn = (half: { rkeConfig?: JsonObject } | undefined): JsonObject =>
  (half?.rkeConfig?.['services'] as { kubeApi: JsonObject }).kubeApi;

test('a new configuration keeps what the engine of encryption has recorded: RKE would manage another file', () => {
  const before = state();
  const secretsEncryptionConfig = { enabled: true, customConfig: { kind: 'EncryptionConfiguration' } };
  Object.assign(kubeApiIn(before.document.currentState), {
    secretsEncryptionConfig,
    extraBinds: ['/run/kms:/run/kms'],
  });
  const { rke } = planesFrom();
  const kubeApi = { ...rke.services.kubeApi, serviceNodePortRange: '31000-32000' };
  const after = withPlanes(
    before,
    ['currentState'],
    { ...rke, services: { ...rke.services, kubeApi } },
    bundle,
  );
  expect(kubeApiIn(after.document.currentState)).toMatchObject({
    serviceNodePortRange: '31000-32000',
    secretsEncryptionConfig,
    extraBinds: ['/run/kms:/run/kms'],
  });
});
