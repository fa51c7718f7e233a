/** The report of `tsrke encrypt verify`: for a person at a terminal, and as Markdown to be filed. */
import type { Finding, ReadingRow } from '../encryption/status/verification.ts';
import type { Verification } from '../provision/verify.ts';
import type { Colours } from './colours.ts';
import {
  censusLines,
  censusSheet,
  censusTotals,
  fieldLines,
  keysSheet,
  minute,
  nodesSheet,
  summaryOf,
} from './status-view.ts';
import { escaped, markdownTable, table, wrap, type Sheet } from './table.ts';

/** `width`: columns of the screen. No key material: fingerprints at most. */
export function verifyView(seen: Verification, paint: Colours, width: number): string {
  const { title, fields } = summaryOf(seen, seen.findings);
  const parts = [
    [paint.bold(title), ...fieldLines([['cluster', [seen.cluster]], ...fields, lookedAt(seen)], width)],
    table(nodesSheet(seen.nodes, paint), width, paint.dim),
    table(keysSheet(seen.keys), width, paint.dim),
    censusLines(seen.census, paint, width),
    ...(seen.readings.length === 0 ? [] : [table(readingsSheet(seen.readings, paint), width, paint.dim)]),
    seen.proved
      ? wrap(verdict(seen), width).map(paint.green)
      : [paint.yellow(verdict(seen)), ...seen.findings.flatMap((each) => findingLines(each, width))],
  ];
  return parts.map((lines) => lines.join('\n')).join('\n\n');
}

/** Tables as a forge or a wiki shows them; ends without a newline. */
export function verifyMarkdown(seen: Verification): string {
  const { title, fields } = summaryOf(seen, seen.findings);
  const plain = { yellow: (text: string) => text };
  const all = [...fields, lookedAt(seen)];
  const sections: readonly (readonly [heading: string, lines: readonly string[]])[] = [
    ['Nodes', markdownTable(nodesSheet(seen.nodes, plain))],
    ['Keys', markdownTable(keysSheet(seen.keys))],
    [
      'What etcd holds',
      'unavailable' in seen.census
        ? [escaped(seen.census.unavailable)]
        : [...markdownTable(censusSheet(seen.census, plain)), '', censusTotals(seen.census)],
    ],
    ['Read through each kube-apiserver', markdownTable(readingsSheet(seen.readings, plain))],
    ['Findings', seen.proved ? ['None.'] : seen.findings.flatMap(findingItem)],
  ];
  return [
    `# Encryption of secrets in ${escaped(seen.cluster)}: ${seen.proved ? 'proved' : 'not proved'}`,
    '',
    `${escaped(verdict(seen))}.`,
    '',
    `- ${title}`,
    ...all.flatMap(([label, lines]) => lines.map((line) => `- ${label}: ${escaped(line)}`)),
    ...sections.flatMap(([heading, lines]) => ['', `## ${heading}`, '', ...lines]),
  ].join('\n');
}

function lookedAt({ begun, ended }: Verification): readonly [string, readonly string[]] {
  return ['looked at', [`${minute(begun)}:${begun.slice(17, 19)} to ${ended.slice(11, 19)} UTC`]];
}

function verdict({ proved, encryption, readings, findings }: Verification): string {
  if (!proved) return `⚠ not proved: ${findings.length} ${findings.length === 1 ? 'finding' : 'findings'}`;
  const nodes = [...new Set(readings.map(({ node }) => node))];
  const objects = readings.reduce((sum, { node, read }) => sum + (node === nodes[0] ? read : 0), 0);
  const through = `each read through ${nodes.join(', ')}`;
  if (encryption === 'off') {
    return `✔ encryption is off, as cluster.yml says: ${objects} objects in plain text, ${through}`;
  }
  return `✔ proved: ${objects} objects, each under the key that is wanted, and ${through}`;
}

function readingsSheet(readings: readonly ReadingRow[], { yellow }: Pick<Colours, 'yellow'>): Sheet {
  const figures = ['READ', 'GONE', 'FAILED'].map((title) => ({ title, right: true }));
  return {
    columns: [{ title: 'THROUGH' }, { title: 'RESOURCE' }, ...figures],
    rows: readings.map(({ node, resource, read, gone, failed }) => ({
      cells: [node, resource, String(read), String(gone), failed === 0 ? '0' : yellow(String(failed))],
    })),
  };
}

function findingLines({ node, text, next }: Finding, width: number): string[] {
  const said = node === undefined ? text : `${node}: ${text}`;
  return [...wrap(said, width, 2), ...wrap(`next: ${next}`, width, 4)];
}

function findingItem({ kind, node, text, next }: Finding): string[] {
  const where = node === undefined ? '' : `${escaped(node)}: `;
  return [`- **${kind}** ${where}${escaped(text)}`, `  - next: ${next}`];
}
