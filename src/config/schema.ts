/** schemas/cluster.schema.json: which keys there are, of which type, and what is wrong with a cluster.yml. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import type { ErrorObject } from 'ajv';
import { distance, nearest } from './nearest.ts';
import { pathOf } from './problem.ts';
import type { Path, Problem } from './problem.ts';
import { isSecretPath } from './redact.ts';
import { Plain } from './yaml.ts';

/** The part of JSON Schema that cluster.schema.json makes use of. */
export interface Schema {
  /** The first type is RKE's own; further ones are what YAML also lets pass for it, such as `port: 22`. */
  readonly type?: string | readonly string[];
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  /** A schema: a mapping with free keys. */
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
}

export const clusterSchema = JSON.parse(
  readFileSync(new URL('../../schemas/cluster.schema.json', import.meta.url), 'utf8'),
) as Schema;

const validate = new Ajv({ allErrors: true, verbose: true, allowUnionTypes: true }).compile(clusterSchema);

export function typeOf(schema: Schema): string | undefined {
  return typeof schema.type === 'object' ? schema.type[0] : schema.type;
}

/** The schema of a mapping's values when its keys are free, else undefined. */
export function valuesOf(schema: Schema): Schema | undefined {
  return typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined;
}

/**
 * Parsed YAML as plain data, by the rules of yaml.v2: a text field takes the characters of a number or boolean, null
 * is the same as absent, and so is an empty text where only certain words are allowed. Types that do not fit are left
 * as they are, for `check`.
 */
export function settle(value: unknown, schema: Schema = {}): unknown {
  if (value instanceof Plain) return typeOf(schema) === 'string' ? value.text : value.value;
  if (value === null) return typeOf(schema) === 'string' ? '' : null;
  if (Array.isArray(value)) return value.map((item) => settle(item, schema.items));
  if (typeof value !== 'object') return value;
  const entries: [string, unknown][] = [];
  for (const [key, item] of Object.entries(value)) {
    const property = schema.properties?.[key];
    if (property !== undefined && (item === null || (item === '' && property.enum !== undefined))) continue;
    entries.push([key, settle(item, property ?? valuesOf(schema))]);
  }
  return Object.fromEntries(entries);
}

/** All that the schema finds wrong. Unknown keys are told from the rest, since RKE lets them pass. */
export function check(config: unknown): { readonly problems: Problem[]; readonly unknownKeys: Problem[] } {
  const problems: Problem[] = [];
  const unknownKeys: Problem[] = [];
  if (validate(config)) return { problems, unknownKeys };
  for (const error of validate.errors ?? []) {
    const path = pathFrom(error.instancePath);
    if (error.keyword === 'additionalProperties') {
      const key = String(error.params['additionalProperty']);
      unknownKeys.push({ path: [...path, key], text: unknownKey(path, key, error.parentSchema as Schema) });
    } else if (error.keyword === 'required') {
      problems.push({ path, text: `${String(error.params['missingProperty'])} is missing` });
    } else {
      problems.push({ path, text: wrongValue(path, error) });
    }
  }
  return { problems, unknownKeys };
}

/** `/nodes/0/role` as a path. Keys that look like an index are told apart by their parent, which only lists have. */
function pathFrom(pointer: string): Path {
  const parts = pointer.split('/').slice(1);
  return parts.map((part) => {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    return /^\d+$/.test(key) ? Number(key) : key;
  });
}

function unknownKey(path: Path, key: string, schema: Schema): string {
  const near = nearest(key, Object.keys(schema.properties ?? {}));
  if (near !== undefined) return `unknown key; did you mean ${near}?`;
  const elsewhere = placesOfKey(key, clusterSchema, []).filter((found) => !found.includes('nodes'));
  const [place] = elsewhere;
  if (place === undefined || elsewhere.length > 1 || path.length === place.length - 1) return 'unknown key';
  return `unknown key; did you mean ${pathOf(place)}?`;
}

/** Where else a key would be known: it may have been indented wrongly. */
function placesOfKey(key: string, schema: Schema, path: Path): Path[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => [
    ...(distance(name, key) === 0 ? [[...path, name]] : []),
    ...placesOfKey(key, inner, [...path, name]),
  ]);
}

function wrongValue(path: Path, error: ErrorObject): string {
  const schema = error.parentSchema as Schema;
  const found = foundWords(error.data, path);
  if (error.keyword === 'minItems') return 'at least one is needed';
  const near =
    typeof error.data === 'string' && !isSecretPath(path) ? nearest(error.data, schema.enum ?? []) : undefined;
  return `expected ${expectedWords(schema)}, found ${found}${near === undefined ? '' : `; did you mean ${near}?`}`;
}

function expectedWords(schema: Schema): string {
  if (schema.enum !== undefined) return `one of ${schema.enum.join(', ')}`;
  const words: Readonly<Record<string, string>> = {
    string: 'a text',
    integer: typeof schema.type === 'string' ? 'a whole number' : 'a whole number or a text',
    number: 'a number',
    boolean: 'true or false',
    object: 'a mapping',
  };
  const type = typeOf(schema) ?? 'string';
  if (type !== 'array') return words[type] ?? type;
  const items = schema.items ?? {};
  if (items.enum !== undefined) return `a list of ${items.enum.join(', ')}`;
  return typeOf(items) === 'object' ? 'a list of mappings' : 'a list of texts';
}

function foundWords(value: unknown, path: Path): string {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value !== 'string') return isSecretPath(path) ? `a ${typeof value}` : `${String(value)}`;
  if (isSecretPath(path)) return 'a text (not shown)';
  const short = value.length > 40 ? `${value.slice(0, 40)}…` : value;
  return `the text ${JSON.stringify(short)}`;
}
