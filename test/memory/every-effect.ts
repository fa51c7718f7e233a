/** A command, broken off at each of its effects in each way, then given again until it says that it is done. */
import { keyId } from '../../src/encryption/key.ts';
import { localKeysOf, parseProviderFile, writeKeyOf } from '../../src/encryption/configuration.ts';
import { providerPath } from '../../src/encryption/world.ts';
import { TsrkeError } from '../../src/errors.ts';
import { storedKeyOf } from '../../src/etcd/stored.ts';
import type { Action } from '../../src/encryption/target.ts';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { MemoryLab, Violation, type LabOptions } from './memory-lab.ts';
import { countIn } from '../figures.ts';
import { inPart } from '../part.ts';

export interface Scenario {
  readonly lab: LabOptions;
  /** Default: a lab as it is. */
  readonly open?: (options: LabOptions) => MemoryLab;
  /** Brings the lab to where the command begins; what it meets is nobody's business. */
  readonly prepare?: (lab: MemoryLab) => Promise<void>;
  readonly command: Action;
  /** Given again, the command may also say that nothing is left for it, by this code. */
  readonly saysDone?: string;
  /** Given once the command is done, where that leaves something to do. */
  readonly then?: Action;
  /** What cluster.yml asks when the command is given. */
  readonly enabled: boolean;
  /** Asked at the end, beyond what every scenario is asked. */
  readonly wrong?: (lab: MemoryLab, fault: Fault) => string | undefined;
}

export interface Figures {
  /** Effects of the command when nothing breaks it off. */
  effects: number;
  faults: number;
  /** Commands that were run. */
  runs: number;
  /** Sentences on whatever was not as it must be; each with the fault that led to it. */
  problems: string[];
}

const most = 6;

/** The one-shot container of hosts/files.ts; one that is left over is removed by the next run that needs it. */
const mover = 'tsrke-file-mover';

/** `effects`: which of them to break off, of each run its part; default all. */
export async function breakEveryEffect(
  scenario: Scenario,
  effects: (effect: Effect) => boolean = () => true,
): Promise<Figures> {
  const figures: Figures = { effects: 0, faults: 0, runs: 0, problems: [] };
  const whole = await openLab(scenario);
  const { log } = (await whole.tsrke(scenario.command)).effects;
  figures.effects = log.length;
  const all = log.filter(effects).flatMap((effect) => faultsFor(effect).map((fault) => ({ effect, fault })));
  for (const { effect, fault } of all.filter((_, index) => inPart(index))) {
    figures.faults += 1;
    const problem = await breakOff(scenario, effect, fault, figures);
    if (problem === undefined) continue;
    figures.problems.push(`${JSON.stringify(fault)} at effect ${effect.number} (${effect.what}): ${problem}`);
    if (figures.problems.length >= 20) return figures;
  }
  return figures;
}

/** Killed before a mere look is killed after what went before it; a look that fails has done nothing either way. */
function faultsFor(effect: Effect): Fault[] {
  if (!effect.changes) return [{ kind: 'fails', when: 'before' }];
  return [
    { kind: 'fails', when: 'before' },
    { kind: 'fails', when: 'after' },
    { kind: 'killed', when: 'before' },
    { kind: 'killed', when: 'after' },
    ...(effect.kind === 'state'
      ? []
      : [{ kind: 'done-later', caller: 'killed', milliseconds: 1_000 } as const]),
  ];
}

async function openLab(scenario: Scenario): Promise<MemoryLab> {
  const options = { startTime: 300, ...scenario.lab };
  const lab = scenario.open?.(options) ?? new MemoryLab(options);
  await scenario.prepare?.(lab);
  lab.enabled = scenario.enabled;
  return lab;
}

async function breakOff(
  scenario: Scenario,
  effect: Effect,
  fault: Fault,
  figures: Figures,
): Promise<string | undefined> {
  const lab = await openLab(scenario);
  const ring = lab.store.state.tsrke.keyRing.length;
  try {
    const first = await lab.tsrke(scenario.command, {
      faultOf: ({ number }) => (number === effect.number ? fault : undefined),
    });
    figures.runs += 1;
    if (first.effects.injected.size !== 1) return 'the run did not come that far';
    const finished = first.error === undefined;
    const target = lab.store.state.tsrke.transition?.target;
    let last = first;
    const again = async () => {
      const isDone = ({ error }: typeof last) =>
        error === undefined ||
        (error instanceof TsrkeError &&
          lab.store.state.tsrke.transition === undefined &&
          error.code === scenario.saysDone);
      for (let tries = 0; !isDone(last); tries += 1) {
        if (tries === most) return `not done after ${most} further runs: ${String(last.error?.stack)}`;
        last = await lab.tsrke(scenario.command);
        figures.runs += 1;
      }
      return undefined;
    };
    let unfinished = await again();
    if (fault.kind === 'done-later' && unfinished === undefined) {
      await lab.settled();
      last = await lab.tsrke('up');
      unfinished = await again();
    }
    if (unfinished !== undefined) return unfinished;
    if (scenario.then !== undefined) {
      const { error } = await lab.tsrke(scenario.then);
      if (error !== undefined) return `${scenario.then} after it: ${String(error.stack)}`;
    }
    return (
      wrongAtTheEnd(lab, finished ? undefined : target) ??
      // What lands beside a file only once the next run has ended stays there until something is written again.
      (fault.kind === 'done-later' ? undefined : leftBehind(lab)) ??
      tooManyKeys(lab, ring, target) ??
      scenario.wrong?.(lab, fault)
    );
  } catch (error) {
    if (error instanceof Violation) return error.message;
    throw error;
  }
}

