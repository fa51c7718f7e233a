/** Situations on the model that random histories meet seldom; each throws where something is not as it must be. */
import type { Action } from '../../src/encryption/target.ts';
import { managedFile, renderProviderFile } from '../../src/encryption/configuration.ts';
import { Secret } from '../../src/encryption/key.ts';
import { providerPath } from '../../src/encryption/world.ts';
import { TsrkeError } from '../../src/errors.ts';
import type { Effect } from '../../src/lab/faults.ts';
import { NoAnswer } from '../../src/lab/surface.ts';
import { storedKeyOf } from '../../src/etcd/stored.ts';
import { wrongAtTheEnd } from './every-effect.ts';
import { MemoryLab, Violation, type LabOptions } from './memory-lab.ts';
import { copyWithKeys, wrongAtThisMoment } from './moments.ts';

export interface Situation {
  readonly name: string;
  readonly play: () => Promise<void>;
}

const secretsOf = '/api/v1/namespaces/default/secrets';

function open(options: LabOptions): MemoryLab {
  return new MemoryLab({ startTime: 300, secrets: 4, ...options });
}

/** A client's request through one apiserver; undefined where it does not answer. */
function ask(lab: MemoryLab, node: string, method: string, path: string, body?: unknown) {
  const headers = { 'content-type': 'application/json', accept: 'application/json' };
  try {
    return lab.model.ask(node, { method, path, headers, body: Buffer.from(JSON.stringify(body ?? {})) });
  } catch (error) {
    if (error instanceof NoAnswer) return undefined;
    throw error;
  }
}

function write(lab: MemoryLab, node: string, name: string): void {
  const body = { metadata: { name }, data: { password: Buffer.from(`by ${node}`).toString('base64') } };
  if (ask(lab, node, 'PUT', `${secretsOf}/${name}`, body)?.status === 404)
    ask(lab, node, 'POST', secretsOf, body);
}

function expectThat(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Violation(otherwise);
}

/** The command succeeds, and holds what must hold at every moment. */
async function undisturbed(
  lab: MemoryLab,
  command: Action,
  onDone?: (effect: Effect) => void,
): Promise<void> {
  let wrong: string | undefined;
  const { error } = await lab.tsrke(command, {
    onDone: (effect) => {
      onDone?.(effect);
      wrong ??= wrongAtThisMoment(lab);
    },
  });
  if (wrong !== undefined) throw new Violation(wrong);
  if (error !== undefined) throw error;
  const atTheEnd = wrongAtTheEnd(lab, undefined);
  if (atTheEnd !== undefined) throw new Violation(atTheEnd);
}

/** Runs on after whatever happened before, until the command is done. */
async function settle(lab: MemoryLab, command: Action): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const { error } = await lab.tsrke(command);
    if (error === undefined) break;
    if (tries === 8) throw new Error(`not done after ${tries} runs`, { cause: error });
  }
  const wrong = wrongAtTheEnd(lab, undefined);
  if (wrong !== undefined) throw new Violation(wrong);
}

const changes = [
  { what: 'an enable', encrypted: false, command: 'up', enabled: true },
  { what: 'a rotation', encrypted: true, command: 'rotate', enabled: true },
  { what: 'a disable', encrypted: true, command: 'up', enabled: false },
] as const;

/** Clients list by pages: one that began before the change goes on after it, or is told to start anew. */
async function withReaders(nodes: 1 | 3): Promise<void> {
  for (const { encrypted, command, enabled } of changes) {
    const lab = open({ nodes, encrypted });
    const first = ask(lab, 'cp-1', 'GET', `${secretsOf}?limit=1`);
    const { metadata } = JSON.parse(String(first?.body)) as { metadata: { continue: string } };
    lab.enabled = enabled;
    await undisturbed(lab, command);
    const next = `${secretsOf}?limit=1&continue=${encodeURIComponent(metadata.continue)}`;
    const status = ask(lab, `cp-${nodes}`, 'GET', next)?.status;
    expectThat(status === 200 || status === 410, `a list of before goes on with status ${status ?? 'none'}`);
  }
}

