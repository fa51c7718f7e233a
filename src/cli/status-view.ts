/** `tsrke encrypt status` as a person reads it: what is so, who has what, what is wrong, what to type. */
import type { Counted } from '../encryption/status/census.ts';
import type { Problem } from '../encryption/status/problems.ts';
import type { KeyRow } from '../encryption/status/keys.ts';
import type { NodeRow } from '../encryption/status/nodes.ts';
import type { OpenTransition } from '../encryption/status/goal.ts';
import type { EncryptionStatus } from '../encryption/status/status.ts';
import type { StatusAnswer } from '../provision/status.ts';
import type { Colours } from './colours.ts';
import { table, wrap, type Row, type Sheet } from './table.ts';
import { counted } from '../words.ts';

const labelWidth = 15;

/** `width`: columns of the screen. No key material: fingerprints at most. */
export function statusView(status: StatusAnswer, paint: Colours, width: number): string {
  const parts = [
    head(status, paint, width),
    table(nodesSheet(status.nodes, paint), width, paint.dim),
    table(keysSheet(status.keys), width, paint.dim),
    censusLines(status.census, paint, width),
    verdict(status, paint, width),
  ];
  return parts.map((lines) => lines.join('\n')).join('\n\n');
}

function head(status: StatusAnswer, { bold }: Colours, width: number): string[] {
  const { title, fields } = summaryOf(status, status.problems);
  return [bold(title), ...fieldLines(fields, width)];
}

type Field = readonly [label: string, lines: readonly string[]];

/** What is so, in a title and a few fields. */
export function summaryOf(
  status: Omit<EncryptionStatus, 'asItShouldBe' | 'problems' | 'next'>,
  problems: readonly { readonly kind: string }[],
): { readonly title: string; readonly fields: readonly Field[] } {
  const { encryption, clusterYml, writeKeys, warnings, transition, atWork } = status;
  const is = {
    on: 'is on',
    off: 'is off',
    partly: 'is on for some nodes only',
    unknown: 'cannot be told: no node could be looked at',
  }[encryption];
  const differs = problems.some(({ kind }) => kind === 'cluster-yml-differs');
  const asks =
    differs && encryption === clusterYml
      ? 'asks for another encryption'
      : `asks for encryption ${clusterYml}`;
  const fields: Field[] = [
    ...writeKeys.map((key): Field => ['write key', [keyText(key, status.nodes.length)]]),
    ...(warnings.length === 0 ? [] : [['warning', warnings.map(({ text }) => text)] as const]),
    ['cluster.yml', [asks]],
    ...(transition === undefined ? [] : [['open change', openLines(transition)] as const]),
    ...(atWork === undefined ? [] : [['at work', [atWork]] as const]),
  ];
  return { title: `Encryption of secrets ${is}`, fields };
}

export function fieldLines(fields: readonly Field[], width: number): string[] {
  return fields.flatMap(([label, lines]) =>
    lines
      .flatMap((line) => wrap(line, width, labelWidth))
      .map((line, at) => (at === 0 ? `  ${label.padEnd(labelWidth - 2)}${line.trimStart()}` : line)),
  );
}

function keyText({ type, name, fingerprint, ageSeconds, writesOn }: KeyRow, nodes: number): string {
  return [
    `${type} ${name}`,
    ...(fingerprint === undefined ? [] : [`fingerprint ${fingerprint}`]),
    ...(ageSeconds === undefined ? [] : [`${span(ageSeconds)} old`]),
    ...(writesOn.length === nodes ? [] : [`on ${writesOn.join(', ')}`]),
  ].join(', ');
}

const phases = {
  read: 'every node can read what is in use',
  write: 'every node writes with the wanted key',
  rewrite: 'all objects are rewritten, and etcd shows it',
  prune: 'what is no longer needed is removed',
  record: 'the state says so',
} as const;

function openLines({ kind, started, from, to, steps, found }: OpenTransition): string[] {
  return [
    `${kind}${started === undefined ? '' : `, begun ${minute(started)} UTC`}${found === undefined ? '' : ` (${found})`}`,
    ...(from === undefined ? [] : [`from ${from}`]),
    `to ${to}`,
    ...steps.map(({ phase, state }) => `${{ done: '✔', next: '▸', 'to do': '·' }[state]} ${phases[phase]}`),
  ];
}

