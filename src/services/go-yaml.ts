/**
 * YAML in the very bytes of Go's encoder (sigs.k8s.io/yaml): RKE keeps checksums of files written with it in the
 * environment of containers, and another byte recreates them.
 */

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/**
 * A map or list, with a newline at the end; keys are sorted. Texts of more than 80 columns with blanks in them, which Go
 * folds, and keys that differ in the size of a number do not occur in the files that RKE writes.
 */
export function goYaml(value: Json): string {
  return `${block(value, '').replace(/^\n/, '')}\n`;
}

/** What follows a key or the root: a scalar on the same line, or lines of their own. */
function block(value: Json, indent: string): string {
  if (Array.isArray(value)) {
    const items = value as readonly Json[];
    if (items.length === 0) return ' []';
    // The first line of an item stands behind its dash.
    return items.map((item) => `\n${indent}- ${inItem(item, `${indent}  `)}`).join('');
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value as Readonly<Record<string, Json>>).sort(([a], [b]) =>
      a < b ? -1 : 1,
    );
    if (entries.length === 0) return ' {}';
    return entries
      .map(([key, item]) => `\n${indent}${scalar(key, indent)}:${inEntry(item, indent)}`)
      .join('');
  }
  return ` ${scalar(value, indent)}`;
}

/** Lists stand as deep as the key above them, maps deeper. */
function inEntry(item: Json, indent: string): string {
  return block(item, Array.isArray(item) ? indent : `${indent}  `);
}

function inItem(item: Json, indent: string): string {
  return block(item, indent).replace(/^\n? */, '');
}

function scalar(value: string | number | boolean | null, indent: string): string {
  if (typeof value !== 'string') return String(value);
  if (value === '' || isOther(value) || isSpecial(value)) return quoted(value);
  if (value.includes('\n')) return literal(value, indent);
  return isPlain(value) ? value : `'${value.replaceAll("'", "''")}'`;
}

/** A text that a YAML 1.1 reader would take for something else. */
function isOther(text: string): boolean {
  return (
    /^(~|null|Null|NULL|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF)$/.test(text) ||
    /^(true|True|TRUE|false|False|FALSE)$/.test(text) ||
    /^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|\d[\d_]*)$/.test(text) ||
    /^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$/.test(text) ||
    /^[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?$/.test(text) ||
    /^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$/.test(text) ||
    /^\d{4}-\d{1,2}-\d{1,2}([Tt ].*)?$/.test(text)
  );
}

/** Control characters, and what lies beyond the 65 536 of YAML 1.1. */
function isSpecial(text: string): boolean {
  return /[^\n\u0020-\u007e\u0085\u00a0-\ud7ff\ue000-\ufefe\uff00-\ufffd]/u.test(text);
}

function quoted(text: string): string {
  const inside = text.replace(
    /[\\"\n\t\r]|[^\u0020-\u007e\u0085\u00a0-\ud7ff\ue000-\ufefe\uff00-\ufffd]/gu,
    (each) => {
      const code = each.codePointAt(0) ?? 0;
      const hex = code.toString(16).toUpperCase();
      const long = code > 0xffff ? `\\U${hex.padStart(8, '0')}` : `\\u${hex.padStart(4, '0')}`;
      return short[each] ?? (code < 0x100 ? `\\x${hex.padStart(2, '0')}` : long);
    },
  );
  return `"${inside}"`;
}

const short: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '"': '\\"',
  '\n': '\\n',
  '\t': '\\t',
  '\r': '\\r',
  '\0': '\\0',
};

function isPlain(text: string): boolean {
  return !/^[,[\]{}#&*!|>'"%@`]|^[-?:](\s|$)|^(---|\.\.\.)/.test(text) && !/: |:$| #|^ | $/.test(text);
}

/** All newlines at the end are kept with `+`, none with `-`; the depth is told where the text begins with blanks. */
function literal(text: string, indent: string): string {
  const end = /\n*$/.exec(text)?.[0].length ?? 0;
  const head = `|${/^[ \n]/.test(text) ? '2' : ''}${end === 0 ? '-' : end === 1 ? '' : '+'}`;
  const lines = text.replace(/\n$/, '').split('\n');
  return `${head}${lines.map((line) => (line === '' ? '\n' : `\n${indent}${line}`)).join('')}`;
}