/** Between tsrke's list and its patches, others change, delete and re-create what was listed. */
async function withWriters(): Promise<void> {
  const lab = open({ nodes: 3, encrypted: true });
  await undisturbed(lab, 'rotate', ({ what }) => {
    if (!what.includes('GET /api/v1/secrets')) return;
    write(lab, 'cp-2', 'secret-1');
    ask(lab, 'cp-2', 'DELETE', `${secretsOf}/secret-2`);
    ask(lab, 'cp-3', 'DELETE', `${secretsOf}/secret-3`);
    write(lab, 'cp-3', 'secret-3');
  });
}

const starts = (what: string) => /POST \S*kube-apiserver\/(re)?start /.test(what);

/** The how-manieth start leaves an apiserver that serves and is written to, but says that it is not ready. */
async function notReady(nodes: 1 | 3, change: (typeof changes)[number], which: number): Promise<boolean> {
  const lab = open({ nodes, encrypted: change.encrypted });
  lab.enabled = change.enabled;
  let count = 0;
  const { refusals } = lab.model;
  const onDone = ({ what, node = '' }: Effect) => {
    if (starts(what)) {
      count += 1;
      refusals.length = 0;
      if (count === which) {
        const matches = (to: string, { path }: { path: string }) => to === node && path.startsWith('/readyz');
        refusals.push({ matches, status: 500, message: 'not ready', times: Infinity });
      }
    }
    if (refusals.length > 0 && what.includes('/readyz')) write(lab, node, 'secret-1');
  };
  const { error } = await lab.tsrke(change.command, { onDone });
  if (count < which) return false;
  expectThat(error !== undefined, 'a node was not ready, and the run went on');
  refusals.length = 0;
  await settle(lab, 'up');
  return true;
}

/** Cut off after the how-manieth start; then the operator wants the same, or something else. */
async function cutOff(
  nodes: 1 | 3,
  change: (typeof changes)[number],
  next: 'again' | 'abort' | 'edit',
  which: number,
): Promise<boolean> {
  const lab = open({ nodes, encrypted: change.encrypted });
  lab.enabled = change.enabled;
  let count = 0;
  const cut = await lab.tsrke(change.command, {
    faultOf: ({ what }) =>
      starts(what) && ++count === which ? { kind: 'killed', when: 'after' } : undefined,
  });
  if (cut.error === undefined) return false;
  if (next === 'abort') lab.enabled = change.encrypted;
  if (next === 'edit') lab.enabled = !change.enabled;
  lab.clock.advance(120_000);
  // On each node clients write until the last moment before it is restarted, and from the first one after it.
  const onDone = ({ kind, changes: it, node }: Effect) => {
    if (kind === 'docker' && it && node !== undefined) write(lab, node, 'secret-1');
  };
  const command = next === 'again' ? change.command : next === 'abort' ? 'abort' : 'up';
  const ran = await lab.tsrke(command, { onDone });
  if (ran.error !== undefined) throw ran.error;
  const wrong = wrongAtTheEnd(lab, undefined);
  if (wrong !== undefined) throw new Violation(wrong);
  const { keyRing } = lab.store.state.tsrke;
  expectThat(keyRing.length <= (change.command === 'rotate' ? 2 : 1), 'a key was made that nobody needs');
  return true;
}

/** tsrke is killed after the how-manieth new file is in its place, and before it is loaded. */
async function cutBeforeItIsLoaded(minor: number, which: number): Promise<boolean> {
  const lab = open({ nodes: 1, encrypted: true, minor });
  await lab.tsrke('up');
  let count = 0;
  const cut = await lab.tsrke('rotate', {
    faultOf: ({ what }) =>
      what.includes('POST /exec') && ++count === which ? { kind: 'killed', when: 'after' } : undefined,
  });
  if (cut.error === undefined) return false;
  lab.clock.advance(120_000);
  const { error } = await lab.tsrke('rotate');
  if (error !== undefined) throw error;
  const wrong = wrongAtTheEnd(lab, undefined) ?? wrongAtThisMoment(lab);
  if (wrong !== undefined) throw new Violation(wrong);
  return true;
}

async function everyStart(run: (which: number) => Promise<boolean>): Promise<void> {
  let which = 1;
  while (await run(which)) which += 1;
  expectThat(which > 1, 'nothing was ever started');
}

