/**
 * What kube-apiserver's own arguments change. `args` as in a container's command: `--name=value`; of one given twice
 * the last counts, `_` in a name reads as `-`.
 */
import { parseDuration } from './validation/go-text.ts';
import type { ValidateOptions } from './validation/validate.ts';

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
    reload: found.get(reloadName) === 'true',
    ...(v1 === undefined ? {} : { kmsV1Gate: v1 }),
    ...(v2 === undefined ? {} : { kmsV2Gate: v2 }),
  };
}

const reloadName = 'encryption-provider-config-automatic-reload';

/** Whether it is the argument for automatic reload, whatever its value. */
export function isReloadFlag(arg: string): boolean {
  return valuesOf([arg]).has(reloadName);
}

/** It looks at the provider file every minute (1.26 to 1.28: as soon as it changes) and loads a changed one by itself. */
export function reloadsOf(args: readonly string[]): boolean {
  return valuesOf(args).get(reloadName) === 'true';
}

/** Milliseconds after which a request has ended, whatever it was (`--request-timeout`, default 1 minute). */
export function requestTimeoutOf(args: readonly string[]): number {
  return durationOf(valuesOf(args).get('request-timeout')) ?? 60_000;
}

const defaultInterval = 5 * 60_000;

/**
 * Milliseconds between its compactions of etcd (`--etcd-compaction-interval`, default 5 minutes). With 0 it leaves them
 * to somebody else: then the default stands for what is not known.
 */
export function compactionIntervalOf(args: readonly string[]): number {
  return durationOf(valuesOf(args).get('etcd-compaction-interval')) ?? defaultInterval;
}

/** Milliseconds; undefined for none, 0, or what is no duration. */
function durationOf(text: string | undefined): number | undefined {
  const nanoseconds = text === undefined ? 0n : parseDuration(text);
  return typeof nanoseconds === 'bigint' && nanoseconds > 0n ? Number(nanoseconds / 1_000_000n) : undefined;
}

function valuesOf(args: readonly string[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const arg of args) {
    const [, name = '', value = 'true'] = /^--([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    found.set(name.replaceAll('_', '-'), value);
  }
  return found;
}
