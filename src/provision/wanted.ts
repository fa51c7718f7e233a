/** What cluster.yml asks of encryption, judged as far as that needs no node. */
import type { ClusterConfig } from '../config/load.ts';
import { defaultVersion } from '../config/versions.ts';
import { providerFileOfCustomConfig } from '../encryption/custom-config.ts';
import { validateProviderFile } from '../encryption/validation/validate.ts';
import { completedForJudgement, type Wanted } from '../encryption/wanted.ts';
import { TsrkeError } from '../errors.ts';

/** Throws PROVIDER_FILE_INVALID for a custom_config that no kube-apiserver of this version starts with. */
export function wantedOf({ encryption, kubernetesVersion }: ClusterConfig): Wanted {
  const { enabled, customConfig, provider, resources } = encryption;
  if (!enabled) return { kind: 'off' };
  if (customConfig === undefined) return { kind: 'managed', provider, resources };
  const text = providerFileOfCustomConfig(customConfig);
  const minor = Number(/^v?1\.(\d+)/.exec(kubernetesVersion ?? defaultVersion)?.[1]);
  // Each live server is asked by its own version before anything is pushed; this is what needs no node.
  const { findings, serverMessage } = validateProviderFile(completedForJudgement(text), {
    minor,
    kmsV1Gate: true,
  });
  const errors = findings.filter(({ severity }) => severity === 'error');
  if (errors.length > 0 || serverMessage !== undefined) {
    throw new TsrkeError('PROVIDER_FILE_INVALID', `custom_config: ${serverMessage ?? 'it holds mistakes'}`, {
      details: errors.map(({ path, text: says }) => `${path}: ${says}`),
      next: 'see `tsrke encrypt validate`, which names the lines; nothing was touched',
    });
  }
  return { kind: 'custom', text };
}
