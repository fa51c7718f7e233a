/** What a kube-apiserver's /metrics tell about its keys: KMS key ids it has seen, values it has written under each key. */
import type { KubeApi, NodeName } from '../ports.ts';
import { expectOk } from './status.ts';

/** The newest key id that a server has from the Status of a KMS v2 plugin. */
export interface SeenKeyId {
  /** `sha256:` and the hex digest of the key id; the id itself is told nowhere. */
  readonly hash: string;
  /** Seconds, by the server's clock: when it was last told. */
  readonly at: number;
}

/** The text of /metrics. Throws KUBE. */
export async function metricsOf(kube: KubeApi, node: NodeName, signal: AbortSignal): Promise<string> {
  const answer = await kube.request(node, { method: 'GET', path: '/metrics', accept: 'text/plain' }, signal);
  return expectOk(answer, node, 'GET /metrics').text;
}

/**
 * By the provider's name; from `apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds` (1.27 and later).
 * A server keeps the hashes of before too: the one with the latest time is the one it works with.
 */
export function seenKeyIds(metrics: string): Map<string, SeenKeyId> {
  const found = new Map<string, SeenKeyId>();
  const name = 'apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds';
  for (const { labels, value } of seriesOf(metrics, name)) {
    const [provider, hash] = [labels.get('provider_name'), labels.get('key_id_hash')];
    if (provider === undefined || hash === undefined) continue;
    const known = found.get(provider);
    if (known === undefined || known.at < value) found.set(provider, { hash, at: value });
  }
  return found;
}

/**
 * Values written since the server's start under a local key of this name, from
 * `apiserver_storage_transformation_operations_total` (keys are counted as `NAME:`, beside their provider's prefix).
 */
export function writesUnder(metrics: string, keyName: string): number {
  let writes = 0;
  for (const { labels, value } of seriesOf(metrics, 'apiserver_storage_transformation_operations_total')) {
    const written = labels.get('transformation_type') === 'to_storage' && labels.get('status') === 'OK';
    if (written && labels.get('transformer_prefix') === `${keyName}:`) writes += value;
  }
  return writes;
}

/** When the server's process started, by its own clock; undefined where it does not tell. */
export function processStart(metrics: string): Date | undefined {
  const [, seconds] = /^process_start_time_seconds\s+(\S+)/m.exec(metrics) ?? [];
  return seconds === undefined || Number.isNaN(Number(seconds))
    ? undefined
    : new Date(Number(seconds) * 1000);
}

interface Series {
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** Prometheus' text form. Neither key ids' hashes nor names of keys and providers hold a quote or a backslash. */
function* seriesOf(metrics: string, name: string): Generator<Series> {
  for (const line of metrics.split('\n')) {
    if (!line.startsWith(`${name}{`)) continue;
    const [, inner = '', number = ''] = /^[^{]*\{(.*)\}\s+(\S+)/.exec(line) ?? [];
    const labels = new Map(
      [...inner.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value] as const),
    );
    const value = Number(number);
    if (!Number.isNaN(value)) yield { labels, value };
  }
}