/** Whatever breaks a run off, and whichever write of the copy is refused, no key lies in the clear in etcd. */
async function copyWhateverBreaks(change: (typeof changes)[number]): Promise<void> {
  const begin = async () => {
    const lab = open({ nodes: 1, encrypted: change.encrypted });
    // So that there is a copy already.
    if (change.encrypted) await lab.tsrke('rotate');
    lab.enabled = change.enabled;
    return lab;
  };
  const { log } = (await (await begin()).tsrke(change.command)).effects;
  const faults = [
    { kind: 'fails', when: 'before' },
    { kind: 'killed', when: 'after' },
  ] as const;
  for (const { number, what } of log.filter(({ kind, changes: it }) => it && kind !== 'docker')) {
    for (const fault of faults) {
      const lab = await begin();
      let wrong: string | undefined;
      const onDone = () => {
        wrong ??= copyWithKeys(lab);
      };
      const faultOf = (effect: Effect) => (effect.number === number ? fault : undefined);
      await lab.tsrke(change.command, { onDone, faultOf });
      await lab.tsrke(change.command === 'rotate' ? 'resume' : 'up', { onDone });
      expectThat(wrong === undefined, `${wrong ?? ''} (${fault.kind} ${fault.when} ${number} ${what})`);
    }
  }
}

/** A disable stops before it stores the copy again in the clear while keys are still in it. */
async function copyThatCannotBeWritten(): Promise<void> {
  const lab = open({ nodes: 1, encrypted: true });
  await undisturbed(lab, 'rotate');
  lab.enabled = false;
  lab.model.refusals.push({
    matches: (_, { method, path }) => method === 'PUT' && path.includes('full-cluster-state'),
    status: 500,
    message: 'an error on the server',
    times: Infinity,
  });
  let wrong: string | undefined;
  const onDone = () => {
    wrong ??= copyWithKeys(lab);
  };
  for (let tries = 0; tries < 3; tries += 1) {
    const { error } = await lab.tsrke('up', { onDone });
    expectThat(wrong === undefined, wrong ?? '');
    expectThat(codeOf(error) === 'KUBE', `a copy with keys could not be written: ${codeOf(error)}`);
  }
  lab.model.refusals.length = 0;
  await settle(lab, 'up');
}

async function olderCopy(): Promise<void> {
  const lab = open({ nodes: 1, encrypted: true });
  await undisturbed(lab, 'rotate');
  const older = lab.store.state;
  await undisturbed(lab, 'rotate');
  lab.store.state = older;
  const { error, effects } = await lab.tsrke('rotate', { invariants: false });
  expectThat(codeOf(error) === 'STATE_STALE', `an older state file was met with ${codeOf(error)}`);
  expectThat(!effects.log.some(({ what }) => starts(what)), 'an older state file restarted a node');
}

async function restoredEtcd(): Promise<void> {
  const lab = open({ nodes: 1, encrypted: true });
  const before = lab.model.snapshot();
  await undisturbed(lab, 'rotate');
  lab.model.restore(before);
  // Its invariants cannot hold at once: etcd has what no run has seen yet.
  await lab.tsrke('up', { invariants: false });
  await settle(lab, 'up');
}

async function retiredKey(): Promise<void> {
  const lab = open({ nodes: 1 });
  lab.enabled = true;
  await undisturbed(lab, 'up');
  const retired = lab.store.state.tsrke.keyRing.map(({ name }) => name);
  const file = lab.model.host('cp-1').read(providerPath)?.bytes ?? Buffer.alloc(0);
  lab.enabled = false;
  await undisturbed(lab, 'up');
  // A backup of the node brings the file back; kube-apiserver runs without the flag and does not know it.
  lab.model.host('cp-1').write(providerPath, file);
  lab.enabled = true;
  await settle(lab, 'up');
  const { value = Buffer.alloc(0) } = lab.model.store.get('/registry/secrets/default/secret-1') ?? {};
  const { name } = storedKeyOf(value);
  expectThat(!retired.includes(name), 'a retired key is used again');
}

