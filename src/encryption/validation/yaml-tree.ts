/**
 * YAML and JSON as kube-apiserver reads them (go-yaml v2 with its YAML 1.1 meanings, encoding/json), with the line of
 * everything. js-yaml splits the text into events; what a plain word means is decided here.
 */
import {
  EVENT_ID,
  getScalarValue,
  parseEvents,
  SCALAR_STYLE,
  YAMLException,
  type Event,
  type MappingEvent,
  type SequenceEvent,
  type ScalarEvent,
} from 'js-yaml';

export type Tree =
  | { readonly type: 'map'; readonly line: number; readonly entries: readonly TreeEntry[] }
  | { readonly type: 'array'; readonly line: number; readonly items: readonly Tree[] }
  /** `text` of a number is the number as JSON writes it. */
  | {
      readonly type: 'string' | 'number' | 'bool' | 'null';
      readonly line: number;
      readonly text: string;
    };

export interface TreeEntry {
  readonly key: string;
  /** Counted from 1. */
  readonly line: number;
  readonly value: Tree;
}

export interface ReadText {
  readonly format: 'yaml' | 'json';
  readonly tree: Tree;
  /** YAML keys that are there twice; the last one counts. `line` is the value's. In JSON both stay in the tree. */
  readonly duplicates: readonly { readonly line: number; readonly key: string }[];
}

/** Not YAML, or not JSON where the text begins with `{`. The parser's own words could quote a key: there are none. */
export class NotReadable extends Error {
  readonly format: 'yaml' | 'json';
  readonly line: number | undefined;

  constructor(format: 'yaml' | 'json', line: number | undefined) {
    super(`not valid ${format.toUpperCase()}${line === undefined ? '' : ` at line ${line}`}`);
    this.name = 'NotReadable';
    this.format = format;
    this.line = line;
  }
}

