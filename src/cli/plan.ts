/** Plans as files and as a person reads them. */
import { readFileSync } from 'node:fs';
import {
  expectSameStages,
  parsePlan,
  type PlanDocument,
  type PlannedStage,
} from '../encryption/plan-document.ts';
import { lineTitles } from '../encryption/plan.ts';
import type { NodeStep, PlannedStep, WaitStep } from '../encryption/preview.ts';
import { TsrkeError } from '../errors.ts';
import type { Found } from '../provision/encryption.ts';
import { approvedBy, planChange, type PlanOptions } from '../provision/plan.ts';
import { planUp } from '../provision/plan-up.ts';
import type { Answer } from './answer.ts';
import type { Colours } from './colours.ts';
import { keep } from './keep.ts';
import { span } from './status-view.ts';
import { wrap } from './table.ts';
import { counted } from '../words.ts';

/** Looks ahead; `out`: where the plan is kept. Throws CONFIG_UNREADABLE where it cannot be written. */
export async function lookAhead(options: PlanOptions, out: string | undefined): Promise<Answer> {
  const plan = options.action === 'up' ? await planUp(options) : await planChange(options);
  if (out !== undefined) keep(out, `${JSON.stringify(plan, undefined, 2)}\n`, 'the plan');
  return {
    text: (paint, width) => planView(plan, out, paint, width),
    document: plan,
    exitCode: plan.somethingToDo ? 2 : 0,
  };
}

/** What a run needs to carry out exactly this plan. Throws CONFIG_UNREADABLE and CONFIG_INVALID. */
export function planned(path: string): {
  readonly action: PlanDocument['action'];
  readonly approve: (found: Found) => void;
  readonly approveStages: (stages: readonly PlannedStage[]) => void;
} {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new TsrkeError('CONFIG_UNREADABLE', `${path} cannot be read`, { cause });
  }
  const plan = parsePlan(text, path);
  return {
    action: plan.action,
    approve: approvedBy(plan),
    approveStages: (stages) => expectSameStages(plan, stages),
  };
}

/** No key material: fingerprints at most. `out`: where the plan was kept. */
export function planView(
  plan: PlanDocument,
  out: string | undefined,
  { bold, dim, green }: Colours,
  width: number,
): string {
  const command = plan.action === 'up' ? 'tsrke up' : 'tsrke encrypt rotate-key';
  const notes = [
    ...(plan.note === undefined ? [] : item(plan.note, width)),
    ...plan.due.flatMap((each) => item(each, width)),
    ...plan.differences.flatMap((each) => item(each, width)),
  ];
  if (!plan.somethingToDo) {
    return [...notes, green(`✔ nothing to do: \`${command}\` would change nothing`)].join('\n');
  }
  const parts = [
    notes,
    [bold(`${command} would do this`), ...changeLines(plan, width)],
    ...plan.steps.map((step, at) => stepLines(step, at + 1, bold, dim, width)),
    ...(plan.stages ?? []).map((stage, at) => stageLines(stage, plan.steps.length + at + 1, bold, width)),
    keyLines(plan, width),
    totals(plan, out, width),
  ];
  return parts
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n');
}

function changeLines({ change }: PlanDocument, width: number): string[] {
  if (change === undefined) return [];
  // The keys are those that are there: what is done is done to nodes.
  const what = change.kind === 'adopt' ? 'bring every node in step' : change.kind;
  return [['what', what] as const, ['from', change.from] as const, ['to', change.to] as const].flatMap(
    ([label, text]) => labelled(label, text, 8, width),
  );
}

function stageLines(
  { title, moves }: PlannedStage,
  number: number,
  bold: Colours['bold'],
  width: number,
): string[] {
  return [
    bold(`${number}. ${title}`),
    ...moves.flatMap(({ node, does: what }) =>
      item(node === undefined ? what : `${node}: ${what}`, width, 3),
    ),
  ];
}

