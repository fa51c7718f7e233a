/**
 * Random histories: the operator edits cluster.yml and gives commands, whatever can break breaks, nodes reboot, clients
 * create, change, delete and re-create secrets. At the end all is repaired, and the last command must finish.
 */
import fc from 'fast-check';
import { TsrkeError } from '../../src/errors.ts';
import { Killed, type Effect, type Fault, type When } from '../../src/lab/faults.ts';
import type { EtcdSnapshot } from '../../src/lab/etcd-store.ts';
import type { Action } from '../../src/encryption/target.ts';
import { providerPath } from '../../src/encryption/world.ts';
import { NoAnswer } from '../../src/lab/surface.ts';
import { wrongAtTheEnd } from './every-effect.ts';
import { MemoryLab } from './memory-lab.ts';

export interface PlannedFault {
  /** The how-manieth effect of the run, counting all or those that change something. */
  readonly at: number;
  readonly of: 'all' | 'changes';
  readonly fault: Fault;
}

export type Happening =
  | { readonly kind: 'edit'; readonly enabled: boolean }
  | {
      readonly kind: 'command';
      readonly action: Action;
      readonly faults: readonly PlannedFault[];
      /** cluster.yml is edited before it, or left as it is. */
      readonly enabled: boolean | undefined;
      /** Clients are at work meanwhile. */
      readonly clients: boolean;
    }
  | { readonly kind: 'reboot' | 'power-off' | 'power-on'; readonly node: number }
  /** From its next start on, the node's kube-apiserver serves but does not become ready, for so many minutes. */
  | { readonly kind: 'unready'; readonly node: number; readonly minutes: number; readonly restarts: boolean }
  | {
      readonly kind: 'client';
      readonly what: 'create' | 'change' | 'delete' | 're-create';
      readonly secret: number;
    }
  | { readonly kind: 'busy'; readonly status: 429 | 503; readonly times: number }
  | { readonly kind: 'webhook'; readonly secret: number }
  | { readonly kind: 'time'; readonly minutes: number }
  /** The provider file is gone, or is one that the node had before; then the node reboots. */
  | { readonly kind: 'lost-file' | 'old-file'; readonly node: number }
  /** etcd is restored from the snapshot before the how-manieth happening. */
  | { readonly kind: 'restore'; readonly from: number };

export interface History {
  readonly nodes: 1 | 3;
  readonly encrypted: boolean;
  readonly happenings: readonly Happening[];
}

export interface HistoryFigures {
  histories: number;
  commands: number;
  effects: number;
  faults: number;
}

const when = fc.constantFrom<When>('before', 'after');

const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 3, arbitrary: when.map((each) => ({ kind: 'fails' as const, when: each })) },
  { weight: 4, arbitrary: when.map((each) => ({ kind: 'killed' as const, when: each })) },
  { weight: 1, arbitrary: when.map((each) => ({ kind: 'power-cut' as const, when: each })) },
  { weight: 1, arbitrary: fc.constant({ kind: 'hangs' as const }) },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(2_000, 20_000, 90_000)
      .map((milliseconds) => ({ kind: 'late' as const, milliseconds })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('done-later' as const),
      caller: fc.constantFrom('lives' as const, 'killed' as const),
      milliseconds: fc.constantFrom(300, 1_000, 5_000),
    }),
  },
);

const planned: fc.Arbitrary<PlannedFault> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ at: fc.integer({ min: 1, max: 15 }), of: fc.constant('changes' as const), fault }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ at: fc.integer({ min: 1, max: 300 }), of: fc.constant('all' as const), fault }),
  },
);

const command: fc.Arbitrary<Happening> = fc.record({
  kind: fc.constant('command' as const),
  action: fc.constantFrom<Action>(
    ...(['up', 'up', 'up', 'rotate', 'rotate', 'rotate', 'resume', 'abort'] as const),
    ...(['prepare', 'swap', 'reencrypt'] as const),
  ),
  faults: fc.array(planned, { minLength: 1, maxLength: 2 }),
  enabled: fc.option(fc.boolean(), { nil: undefined, freq: 2 }),
  clients: fc.boolean(),
});

const node = fc.nat(2);
const secret = fc.integer({ min: 1, max: 5 });

const happening: fc.Arbitrary<Happening> = fc.oneof(
  { weight: 10, arbitrary: command },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('edit' as const), enabled: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('reboot' as const, 'power-off' as const, 'power-on' as const),
      node,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('unready' as const),
      node,
      minutes: fc.constantFrom(1, 5),
      restarts: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('client' as const),
      what: fc.constantFrom('create' as const, 'change' as const, 'delete' as const, 're-create' as const),
      secret,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('busy' as const),
      status: fc.constantFrom(429 as const, 503 as const),
      times: fc.integer({ min: 1, max: 8 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('lost-file' as const, 'old-file' as const), node }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restore' as const), from: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('webhook' as const), secret }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('time' as const), minutes: fc.constantFrom(1, 10) }),
  },
);

