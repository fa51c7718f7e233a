/** Provider files as people write them, and as they get broken: in YAML of several styles and in JSON. */
import fc from 'fast-check';

/** A value as YAML and as JSON writes it. */
interface Scalar {
  readonly yaml: string;
  readonly json: string;
}

type Entry = readonly [name: string, value: Node];
type Node = Scalar | { readonly items: readonly Node[] } | { readonly entries: readonly Entry[] };

function text(value: string): Scalar {
  const plain =
    /^[A-Za-z][A-Za-z0-9./-]*$/.test(value) && !/^(y|n|yes|no|on|off|true|false|null)$/i.test(value);
  return { yaml: plain ? value : JSON.stringify(value), json: JSON.stringify(value) };
}

function bare(yaml: string, json = yaml): Scalar {
  return { yaml, json };
}

/** What stands where something else belongs; the YAML forms are the ones that mean more than they look. */
const oddities: readonly Node[] = [
  ...['', ' ', 'x', 'a:b', '5', 'yes', 'ä "quoted" \\ \n', '<&>', '\u0001', 'a b'].map(text),
  ...['5', '-1', '0', '1.5', '1e3', '1000', 'true', 'null', '99999999999'].map((word) => bare(word)),
  bare('yes', 'true'),
  bare('Off', 'false'),
  bare('~', 'null'),
  bare('', 'null'),
  bare('0x10', '16'),
  bare('017', '15'),
  bare('0o17', '15'),
  bare('1_000', '1000'),
  bare('1.0', '1'),
  bare('.5', '0.5'),
  bare('2026-01-01', '"2026-01-01"'),
  bare("'it''s'", '"it\'s"'),
  bare('!!str 5', '"5"'),
  { items: [] },
  { items: [text('x')] },
  { items: [bare('null')] },
  { entries: [] },
  { entries: [['x', bare('1')]] },
];
const oddity = fc.constantFrom(...oddities);

function usually<T>(good: fc.Arbitrary<T>, bad: fc.Arbitrary<T>, weight = 150): fc.Arbitrary<T> {
  return fc.oneof({ weight, arbitrary: good }, { weight: 1, arbitrary: bad });
}

const names = [
  'secrets',
  'configmaps',
  'deployments.apps',
  'pandas.awesome.bears.example',
  '*.',
  '*.apps',
  '*.*',
];
const oddNames = [
  '*',
  'Secrets',
  'events.events.k8s.io',
  '*.extensions',
  'foo.*',
  'serviceipallocations',
  'secrets.',
  '',
];
const resourceName = usually<Node>(
  fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...names).map(text) },
    { weight: 1, arbitrary: fc.constantFrom(...oddNames).map(text) },
  ),
  oddity,
);

const secret = fc.oneof(
  {
    weight: 60,
    arbitrary: fc
      .uint8Array({ minLength: 32, maxLength: 32 })
      .map((bytes) => text(Buffer.from(bytes).toString('base64'))),
  },
  {
    weight: 2,
    arbitrary: fc.uint8Array({ maxLength: 33 }).map((bytes) => text(Buffer.from(bytes).toString('base64'))),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('AAAA', 'AAA=', 'AA==', 'A===', 'AAAA\n', 'AA-_', 'AAB=', ' AAAA').map(text),
  },
);

/** Some fields of a mapping, in any order, now and then with one too many, one twice, or one of a wrong kind. */
function mapping(
  fields: Readonly<Record<string, fc.Arbitrary<Node>>>,
  optional: readonly string[] = [],
): fc.Arbitrary<Node> {
  const entries = Object.entries(fields).map(([name, value]) => {
    const entry = usually(value, oddity).map((node) => [name, node] as const);
    const none = fc.constant(undefined);
    return optional.includes(name)
      ? fc.oneof(entry, none)
      : fc.oneof({ weight: 150, arbitrary: entry }, { weight: 1, arbitrary: none });
  });
  const strangers = fc.constantFrom(
    'foo',
    'Keys',
    'provider',
    'cacheSize',
    'x y',
    'yes',
    '5',
    'kind',
    'name',
  );
  const extra = fc.tuple(strangers, oddity).map((entry): readonly Entry[] => [entry]);
  const more = fc.oneof(
    { weight: 150, arbitrary: fc.constant<readonly Entry[] | 'twice'>([]) },
    { weight: 1, arbitrary: extra },
    { weight: 1, arbitrary: fc.constant('twice' as const) },
  );
  return fc.tuple(fc.tuple(...entries), more, fc.nat()).map(([all, more, turn]) => {
    const present: readonly Entry[] = all.filter((entry) => entry !== undefined);
    const at = present.length === 0 ? 0 : turn % present.length;
    const turned = turn % 3 === 0 ? [...present.slice(at), ...present.slice(0, at)] : present;
    if (more === 'twice') return { entries: [...turned, ...present.slice(at, at + 1)] };
    return { entries: turned.toSpliced(at, 0, ...more) };
  });
}

