import { describe, expect, test } from 'vitest';
import {
  loadedHashOf,
  metricsOf,
  processStart,
  reloadsIn,
  seenKeyIds,
  writesUnder,
} from '../../src/kube/metrics.ts';
import type { KubeApi, KubeRequest, KubeResponse } from '../../src/ports.ts';

const { signal } = new AbortController();

function kubeOf(handler: (request: KubeRequest) => Partial<KubeResponse>): KubeApi {
  return {
    request: (_, request) => Promise.resolve({ status: 200, headers: {}, text: '', ...handler(request) }),
  };
}

describe('the loaded hash', () => {
  const hash = 'ab'.repeat(32);
  const name = 'apiserver_encryption_config_controller_last_config_info';
  const series = `${name}{apiserver_id_hash="sha256:${'00'.repeat(32)}",hash="sha256:${hash}"}`;

  test.each([
    { $: 'in the midst', text: `a 1\n# HELP ${name} x\n# TYPE ${name} gauge\n${series} 1\nb 2\n`, is: hash },
    { $: 'as the first line', text: `${series} 1\n`, is: hash },
    { $: 'of an older file beside it', text: `${series.replaceAll('ab', 'cd')} 0\n${series} 1\n`, is: hash },
    { $: 'not exported', text: 'a 1\nb 2\n', is: undefined },
    { $: 'of another metric', text: `other_${series} 1\n`, is: undefined },
  ])('is read: $$', ({ text, is }) => {
    expect(loadedHashOf(text)).toBe(is);
  });

  test('is asked of the server itself', async () => {
    const kube = kubeOf(({ path }) => ({ text: path === '/metrics' ? `${series} 1\n` : '' }));
    expect(loadedHashOf((await metricsOf(kube, 'cp-1', signal)).text)).toBe(hash);
  });

  test('a server that refuses its metrics is an error', async () => {
    await expect(
      metricsOf(
        kubeOf(() => ({ status: 403 })),
        'cp-1',
        signal,
      ),
    ).rejects.toMatchObject({ code: 'KUBE' });
  });
});

describe('reloads', () => {
  const now = new Date('2031-05-05T12:00:00Z');
  const at = now.getTime() / 1000 - 7;
  const name = 'apiserver_encryption_config_controller_automatic_reload';

  test.each([
    {
      $: 'as of 1.30',
      text: `${name}s_total{apiserver_id_hash="x",status="success"} 3\n${name}s_total{apiserver_id_hash="x",status="failure"} 2\n${name}_last_timestamp_seconds{apiserver_id_hash="x",status="success"} ${at}\n${name}_last_timestamp_seconds{apiserver_id_hash="x",status="failure"} ${at + 6}\n`,
    },
    {
      $: 'in 1.28',
      text: `${name}_success_total 3\n${name}_failures_total 2\n${name}_last_timestamp_seconds{status="success"} ${at}\n`,
    },
  ])('$$', ({ text }) => {
    expect(reloadsIn(text, now)).toEqual({ success: 3, failure: 2, since: 7_000 });
  });

  test('before the first one nothing is exported', () => {
    expect(reloadsIn('a 1\n', now)).toEqual({ success: 0, failure: 0, since: Infinity });
  });
});

/** As kube-apiserver 1.34 prints them. */
const metrics = `# HELP apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds [ALPHA] The last time in seconds when a keyID was returned by the Status RPC call.
# TYPE apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds gauge
apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{apiserver_id_hash="sha256:aa",key_id_hash="sha256:01",provider_name="vault"} 1.764075600123e+09
apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{apiserver_id_hash="sha256:aa",key_id_hash="sha256:02",provider_name="vault"} 1.764075660456e+09
apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{key_id_hash="sha256:03",provider_name="other"} 1.7640756e+09
apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="from_storage",transformer_prefix="k-1:"} 900
apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="k-1:"} 40
apiserver_storage_transformation_operations_total{resource="configmaps",status="OK",transformation_type="to_storage",transformer_prefix="k-1:"} 2
apiserver_storage_transformation_operations_total{resource="secrets",status="Internal",transformation_type="to_storage",transformer_prefix="k-1:"} 7
apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="k8s:enc:aesgcm:v1:"} 42
process_start_time_seconds 1.76407000012e+09
`;

test('the key id that Status told last counts, for each provider', () => {
  expect([...seenKeyIds(metrics)]).toEqual([
    ['vault', { hash: 'sha256:02', at: 1764075660.456 }],
    ['other', { hash: 'sha256:03', at: 1764075600 }],
  ]);
  expect(seenKeyIds('# nothing\n').size).toBe(0);
});

test('what was written under a key, of all resources, and since when', () => {
  expect(writesUnder(metrics, 'k-1')).toBe(42);
  expect(writesUnder(metrics, 'k')).toBe(0);
  expect(processStart(metrics)?.toISOString()).toBe('2025-11-25T11:26:40.120Z');
  expect(processStart('')).toBeUndefined();
});
