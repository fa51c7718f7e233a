/**
 * Every kind of effect broken, and in every way, through the real protocols and with tsrke as a process of its own: the same
 * command again finishes the rotation. (Every single effect in every way: test/memory, straight on the model.)
 */
import { readFileSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Effects, Killed, type Doing, type Effect, type Fault } from '../../src/lab/faults.ts';
import { NoAnswer, type LabSurface } from '../../src/lab/surface.ts';
import { systemClock } from '../../src/provision/links.ts';
import { countIn } from '../figures.ts';
import type { Lab, TsrkeOptions } from '../lab/lab.ts';
import { openMemoryLab } from '../lab/memory-lab.ts';
import { inPart } from '../part.ts';

const rotate = ['encrypt', 'rotate-key'];
const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
/** Milliseconds; as long as a caller that hangs is left to hang. */
const patience = 2_000;

/** Between the lab's servers and its cluster: one effect of the tsrke that runs has a fault. */
class Between {
  #effects = new Effects({ clock: systemClock });
  #kill = new AbortController();

  /** For the next run: `fault` at the first effect whose words match. What it returns goes to `tsrke`. */
  plan(what: RegExp, fault: Fault): TsrkeOptions {
    let met = false;
    const faultOf = (effect: Effect) => {
      if (met || !what.test(effect.what)) return undefined;
      met = true;
      return fault;
    };
    this.#effects = new Effects({ clock: systemClock, faultOf });
    this.#kill = new AbortController();
    return { kill: this.#kill.signal };
  }

  /** Whatever was planned is over; resolves to how many faults there were. */
  end(): number {
    const { size } = this.#effects.injected;
    this.#effects = new Effects({ clock: systemClock });
    return size;
  }

  readonly through = (surface: LabSurface): LabSurface => {
    const { etcd } = surface;
    return {
      nodes: surface.nodes,
      docker: (node, ask) => this.#run('docker', node, wordsOf(ask), () => surface.docker(node, ask)),
      kube: (node, ask) => this.#run('kube', node, wordsOf(ask), () => surface.kube(node, ask)),
      etcd: {
        range: (request, signal) => this.#run('etcd', undefined, 'Range', () => etcd.range(request, signal)),
        compact: (revision, signal) =>
          this.#run('etcd', undefined, 'Compact', () => etcd.compact(revision, signal)),
        size: (signal) => this.#run('etcd', undefined, 'Status', () => etcd.size(signal)),
      },
    };
  };

  readonly login = (node: string, accept: () => void): Promise<void> =>
    this.#run('ssh', node, 'connect', () => {
      accept();
      return Promise.resolve();
    });

  async #run<T>(
    kind: Doing<T>['kind'],
    node: string | undefined,
    what: string,
    work: () => Promise<T>,
  ): Promise<T> {
    const lost = () => new NoAnswer('ECONNRESET', 'the connection was broken off');
    const { signal } = new AbortController();
    const kill = this.#kill;
    const effects = this.#effects;
    try {
      const done = effects.run({ kind, node, what, changes: true, signal, work, lost, patience });
      // An effect of a tsrke that is dead never answers.
      return await Promise.race([done, effects.died]);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      kill.abort();
      throw lost();
    }
  }
}

const wordsOf = ({ method, path }: { method: string; path: string }) =>
  `${method} ${path.replace(/^\/v1\.\d+/, '').replace(/\?.*/s, '')}`;

const between = new Between();
let lab: Lab;
let opened: Lab | undefined;

beforeAll(async () => {
  opened = lab = await openMemoryLab({ encryption: 'on', secrets: 20 }, between);
});

afterAll(() => opened?.close());

interface RingKey {
  readonly name: string;
  readonly secret: string;
  readonly retired?: string;
}

function ring(): readonly RingKey[] {
  const { tsrke } = JSON.parse(readFileSync(lab.state, 'utf8')) as { tsrke?: { keyRing: RingKey[] } };
  return tsrke?.keyRing ?? [];
}

const keysOf = (file: string | undefined) =>
  [...(file ?? '').matchAll(/name: (\S+)\s+secret: (\S+)/g)].map(([, name, secret]) => `${name} ${secret}`);

let before: readonly RingKey[];
const onNodes = new Set<string>();

