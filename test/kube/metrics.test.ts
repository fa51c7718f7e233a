import { expect, test } from 'vitest';
import { processStart, seenKeyIds, writesUnder } from '../../src/kube/metrics.ts';

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