function list(item: fc.Arbitrary<Node>, maxLength: number): fc.Arbitrary<Node> {
  return fc.array(item, { minLength: 1, maxLength, size: 'max' }).map((items) => ({ items }));
}

const key = mapping({
  name: fc.constantFrom('a', 'b', 'c', 'k-1', 'k-2', 'k-3', 'k-4', 'k-5', '', 'a:b').map(text),
  secret,
});
const keys = mapping({ keys: list(key, 3) });
const endpoints = [
  'unix:///run/kms.sock',
  'unix:///@kms',
  'unix://',
  'unix:x',
  'UNIX:///x',
  'http://host:80/x',
  'x',
  ':x',
  '/x',
  'a b',
  '%zz',
  'unix:///%zz',
  'unix://a b/x',
  'unix://h:x/',
  'unix://[::1',
  'unix://[::1]:5/x',
  'unix://u:p@h/x',
  'unix://u @h/x',
  '1a:b',
  'unix:///x?a b',
  'unix:///x#%',
  'tcp:1',
  'a/b:c',
  '//x',
  '///x',
  'unix:///\u0001',
  'unix://h%41/x',
  'ä:b',
  'unix://ä/ö',
  'unix:///a\\b',
];
const timeouts = [
  '3s',
  '1ms',
  '0s',
  '-1s',
  '0',
  '',
  '3',
  '1.5h',
  '1h2m3.004s',
  '3x',
  '-',
  '.s',
  '1s ',
  '999999999h',
  '5µs',
  '-1.5ms',
  '1e3s',
  '+7ns',
  's',
];
const kms = mapping(
  {
    apiVersion: fc.constantFrom('v1', 'v2', 'v2', 'v2', 'v2', 'v2', 'v3', '').map(text),
    name: fc.constantFrom('plug', 'vault', 'kms-1', 'kms-2', 'kms-3', 'a:b', 'ä"', '').map(text),
    endpoint: usually(fc.constant('unix:///run/kms.sock'), fc.constantFrom(...endpoints), 5).map(text),
    timeout: usually(fc.constant('3s'), fc.constantFrom(...timeouts), 5).map(text),
    cachesize: fc.constantFrom('1000', '50', '-1', '5', '0', '1.0', '2147483648').map((word) => bare(word)),
  },
  ['apiVersion', 'timeout', 'cachesize'],
);
const kinds: Readonly<Record<string, fc.Arbitrary<Node>>> = {
  aescbc: keys,
  aesgcm: keys,
  secretbox: keys,
  kms,
  identity: fc.constant<Node>({ entries: [] }),
};
const element = fc
  .constantFrom(...Object.keys(kinds))
  .chain((name) => mapping({ [name]: kinds[name] ?? oddity }));
