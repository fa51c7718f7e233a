/**
 * From text to the fields that kube-apiserver sees, with its words where it refuses: which kind it is, values of a
 * wrong type, and (strict, from 1.31) fields that it does not know or that are there twice.
 */
import { parseDuration, quote } from './go-text.ts';
import { type ReadText, type Tree, type TreeEntry } from './yaml-tree.ts';

export interface DecodedKey {
  readonly name?: string;
  readonly secret?: string;
}

export interface DecodedKms {
  readonly apiVersion?: string;
  readonly name?: string;
  readonly endpoint?: string;
  readonly cachesize?: number;
  /** Nanoseconds. */
  readonly timeout?: bigint;
}

interface DecodedKeys {
  readonly keys?: readonly DecodedKey[];
}

export interface DecodedProvider {
  readonly aescbc?: DecodedKeys;
  readonly aesgcm?: DecodedKeys;
  readonly secretbox?: DecodedKeys;
  readonly identity?: object;
  readonly kms?: DecodedKms;
}

export interface DecodedFile {
  readonly resources?: readonly {
    readonly resources?: readonly string[];
    readonly providers?: readonly DecodedProvider[];
  }[];
}

/** A field that no version of kube-apiserver knows, or that is there twice. */
export interface StrayField {
  readonly what: 'unknown field' | 'duplicate field';
  readonly path: string;
  readonly line: number;
}

export interface Decoded {
  /** Why the server stops here, in its words; `file` is then not to be trusted. */
  readonly refusal?: string;
  readonly file: DecodedFile;
  readonly stray: readonly StrayField[];
}

type Shape =
  | { readonly kind: 'string' | 'int32' | 'duration'; readonly go: string }
  | { readonly kind: 'list'; readonly go: string; readonly of: Shape }
  | {
      readonly kind: 'struct';
      readonly go: string;
      readonly fields: Readonly<Record<string, Shape>>;
    };

const text: Shape = { kind: 'string', go: 'string' };

function listOf(of: Shape): Shape {
  return { kind: 'list', go: `[]${of.go}`, of };
}

function struct(name: string, fields: Readonly<Record<string, Shape>>): Shape {
  return { kind: 'struct', go: `v1.${name}`, fields };
}

const keys = { keys: listOf(struct('Key', { name: text, secret: text })) };

function fileShape(minor: number): Shape {
  const kms = {
    // The field came with KMS v2 in 1.25; before, it is one that nobody knows.
    ...(minor >= 25 ? { apiVersion: text } : {}),
    name: text,
    cachesize: { kind: 'int32', go: 'int32' } as const,
    endpoint: text,
    timeout: { kind: 'duration', go: 'string' } as const,
  };
  const provider = struct('ProviderConfiguration', {
    aesgcm: struct('AESConfiguration', keys),
    aescbc: struct('AESConfiguration', keys),
    secretbox: struct('SecretboxConfiguration', keys),
    identity: struct('IdentityConfiguration', {}),
    kms: struct('KMSConfiguration', kms),
  });
  const entry = struct('ResourceConfiguration', { resources: listOf(text), providers: listOf(provider) });
  return struct('EncryptionConfiguration', { kind: text, apiVersion: text, resources: listOf(entry) });
}

/** What kube-apiserver 1.`minor` makes of it, before it looks at what the fields say. */
export function decode(read: ReadText, minor: number): Decoded {
  const kindProblem = wrongKind(read.tree);
  const strays: StrayField[] = [];
  const problems: string[] = [];
  const state: State = { strays, problems };
  let file: DecodedFile = {};
  let abort: string | undefined;
  try {
    const found = valueOf(read.tree, fileShape(minor), { struct: '', fields: [] }, '', state);
    file = found ?? {};
  } catch (error) {
    if (!(error instanceof Abort)) throw error;
    abort = error.message;
  }
  const duplicates = read.duplicates.map(
    ({ line, key }) => `  line ${line}: key ${quote(shown(key))} already set in map`,
  );
  const refusal =
    kindProblem ?? abort ?? problems[0] ?? (minor >= 31 ? strictWords(duplicates, strays) : undefined);
  const stray = [
    ...read.duplicates.map(({ line, key }) => ({ what: 'duplicate field', path: shown(key), line }) as const),
    ...strays,
  ];
  return { ...(refusal === undefined ? {} : { refusal }), file, stray };
}

function strictWords(duplicates: readonly string[], strays: readonly StrayField[]): string | undefined {
  const all = [
    ...(duplicates.length === 0 ? [] : [`yaml: unmarshal errors:\n${duplicates.join('\n')}`]),
    ...new Set(strays.map(({ what, path }) => `${what} ${quote(path)}`)),
  ];
  return all.length === 0 ? undefined : `strict decoding error: ${all.join(', ')}`;
}

/**
 * A name that stands where it does not belong. A forgotten colon or a slip of the indentation can put a key's bytes
 * there, so what could be base64 of 16 bytes or more is not repeated.
 */
export function shown(name: string): string {
  const dotted = /^[a-z0-9-]+(\.[a-z0-9-]+)+(\/\w+)?$/;
  return name.length < 22 || name === 'EncryptionConfiguration' || dotted.test(name) ? name : '…';
}