async function collect(): Promise<void> {
  for (const host of lab.hosts) for (const key of keysOf(await host.readFile(providerFile))) onNodes.add(key);
}

beforeEach(async () => {
  await collect();
  before = ring();
});

/** One rotation with a fault in it, then the same command until it says that it is done. */
async function brokenRotation(options: TsrkeOptions) {
  const first = await lab.tsrke(rotate, options);
  const faults = between.end();
  await collect();
  let { code, stderr } = first;
  for (let again = 1; code !== 0 && again <= 3; again += 1) {
    ({ code, stderr } = await lab.tsrke(rotate));
    await collect();
  }
  expect(code, `${first.stderr}\n---\n${stderr}`).toBe(0);
  // A fault of the state's disk or of tsrke itself is met elsewhere.
  countIn({ faults: Math.max(faults, 1) });

  const keys = ring();
  // The first rotation finds the key that RKE made.
  expect(keys).toHaveLength(Math.max(before.length, 1) + 1);
  expect(keys.map(({ name, secret }) => `${name} ${secret}`)).toEqual(expect.arrayContaining([...onNodes]));
  const inUse = keys.filter(({ retired }) => retired === undefined).map(({ name }) => name);
  expect([...new Set((await lab.etcd.prefixes()).values())]).toEqual([`k8s:enc:aescbc:v1:${inUse.join()}:`]);
  for (const host of lab.hosts) {
    const listed = await lab.kube(host, 'GET', '/api/v1/secrets');
    expect(listed.status, listed.text.slice(0, 300)).toBe(200);
  }
  return { ...first, faults };
}

const faults: readonly (readonly [string, Fault])[] = [
  ['fails before', { kind: 'fails', when: 'before' }],
  ['is done but its answer lost', { kind: 'fails', when: 'after' }],
  ['hangs', { kind: 'hangs' }],
  ['is the last thing before tsrke is killed', { kind: 'killed', when: 'after' }],
  ['is what tsrke is killed before', { kind: 'killed', when: 'before' }],
  ['is done only after tsrke was killed', { kind: 'done-later', caller: 'killed', milliseconds: 1_000 }],
];

const effects: readonly (readonly [string, RegExp])[] = [
  ['a login by SSH', /^ssh connect/],
  ['the restart of kube-apiserver', /^docker POST .*restart/],
  ['the upload of a provider file', /^docker PUT .*archive/],
  ['the write of the copy in the cluster', /^kube (PUT|POST) .*secrets/],
  ['the rewrite of a Secret', /^kube (PATCH|PUT) .*default\/secrets/],
  ['a look into etcd', /^etcd Range/],
  ['the compaction of etcd', /^etcd Compact/],
];

// All of both are on the model, too.
describe.each(effects.map(([effect, what], index) => ({ effect, what, index })))(
  '$effect',
  ({ what, index }) => {
    it.each(faults.filter((_, at) => inPart(index * faults.length + at)))('%s', async (_fault, fault) => {
      const { signal, faults: met } = await brokenRotation(between.plan(what, fault));
      expect(met).toBe(1);
      if (/killed/.test(JSON.stringify(fault))) expect(signal).toBe('SIGKILL');
    });
  },
);

describe('the write of the state', () => {
  it('fails: the disk is full', async () => {
    const text = readFileSync(lab.state, 'utf8');
    const { code } = await brokenRotation({ fileSize: 1 });
    expect(code).toBe(1);
    expect(readFileSync(lab.state, 'utf8')).not.toBe(text);
  });

  it.each([
    ['is the last thing before tsrke is killed', /state saved/],
    ['is the last thing before tsrke is killed, later on', /write with the wanted key[^]*state saved/],
  ])('%s', async (_when, killWhen) => {
    expect((await brokenRotation({ killWhen })).signal).toBe('SIGKILL');
  });

  it('is cut off by the kill of tsrke', async () => {
    const kill = new AbortController();
    const watcher = watch(dirname(lab.state), (_event, name) => {
      if (name?.startsWith('cluster.rkestate.') === true && !name.endsWith('.lock')) kill.abort();
    });
    try {
      expect((await brokenRotation({ kill: kill.signal })).signal).toBe('SIGKILL');
    } finally {
      watcher.close();
    }
  });
});