const twoInOne = mapping({ ...kinds }, Object.keys(kinds));
const entry = mapping({
  resources: list(resourceName, 3),
  providers: list(
    fc.oneof(
      { weight: 12, arbitrary: element },
      { weight: 1, arbitrary: twoInOne },
      { weight: 1, arbitrary: oddity },
    ),
    4,
  ),
});
const headers = fc.oneof(
  { weight: 20, arbitrary: fc.constant(['apiserver.config.k8s.io/v1', 'EncryptionConfiguration'] as const) },
  { weight: 3, arbitrary: fc.constant(['v1', 'EncryptionConfig'] as const) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ['v1', 'EncryptionConfiguration'] as const,
      ['apiserver.config.k8s.io/v1', 'EncryptionConfig'] as const,
      ['apiserver.config.k8s.io/v1beta9', 'EncryptionConfiguration'] as const,
      ['a/b/c', 'EncryptionConfiguration'] as const,
      ['/', 'EncryptionConfiguration'] as const,
      ['/v1', 'EncryptionConfig'] as const,
      ['apps/', 'Deployment'] as const,
    ),
  },
);
const document = headers.chain(([apiVersion, kind]) =>
  mapping({
    apiVersion: fc.constant(text(apiVersion)),
    kind: fc.constant(text(kind)),
    resources: list(entry, 3),
  }),
);

function toJson(node: Node): string {
  if ('json' in node) return node.json;
  if ('items' in node) return `[${node.items.map(toJson).join(', ')}]`;
  return `{${node.entries.map(([name, value]) => `${JSON.stringify(name)}: ${toJson(value)}`).join(', ')}}`;
}

function toFlow(node: Node): string {
  if ('yaml' in node) return node.yaml;
  if ('items' in node) return `[${node.items.map(toFlow).join(', ')}]`;
  return `{${node.entries.map(([name, value]) => `${name}: ${toFlow(value)}`).join(', ')}}`;
}

/** Block style, and flow style below this depth. Lists stand under their key or one step in, as people do both. */
function toYaml(node: Node, indent: string, depth: number, step: string): string {
  if ('yaml' in node) return ` ${node.yaml}`;
  const parts = 'items' in node ? node.items : node.entries;
  if (depth <= 0 || parts.length === 0) return ` ${toFlow(node)}`;
  if ('items' in node) {
    const items = node.items.map((item) => {
      const inner = toYaml(item, `${indent}  `, depth - 1, step);
      return `\n${indent}-${inner.startsWith('\n') ? inner.replace(/^\n\s*/, ' ') : inner}`;
    });
    return items.join('');
  }
  const entries = node.entries.map(([name, value]) => {
    const inner = 'items' in value && step === '  ' ? indent : `${indent}${step}`;
    return `\n${indent}${name}:${toYaml(value, inner, depth - 1, step)}`;
  });
  return entries.join('');
}

/** Files whose syntax is right; what they say may be anything. */
export const providerFile = fc
  .tuple(document, fc.integer({ min: 1, max: 9 }), fc.constantFrom('  ', '    '), fc.nat(5))
  .map(([node, flow, step, style]) =>
    style === 0
      ? toJson(node)
      : `${style === 1 ? '# a comment\n---' : ''}${toYaml(node, '', flow, step)}\n`.replace(/^\n/, ''),
  );

/** The same, damaged as by a slip of the editor or a copy that was cut off. */
export const damagedFile = fc
  .tuple(
    providerFile,
    fc.nat(),
    fc.nat(),
    fc.constantFrom('cut', 'drop', 'twice', 'swap', 'indent', 'outdent', 'letter'),
    fc.constantFrom(...':-#"\'[]{},&*!|>%@` \n\tx'.split('')),
  )
  .map(([file, nth, other, damage, letter]) => {
    if (damage === 'cut') return file.slice(0, nth % (file.length + 1));
    if (damage === 'letter') {
      const at = nth % (file.length + 1);
      return file.slice(0, at) + letter + file.slice(at + (other % 2));
    }
    const lines = file.split('\n');
    const at = nth % lines.length;
    const line = lines[at] ?? '';
    const to = other % lines.length;
    const changed: Record<string, readonly string[]> = {
      drop: lines.toSpliced(at, 1),
      twice: lines.toSpliced(to, 0, line),
      swap: lines.toSpliced(at, 1).toSpliced(to, 0, line),
      indent: lines.toSpliced(at, 1, ` ${line}`),
      outdent: lines.toSpliced(at, 1, line.replace(/^ /, '')),
    };
    return (changed[damage] ?? lines).join('\n');
  });

/** How the server is started. */
export const flags = fc.record({ reload: fc.boolean(), kmsV1: fc.boolean(), kmsV2: fc.boolean() });
