/** The cloud provider: the flag, the file it reads, and its checksum in the environment. */
import { cloudsWithFields } from '../config/defaults.ts';
import { TsrkeError } from '../errors.ts';
import type { Arguments } from './arguments.ts';
import { checksum } from './checksum.ts';
import type { ClusterWish } from './cluster.ts';
import { cloudConfigPath } from './paths.ts';

/** Undefined: none. */
export function cloudNameOf({ rke }: ClusterWish): string | undefined {
  const name = rke.cloudProvider?.name;
  return name === '' ? undefined : name;
}

export function cloudArguments(wish: ClusterWish): Arguments {
  const name = cloudNameOf(wish);
  return {
    'cloud-provider': name === 'external-aws' ? 'external' : (name ?? ''),
    ...(name !== undefined && { 'cloud-config': cloudConfigPath }),
  };
}

/** Another file makes RKE recreate what reads it. Throws UNSUPPORTED. */
export function cloudEnv(wish: ClusterWish): string[] {
  const text = cloudConfigOf(wish);
  return text === undefined ? [] : [`RKE_CLOUD_CONFIG_CHECKSUM=${checksum(text)}`];
}

/** Text of /etc/kubernetes/cloud-config; undefined: no cloud provider. Throws UNSUPPORTED. */
export function cloudConfigOf(wish: ClusterWish): string | undefined {
  const name = cloudNameOf(wish);
  if (name === undefined) return undefined;
  const custom = wish.rke.cloudProvider?.customCloudProvider;
  const text = wish.cloudConfig ?? (custom === '' ? undefined : custom);
  if (text === undefined && cloudsWithFields.includes(name)) {
    throw new TsrkeError(
      'UNSUPPORTED',
      `tsrke does not write the cloud config of ${name} from its own fields`,
      {
        next: 'give the content of /etc/kubernetes/cloud-config as `cloud_provider.customCloudProvider`',
      },
    );
  }
  return text ?? '';
}

/** The name of the node comes from the cloud: nothing may set another one. */
export function namedByCloud(wish: ClusterWish, names: readonly string[]): boolean {
  const name = cloudNameOf(wish);
  return (
    name !== undefined && names.includes(name) && wish.rke.cloudProvider?.useInstanceMetadataHostname === true
  );
}
