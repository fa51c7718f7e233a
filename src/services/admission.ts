/** kube-apiserver's admission plugins: RKE writes the configuration of two of them, whatever else the user has there. */
import type { RkeKubeApi } from '../config/rke-config.ts';
import { atLeast } from '../config/versions.ts';
import type { KubernetesVersion } from '../config/versions.ts';
import { goYaml } from './go-yaml.ts';
import type { Json } from './go-yaml.ts';

/** Text of /etc/kubernetes/admission.yaml; undefined: kube-apiserver is told to read another file. */
export function admissionFile(version: KubernetesVersion, api: RkeKubeApi): string | undefined {
  if (Object.hasOwn(api.extraArgs ?? {}, 'admission-control-config-file')) return undefined;
  return goYaml({
    apiVersion: 'apiserver.config.k8s.io/v1',
    kind: 'AdmissionConfiguration',
    plugins: [
      ofUser(api, 'EventRateLimit') ?? plugin('EventRateLimit', eventRateLimit(api)),
      ofUser(api, 'PodSecurity') ?? plugin('PodSecurity', podSecurity(version, api)),
    ],
  });
}

function plugin(name: string, configuration: Json): Json {
  return { name, path: '', configuration };
}

/** `services.kube-api.admission_configuration` comes before the fields of their own. */
function ofUser({ admissionConfiguration }: RkeKubeApi, name: string): Json | undefined {
  const found = admissionConfiguration?.plugins?.find((each) => each['name'] === name);
  if (found === undefined) return undefined;
  const { path = '', configuration = null } = found as Readonly<Record<string, Json>>;
  return { name, path, configuration };
}

interface Limit {
  readonly type?: string;
  readonly qps?: number;
  readonly burst?: number;
  readonly cacheSize?: number;
}

/** Written whether or not the plugin is on. */
function eventRateLimit({ eventRateLimit: wish }: RkeKubeApi): Json {
  const usual = { type: 'Server', qps: 5000, burst: 20000 };
  const type = { apiVersion: 'eventratelimit.admission.k8s.io/v1alpha1', kind: 'Configuration' };
  const own = wish?.enabled === true ? wish.configuration : undefined;
  if (own === undefined) return { ...type, limits: [usual] };
  const { limits, apiVersion, kind } = own as {
    limits?: readonly Limit[];
    apiVersion?: string;
    kind?: string;
  };
  return {
    ...(apiVersion !== undefined && { apiVersion }),
    ...(kind !== undefined && { kind }),
    limits: limits?.map(limitOf) ?? null,
  };
}

function limitOf({ type = '', qps = 0, burst = 0, cacheSize = 0 }: Limit): Json {
  return { type, qps, burst, ...(cacheSize !== 0 && { cacheSize }) };
}

function podSecurity(version: KubernetesVersion, { podSecurityConfiguration: level }: RkeKubeApi): Json {
  const type = {
    apiVersion: `pod-security.admission.config.k8s.io/${atLeast(version, 25) ? 'v1' : 'v1beta1'}`,
    kind: 'PodSecurityConfiguration',
  };
  const modes = level === 'restricted' ? ['audit', 'enforce', 'warn'] : ['enforce'];
  const defaults = modes.flatMap((mode) => [
    [mode, level === 'restricted' ? 'restricted' : 'privileged'],
    [`${mode}-version`, 'latest'],
  ]);
  return {
    ...type,
    defaults: Object.fromEntries(defaults) as Readonly<Record<string, string>>,
    // What RKE itself runs needs more than `restricted` allows.
    exemptions: level === 'restricted' ? { namespaces: ['ingress-nginx', 'kube-system'] } : {},
  };
}
