/**
 * What kube-apiserver's own arguments change. `args` as in a container's command: `--name=value`; of one given twice
 * the last counts, `_` in a name reads as `-`.
 */
import { parseDuration } from './go-text.ts';
import type { ValidateOptions } from './validate.ts';

/** About the provider files it accepts. */
export function serverOptionsOf(args: readonly string[]): Omit<ValidateOptions, 'minor'> {
  const found = valuesOf(args);
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

const defaultInterval = 5 * 60_000;

/**
 * Milliseconds between its compactions of etcd (`--etcd-compaction-interval`, default 5 minutes). With 0 it leaves them
 * to somebody else: then the default stands for what is not known.
 */
export function compactionIntervalOf(args: readonly string[]): number {
  const text = valuesOf(args).get('etcd-compaction-interval');
  const nanoseconds = text === undefined ? 0n : parseDuration(text);
  const isGiven = typeof nanoseconds === 'bigint' && nanoseconds > 0n;
  return isGiven ? Number(nanoseconds / 1_000_000n) : defaultInterval;
}

function valuesOf(args: readonly string[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const arg of args) {
    const [, name = '', value = 'true'] = /^--([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    found.set(name.replaceAll('_', '-'), value);
  }
  return found;
}
