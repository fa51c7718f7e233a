/** Plain text in columns, for a terminal of any width. */
import { stripVTControlCharacters } from 'node:util';

export interface Column {
  readonly title: string;
  /** Figures stand to the right. */
  readonly right?: boolean;
}

export interface Row {
  readonly cells: readonly string[];
  /** Lines below the row, broken to the width and indented to the second column. */
  readonly below?: readonly string[];
}

export interface Sheet {
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
}

const gap = '  ';

/** A title line and the rows. Where it is too wide the widest column is cut, with `…` for what is missing. */
export function table(
  { columns, rows }: Sheet,
  width: number,
  title: (text: string) => string = (text) => text,
): string[] {
  const all = [columns.map((each) => each.title), ...rows.map(({ cells }) => cells)];
  const widths = columns.map((_, at) => Math.max(...all.map((cells) => lengthOf(cells[at] ?? ''))));
  const room = width - gap.length * (columns.length - 1);
  for (let sum = total(widths); sum > room; sum = total(widths)) {
    const widest = widths.indexOf(Math.max(...widths));
    const [first = 0, second = 0] = widths.toSorted((a, b) => b - a);
    if (first <= 4) break;
    widths[widest] = Math.max(4, first - Math.min(sum - room, Math.max(1, first - second)));
  }
  const line = (cells: readonly string[]) =>
    columns
      .map(({ right }, at) => {
        const text = cut(cells[at] ?? '', widths[at] ?? 0);
        const blank = ' '.repeat(Math.max(0, (widths[at] ?? 0) - lengthOf(text)));
        return right === true ? blank + text : text + blank;
      })
      .join(gap)
      .trimEnd();
  const indent = (widths[0] ?? 0) + gap.length;
  return [
    title(line(columns.map((each) => each.title))),
    ...rows.flatMap(({ cells, below = [] }) => [
      line(cells),
      ...below.flatMap((text) => wrap(text, width, Math.min(indent, width / 2))),
    ]),
  ];
}

/** The same as Markdown; what stands below a row follows the table as a list, with the row's first cell in front. */
export function markdownTable({ columns, rows }: Sheet): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map(escaped).join(' | ')} |`;
  const below = rows.flatMap(({ cells, below: texts = [] }) =>
    texts.map((text) => `- ${escaped(cells[0] ?? '')}: ${escaped(text)}`),
  );
  return [
    line(columns.map(({ title }) => title)),
    line(columns.map(({ right }) => (right === true ? '---:' : '---'))),
    ...rows.map(({ cells }) => line(columns.map((_, at) => cells[at] ?? ''))),
    ...(below.length === 0 ? [] : ['', ...below]),
  ];
}

/** Text in Markdown that is to be read as it stands. */
export function escaped(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/[\\`*_<>|[\]#]/g, '\\$&')
    .replace(/\s+/g, ' ');
}

/**
 * Words on lines of at most `width`, each indented. A word that is longer than a line (the keys of a provider file) is
 * broken behind commas and plus signs; what is still too long, such as a path, is left whole.
 */
export function wrap(text: string, width: number, indent = 0): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    const parts = indent + lengthOf(word) > width ? word.split(/(?<=[,+])/) : [word];
    for (const [at, part] of parts.entries()) {
      const longer = line + (line === '' || at > 0 ? '' : ' ') + part;
      if (line !== '' && indent + lengthOf(longer) > width) {
        lines.push(line);
        line = part;
      } else {
        line = longer;
      }
    }
  }
  return [...lines, line].map((each) => ' '.repeat(indent) + each);
}

function cut(text: string, width: number): string {
  // A cell with colours is short and never cut.
  return lengthOf(text) <= width || text.includes('\u001b') ? text : `${text.slice(0, width - 1)}…`;
}

function lengthOf(text: string): number {
  return stripVTControlCharacters(text).length;
}

function total(widths: readonly number[]): number {
  return widths.reduce((sum, each) => sum + each, 0);
}
