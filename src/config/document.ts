/**
 * YAML as RKE reads it, with the place of every key: YAML 1.1 meanings (`yes`, `0777`, `<<`), dates stay text.
 */
import {
  boolYaml11Tag,
  CORE_SCHEMA,
  dump,
  EVENT_ID,
  getScalarValue,
  intYaml11Tag,
  load,
  mergeTag,
  parseEvents,
  SCALAR_STYLE,
  YAMLException,
} from 'js-yaml';
import { TsrkeError } from '../errors.ts';
import { excerpt, withoutQuotes } from './excerpt.ts';

export const yaml11 = CORE_SCHEMA.withTags(mergeTag, boolYaml11Tag, intYaml11Tag);

export interface Document {
  readonly value: unknown;
  /** `file:line:column` of the key or item at a JSON pointer, or of the nearest one around it. */
  place(pointer: string): string;
  /** An unquoted value as it is written: `022`, where `value` has 18. */
  written(pointer: string): string | undefined;
}

/** YAML that is read back as this very value; its keys stay in their order. */
export function documentText(value: unknown): string {
  return dump(value, { schema: yaml11, lineWidth: -1 });
}

/** Throws CONFIG_SYNTAX. js-yaml's own message is not passed on: it quotes the lines around, keys and all. */
export function parseDocument(source: string, file: string): Document {
  const text = source.replace(/^\uFEFF/, '');
  let value: unknown;
  let events: ReturnType<typeof parseEvents>;
  try {
    events = parseEvents(text, {});
    value = load(text, { schema: yaml11 });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    throw syntaxError(error, text, file);
  }

  const offsets = new Map<string, number>();
  const texts = new Map<string, string>();
  const open: { pointer: string; kind: 'map' | 'list' | 'document'; items: number; key?: string }[] = [];

  for (const event of events) {
    if (event.type === EVENT_ID.POP) {
      open.pop();
      continue;
    }
    if (event.type === EVENT_ID.DOCUMENT) {
      open.push({ pointer: '', kind: 'document', items: 0 });
      continue;
    }
    const parent = open.at(-1);
    const start =
      event.type === EVENT_ID.SCALAR
        ? event.valueStart
        : event.type === EVENT_ID.ALIAS
          ? event.anchorStart
          : event.start;
    let pointer = '';
    if (parent?.kind === 'map' && parent.key === undefined) {
      // A key that is itself a map or a list has no pointer; no schema knows one.
      parent.key = event.type === EVENT_ID.SCALAR ? getScalarValue(text, event) : '?';
      pointer = `${parent.pointer}/${escapePointer(parent.key)}`;
      offsets.set(pointer, start);
      if (event.type === EVENT_ID.SCALAR || event.type === EVENT_ID.ALIAS) continue;
    } else if (parent?.kind === 'map') {
      pointer = `${parent.pointer}/${escapePointer(parent.key ?? '')}`;
      delete parent.key;
    } else if (parent?.kind === 'list') {
      pointer = `${parent.pointer}/${parent.items}`;
      parent.items += 1;
      offsets.set(pointer, start);
    }
    if (event.type === EVENT_ID.MAPPING) open.push({ pointer, kind: 'map', items: 0 });
    if (event.type === EVENT_ID.SEQUENCE) open.push({ pointer, kind: 'list', items: 0 });
    if (event.type === EVENT_ID.SCALAR && event.style === SCALAR_STYLE.PLAIN && event.valueStart >= 0) {
      texts.set(pointer, getScalarValue(text, event));
    }
  }

  return {
    value,
    place(pointer) {
      let at = pointer;
      while (at !== '' && (offsets.get(at) ?? -1) < 0) at = at.slice(0, at.lastIndexOf('/'));
      const offset = offsets.get(at) ?? -1;
      if (offset < 0) return file;
      const before = text.slice(0, offset).split('\n');
      return `${file}:${before.length}:${(before.at(-1)?.length ?? 0) + 1}`;
    },
    written: (pointer) => texts.get(pointer),
  };
}

function syntaxError({ reason, mark }: YAMLException, text: string, file: string): TsrkeError {
  const next = 'correct the YAML there';
  // Behind a colon stands what was found, and that can be a key.
  const words = withoutQuotes(reason).replace(/: .*$/s, '');
  if (mark === undefined) return new TsrkeError('CONFIG_SYNTAX', `${file}: ${words}`, { next });
  const line = text.split(/\r?\n/)[mark.line] ?? '';
  return new TsrkeError('CONFIG_SYNTAX', `${file}:${mark.line + 1}:${mark.column + 1}: ${words}`, {
    details: [`${mark.line + 1} | ${excerpt(line)}`],
    next,
  });
}

export function escapePointer(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}