/** The same command again also clears away what the one that was cut off had put beside a file. */
function leftBehind({ model }: MemoryLab): string | undefined {
  for (const { name } of model.nodes) {
    const left = [...model.host(name).files.keys()].find((path) => path.includes('tsrke'));
    if (left !== undefined) return `${left} was left on ${name}`;
    if (model.engine(name).find(mover) !== undefined) return `${mover} was left on ${name}`;
  }
  return undefined;
}

function tooManyKeys(lab: MemoryLab, before: number, target: string | undefined): string | undefined {
  const { keyRing } = lab.store.state.tsrke;
  // Where the target was saved it is taken up again. Otherwise no node has seen a key of it.
  const allowed = before + (target === undefined ? 2 : 1);
  return keyRing.length > allowed + 1 ? `the ring has grown from ${before} to ${keyRing.length}` : undefined;
}

/** What RKE runs on a node that is both controlplane and etcd. */
const ofRke = [
  ...['etcd', 'etcd-rolling-snapshots', 'kube-apiserver', 'kube-controller-manager', 'kube-proxy'],
  ...['kube-scheduler', 'kubelet', 'service-sidekick'],
];

/** What an operator could see once the command has said that it is done. */
export function wrongAtTheEnd(lab: MemoryLab, target: string | undefined): string | undefined {
  const { store, model, enabled } = lab;
  const [problem] = lab.problems();
  if (problem !== undefined) return problem;
  const { document, tsrke } = store.state;
  if (tsrke.transition !== undefined) return 'the transition is still open';
  const text = document.currentState?.encryptionConfig ?? '';
  if ((text !== '') !== enabled) return `encryption is ${text === '' ? 'off' : 'on'}`;
  if (target !== undefined && target !== text) return 'the target of the run that was cut off was given up';
  const file = text === '' ? { entries: [] } : parseProviderFile(text, 'the state');
  const written = writeKeyOf(file, 'secrets').stored;
  for (const { key, value } of model.store.range('/registry/secrets/', '/registry/secrets0').values) {
    const { id } = storedKeyOf(value);
    if (id !== written) return `${key} lies under ${id}, not under ${written}`;
  }
  const ready = model.running().filter(({ server, listens }) => listens && server.synced);
  if (ready.length !== model.nodes.length) return 'not all nodes are ready';
  for (const { name } of model.nodes) {
    const disk = model.host(name).read(providerPath)?.bytes.toString().trimEnd() ?? '';
    if (disk !== text) return `${name} has another file than the state`;
    const { containers } = model.engine(name);
    const names = containers
      .map((each) => each.name)
      .filter((each) => each !== mover && !each.startsWith('tsrke-kms-'))
      .toSorted();
    if (names.join() !== ofRke.join()) return `the containers of ${name} are ${names.join()}`;
    const server = model.engine(name).get('kube-apiserver');
    if (server.hostConfig.RestartPolicy?.Name !== 'always') return `${name} has lost its restart policy`;
  }
  const loaded = new Set(ready.map(({ server }) => server.loaded.sha256 ?? ''));
  if (loaded.size !== 1) return 'nodes have loaded different files';
  const live = new Set(localKeysOf(file).map(keyId));
  const wronglyRetired = tsrke.keyRing.filter((key) => key.retired !== undefined && live.has(keyId(key)));
  return wronglyRetired.length > 0 ? 'a key in use is retired' : undefined;
}

/** Each effect that changes something, and a part of those that only look: for three nodes they are a thousand. */
export function mostTelling({ changes, number }: Effect): boolean {
  return changes || number % 20 === 0;
}

/** The reliability figures of a run, for its log. */
export function show(title: string, { effects, faults, runs, problems }: Figures): void {
  countIn({ effects, faults, commands: runs });
  process.stdout.write(
    `${title}: ${effects} effects, ${faults} faults injected, ${runs} commands, ${problems.length} not as it must be\n`,
  );
}
