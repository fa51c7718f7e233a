/** cluster.yml as YAML: the meanings that RKE's parser (yaml.v2, YAML 1.1) gives to it, and where each key stands. */
import {
  CORE_SCHEMA,
  NOT_RESOLVED,
  YAMLException,
  boolYaml11Tag,
  constructFromEvents,
  defineMappingTag,
  defineScalarTag,
  floatCoreTag,
  intYaml11Tag,
  mapTag,
  mergeTag,
  parseEvents,
} from 'js-yaml';
import type { Event, ScalarTagDefinition } from 'js-yaml';
import { TsrkeError } from '../errors.ts';
import { offsetOf, placesOf } from './places.ts';
import { secretsAt, withoutSecrets } from './redact.ts';

/**
 * A number, true or false written without quotes. Which of the two it is depends on the field: yaml.v2 gives a text
 * field the characters as written (`0777` stays `0777`), every other field the value.
 */
export class Plain {
  readonly text: string;
  readonly value: number | boolean;

  constructor(text: string, value: number | boolean) {
    this.text = text;
    this.value = value;
  }
}

export interface Document {
  /** The path as the user gave it, for messages. */
  readonly file: string;
  /** Mappings, lists, texts, null and Plain; undefined when there is nothing but comments. */
  readonly value: unknown;
  /** Line, from 1, of what `path` names, or of the nearest thing around it that is there. */
  lineOf(path: readonly (string | number)[]): number;
}

/** `yes` is true, `0777` is 511, `<<` merges; `1:30` and `2026-01-01` are texts, as in yaml.v2. */
const schema = CORE_SCHEMA.withTags(
  mergeTag,
  plain('bool', boolYaml11Tag),
  plain('int', intYaml11Tag, (text) => text.includes(':')),
  plain('float', floatCoreTag),
  defineMappingTag<Record<string, unknown>>('tag:yaml.org,2002:map', {
    create: mapTag.create,
    // A key is its characters: `yes:` among extra_args is an argument called yes.
    addPair: (carrier, key, value) => mapTag.addPair(carrier, keyOf(key), value),
    has: (carrier, key) => mapTag.has(carrier, keyOf(key)),
    keys: mapTag.keys,
    get: mapTag.get,
    identify: () => false,
  }),
);

function plain(
  name: string,
  tag: ScalarTagDefinition<number> | ScalarTagDefinition<boolean>,
  excepted: (text: string) => boolean = () => false,
): ScalarTagDefinition<Plain> {
  return defineScalarTag<Plain>(`tag:yaml.org,2002:${name}`, {
    implicit: true,
    implicitFirstChars: tag.implicitFirstChars,
    resolve: (text, isExplicit, tagName) => {
      const value = excepted(text) ? NOT_RESOLVED : tag.resolve(text, isExplicit, tagName);
      return value === NOT_RESOLVED ? NOT_RESOLVED : new Plain(text, value);
    },
    identify: () => false,
  });
}

function keyOf(key: unknown): unknown {
  return key instanceof Plain ? key.text : key;
}

/** Parses the text of a file. Throws CONFIG_SYNTAX with line and column (from 1) and the line itself, secrets hidden. */
export function parseDocument(file: string, text: string): Document {
  let events: Event[];
  let values: unknown[];
  try {
    events = parseEvents(text, {});
    values = constructFromEvents(events, { source: text, schema });
  } catch (error) {
    throw error instanceof YAMLException ? syntaxError(file, text, error) : error;
  }
  if (values.length > 1) {
    throw new TsrkeError(
      'CONFIG_SYNTAX',
      `${file} holds ${values.length} YAML documents, one is expected (RKE reads the first only)`,
      {
        next: 'remove the other documents and the `---` between them',
      },
    );
  }
  const root = placesOf(text, events);
  return { file, value: values[0], lineOf: (path) => lineAt(text, offsetOf(root, path)) };
}

function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at !== -1 && at < offset; at = text.indexOf('\n', at + 1)) line += 1;
  return line;
}

function syntaxError(file: string, text: string, error: YAMLException): TsrkeError {
  const mark = error.mark;
  // The cause is left out on purpose: its message repeats lines of the file, which may hold keys.
  if (mark === undefined) return new TsrkeError('CONFIG_SYNTAX', `${file}: ${error.reason}`);
  const lines = text.split(/\r?\n/);
  const where = `${file}:${mark.line + 1}:${mark.column + 1}`;
  // The parser's words can quote what it stumbled over: `unidentified alias "…"`.
  const reason = secretsAt(lines, mark.line)
    ? error.reason.replace(/"[^"]*"|!<.*>/g, '[redacted]')
    : error.reason;
  return new TsrkeError('CONFIG_SYNTAX', `${where}: ${reason}`, {
    details: [`${mark.line + 1} | ${withoutSecrets(lines, mark.line)}`],
  });
}
