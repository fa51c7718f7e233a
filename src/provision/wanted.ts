/** What cluster.yml asks of encryption and of the containers for it, as far as that needs no node. */
import { commandArguments } from '../config/extra-args.ts';
import { kubeApiIn } from '../config/keys.ts';
import type { ClusterConfig } from '../config/load.ts';
import { defaultVersion } from '../config/versions.ts';
import type { WantedReload } from '../encryption/automatic-reload.ts';
import { providerFileOfCustomConfig } from '../encryption/custom-config.ts';
import { reloadsOf } from '../encryption/server-options.ts';
import { validateProviderFile } from '../encryption/validation/validate.ts';
import { completedForJudgement, type Wanted } from '../encryption/wanted.ts';
import { TsrkeError } from '../errors.ts';
import type { ClusterState, JsonObject } from '../state/rkestate.ts';

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

/**
 * Where cluster.yml does not say, it is RKE's to give by `extra_args`: those of cluster.yml now, or of when it was here
 * last.
 */
export function wantedReload({ encryption, raw }: ClusterConfig, { document }: ClusterState): WantedReload {
  if (encryption.reload === 'automatic') return 'on';
  if (encryption.reload === 'restart') return 'off';
  const { api } = kubeApiIn(raw);
  const services = document.currentState?.rkeConfig?.['services'] as JsonObject | undefined;
  const recorded = services?.['kubeApi'] as JsonObject | undefined;
  const ofRke = [
    commandArguments(api['extra_args'], api['extra_args_array']),
    commandArguments(recorded?.['extraArgs'], recorded?.['extraArgsArray']),
  ];
  return ofRke.some(reloadsOf) ? 'as it is' : 'off';
}