/** Throws NotReadable. A text that begins with `{` is JSON to kube-apiserver, and nothing else. */
export function readText(text: string): ReadText {
  return /^\s*\{/.test(text) ? readJson(text) : readYaml(text);
}

/** The value at `resources[0].providers`, or the nearest one around it. */
export function lineAt(tree: Tree, path: string): number | undefined {
  let line: number | undefined;
  let at = tree;
  for (const [, name, index] of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    const entry = at.type === 'map' ? at.entries.findLast(({ key }) => key === name) : undefined;
    const next = entry?.value ?? (at.type === 'array' ? at.items[Number(index)] : undefined);
    if (next === undefined) break;
    line = entry?.line ?? next.line;
    at = next;
  }
  return line;
}

// go-yaml v2 refuses these wherever they stand; js-yaml lets some pass in quotes.
const control = /[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u;

const tabbedComment = /^ *\t[ \t]*#/m;

function readYaml(source: string): ReadText {
  const text = firstRoot(source.replace(/^\uFEFF/, ''));
  const lineOf = lineCounter(text);
  const bad = control.exec(text) ?? tabbedComment.exec(text);
  if (bad !== null) throw new NotReadable('yaml', lineOf(bad.index));
  let events: Event[];
  try {
    events = parseEvents(text, {});
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    throw new NotReadable('yaml', error.mark === undefined ? undefined : error.mark.line + 1);
  }
  const duplicates: { line: number; key: string }[] = [];
  const anchors = new Map<string, Tree>();
  let next = 0;
  const take = (): Event => {
    const event = events[next];
    if (event === undefined) throw new NotReadable('yaml', undefined);
    next += 1;
    return event;
  };
  const node = (): Tree => {
    const event = take();
    switch (event.type) {
      case EVENT_ID.ALIAS: {
        const found = anchors.get(text.slice(event.anchorStart, event.anchorEnd));
        if (found === undefined) throw new NotReadable('yaml', lineOf(event.anchorStart));
        return { ...found, line: lineOf(event.anchorStart) };
      }
      case EVENT_ID.SCALAR:
        return anchored(event, scalar(event));
      case EVENT_ID.SEQUENCE: {
        const items: Tree[] = [];
        while (events[next]?.type !== EVENT_ID.POP) items.push(node());
        take();
        return anchored(event, { type: 'array', line: lineOf(event.start), items });
      }
      case EVENT_ID.MAPPING: {
        const entries = new Map<string, TreeEntry>();
        while (events[next]?.type !== EVENT_ID.POP) addEntry(entries);
        take();
        const line = lineOf(event.start);
        return anchored(event, { type: 'map', line, entries: sorted(entries) });
      }
      case EVENT_ID.DOCUMENT:
      case EVENT_ID.POP:
        throw new NotReadable('yaml', undefined);
    }
  };
  const put = (entries: Map<string, TreeEntry>, entry: TreeEntry): void => {
    if (entries.has(entry.key)) duplicates.push({ line: entry.value.line, key: entry.key });
    entries.set(entry.key, entry);
  };
  const addEntry = (entries: Map<string, TreeEntry>): void => {
    const event = events[next];
    const key = node();
    const value = node();
    const plain = event?.type === EVENT_ID.SCALAR && event.style === SCALAR_STYLE.PLAIN;
    // `{name:, …}`: to go-yaml the colon is part of the word, to js-yaml it is not.
    if (plain && /^ *:[,\]}]/.test(text.slice(event.valueEnd, event.valueEnd + 40))) {
      throw new NotReadable('yaml', key.line);
    }
    if (plain && key.type === 'string' && key.text === '<<') {
      // Later keys win, also over earlier ones written out: go-yaml merges where the `<<` stands.
      const merged = value.type === 'array' ? value.items.toReversed() : [value];
      for (const each of merged) {
        if (each.type !== 'map') throw new NotReadable('yaml', key.line);
        for (const entry of each.entries) put(entries, entry);
      }
      return;
    }
    if (key.type === 'map' || key.type === 'array' || key.type === 'null') {
      throw new NotReadable('yaml', key.line);
    }
    put(entries, { key: key.text, line: key.line, value });
  };
  const scalar = (event: ScalarEvent): Tree => {
    const value = event.valueStart < 0 ? '' : getScalarValue(text, event);
    const line = lineOf(event.valueStart < 0 ? startOf(event) : event.valueStart);
    if (event.style !== SCALAR_STYLE.PLAIN || event.tagStart >= 0) {
      return { type: 'string', line, text: value };
    }
    return { ...meaning(value), line };
  };
  const startOf = (event: ScalarEvent): number => {
    if (event.anchorStart >= 0) return event.anchorStart;
    if (event.tagStart >= 0) return event.tagStart;
    // An empty value has no place of its own; the one before it is the nearest.
    const before = events[next - 2];
    return before?.type === EVENT_ID.SCALAR && before.valueStart >= 0 ? before.valueStart : 0;
  };
  const anchored = (event: ScalarEvent | SequenceEvent | MappingEvent, tree: Tree): Tree => {
    // Of tags only `!!str` is read: nobody needs another one here, and go-yaml has its own mind about them.
    const tagged = event.tagStart >= 0;
    const known = event.type === EVENT_ID.SCALAR && text.slice(event.tagStart, event.tagEnd) === '!!str';
    const name = event.anchorStart < 0 ? undefined : text.slice(event.anchorStart, event.anchorEnd);
    if (
      (tagged && (!known || !blankAt(event.tagEnd))) ||
      (name !== undefined && (!/^[\w-]+$/.test(name) || !blankAt(event.anchorEnd)))
    ) {
      throw new NotReadable('yaml', tree.line);
    }
    if (name !== undefined) anchors.set(name, tree);
    return tree;
  };
  const blankAt = (offset: number): boolean => /^(\s|$)/.test(text.charAt(offset));
  // Only the first document counts; a file of comments is `null`.
  if (events[0]?.type !== EVENT_ID.DOCUMENT || events[1]?.type === EVENT_ID.POP) {
    return { format: 'yaml', tree: { type: 'null', line: 1, text: '' }, duplicates };
  }
  next = 1;
  const tree = node();
  return { format: 'yaml', tree, duplicates };
}

/**
 * The text up to where go-yaml stops reading: the end of the first document, or of its root, which ends at a line that
 * begins further to the left. What follows can be anything; js-yaml would not have it.
 */