export function nodesSheet(nodes: readonly NodeRow[], { yellow }: Pick<Colours, 'yellow'>): Sheet {
  const hasPlugins = nodes.some(({ plugins }) => plugins !== undefined);
  const titles = ['NODE', 'READY', 'FLAG', 'ON DISK', 'LOADED', ...(hasPlugins ? ['PLUGIN'] : []), 'IN STEP'];
  const columns = titles.map((title) => ({ title }));
  const yes = (value: boolean, known: boolean) => (known ? (value ? 'yes' : 'no') : '–');
  const rows = nodes.map((each): Row => {
    const known = each.reachable;
    return {
      cells: [
        each.node,
        yes(each.ready, known),
        yes(each.flag, known),
        each.onDisk?.sha256.slice(0, 12) ?? '–',
        loadedText(each),
        ...(hasPlugins ? [pluginText(each)] : []),
        each.inStep ? 'yes' : yellow('no'),
      ],
      below: each.why,
    };
  });
  return { columns, rows };
}

const pluginWords = {
  running: 'runs',
  stopped: 'stopped',
  missing: 'missing',
  unfinished: 'unfinished',
  'other-definition': 'other',
  'not-wanted': 'not wanted',
} as const;

/** Of several each state once; which is which stands below. */
function pluginText({ plugins = [] }: NodeRow): string {
  const states = new Set(plugins.map(({ state }) => pluginWords[state]));
  return states.size === 0 ? '–' : [...states].join(', ');
}

function loadedText({ flag, loaded, hasLoaded, onDisk }: NodeRow): string {
  if (loaded !== undefined) return loaded.slice(0, 12);
  if (!flag || onDisk === undefined) return '–';
  // Before 1.34 kube-apiserver does not say.
  return { yes: 'as on disk', unknown: 'not told', no: '–' }[hasLoaded];
}

export function keysSheet(keys: readonly KeyRow[]): Sheet {
  const columns = [
    ...['TYPE', 'NAME', 'FINGERPRINT', 'STATE', 'CREATED (UTC)'].map((title) => ({ title })),
    { title: 'OBJECTS', right: true },
  ];
  const rows = keys.map(({ type, name, fingerprint, state, created, stored }): Row => {
    const made = created === undefined ? '–' : minute(created);
    return {
      cells: [
        type,
        name === '' ? '–' : name,
        fingerprint ?? '–',
        state,
        made,
        stored === undefined ? '?' : String(stored),
      ],
    };
  });
  return { columns, rows };
}

export function censusLines(
  found: StatusAnswer['census'],
  paint: Pick<Colours, 'dim' | 'yellow'>,
  width: number,
): string[] {
  if ('unavailable' in found) return wrap(`etcd could not be read: ${found.unavailable}`, width);
  return [...table(censusSheet(found, paint), width, paint.dim), ...wrap(censusTotals(found), width)];
}

export function censusSheet({ resources }: Counted, { yellow }: Pick<Colours, 'yellow'>): Sheet {
  const columns = [
    ...['STORED', 'UNDER'].map((title) => ({ title })),
    { title: 'OBJECTS', right: true },
    { title: '' },
  ];
  const rows = resources.map(({ resource, provider, name, count, kmsKeyId, asWanted }): Row => {
    const key = provider === 'identity' ? 'identity (plain text)' : `${provider}:${name}`;
    const id = kmsKeyId === undefined ? '' : ` ${kmsKeyId}`;
    return { cells: [resource, `${key}${id}`, String(count), asWanted ? '' : yellow('not the wanted key')] };
  });
  return { columns, rows };
}

export function censusTotals({ at, total, others }: Counted): string {
  const revisions = at.map(({ revision }) => revision).join(', ');
  const { resources, objects } = others;
  return `${total} values in etcd at revision ${revisions}, ${objects} not to be encrypted (${resources} kinds)`;
}

/** Problems of nodes stand in their table. */
function verdict({ problems, next }: StatusAnswer, { green, yellow }: Colours, width: number): string[] {
  if (problems.length === 0) return [green('✔ all is as the state and cluster.yml say')];
  const said = problems.filter(({ node }: Problem) => node === undefined);
  const nodes = [...new Set(problems.flatMap(({ node }) => node ?? []))];
  const all = [
    ...said.map(({ text }) => text),
    ...(nodes.length === 0 ? [] : [`see above: ${nodes.join(', ')}`]),
  ];
  return [
    yellow('⚠ not all is as it should be'),
    ...all.flatMap((text) => wrap(text, width, 2)),
    ...(next === undefined ? [] : wrap(`next: ${next}`, width)),
  ];
}

export function minute(time: string): string {
  return `${time.slice(0, 10)} ${time.slice(11, 16)}`;
}

/** `3 days`, `5 hours`: the largest unit of which there are at least two. */
export function span(seconds: number): string {
  const units = [
    ['day', 86_400],
    ['hour', 3_600],
    ['minute', 60],
  ] as const;
  const [unit, size] = units.find(([, length]) => seconds >= 2 * length) ?? ['second', 1];
  const count = Math.floor(seconds / size);
  return counted(count, unit);
}
