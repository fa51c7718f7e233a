/** The addons that cluster.yml asks for, as far as tsrke has their manifests. Pure. */
import type { RkeConfig } from '../config/rke-config.ts';
import { parseManifests } from '../kube/manifest.ts';
import type { Addon } from './addon.ts';
import { coredns } from './coredns.ts';
import { flannel } from './flannel.ts';
import type { Include } from './includes.ts';
import { metricsServer } from './metrics-server.ts';
import { rbac } from './rbac.ts';
import { settingsOf } from './settings.ts';

/**
 * In the order in which they are applied. Throws CONFIG_SYNTAX and CONFIG_INVALID for manifests of the user that cannot
 * be read, UNSUPPORTED where an image is not known.
 */
export function wantedAddons(rke: RkeConfig, includes: readonly Include[]): Addon[] {
  const { network, dns, monitoring, addons } = settingsOf(rke);
  const wanted = [
    rbac(rke),
    network.plugin === 'flannel' ? flannel(rke) : undefined,
    dns.provider === 'coredns' ? coredns(rke) : undefined,
    monitoring.provider === 'metrics-server' ? metricsServer(rke) : undefined,
    usersOwn('addons', [{ place: 'addons', text: addons }]),
    usersOwn('includes', includes),
  ];
  return wanted.filter((addon) => addon !== undefined);
}

/** Nobody knows when they run, or whether they ever do. */
function usersOwn(name: 'addons' | 'includes', texts: readonly Include[]): Addon | undefined {
  const manifests = texts.flatMap(({ place, text }) => parseManifests(text, place));
  if (manifests.length === 0) return undefined;
  const title = name === 'addons' ? '`addons`' : '`addons_include`';
  return { name, title, manifests, critical: false, runs: false };
}
