/** Files as a whole: their head, what stands in them twice, values of a wrong type, YAML that means more than it looks. */
import {
  nodeFile,
  key,
  key16,
  head,
  good,
  entry,
  aescbc,
  kms,
  p0,
  noProvider,
  always,
  type Case,
} from './builders.ts';

const findKind =
  'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }';

const scheme = 'in scheme "k8s.io/apiserver/pkg/server/options/encryptionconfig/config.go"';

/** Fine where it is only dropped, fatal from 1.31 on. */
function stray(what: string, text: string, words: string): Case {
  return {
    name: what,
    text,
    says: [
      [24, 'accepted'],
      [31, 'decoding', `strict decoding error: ${words}`],
    ],
  };
}

export const ofFiles: readonly Case[] = [
  // The file as a whole
  { name: 'a good file', text: entry(`${good}, {identity: {}}`), says: always('accepted') },
  {
    name: 'the legacy header',
    text: entry(good).replace(head, 'apiVersion: v1\nkind: EncryptionConfig\n'),
    says: always('accepted'),
  },
  {
    name: 'JSON',
    text: JSON.stringify({
      kind: 'EncryptionConfiguration',
      apiVersion: 'apiserver.config.k8s.io/v1',
      resources: [{ resources: ['secrets'], providers: [{ identity: {} }] }],
    }),
    says: always('accepted'),
  },
  {
    name: 'an empty file',
    text: '',
    says: [
      [24, 'decoding', "Object 'Kind' is missing in '…'"],
      [26, 'loading', `encryption provider configuration file "${nodeFile}" is empty`],
    ],
  },
  { name: 'only a comment', text: '# later\n', says: always('decoding', "Object 'Kind' is missing in '…'") },
  {
    name: 'a key alone, which the server would print',
    text: `secret: ${key}\n`,
    says: always('decoding', "Object 'Kind' is missing in '…'"),
  },
  {
    name: 'no apiVersion',
    text: entry(good).replace(/^apiVersion.*\n/, ''),
    says: always('decoding', "Object 'apiVersion' is missing in '…'"),
  },
  {
    name: 'a word',
    text: 'secrets\n',
    says: always(
      'decoding',
      `couldn't get version/kind; json parse error: json: cannot unmarshal string into Go value of type ${findKind}`,
    ),
  },
  {
    name: 'a list',
    text: `- ${good}\n`,
    says: always(
      'decoding',
      `couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type ${findKind}`,
    ),
  },
  {
    name: 'a kind that is a number',
    text: entry(good).replace('EncryptionConfiguration', '5'),
    says: always(
      'decoding',
      "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string",
    ),
  },
  {
    name: 'another version',
    text: entry(good).replace('/v1', '/v1beta1'),
    says: always(
      'decoding',
      `no kind "EncryptionConfiguration" is registered for version "apiserver.config.k8s.io/v1beta1" ${scheme}`,
    ),
  },
  {
    name: 'the legacy kind under the new version',
    text: entry(good).replace('EncryptionConfiguration', 'EncryptionConfig'),
    says: always(
      'decoding',
      `no kind "EncryptionConfig" is registered for version "apiserver.config.k8s.io/v1" ${scheme}`,
    ),
  },
  {
    name: 'an apiVersion of three parts',
    text: entry(good).replace('apiserver.config.k8s.io/v1', 'a/b/c'),
    says: always('decoding', 'unexpected GroupVersion string: a/b/c'),
  },
  {
    name: 'YAML that stops in the middle',
    text: entry(good).slice(0, -10),
    says: always('decoding', 'not valid YAML at line 5'),
  },
  { name: 'a tab', text: `${head}\tresources: []\n`, says: always('decoding', 'not valid YAML at line 3') },
  {
    name: 'JSON that stops in the middle',
    text: '{"kind": "EncryptionConfiguration",\n"apiVersion": ',
    says: always('decoding', 'not valid JSON at line 2'),
  },
  {
    name: 'YAML that begins like JSON',
    text: '{kind: EncryptionConfiguration, apiVersion: apiserver.config.k8s.io/v1}\n',
    says: always('decoding', 'not valid JSON at line 1'),
  },
  {
    name: 'a list that goes on too far to the left',
    text: entry(good).replace('secrets]', 'secrets,\nconfigmaps]'),
    says: always('decoding', 'not valid YAML at line 5'),
    stricter: true,
  },
  {
    name: 'a second document',
    text: `${entry(good)}---\nkind: [\n`,
    says: always('accepted'),
  },
  // What is there twice, or not known
  stray(
    "RKE's doubled header",
    `${head}${entry(good)}`,
    'yaml: unmarshal errors:\n  line 3: key "apiVersion" already set in map\n  line 4: key "kind" already set in map',
  ),
  stray(
    'a field twice, in JSON',
    '{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":[{"resources":["pods"],"resources":["secrets"],"providers":[{"identity":{}}]}]}',
    'duplicate field "resources[0].resources"',
  ),
  stray('an unknown field on top', `${entry(good)}metadata: {name: x}\n`, 'unknown field "metadata"'),
  {
    ...stray(
      'cacheSize',
      kms('name: vault, endpoint: "unix:///run/kms.sock", cacheSize: 5'),
      'unknown field "resources[0].providers[0].kms.cacheSize"',
    ),
    kmsV1: true,
  },
  stray(
    'identity with something in it',
    entry('{identity: {a: 1, b: 2}}'),
    'unknown field "resources[0].providers[0].identity.a", unknown field "resources[0].providers[0].identity.b"',
  ),
  stray('a field of the wrong case', `${entry(good)}Resources: []\n`, 'unknown field "Resources"'),
  stray(
    'a key where a field should be',
    aescbc(`{name: k-1, secret: ${key}, "${key16}": x}`),
    `unknown field "${p0}.aescbc.keys[0].…"`,
  ),
  {
    name: 'a misspelt provider',
    text: entry('{aecbc: {keys: []}}'),
    says: [
      [24, 'parsing', `${p0}: Invalid value: "REDACTED": ${noProvider}`],
      [31, 'decoding', `strict decoding error: unknown field "${p0}.aecbc"`],
    ],
  },
  // Values of a wrong type
  {
    name: 'a key name that YAML takes for a boolean',
    text: aescbc(`{name: yes, secret: ${key}}`),
    says: always(
      'decoding',
      'json: cannot unmarshal bool into Go struct field Key.resources.providers.aescbc.keys.name of type string',
    ),
  },
  {
    name: 'a secret of digits',
    text: aescbc('{name: k-1, secret: 0123456789}'),
    says: always(
      'decoding',
      'json: cannot unmarshal number into Go struct field Key.resources.providers.aescbc.keys.secret of type string',
    ),
  },
  {
    name: 'resources that is a mapping',
    text: `${head}resources: {secrets: x}\n`,
    says: always(
      'decoding',
      'json: cannot unmarshal object into Go struct field EncryptionConfiguration.resources of type []v1.ResourceConfiguration',
    ),
  },
  {
    name: 'a resource without its list',
    text: `${head}resources:\n- resources: secrets\n  providers: [${good}]\n`,
    says: always(
      'decoding',
      'json: cannot unmarshal string into Go struct field ResourceConfiguration.resources.resources of type []string',
    ),
  },
  {
    name: 'identity that is a word',
    text: entry('{identity: x}'),
    says: always(
      'decoding',
      'json: cannot unmarshal string into Go struct field ProviderConfiguration.resources.providers.identity of type v1.IdentityConfiguration',
    ),
  },
  {
    name: 'a provider that is a word',
    text: entry('aescbc'),
    says: always(
      'decoding',
      'json: cannot unmarshal string into Go struct field ResourceConfiguration.resources.providers of type v1.ProviderConfiguration',
    ),
  },
  {
    name: 'a cachesize with a fraction',
    text: kms('name: vault, endpoint: "unix:///x", cachesize: 1.5'),
    says: always(
      'decoding',
      'json: cannot unmarshal number 1.5 into Go struct field KMSConfiguration.resources.providers.kms.cachesize of type int32',
    ),
  },
  {
    name: 'a timeout without its unit',
    text: kms('name: vault, endpoint: "unix:///x", timeout: "3"'),
    says: always('decoding', 'time: missing unit in duration "3"'),
  },
  {
    name: 'a timeout that is a number',
    text: kms('name: vault, endpoint: "unix:///x", timeout: 3'),
    says: always(
      'decoding',
      'json: cannot unmarshal number into Go struct field KMSConfiguration.resources.providers.kms.timeout of type string',
    ),
  },
  {
    name: 'a timeout in days',
    text: kms('name: vault, endpoint: "unix:///x", timeout: 1d'),
    says: always('decoding', 'time: unknown unit "d" in duration "1d"'),
  },
  // YAML that means more than it looks
  {
    name: 'anchors and a merge',
    text: `${head}resources:\n- &one\n  resources: [secrets]\n  providers: [${good}]\n- <<: *one\n  resources: [pods]\n`,
    says: [
      [24, 'accepted'],
      [
        31,
        'decoding',
        'strict decoding error: yaml: unmarshal errors:\n  line 8: key "resources" already set in map',
      ],
    ],
  },
  {
    name: 'a block of base64',
    text: `${head}resources:\n- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:\n      - name: k-1\n        secret: |\n          ${key}\n`,
    says: always('accepted'),
  },
  {
    name: 'a folded block that leaves a space in the key',
    text: `${head}resources:\n- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:\n      - name: k-1\n        secret: >\n          ${key.slice(0, 20)}\n          ${key.slice(20)}\n`,
    says: always(
      'parsing',
      `${p0}.aescbc.keys[0].secret: Invalid value: "REDACTED": secrets must be base64 encoded`,
    ),
  },
];
