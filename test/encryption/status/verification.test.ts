/** Given two looks and what was read in between ⇒ what is proved, and what is found. */
import { expect, test } from 'vitest';
import { renderProviderFile, type ProviderFile } from '../../../src/encryption/configuration.ts';
import type { Sight } from '../../../src/encryption/status/sight.ts';
import {
  proofOf,
  type Proof,
  type ProofRequest,
  type Reading,
} from '../../../src/encryption/status/verification.ts';
import { hashOf } from '../../../src/encryption/kms/renewal.ts';
import { Secret } from '../../../src/encryption/key.ts';
import type { Wanted } from '../../../src/encryption/wanted.ts';
import { parseState, type ClusterState } from '../../../src/state/rkestate.ts';
import { key } from '../samples.ts';
import { inForce, node, rotation, sight, state, stored, three } from '../sights.ts';

const on: Wanted = { kind: 'managed', provider: 'aescbc', resources: ['secrets'] };
const good = sight(three('a,identity'));

function reading(name: string, more: Partial<Reading> = {}): Reading {
  return { node: name, resource: 'secrets', read: 5, gone: 0, failures: [], silent: undefined, ...more };
}
const all = ['n3', 'n1', 'n2'].map((name) => reading(name));
const failure = {
  kind: 'unreadable',
  reason: 'no matching key',
  count: 2,
  samples: ['ns/a', 'ns/b'],
} as const;

/** The ring's keys are fingerprints, as in a copy of the state that may not carry them. */
function withoutKeys(given: ClusterState): ClusterState {
  const keyRing = given.tsrke.keyRing.map((each) => {
    return { ...each, secret: new Secret(`sha256:${each.secret.fingerprint}`) };
  });
  return { document: {}, tsrke: { ...given.tsrke, keyRing } };
}

const kms: Sight['stored'] = {
  total: 20,
  at: [{ clusterId: '1', revision: 7n }],
  holdings: ['kek-1', 'kek-2'].map((kmsKeyId, at) => ({
    ...{ resource: 'secrets', provider: 'kms2', name: 'vault', id: 'kms2:vault', kmsKeyId, refused: 0 },
    ...{ count: at + 3, samples: ['ns/a'] },
  })),
};
const kmsFile: ProviderFile = {
  entries: [
    {
      resources: ['secrets'],
      providers: [{ kind: 'kms', apiVersion: 'v2', name: 'vault', endpoint: 'unix:///s' }],
    },
  ],
};

interface Row extends Partial<Omit<ProofRequest, 'wanted'>> {
  readonly given: string;
  readonly both?: Sight;
  /** At both looks. */
  readonly known?: ClusterState;
  /** `kind` or `kind node`. */
  readonly findings: readonly string[];
  readonly has?: (proof: Proof) => void;
}