export const history: fc.Arbitrary<History> = fc.record({
  nodes: fc.constantFrom(1 as const, 1 as const, 1 as const, 1 as const, 1 as const, 3 as const),
  encrypted: fc.boolean(),
  happenings: fc.array(happening, { minLength: 2, maxLength: 4 }),
});

/** Plays it. Throws where something is not as it must be. */
export async function play(
  { nodes, encrypted, happenings }: History,
  figures: HistoryFigures,
): Promise<void> {
  const lab = new MemoryLab({ nodes, encrypted, secrets: 3, startTime: 300 });
  const clients = new Clients(lab);
  const past = new Past(lab);
  figures.histories += 1;
  for (const each of happenings) {
    past.remember();
    switch (each.kind) {
      case 'edit':
        lab.enabled = each.enabled;
        break;
      case 'command': {
        lab.enabled = each.enabled ?? lab.enabled;
        let changes = 0;
        await run(lab, each.action, figures, {
          faultOf: (effect) => {
            if (effect.changes) changes += 1;
            return each.faults.find(({ at, of }) =>
              of === 'all' ? at * nodes === effect.number : effect.changes && at === changes,
            )?.fault;
          },
          onDone: ({ number }) => {
            if (each.clients && number % 23 === 0) clients.next();
          },
        });
        break;
      }
      case 'reboot':
      case 'power-off':
      case 'power-on': {
        const name = lab.model.nodes[each.node]?.name;
        if (name === undefined) break;
        if (each.kind === 'reboot') lab.model.reboot(name);
        else if (each.kind === 'power-off') lab.model.powerOff(name);
        else if (!lab.model.host(name).powered) lab.model.powerOn(name);
        break;
      }
      case 'unready': {
        const name = lab.model.nodes[each.node]?.name;
        if (name === undefined) break;
        lab.model.unreadyUntil.set(name, lab.clock.now().getTime() + each.minutes * 60_000);
        if (each.restarts) lab.model.reboot(name);
        break;
      }
      case 'client':
        clients.act(each.what, `secret-${each.secret}`);
        break;
      case 'busy':
        lab.model.refusals.push({
          matches: (_, { path }) => !path.startsWith('/readyz'),
          status: each.status,
          message: 'Too many requests, please try again later.',
          retryAfter: 1,
          times: each.times,
        });
        break;
      case 'webhook':
        lab.model.admit = (_, { metadata }) =>
          metadata.name === `secret-${each.secret}` ? 'not this one' : undefined;
        break;
      case 'lost-file':
      case 'old-file':
        past.putFile(each.kind, each.node);
        break;
      case 'restore':
        if (past.restore(each.from)) clients.forget();
        break;
      case 'time':
        lab.clock.advance(each.minutes * 60_000);
        break;
    }
    const [problem] = lab.problems();
    if (problem !== undefined) throw new Error(problem);
  }
  await finish(lab, clients, figures);
}

async function run(
  lab: MemoryLab,
  action: Action,
  figures: HistoryFigures,
  options: {
    readonly faultOf?: (effect: Effect) => Fault | undefined;
    readonly onDone?: (effect: Effect) => void;
  },
): Promise<Error | undefined> {
  const { error, effects } = await lab.tsrke(action, options);
  figures.commands += 1;
  figures.effects += effects.log.length;
  figures.faults += effects.injected.size;
  if (error !== undefined && !isExpected(error)) throw error;
  return error;
}

/** Anything else that is thrown is a bug of tsrke. */
function isExpected(error: unknown): boolean {
  return error instanceof AggregateError
    ? error.errors.every(isExpected)
    : error instanceof TsrkeError || error instanceof Killed;
}

/** All is repaired; the last command finishes, a further one plans nothing, and each secret is what was last written. */
async function finish(lab: MemoryLab, clients: Clients, figures: HistoryFigures): Promise<void> {
  for (const { name } of lab.model.nodes) if (!lab.model.host(name).powered) lab.model.powerOn(name);
  lab.model.refusals.length = 0;
  lab.model.admit = () => undefined;
  lab.model.unreadyUntil.clear();
  lab.clock.advance(120_000);
  await lab.settled();
  await untilDone(lab, 'up', figures);
  // `up` leaves a rotation in steps where it is.
  if (lab.store.state.tsrke.transition?.held !== undefined) await untilDone(lab, 'rotate', figures);
  const wrong = wrongAtTheEnd(lab, undefined);
  if (wrong !== undefined) throw new Error(wrong);
  const { said } = await lab.tsrke('up');
  figures.commands += 1;
  if (said?.startsWith('nothing to do') !== true)
    throw new Error(`a finished run planned more: ${said ?? ''}`);
  await clients.expectAll();
}

