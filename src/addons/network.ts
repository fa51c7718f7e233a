/** Which network plugin a cluster runs, by its DaemonSets and by what RKE has left. Pure. */
import type { Addon } from './addon.ts';
import type { SeenAddons } from './seen.ts';

/** In kube-system; calico is told by its own only where no other stands beside it (canal is both). */
const daemonSets: Readonly<Record<string, string>> = {
  canal: 'canal',
  flannel: 'kube-flannel',
  weave: 'weave-net',
  calico: 'calico-node',
};

/** Whether this plugin is there: RKE put it there, or its DaemonSet stands in kube-system. */
export function isDeployed({ ofRke, daemonSets: there }: SeenAddons, plugin: string): boolean {
  return ofRke.has('rke-network-plugin') || there.has(daemonSets[plugin] ?? '');
}

/** Of several the wanted one counts. undefined: none that is known. `former`: what cluster.yml said when RKE deployed. */
export function deployedPlugin(
  { ofRke, daemonSets: there }: SeenAddons,
  wanted: string,
  former: string | undefined,
): string | undefined {
  const found = Object.entries(daemonSets)
    .filter(([, name]) => there.has(name))
    .map(([plugin]) => plugin);
  if (found.length > 0) return found.includes(wanted) ? wanted : found[0];
  return ofRke.has('rke-network-plugin') && former !== 'none' ? former : undefined;
}

/** Whether the user's own manifests hold the plugin's DaemonSet. */
export function userBrings(wanted: readonly Addon[], plugin: string): boolean {
  const name = daemonSets[plugin];
  return wanted
    .filter((addon) => addon.name === 'addons' || addon.name === 'includes')
    .some(({ manifests }) =>
      manifests.some(({ object }) => object.kind === 'DaemonSet' && object.metadata.name === name),
    );
}