function stepLines(
  step: PlannedStep,
  number: number,
  bold: Colours['bold'],
  dim: Colours['dim'],
  width: number,
): string[] {
  const head = bold(`${number}. ${lineTitles[step.line]}`);
  if (step.line === 'rewrite') {
    return [
      head,
      ...step.resources.flatMap(({ resource, objects }) => {
        const count = objects === undefined ? 'nobody can count them just now' : counted(objects, 'object');
        return item(`${resource}: ${count}`, width, 3);
      }),
    ];
  }
  if (step.line === 'wait') return [head, ...step.keys.flatMap((key) => waitLines(key, width))];
  if (!('file' in step)) {
    const does = {
      created: 'create and start',
      recreated: 'recreate',
      started: 'start',
      removed: 'remove',
    };
    return [
      head,
      ...step.nodes.flatMap(({ node, socket, container }) =>
        item(`${node}: ${does[container]} the container of the KMS plugin at ${socket}`, width, 3),
      ),
    ];
  }
  return [
    head,
    ...item(step.file, width, 3).map(dim),
    ...step.nodes.flatMap((node) => item(`${node.node}: ${does(node)}`, width, 3)),
  ];
}

function waitLines({ provider, keyId, nodes }: WaitStep['keys'][number], width: number): string[] {
  const is = keyId === undefined ? 'its plugins do not have the same key' : `its key is ${keyId} by now`;
  return [
    ...item(`${provider}: ${is}`, width, 3),
    ...nodes.flatMap(({ node, apiserver = 'no key yet', plugin }) => {
      const late = apiserver === plugin || plugin === undefined ? '' : `, its plugin ${plugin}`;
      return item(`${node}: kube-apiserver has ${apiserver}${late}`, width, 3);
    }),
  ];
}

const withOrWithout = { added: ' with automatic reload', removed: ' without automatic reload' };

function does({ providerFile, apiserver, automaticReload }: NodeStep): string {
  const file = { written: 'write the provider file', removed: 'remove the provider file', 'as it is': '' }[
    providerFile
  ];
  const server = {
    restarted: 'restart kube-apiserver',
    recreated: `recreate kube-apiserver${automaticReload === undefined ? '' : withOrWithout[automaticReload]}`,
    'left alone': providerFile === 'written' ? 'wait until kube-apiserver has loaded it' : '',
  }[apiserver];
  const order = providerFile === 'removed' ? [server, file] : [file, server];
  return order.filter((each) => each !== '').join(', ');
}

function keyLines({ keys, steps }: PlanDocument, width: number): string[] {
  const words = {
    made: 'is made',
    adopted: 'is adopted into the key ring',
    'in use': 'stays',
    retired: 'is retired; the state keeps it, because old snapshots need it',
  };
  const keks = steps.flatMap((step) => (step.line === 'wait' ? step.keys : []));
  return [
    ...keys.flatMap(({ key, becomes }) => item(`key ${key} ${words[becomes]}`, width)),
    ...keks.flatMap(({ provider, keyId }) =>
      keyId === undefined ? [] : item(`then etcd needs key ${keyId} of ${provider}, and no older one`, width),
    ),
  ];
}

function totals(
  { restarts, objects, sparedByReload, estimate }: PlanDocument,
  out: string | undefined,
  width: number,
): string[] {
  const time = estimate === undefined ? '' : `, about ${span(estimate.seconds)} (${estimate.basis})`;
  return [
    ...wrap(`${counted(restarts, 'restart')}, ${counted(objects, 'object')} to rewrite${time}`, width),
    ...(sparedByReload === undefined
      ? []
      : wrap(`\`reload: automatic\` in cluster.yml would spare ${sparedByReload} of the restarts`, width)),
    'nothing was changed',
    ...wrap(
      out === undefined
        ? 'keep this plan with `--out plan.json` for `tsrke up --plan plan.json`'
        : `\`tsrke up --plan ${out}\` carries out exactly this`,
      width,
    ),
  ];
}

/** What does not fit on its line goes on further in, so that the next item is not taken for a part of it. */
function item(text: string, width: number, indent = 0): string[] {
  return wrap(text, width - 2, indent).map((line, at) => (at === 0 ? line : `  ${line}`));
}

function labelled(label: string, text: string, indent: number, width: number): string[] {
  return wrap(text, width, indent).map((line, at) =>
    at === 0 ? `  ${label.padEnd(indent - 2)}${line.trimStart()}` : line,
  );
}
