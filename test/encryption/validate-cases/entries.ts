/** Entries, resources, provider elements and local keys. */
import { key, key16, head, good, entry, aescbc, p0, noProvider, always, type Case } from './builders.ts';

const overlap =
  "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";

const twice = 'the same resource cannot be specified multiple times';

const twoProviders =
  'more than one provider specified in a single element, should split into different list elements';

const noKey = 'Required value: at least one keys is required';

/** What `%#v` prints up to 1.33, and JSON from 1.34. */
function listed(names: readonly string[], words: string): Case['says'] {
  const go = `[]string{${names.map((name) => JSON.stringify(name)).join(', ')}}`;
  return [
    [24, 'accepted'],
    [27, 'parsing', `resources[0].resources: Invalid value: ${go}: ${words}`],
    [34, 'parsing', `resources[0].resources: Invalid value: ${JSON.stringify(names)}: ${words}`],
  ];
}

/** Refused from 1.27 on, when the names of resources began to be checked. */
function name(text: string, words: string): Case {
  return {
    name: `the resource ${text}`,
    text: entry(good, JSON.stringify(text)),
    says: [
      [24, 'accepted'],
      [27, 'parsing', `resources[0].resources[0]: Invalid value: "${text}": ${words}`],
    ],
  };
}

export const ofEntries: readonly Case[] = [
  // Entries and resources
  {
    name: 'no resources at all',
    text: head,
    says: always('parsing', 'resources: Required value: at least one resources is required'),
  },
  {
    name: 'an empty entry',
    text: `${head}resources: [{}]\n`,
    says: always(
      'parsing',
      '[resources[0].resources: Required value: at least one resources[0].resources is required, resources[0].providers: Required value: at least one resources[0].providers is required]',
    ),
  },
  {
    name: 'an entry that is null',
    text: `${entry(good)}-\n`,
    says: always(
      'parsing',
      '[resources[1].resources: Required value: at least one resources[1].resources is required, resources[1].providers: Required value: at least one resources[1].providers is required]',
    ),
  },
  {
    name: 'a resource twice',
    text: entry(good, 'secrets, secrets'),
    says: listed(['secrets', 'secrets'], twice),
  },
  {
    name: 'a wildcard beside what it covers',
    text: entry(good, '"*.", secrets'),
    says: listed(['*.', 'secrets'], overlap),
  },
  {
    name: 'everything beside something',
    text: entry(good, 'secrets, "*.*"'),
    says: listed(['secrets', '*.*'], overlap),
  },
  {
    name: 'a wildcard twice',
    text: entry(good, '"*.apps", "*.apps"'),
    says: [
      [24, 'accepted'],
      [
        27,
        'parsing',
        `[resources[0].resources: Invalid value: []string{"*.apps", "*.apps"}: ${twice}, resources[0].resources: Invalid value: []string{"*.apps", "*.apps"}: ${overlap}]`,
      ],
      [
        34,
        'parsing',
        `[resources[0].resources: Invalid value: ["*.apps","*.apps"]: ${twice}, resources[0].resources: Invalid value: ["*.apps","*.apps"]: ${overlap}]`,
      ],
    ],
  },
  { name: 'wildcards of two groups', text: entry(good, '"*.apps", "*.batch"'), says: always('accepted') },
  name('Secrets', 'resource name should not contain capital letters'),
  name('*', "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"),
  name('serviceipallocations', 'resources which do not have REST API/s cannot be encrypted'),
  name('apiserveripinfo', 'resources which do not have REST API/s cannot be encrypted'),
  name(
    'events.events.k8s.io',
    "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
  ),
  name('*.extensions', "'extensions' group has been removed and cannot be used for encryption"),
  name('configmaps.*', 'encrypting the same resource across groups is not supported'),
  {
    name: 'a resource behind a wildcard that covers it',
    text: `${entry(good, '"*."')}- resources: [secrets]\n  providers: [{identity: {}}]\n`,
    says: [
      [24, 'accepted'],
      [27, 'building', 'resource "secrets" is masked by earlier rule "*."'],
    ],
  },
  {
    name: 'a group behind everything',
    text: `${entry(good, '"*.*"')}- resources: ["*.apps"]\n  providers: [{identity: {}}]\n`,
    says: [
      [24, 'accepted'],
      [27, 'building', 'resource "*.apps" is masked by earlier rule "*.*"'],
    ],
  },
  {
    name: 'specific before general',
    text: `${entry('{identity: {}}', 'events')}- resources: ["*.*"]\n  providers: [${good}]\n`,
    says: always('accepted'),
  },
  {
    name: 'the same resource in two entries',
    text: `${entry(good)}- resources: [secrets]\n  providers: [{identity: {}}]\n`,
    says: always('accepted'),
  },
  // Provider elements and keys
  {
    name: 'an element without a provider',
    text: entry('{}'),
    says: always('parsing', `${p0}: Invalid value: "REDACTED": ${noProvider}`),
  },
  {
    name: 'identity that is null',
    text: entry('{identity: }'),
    says: always('parsing', `${p0}: Invalid value: "REDACTED": ${noProvider}`),
  },
  {
    name: 'two providers in one element, whose keys the server prints',
    text: entry(`{aescbc: {keys: [{name: k-1, secret: ${key}}]}, identity: {}}`),
    says: always('parsing', `${p0}: Invalid value: "REDACTED": ${twoProviders}`),
  },
  {
    name: 'two in one element, and a mistake in the first that counts',
    text: entry('{secretbox: {keys: []}, aesgcm: {keys: [{name: a}]}}'),
    says: always(
      'parsing',
      `[${p0}: Invalid value: "REDACTED": ${twoProviders}, ${p0}.aesgcm.keys[0].secret: Required value: secret is a mandatory field for a key]`,
    ),
  },
  {
    name: 'no keys',
    text: entry('{secretbox: {}}'),
    says: always('parsing', `${p0}.secretbox.keys: ${noKey}`),
  },
  { name: 'an empty list of keys', text: aescbc(''), says: always('parsing', `${p0}.aescbc.keys: ${noKey}`) },
  {
    name: 'a key without anything',
    text: aescbc('{}'),
    says: always(
      'parsing',
      `[${p0}.aescbc.keys[0].name: Required value: name is a mandatory field for a key, ${p0}.aescbc.keys[0].secret: Required value: secret is a mandatory field for a key]`,
    ),
  },
  {
    name: 'a secret that is not base64',
    text: aescbc('{name: k-1, secret: "not base64!"}'),
    says: always(
      'parsing',
      `${p0}.aescbc.keys[0].secret: Invalid value: "REDACTED": secrets must be base64 encoded`,
    ),
  },
  {
    name: 'base64 for URLs',
    text: aescbc(`{name: k-1, secret: "${key.replace('=', '').replace('x', '-')}="}`),
    says: always(
      'parsing',
      `${p0}.aescbc.keys[0].secret: Invalid value: "REDACTED": secrets must be base64 encoded`,
    ),
  },
  {
    name: 'base64 without its padding',
    text: aescbc(`{name: k-1, secret: ${key.slice(0, -1)}}`),
    says: always(
      'parsing',
      `${p0}.aescbc.keys[0].secret: Invalid value: "REDACTED": secrets must be base64 encoded`,
    ),
  },
  {
    name: 'base64 with a line end inside, as `base64` without -w0 makes it',
    text: aescbc(`{name: k-1, secret: "${key.slice(0, 20)}\\n${key.slice(20)}\\n"}`),
    says: always('accepted'),
  },
  {
    name: 'a key of 3 bytes',
    text: aescbc('{name: k-1, secret: AAAA}'),
    says: always(
      'parsing',
      `${p0}.aescbc.keys[0].secret: Invalid value: "REDACTED": secret is not of the expected length, got 3, expected one of [16 24 32]`,
    ),
  },
  { name: 'a key of 16 bytes', text: aescbc(`{name: k-1, secret: ${key16}}`), says: always('accepted') },
  {
    name: 'a key of 16 bytes for secretbox',
    text: entry(`{secretbox: {keys: [{name: k-1, secret: ${key16}}]}}`),
    says: always(
      'parsing',
      `${p0}.secretbox.keys[0].secret: Invalid value: "REDACTED": secret is not of the expected length, got 16, expected one of [32]`,
    ),
  },
  {
    name: 'the same mistake in two entries',
    text: `${aescbc('{name: k-1}')}- resources: [pods]\n  providers: [{aesgcm: {keys: [{name: k-1}]}}]\n`,
    says: always(
      'parsing',
      `[${p0}.aescbc.keys[0].secret: Required value: secret is a mandatory field for a key, resources[1].providers[0].aesgcm.keys[0].secret: Required value: secret is a mandatory field for a key]`,
    ),
  },
];