const rows: readonly Row[] = [
  {
    given: 'nothing amiss',
    findings: [],
    has: ({ readings, begun, ended }) => {
      expect(readings.map(({ node: name }) => name)).toEqual(['n1', 'n2', 'n3']);
      expect(readings[0]).toEqual({ node: 'n1', resource: 'secrets', read: 5, gone: 0, failed: 0 });
      expect([begun, ended]).toEqual(['2026-11-25T12:00:00.000Z', '2026-11-25T12:00:00.000Z']);
    },
  },
  {
    given: 'the same trouble at both looks, in other figures: told once, as it was last',
    first: sight(three('a,identity'), { stored: stored({ a: 3, identity: 2 }) }),
    again: sight(three('a,identity'), { stored: stored({ a: 3, identity: 4 }) }),
    findings: ['plaintext'],
    has: ({ findings }) => expect(findings[0]).toMatchObject({ resource: 'secrets', count: 4 }),
  },
  {
    given: 'a trouble of the first look that was over at the last',
    first: sight(three('a,identity', node('n3', 'a,identity', { readiness: undefined }))),
    findings: ['node-not-ready n3', 'changed-meanwhile n3'],
  },
  {
    given: 'a node that was started anew in between',
    first: sight(
      three(
        'a,identity',
        node('n3', 'a,identity', {
          container: {
            ...{ running: true, startedAt: '2026-11-25T10:00:00Z', args: [], image: '', hostname: 'n3' },
            ...{ binds: [], interrupted: false },
          },
        }),
      ),
    ),
    findings: ['changed-meanwhile n3'],
    has: ({ findings }) => expect(findings[0]?.next).toMatch(/`tsrke encrypt verify` again/),
  },
  {
    given: 'another etcd at the end',
    again: {
      ...good,
      stored: { ...stored({ a: 5 }), at: [{ clusterId: '2', revision: 9n }] },
    },
    findings: ['changed-meanwhile'],
  },
  {
    given: 'a state that another run has written in between',
    stateAgain: { ...inForce, tsrke: { ...inForce.tsrke, serial: 4 } },
    again: { ...good, atWork: 'process 7 on ci' },
    findings: ['changed-meanwhile'],
    has: ({ findings }) =>
      expect(findings[0]?.next).toBe('wait for the run that is at work: process 7 on ci'),
  },
  {
    given: 'a server before 1.34 that tsrke has not started on a cluster that it never changed',
    both: sight(three('a,identity', node('n3', 'a,identity', { loaded: 'unknown' }))),
    known: { ...inForce, tsrke: { ...inForce.tsrke, serial: 0 } },
    findings: ['load-not-shown n3'],
    has: ({ findings }) => expect(findings[0]?.next).toMatch(/`tsrke encrypt rotate-key`/),
  },
  {
    given: 'the same on a cluster that it has changed: that is one finding',
    both: sight(three('a,identity', node('n3', 'a,identity', { loaded: 'unknown' }))),
    findings: ['node-not-in-step n3'],
  },
  {
    given: 'a key that a node reads with and the state does not know',
    both: sight(three('a,identity', node('n3', 'a,x,identity'))),
    findings: ['node-not-in-step n3', 'key-not-recorded'],
    has: ({ findings }) => {
      expect(findings[1]?.text).toMatch(/^the state does not hold aescbc:x#[0-9a-f]{12}, which n3 has$/);
      expect(findings[1]?.next).toMatch(/`tsrke up` takes it into the key ring/);
    },
  },
  {
    given: 'a key that is only in the file of the state, as RKE leaves it',
    known: state('a,identity', undefined, []),
    findings: [],
  },
  {
    given: 'a state that holds only fingerprints',
    known: withoutKeys(inForce),
    findings: ['transition-open', 'key-not-recorded'],
    has: ({ findings }) => expect(findings.at(-1)?.text).toMatch(/aescbc:a#\w+, which n1, n2, n3 has$/),
  },
  {
    given: 'a key of the open change that is not in the ring yet',
    both: sight(three('a,b,identity')),
    known: state('a,identity', rotation, ['a']),
    findings: [...['n1', 'n2', 'n3'].map((name) => `node-not-in-step ${name}`), 'transition-open'],
    has: ({ findings }) => expect(findings[3]?.text).toMatch(/; the next phase is: write$/),
  },
  {
    given: 'objects that one server cannot decrypt',
    readings: [reading('n1'), reading('n2', { read: 3, failures: [failure] }), reading('n3')],
    findings: ['object-unreadable n2'],
    has: ({ findings, readings }) => {
      expect(findings[0]).toMatchObject({ resource: 'secrets', count: 2, samples: ['ns/a', 'ns/b'] });
      expect(findings[0]?.text).toBe('cannot decrypt 2 secrets (e.g. ns/a, ns/b): no matching key');
      expect(readings[1]).toMatchObject({ node: 'n2', read: 3, failed: 2 });
    },
  },
  {
    given: 'objects that one refuses, does not see, and one that falls silent',
    readings: [
      reading('n1', { failures: [{ ...failure, kind: 'refused' }] }),
      reading('n2', { failures: [{ ...failure, kind: 'unseen' }] }),
      reading('n3', { silent: 'it did not answer' }),
    ],
    findings: ['object-refused n1', 'object-unseen n2', 'server-silent n3'],
  },
  {
    given: 'a kind that no API serves any more',
    unserved: [{ resource: 'widgets.example.com', count: 3 }],
    findings: ['resource-unserved'],
    has: ({ findings }) => expect(findings[0]).toMatchObject({ resource: 'widgets.example.com', count: 3 }),
  },
];

const told = ({ findings }: Proof) =>
  findings.map(({ kind, node: name }) => (name === undefined ? kind : `${kind} ${name}`));

test.each(rows)('$given', ({ given: _, both = good, known = inForce, findings, has, ...row }) => {
  const proof = proofOf({
    ...{ first: both, again: both, state: known, stateAgain: known },
    ...{ wanted: on, readings: all, unserved: [] },
    ...row,
  });
  expect(told(proof)).toEqual(findings);
  expect(proof.proved).toBe(findings.length === 0);
  for (const { text, next } of proof.findings) expect([text, next]).not.toContain('');
  has?.(proof);
  for (const name of ['a', 'b', 'x']) expect(JSON.stringify(proof)).not.toContain(key(name).secret.reveal());
});

test('values under an older key of the KMS than the servers have by now', () => {
  const half = { encryptionConfig: renderProviderFile(kmsFile) };
  const asked = {
    apiVersion: 'apiserver.config.k8s.io/v1',
    kind: 'EncryptionConfiguration',
    resources: [
      {
        resources: ['secrets'],
        providers: [{ kms: { apiVersion: 'v2', name: 'vault', endpoint: 'unix:///s' } }],
      },
    ],
  };
  const known = parseState(JSON.stringify({ desiredState: half, currentState: half }), 'it');
  const metrics =
    'apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds' +
    `{apiserver_id_hash="x",key_id_hash="${hashOf('kek-2')}",provider_name="vault"} 1.7e+09`;
  const seen = sight(
    three('a,identity').map((each) => ({ ...each, file: kmsFile, metrics })),
    { stored: kms },
  );
  const proof = proofOf({
    ...{ first: seen, again: seen, state: known, stateAgain: known, readings: all, unserved: [] },
    wanted: { kind: 'custom', text: JSON.stringify(asked) },
  });
  expect(proof.census).toMatchObject({
    resources: [
      { provider: 'kms2', name: 'vault', kmsKeyId: 'kek-1', count: 3, asWanted: true },
      { provider: 'kms2', name: 'vault', kmsKeyId: 'kek-2', count: 4, asWanted: true },
    ],
  });
  expect(proof.findings).toMatchObject([{ kind: 'former-kms-key', resource: 'secrets', count: 3 }]);
  expect(proof.findings[0]?.text).toContain('kek-1 of kms2:vault, and n1, n2, n3 has');
});
