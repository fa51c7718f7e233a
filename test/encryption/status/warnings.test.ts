/** What `status` says of keys that want a rotation, though all is as it should be. */
import { expect, test } from 'vitest';
import { warningsOf } from '../../../src/encryption/status/warnings.ts';
import { parseProviderFile } from '../../../src/encryption/configuration.ts';
import { node, sight, state, stored } from '../sights.ts';

const day = 86_400_000;
const of = (seen = sight([node('n1', 'a,identity')]), maxAge?: number) =>
  warningsOf(seen.nodes[0]?.file ?? { entries: [] }, state('a,identity').tsrke, seen, maxAge);

test('without max_key_age no key is due', () => {
  expect(of()).toEqual([]);
  expect(of(undefined, 0)).toEqual([]);
});

test('a key older than max_key_age is due, as is one whose age nobody knows', () => {
  const { time } = sight([]);
  const later = { ...sight([node('n1', 'a,identity')]), time: new Date(time.getTime() + 400 * day) };
  expect(of(later, 90 * day)).toEqual([
    { kind: 'key-due', text: expect.stringMatching(/^aescbc:a is due: it is \d+ days old; run /) as string },
  ]);
  expect(
    warningsOf(node('n1', 'b,identity').file ?? { entries: [] }, state('a,identity').tsrke, later, day),
  ).toEqual([
    { kind: 'key-due', text: 'aescbc:b is due: nobody knows how old it is; run `tsrke encrypt rotate-key`' },
  ]);
});

test('AES-GCM: writes since each server’s start, or what etcd holds, whichever is more', () => {
  const secret = Buffer.alloc(32, 7).toString('base64');
  const gcm = parseProviderFile(
    JSON.stringify({
      apiVersion: 'apiserver.config.k8s.io/v1',
      kind: 'EncryptionConfiguration',
      resources: [
        {
          resources: ['secrets'],
          providers: [{ aesgcm: { keys: [{ name: 'g', secret }] } }, { identity: {} }],
        },
      ],
    }),
    'it',
  );
  const metrics = (writes: number, start: Date) =>
    [
      `apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="g:"} ${writes}`,
      `process_start_time_seconds ${start.getTime() / 1000}`,
    ].join('\n');
  const seen = (writes: number) => {
    const { time } = sight([]);
    const text = metrics(writes, new Date(time.getTime() - day));
    return sight([
      node('n1', '', { file: gcm, metrics: text }),
      node('n2', '', { file: gcm, metrics: text }),
    ]);
  };
  const tsrke = { keyRing: [] };
  expect(warningsOf(gcm, tsrke, seen(40_000), undefined)).toEqual([]);
  expect(warningsOf(gcm, tsrke, seen(60_000), undefined)).toEqual([
    {
      kind: 'writes-near-limit',
      text: expect.stringMatching(/^about 120000 values .* under aesgcm:g/) as string,
    },
  ]);
  const many = stored({ a: 150_000 });
  if ('unavailable' in many) throw new Error('no census');
  const holdings = many.holdings.map((each) => ({ ...each, provider: 'aesgcm' as const, name: 'g' }));
  expect(warningsOf(gcm, tsrke, { ...seen(1), stored: { ...many, holdings } }, undefined)).toHaveLength(1);
});
