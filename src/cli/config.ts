/** `tsrke config` with a list: out of the catalogue of versions; reaches no node and reads no cluster.yml. */
import { clusterSchema, stateKey } from '../config/keys.ts';
import { defaultVersion, knownVersions, kubernetesVersion, newestVersions } from '../config/versions.ts';
import { TsrkeError } from '../errors.ts';

export interface ConfigFlags {
  readonly systemImages?: boolean;
  readonly listVersion?: boolean;
  readonly all?: boolean;
  /** Of Kubernetes, in RKE's form. */
  readonly version?: string;
}

/** One image or version a line. Throws UNSUPPORTED for a version that is not in the catalogue. */
export function configList(flags: ConfigFlags): string[] {
  if (flags.systemImages === true) {
    const versions = flags.all === true ? newestVersions() : [flags.version ?? defaultVersion];
    return [...new Set(versions.flatMap(imagesOf))];
  }
  if (flags.listVersion === true) return flags.all === true ? newestVersions() : [defaultVersion];
  throw new TsrkeError('CONFIG_INVALID', '--all is for lists, and none is asked for', {
    next: 'add --system-images or --list-version',
  });
}

/** In RKE's order, which is that of cluster.yml's `system_images`; no image of a Windows node, as RKE. */
function imagesOf(text: string): string[] {
  const version = kubernetesVersion(text);
  if (version?.known !== true) {
    throw new TsrkeError('UNSUPPORTED', `the images of Kubernetes ${JSON.stringify(text)} are not known`, {
      next: `take one of ${knownVersions.join(', ')}`,
    });
  }
  const keys = Object.keys(clusterSchema.properties?.['system_images']?.properties ?? {}).map(stateKey);
  return keys
    .filter((key) => key !== 'windowsPodInfraContainer')
    .flatMap((key) => version.systemImages[key] ?? []);
}
