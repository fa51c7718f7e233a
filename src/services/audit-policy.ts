import type { RkeKubeApi } from '../config/rke-config.ts';
import { goYaml } from './go-yaml.ts';
import type { Json } from './go-yaml.ts';

/** Text of /etc/kubernetes/audit-policy.yaml; undefined: no audit log, or a policy file of one's own. */
export function auditPolicyFile({ auditLog }: RkeKubeApi): string | undefined {
  const policy = auditLog?.configuration?.policy;
  if (auditLog?.enabled !== true || policy === undefined) return undefined;
  const { metadata, rules = null, omitManagedFields, ...fields } = policy as Readonly<Record<string, Json>>;
  const named = metadata as Readonly<Record<string, Json>> | undefined;
  // Go's type has these fields, set or not, and leaves other empty ones out.
  return goYaml({
    ...withoutEmpty(fields),
    ...(omitManagedFields === true && { omitManagedFields }),
    metadata: { creationTimestamp: null, ...named },
    rules: inside(rules),
  });
}

function withoutEmpty(fields: Readonly<Record<string, Json>>): Record<string, Json> {
  const told = Object.entries(fields).filter(
    ([, value]) => value !== null && value !== '' && !(Array.isArray(value) && value.length === 0),
  );
  return Object.fromEntries(told.map(([name, value]) => [name, inside(value)]));
}

function inside(value: Json): Json {
  if (Array.isArray(value)) return (value as readonly Json[]).map(inside);
  return typeof value === 'object' && value !== null
    ? withoutEmpty(value as Readonly<Record<string, Json>>)
    : value;
}
