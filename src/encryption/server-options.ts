/** What kube-apiserver's own arguments change about the provider files it accepts. */
import type { ValidateOptions } from './validate.ts';

/** `args` as in a container's command: `--name=value`; of one given twice the last counts, `_` in a name reads as `-`. */
export function serverOptionsOf(args: readonly string[]): Omit<ValidateOptions, 'minor'> {
  const found = new Map<string, string>();
  for (const arg of args) {
    const [, name = '', value = 'true'] = /^--([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    found.set(name.replaceAll('_', '-'), value);
  }
  const gates = new Map(
    (found.get('feature-gates') ?? '').split(',').map((gate) => {
      const [name = '', value = ''] = gate.split('=');
      return [name.trim(), value.trim().toLowerCase() === 'true'] as const;
    }),
  );
  const [v1, v2] = [gates.get('KMSv1'), gates.get('KMSv2')];
  return {
    reload: found.get('encryption-provider-config-automatic-reload') === 'true',
    ...(v1 === undefined ? {} : { kmsV1Gate: v1 }),
    ...(v2 === undefined ? {} : { kmsV2Gate: v2 }),
  };
}