/** Somebody else puts a file with a key of his own on the node, right before or after any effect that changes something. */
async function otherHands(): Promise<void> {
  const { log } = (await open({ nodes: 1, encrypted: true }).tsrke('rotate')).effects;
  const near = log.filter(
    ({ changes: it, kind }, i) => it || (log[i + 1]?.changes === true && kind !== 'kube'),
  );
  for (const { number } of near) await otherHand(number);
}

async function otherHand(at: number): Promise<void> {
  const lab = open({ nodes: 1, encrypted: true });
  const key = {
    provider: 'aescbc' as const,
    name: 'k-other',
    secret: new Secret(Buffer.alloc(32, 'o').toString('base64')),
  };
  const text = `${renderProviderFile(managedFile(key))}\n`;
  const { error } = await lab.tsrke('rotate', {
    invariants: false,
    onDone: ({ number }) => {
      if (number === at) lab.model.host('cp-1').write(providerPath, Buffer.from(text));
    },
  });
  const kept = lab.store.state.tsrke.keyRing.some(({ name }) => name === key.name);
  const there = lab.model.host('cp-1').read(providerPath)?.bytes.toString().includes(key.name) === true;
  expectThat(kept || there, `a file put at effect ${at} was overwritten unseen (${codeOf(error)})`);
}

/** Passes through the apiservers stand in for etcd, and one object answers with an error again and again. */
async function withoutEtcd(status: number): Promise<void> {
  const lab = open({ nodes: 1, encrypted: true });
  lab.model.refusals.push({
    matches: (_, { method, path }) => method === 'PATCH' && path.includes('/secret-2'),
    status,
    message: 'an error on the server',
    times: Infinity,
  });
  const faultOf = ({ kind }: Effect) =>
    kind === 'etcd' ? ({ kind: 'fails', when: 'before' } as const) : undefined;
  const { error } = await lab.tsrke('rotate', { faultOf });
  expectThat(error !== undefined, 'a secret could not be rewritten, and the run says that it is done');
  lab.model.refusals.length = 0;
  await settle(lab, 'up');
}

function codeOf(error: Error | undefined): string {
  return error instanceof TsrkeError ? error.code : String(error);
}

const words = { again: 'then given again', abort: 'then aborted', edit: 'then the other way' } as const;

export const situations: readonly Situation[] = [
  ...([1, 3] as const).map((nodes) => ({
    name: `enable, rotation and disable on ${nodes} node(s), one node midway at a time, readers going on`,
    play: () => withReaders(nodes),
  })),
  { name: 'clients change, delete and re-create what is being rewritten', play: withWriters },
  ...([1, 3] as const).flatMap((nodes) =>
    changes.map((change) => ({
      name: `${change.what} on ${nodes} node(s) where a node does not become ready`,
      play: () => everyStart((which) => notReady(nodes, change, which)),
    })),
  ),
  ...([1, 3] as const).flatMap((nodes) =>
    changes.flatMap((change) =>
      (['again', 'abort', 'edit'] as const).map((next) => ({
        name: `${change.what} on ${nodes} node(s), cut off, ${words[next]}`,
        play: () => everyStart((which) => cutOff(nodes, change, next, which)),
      })),
    ),
  ),
  ...[33, 34].map((minor) => ({
    name: `a file that was put but not loaded is found out by 1.${minor}`,
    play: () => everyStart((which) => cutBeforeItIsLoaded(minor, which)),
  })),
  ...changes.map((change) => ({
    name: `${change.what}, whatever breaks it off, shows no key in the copy in the cluster`,
    play: () => copyWhateverBreaks(change),
  })),
  {
    name: 'a disable that cannot clear the copy in the cluster of keys stops before they lie in the clear',
    play: copyThatCannotBeWritten,
  },
  { name: 'an older copy of the state file is refused', play: olderCopy },
  { name: 'etcd restored to before a rotation is rewritten again', play: restoredEtcd },
  { name: 'a retired key that comes back on a disk is not used', play: retiredKey },
  {
    name: 'a file that somebody else puts meanwhile is never overwritten unseen',
    play: otherHands,
  },
  { name: 'without etcd, a secret that answers 500 keeps its key', play: () => withoutEtcd(500) },
  { name: 'without etcd, a secret that is refused keeps its key', play: () => withoutEtcd(503) },
];