function firstRoot(text: string): string {
  const lines = text.split(/(?<=\n)/);
  let margin: number | undefined;
  let started = false;
  const end = lines.findIndex((line) => {
    if (/^---\s/.test(`${line} `) && margin === undefined && !started) {
      started = true;
      if (!/^---\s*(#.*)?$/.test(line)) margin = 0;
      return false;
    }
    if (/^(---|\.\.\.)\s/.test(`${line} `)) return margin !== undefined || started;
    if (/^\s*(#|$)/.test(line) || (margin === undefined && line.startsWith('%'))) return false;
    const indent = /^ */.exec(line)?.[0].length ?? 0;
    if (margin !== undefined && indent < margin) return true;
    // Only a mapping or a list ends there; a word alone goes on.
    margin ??= /^ *(-\s|.*:\s)/.test(`${line} `) ? indent : 0;
    return false;
  });
  return end < 0 ? text : lines.slice(0, end).join('');
}

/** As go-yaml hands a mapping over to JSON: each key once, in the order of their bytes. */
function sorted(entries: Map<string, TreeEntry>): TreeEntry[] {
  return [...entries.values()].sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
}

const yes = /^(y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON)$/;
const no = /^(n|N|no|No|NO|false|False|FALSE|off|Off|OFF)$/;

/** What a plain scalar is: YAML 1.1 as go-yaml v2 has it. Dates are text (sigs.k8s.io/yaml gives them back as such). */
function meaning(plain: string): { type: 'string' | 'number' | 'bool' | 'null'; text: string } {
  if (plain === '' || /^(~|null|Null|NULL)$/.test(plain)) return { type: 'null', text: 'null' };
  if (yes.test(plain)) return { type: 'bool', text: 'true' };
  if (no.test(plain)) return { type: 'bool', text: 'false' };
  const digits = plain.replaceAll('_', '');
  const whole = wholeNumber(digits);
  if (whole !== undefined) return { type: 'number', text: whole.toString() };
  if (/^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$/.test(digits) && Number.isFinite(Number(digits))) {
    return { type: 'number', text: String(Number(digits)) };
  }
  if (/^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$/.test(plain)) return { type: 'number', text: plain };
  return { type: 'string', text: plain };
}

/** Go's ParseInt and ParseUint with base 0: `12`, `0x1f`, `0o17`, `017`, `0b11`, within 64 bits. */
function wholeNumber(digits: string): bigint | undefined {
  const match =
    /^([-+]?)(?:0[xX]([\da-fA-F]+)|0[oO]?([0-7]+)|0[bB]([01]+)|(0|[1-9]\d*))$/.exec(digits) ?? undefined;
  if (match === undefined) return undefined;
  const [, sign, hex, octal, binary, decimal] = match;
  const size =
    hex !== undefined
      ? BigInt(`0x${hex}`)
      : octal !== undefined
        ? BigInt(`0o${octal}`)
        : binary !== undefined
          ? BigInt(`0b${binary}`)
          : BigInt(decimal ?? '0');
  const value = sign === '-' ? -size : size;
  // ParseUint takes no sign.
  const most = sign === '' ? 2n ** 64n : 2n ** 63n;
  return value < most && value >= -(2n ** 63n) ? value : undefined;
}

function lineCounter(text: string): (offset: number) => number {
  const starts = [0];
  for (const { index, 0: mark } of text.matchAll(/\r\n|\r|\n/g)) starts.push(index + mark.length);
  return (offset) => {
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((starts[middle] ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** JSON with the line of each value, and with keys that are there twice: JSON.parse tells neither. */
function readJson(text: string): ReadText {
  const lineOf = lineCounter(text);
  const token =
    /[ \t\r\n]*(?:([{}[\],:])|("(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[\da-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?)|(true|false|null))/y;
  let offset = 0;
  const fail = (): never => {
    throw new NotReadable('json', lineOf(offset));
  };
  const take = (): { match: RegExpExecArray; line: number } => {
    token.lastIndex = offset;
    const match = token.exec(text);
    if (match === null) return fail();
    offset = token.lastIndex;
    return { match, line: lineOf(token.lastIndex - match[0].trimStart().length) };
  };
  const value = ({ match, line }: { match: RegExpExecArray; line: number }): Tree => {
    const [, sign, string, number, word] = match;
    if (string !== undefined) return { type: 'string', line, text: JSON.parse(string) as string };
    if (number !== undefined) return { type: 'number', line, text: number };
    if (word !== undefined) return { type: word === 'null' ? 'null' : 'bool', line, text: word };
    if (sign === '[') {
      const items: Tree[] = [];
      let first = take();
      while (first.match[1] !== ']') {
        items.push(value(first));
        const mark = take();
        if (mark.match[1] === ']') break;
        if (mark.match[1] !== ',') fail();
        first = take();
        if (first.match[1] === ']') fail();
      }
      return { type: 'array', line, items };
    }
    if (sign !== '{') return fail();
    const entries: TreeEntry[] = [];
    let key = take();
    while (key.match[1] !== '}') {
      if (key.match[2] === undefined || take().match[1] !== ':') fail();
      entries.push({ key: JSON.parse(key.match[2] ?? '""') as string, line: key.line, value: value(take()) });
      const mark = take();
      if (mark.match[1] === '}') break;
      if (mark.match[1] !== ',') fail();
      key = take();
      if (key.match[1] === '}') fail();
    }
    return { type: 'map', line, entries };
  };
  const tree = value(take());
  if (text.slice(offset).trim() !== '') fail();
  return { format: 'json', tree, duplicates: [] };
}
