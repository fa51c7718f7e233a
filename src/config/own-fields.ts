/** Fields of cluster.yml that RKE does not know: it ignores them, and they never stand in its rkeConfig. */
import { isMap, kubeApiIn } from './keys.ts';

/** Of `services.kube-api.secrets_encryption_config`. */
const fields = ['provider', 'resources', 'max_key_age', 'reload', 'kms_plugin'] as const;

/** What the file says of them, in its own keys and at its own place, credentials left out; none: undefined. */
export function ownFieldsOf(raw: Readonly<Record<string, unknown>>): Record<string, unknown> | undefined {
  const { encryption: wish } = kubeApiIn(raw);
  const said = fields.flatMap((name) =>
    wish[name] == null ? [] : [[name, kept(name, wish[name])] as const],
  );
  if (said.length === 0) return undefined;
  return { services: { 'kube-api': { secrets_encryption_config: Object.fromEntries(said) } } };
}

/** The environment of a KMS plugin may hold credentials, which the state has no use for: of it only the names. */
function kept(name: (typeof fields)[number], value: unknown): unknown {
  if (name !== 'kms_plugin') return value;
  if (Array.isArray(value)) return value.map((each) => kept(name, each));
  if (!isMap(value) || !Array.isArray(value['env'])) return value;
  return { ...value, env: value['env'].map((each) => String(each).replace(/=.*/s, '')) };
}

/** The file without them: as RKE would read it. */
export function withoutOwnFields(raw: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const copy = structuredClone(raw) as Record<string, unknown>;
  const services = isMap(copy['services']) ? copy['services'] : {};
  const api = isMap(services['kube-api']) ? services['kube-api'] : {};
  const wish = api['secrets_encryption_config'];
  if (isMap(wish)) for (const name of fields) Reflect.deleteProperty(wish, name);
  return copy;
}
