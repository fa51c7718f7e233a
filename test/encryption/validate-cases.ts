/**
 * Invalid and odd provider files, with the verdict and the words of each Kubernetes version. test/encryption checks
 * ours against them, test/oracle checks kube-apiserver's own code.
 */

type Stage = 'accepted' | 'parsing' | 'decoding' | 'building' | 'loading';

export interface Case {
  readonly name: string;
  readonly text: string;
  readonly reload?: boolean;
  /** --feature-gates=KMSv1=…, KMSv2=…; default as the version has them. */
  readonly kmsV1?: boolean;
  readonly kmsV2?: boolean;
  /** From this minor version on: at which stage the server stops, and with which words. */
  readonly says: readonly (readonly [from: number, stage: Stage, words?: string])[];
  /** We do not read it, though the server does. */
  readonly stricter?: true;
}

export const nodeFile = '/etc/kubernetes/ssl/encryption.yaml';

/** The whole of what kube-apiserver 1.`minor` prints; undefined where it starts. */
export function expected({ says }: Case, minor: number): string | undefined {
  const [, stage, words = ''] = says.findLast(([from]) => from <= minor) ?? [0, 'accepted'];
  const old = minor < 26 ? `error while parsing encryption provider configuration file "${nodeFile}": ` : '';
  const decoding = minor < 27 ? '' : `error decoding encryption provider configuration file "${nodeFile}": `;
  switch (stage) {
    case 'accepted':
      return undefined;
    case 'loading':
      return `${old}error while parsing file: ${minor < 29 ? '' : 'error while loading file: '}${words}`;
    case 'parsing':
      return `${old}error while parsing file: ${words}`;
    case 'decoding':
      return `${old}error while parsing file: ${decoding}${words}`;
    case 'building':
      return `${minor < 26 ? old : 'error while building transformers: '}${words}`;
  }
}

const key = 'kx0Zr3mUq1oV5tYw8bDfGhJkLpNcQeSgTiWlXyZaBcE=';
const key16 = 'kx0Zr3mUq1oV5tYw8bDfGg==';
const head = 'apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n';
const good = `{aescbc: {keys: [{name: k-1, secret: ${key}}]}}`;

/** One entry, in flow style: lists of resources and of providers as they stand in YAML. */
function entry(providers: string, resources = 'secrets'): string {
  return `${head}resources:\n- resources: [${resources}]\n  providers: [${providers}]\n`;
}

function aescbc(keys: string): string {
  return entry(`{aescbc: {keys: [${keys}]}}`);
}

function kms(fields: string): string {
  return entry(`{kms: {${fields}}}`);
}

const v2 = 'apiVersion: v2, name: vault, endpoint: "unix:///run/kms.sock"';
const v1 = 'apiVersion: v1, name: vault, endpoint: "unix:///run/kms.sock"';
const p0 = 'resources[0].providers[0]';
const kmsV1Refused =
  'KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.';
const kmsV2Off = 'could not configure KMSv2 plugin "vault", KMSv2 feature is not enabled';
const overlap =
  "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
const twice = 'the same resource cannot be specified multiple times';
const noProvider =
  'provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity';
const twoProviders =
  'more than one provider specified in a single element, should split into different list elements';
const noKey = 'Required value: at least one keys is required';
const findKind =
  'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }';
const scheme = 'in scheme "k8s.io/apiserver/pkg/server/options/encryptionconfig/config.go"';

/** The same words at every version. */
function always(stage: Stage, words?: string): Case['says'] {
  return [words === undefined ? [24, stage] : [24, stage, words]];
}

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

export const cases: readonly Case[] = [
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
