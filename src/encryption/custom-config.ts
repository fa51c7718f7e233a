/** cluster.yml's `custom_config` as the text of a provider file: the header once, whether it brought its own or not. */
import { TsrkeError } from '../errors.ts';

const header = { apiVersion: 'apiserver.config.k8s.io/v1', kind: 'EncryptionConfiguration' } as const;
/** What Kubernetes' documents, and RKE's after them, once had. */
const legacy = { apiVersion: 'v1', kind: 'EncryptionConfig' } as const;

/**
 * JSON (which is YAML) with the header on top; all else as it is, unknown fields too, so that the validator can tell
 * of them. RKE writes the header twice where `custom_config` has one, and kube-apiserver 1.31 does not start with that.
 * Throws PROVIDER_FILE_INVALID where `custom_config` is no mapping.
 */
export function providerFileOfCustomConfig(customConfig: unknown): string {
  if (typeof customConfig !== 'object' || customConfig === null || Array.isArray(customConfig)) {
    throw new TsrkeError('PROVIDER_FILE_INVALID', 'custom_config is no mapping with `resources`', {
      next: 'write it as Kubernetes documents an EncryptionConfiguration',
    });
  }
  const { apiVersion, kind, ...fields } = customConfig as Record<string, unknown>;
  const old = (apiVersion === legacy.apiVersion && kind === undefined) || kind === legacy.kind;
  const usual = old ? legacy : header;
  const file = { apiVersion: apiVersion ?? usual.apiVersion, kind: kind ?? usual.kind, ...fields };
  return JSON.stringify(
    file,
    (_key, value: unknown) => (typeof value === 'bigint' ? Number(value) : value),
    2,
  );
}