async function untilDone(lab: MemoryLab, action: Action, figures: HistoryFigures): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const error = await run(lab, action, figures, {});
    if (error === undefined) return;
    if (tries === 8) throw new Error(`not done after ${tries} runs`, { cause: error });
  }
}

/** What was there before: provider files by node, and snapshots of etcd. */
class Past {
  readonly #lab: MemoryLab;
  readonly #files = new Map<string, Buffer[]>();
  readonly #snapshots: EtcdSnapshot[] = [];

  constructor(lab: MemoryLab) {
    this.#lab = lab;
  }

  remember(): void {
    const { model } = this.#lab;
    this.#snapshots.push(model.snapshot());
    for (const { name } of model.nodes) {
      const bytes = model.host(name).read(providerPath)?.bytes;
      if (bytes !== undefined) this.#files.set(name, [...(this.#files.get(name) ?? []), bytes]);
    }
  }

  putFile(kind: 'lost-file' | 'old-file', node: number): void {
    const { model } = this.#lab;
    const name = model.nodes[node]?.name;
    if (name === undefined || !model.host(name).powered) return;
    const present = model.host(name).read(providerPath)?.bytes;
    const old = this.#files.get(name)?.find((bytes) => present?.equals(bytes) === false);
    if (present === undefined || (kind === 'old-file' && old === undefined)) return;
    this.#lab.tampered = true;
    if (kind === 'old-file' && old !== undefined) model.host(name).write(providerPath, old);
    else model.host(name).remove(providerPath);
    model.reboot(name);
  }

  restore(from: number): boolean {
    const snapshot = this.#snapshots[from];
    if (snapshot === undefined) return false;
    this.#lab.tampered = true;
    this.#lab.model.restore(snapshot);
    return true;
  }
}

/** Others who use the cluster, each time through another apiserver; they remember what was acknowledged to them. */
class Clients {
  readonly #lab: MemoryLab;
  /** undefined: deleted. Not in it: never acknowledged, or an answer was lost. */
  readonly #known = new Map<string, string | undefined>();
  #turn = 0;

  constructor(lab: MemoryLab) {
    this.#lab = lab;
  }

  forget(): void {
    this.#known.clear();
  }

  next(): void {
    const kinds = ['create', 'change', 'delete', 're-create'] as const;
    this.act(kinds[this.#turn % 4] ?? 'change', `secret-${1 + (this.#turn % 5)}`);
  }

  act(what: 'create' | 'change' | 'delete' | 're-create', name: string): void {
    const one = '/api/v1/namespaces/default/secrets';
    const value = `value ${this.#turn}`;
    const body = { metadata: { name }, data: { password: Buffer.from(value).toString('base64') } };
    if (what === 'delete' || what === 're-create') {
      if (this.#ask('DELETE', `${one}/${name}`) === 200) this.#known.set(name, undefined);
    }
    if (what === 'create' || what === 're-create') {
      if (this.#ask('POST', one, body) === 201) this.#known.set(name, value);
    }
    if (what === 'change') {
      if (this.#ask('PUT', `${one}/${name}`, body) === 200) this.#known.set(name, value);
    }
  }

  async expectAll(): Promise<void> {
    for (const { name: node } of this.#lab.model.nodes) {
      for (const [name, value] of this.#known) {
        const answer = await this.#lab.model.kube(
          node,
          ask('GET', `/api/v1/namespaces/default/secrets/${name}`),
        );
        const found =
          answer.status === 404
            ? undefined
            : (JSON.parse(answer.body.toString()) as { data?: { password: string } }).data?.password;
        const wanted = value === undefined ? undefined : Buffer.from(value).toString('base64');
        if (found !== wanted) throw new Error(`${name} is not what a client was told on ${node}`);
      }
    }
  }

  /** The status; undefined where no apiserver serves. */
  #ask(method: string, path: string, body?: unknown): number | undefined {
    this.#turn += 1;
    const { model } = this.#lab;
    model.advance();
    const serving = model.running().filter(({ listens }) => listens);
    const node = serving[this.#turn % Math.max(1, serving.length)]?.node;
    if (node === undefined) return undefined;
    try {
      return model.ask(node, ask(method, path, body)).status;
    } catch (error) {
      if (error instanceof NoAnswer) return undefined;
      throw error;
    }
  }
}

function ask(method: string, path: string, body?: unknown) {
  return {
    method,
    path,
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: Buffer.from(body === undefined ? '' : JSON.stringify(body)),
  };
}
