import type { RkeConfig } from '../config/rke-config.ts';

/**
 * Docker's own configuration with the log-ins of `private_registries`, for the images of pods: rke-tools' entrypoint
 * writes it to `path`. The passwords stand in the container's environment, where RKE has them.
 */
export function registryEnv({ privateRegistries = [] }: RkeConfig, path: string): string[] {
  if (privateRegistries.length === 0) return [];
  const auths: Record<string, { auth: string }> = {};
  const credHelpers: Record<string, string> = {};
  // Of two with one URL the last counts.
  const byUrl = new Map(privateRegistries.map((each) => [registryUrl(each.url), each]));
  for (const [url, { user = '', password = '', ecrCredentialPlugin }] of [...byUrl].sort()) {
    if (ecrCredentialPlugin !== undefined) credHelpers[url] = 'ecr-login';
    else auths[url] = { auth: Buffer.from(`${user}:${password}`).toString('base64') };
  }
  const config = JSON.stringify({
    ...(Object.keys(auths).length > 0 && { auths }),
    ...(Object.keys(credHelpers).length > 0 && { credHelpers }),
  });
  // Go's encoder makes JSON that can stand in HTML.
  const escaped = config.replace(/[<>&]/g, (each) => `\\u00${each.charCodeAt(0).toString(16)}`);
  return [
    `RKE_KUBELET_DOCKER_CONFIG=${Buffer.from(escaped).toString('base64')}`,
    `RKE_KUBELET_DOCKER_FILE=${path}`,
  ];
}

function registryUrl(url: string | undefined): string {
  return url === undefined || url === '' ? 'docker.io' : url;
}