/** json.Unmarshal into {apiVersion, kind}, where upper and lower case do not count and the last one does. */
function wrongKind(tree: Tree): string | undefined {
  const parse = "couldn't get version/kind; json parse error: json: cannot unmarshal";
  if (tree.type !== 'map' && tree.type !== 'null') {
    const go =
      'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }';
    return `${parse} ${tree.type} into Go value of type ${go}`;
  }
  const found = { apiversion: '', kind: '' };
  let problem: string | undefined;
  for (const { key, value } of tree.type === 'map' ? tree.entries : []) {
    const name = key.toLowerCase();
    if ((name !== 'apiversion' && name !== 'kind') || value.type === 'null') continue;
    if (value.type === 'string') found[name] = value.text;
    else {
      const field = name === 'kind' ? 'kind' : 'apiVersion';
      const go = value.type === 'map' ? 'object' : value.type;
      problem ??= `${parse} ${go} into Go struct field .${field} of type string`;
    }
  }
  if (problem !== undefined) return problem;
  const { apiversion, kind } = found;
  const slashes = apiversion.split('/').length - 1;
  if (slashes > 1) return `unexpected GroupVersion string: ${shown(apiversion)}`;
  const version = apiversion === '/' ? '' : apiversion;
  // The server repeats the whole file between these quotes, keys and all.
  if (kind === '') return "Object 'Kind' is missing in '…'";
  if (version === '' || version.endsWith('/')) return "Object 'apiVersion' is missing in '…'";
  const known =
    (version === 'apiserver.config.k8s.io/v1' && kind === 'EncryptionConfiguration') ||
    // RKE's documents, and once Kubernetes' own, had this pair.
    ((version === 'v1' || version === '/v1') && kind === 'EncryptionConfig');
  if (known) return undefined;
  const scheme = 'k8s.io/apiserver/pkg/server/options/encryptionconfig/config.go';
  const spoken = version.replace(/^\//, '');
  return `no kind ${quote(shown(kind))} is registered for version ${quote(shown(spoken))} in scheme ${quote(scheme)}`;
}

interface State {
  readonly strays: StrayField[];
  readonly problems: string[];
}

/** Where a value stands, as the messages say it: the struct's name and all fields down to it. */
interface Place {
  readonly struct: string;
  readonly fields: readonly string[];
}

/** A Duration's own decoder gives up at once; all others go on and report the first mistake. */
class Abort extends Error {}

function valueOf(tree: Tree, shape: Shape, place: Place, path: string, state: State): unknown {
  if (shape.kind === 'duration') return durationOf(tree, place);
  if (tree.type === 'null') return shape.kind === 'string' ? '' : undefined;
  if (shape.kind === 'string' && tree.type === 'string') return tree.text;
  if (shape.kind === 'int32' && tree.type === 'number') {
    const number = Number(tree.text);
    if (/^-?\d+$/.test(tree.text) && number >= -(2 ** 31) && number < 2 ** 31) return number;
    state.problems.push(typeError(`number ${tree.text}`, place, shape.go));
    return undefined;
  }
  if (shape.kind === 'list' && tree.type === 'array') {
    return tree.items.map(
      (item, index) =>
        valueOf(item, shape.of, place, `${path}[${index}]`, state) ??
        (shape.of.kind === 'struct' ? {} : undefined),
    );
  }
  if (shape.kind === 'struct' && tree.type === 'map') {
    const found: Record<string, unknown> = {};
    for (const entry of tree.entries) decodeField(found, entry, shape, place, path, state);
    return found;
  }
  state.problems.push(typeError(nameOf(tree), place, shape.go));
  return undefined;
}

function decodeField(
  found: Record<string, unknown>,
  { key, line, value }: TreeEntry,
  { go, fields }: Extract<Shape, { kind: 'struct' }>,
  place: Place,
  path: string,
  state: State,
): void {
  const field = Object.hasOwn(fields, key) ? fields[key] : undefined;
  const inner = path === '' ? key : `${path}.${key}`;
  if (field === undefined) {
    const stray = path === '' ? shown(key) : `${path}.${shown(key)}`;
    state.strays.push({ what: 'unknown field', path: stray, line });
    return;
  }
  if (Object.hasOwn(found, key)) state.strays.push({ what: 'duplicate field', path: inner, line });
  const at = { struct: go.replace(/^v1\./, ''), fields: [...place.fields, key] };
  found[key] = valueOf(value, field, at, inner, state);
}

function durationOf(tree: Tree, place: Place): bigint | undefined {
  if (tree.type === 'null') return undefined;
  const duration =
    tree.type === 'string' ? parseDuration(tree.text) : typeError(nameOf(tree), place, 'string');
  if (typeof duration === 'string') throw new Abort(duration);
  return duration;
}

function nameOf(tree: Tree): string {
  return tree.type === 'map' ? 'object' : tree.type;
}

function typeError(what: string, place: Place, go: string): string {
  const where =
    place.struct === ''
      ? `Go value of type ${go}`
      : `Go struct field ${place.struct}.${place.fields.join('.')} of type ${go}`;
  return `json: cannot unmarshal ${what} into ${where}`;
}
