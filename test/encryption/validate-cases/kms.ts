/** KMS providers, v1 and v2. */
import { head, kms, p0, always, type Case } from './builders.ts';

const v2 = 'apiVersion: v2, name: vault, endpoint: "unix:///run/kms.sock"';

const v1 = 'apiVersion: v1, name: vault, endpoint: "unix:///run/kms.sock"';

const kmsV1Refused =
  'KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.';

const kmsV2Off = 'could not configure KMSv2 plugin "vault", KMSv2 feature is not enabled';

/** An element of a KMS v2 provider that each version from 1.25 on refuses; 1.24 knows no v2, and takes it as v1. */
function badV2(what: string, fields: string, words: string, before?: Case['says'][number]): Case {
  return {
    name: what,
    text: kms(fields),
    kmsV2: true,
    kmsV1: true,
    says: [before ?? [24, 'accepted'], [25, 'parsing', words]],
  };
}

/** Endpoint, timeout or the like: the same at every version. */
function badKms(what: string, fields: string, path: string, words: string): Case {
  return {
    name: what,
    text: kms(fields),
    kmsV1: true,
    kmsV2: true,
    says: always('parsing', `${p0}.kms.${path}: ${words}`),
  };
}

function endpoint(text: string, words: string): Case {
  return badKms(
    `the endpoint ${JSON.stringify(text)}`,
    `name: vault, endpoint: ${JSON.stringify(text)}`,
    'endpoint',
    `Invalid value: ${JSON.stringify(text)}: ${words}`,
  );
}

export const ofKms: readonly Case[] = [
  // KMS
  {
    name: "RKE's example of a KMS plugin",
    text: `${head}resources:
- resources:
  - secrets
  providers:
  - kms:
      name: aws-encryption-provider
      endpoint: unix:///var/run/kmsplugin/socket.sock
      cachesize: 1000
      timeout: 3s
  - identity: {}
`,
    says: [
      [24, 'accepted'],
      [29, 'building', kmsV1Refused],
    ],
  },
  { name: 'KMS v1 with its gate', text: kms(v1), kmsV1: true, says: always('accepted') },
  {
    name: 'KMS v1 with its gate off',
    text: kms(v1),
    kmsV1: false,
    says: [
      [24, 'accepted'],
      [28, 'building', kmsV1Refused],
    ],
  },
  {
    name: 'KMS v2',
    text: kms(v2),
    says: [
      [24, 'accepted'],
      [25, 'building', kmsV2Off],
      [27, 'accepted'],
    ],
  },
  { name: 'KMS v2 with its gate', text: kms(v2), kmsV2: true, says: always('accepted') },
  {
    name: 'KMS v2 with its gate off',
    text: kms(v2),
    kmsV2: false,
    says: [
      [24, 'accepted'],
      [25, 'building', kmsV2Off],
      [29, 'accepted'],
    ],
  },
  {
    name: 'a KMS element without anything',
    text: kms(''),
    says: always(
      'parsing',
      `[${p0}.kms.name: Required value: name is a mandatory field for a provider, ${p0}.kms.endpoint: Invalid value: "": endpoint is a mandatory field for a kms]`,
    ),
  },
  badV2(
    'a KMS v2 name with a colon',
    v2.replace('vault', '"a:b"'),
    `${p0}.kms.name: Invalid value: "a:b": invalid KMS provider name a:b, must not contain ':'`,
  ),
  {
    name: 'a KMS v1 name with a colon',
    text: kms(v1.replace('vault', '"a:b"')),
    kmsV1: true,
    says: always('accepted'),
  },
  badV2(
    'KMS v3',
    v2.replace('v2', 'v3'),
    `${p0}.kms.apiVersion: Invalid value: "v3": unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported`,
  ),
  {
    name: 'a cachesize for KMS v2',
    text: kms(`${v2}, cachesize: 50`),
    kmsV2: true,
    says: [
      [24, 'accepted'],
      [27, 'parsing', `${p0}.kms.cachesize: Invalid value: 50: cachesize is not supported in v2`],
    ],
  },
  badKms(
    'a cachesize of 0',
    `${v1}, cachesize: 0`,
    'cachesize',
    'Invalid value: 0: cachesize should be a positive value, or negative to disable',
  ),
  { name: 'a cachesize below 0', text: kms(`${v1}, cachesize: -1`), kmsV1: true, says: always('accepted') },
  {
    name: 'a timeout of 0',
    text: kms(`${v1}, timeout: 0s`),
    kmsV1: true,
    says: [
      [
        24,
        'parsing',
        `${p0}.kms.timeout: Invalid value: v1.Duration{Duration:0}: timeout should be a positive value`,
      ],
      [34, 'parsing', `${p0}.kms.timeout: Invalid value: "0s": timeout should be a positive value`],
    ],
  },
  {
    name: 'a timeout below 0',
    text: kms(`${v1}, timeout: -1m30.5s`),
    kmsV1: true,
    says: [
      [
        24,
        'parsing',
        `${p0}.kms.timeout: Invalid value: v1.Duration{Duration:-90500000000}: timeout should be a positive value`,
      ],
      [34, 'parsing', `${p0}.kms.timeout: Invalid value: "-1m30.5s": timeout should be a positive value`],
    ],
  },
  endpoint('http://localhost:8080', 'unsupported scheme "http" for KMS provider, only unix is supported'),
  endpoint('/run/kms.sock', 'unsupported scheme "" for KMS provider, only unix is supported'),
  endpoint(
    'unix:///run/%zz',
    'invalid endpoint for kms provider, error: parse "unix:///run/%zz": invalid URL escape "%zz"',
  ),
  endpoint(':run', 'invalid endpoint for kms provider, error: parse ":run": missing protocol scheme'),
  {
    name: 'an abstract socket',
    text: kms(v2.replace('/run/kms.sock', '/@kms')),
    kmsV2: true,
    says: always('accepted'),
  },
  {
    name: 'one KMS v2 name in two entries',
    text: `${kms(v2)}- resources: [pods]\n  providers: [{kms: {${v2}}}]\n`,
    kmsV2: true,
    says: [
      [24, 'accepted'],
      [
        26,
        'parsing',
        'resources[1].providers[0].kms.name: Invalid value: "vault": duplicate KMS provider name vault, names must be unique',
      ],
    ],
  },
  {
    name: 'one KMS v1 name in two entries',
    text: `${kms(v1)}- resources: [pods]\n  providers: [{kms: {${v1}}}]\n`,
    kmsV1: true,
    says: always('accepted'),
  },
  {
    name: 'one KMS v1 name in two entries, with automatic reload',
    text: `${kms(v1)}- resources: [pods]\n  providers: [{kms: {${v1}}}]\n`,
    kmsV1: true,
    reload: true,
    says: [
      [24, 'accepted'],
      [
        26,
        'parsing',
        'resources[1].providers[0].kms.name: Invalid value: "vault": duplicate KMS provider name vault, names must be unique',
      ],
    ],
  },
];
