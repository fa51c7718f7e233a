/** New CAs for a cluster that runs, in the lab's model: who trusts whom is looked at after every single effect. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { bundleIn, type Bundle } from '../../src/certificates/bundle.ts';
import { caNames } from '../../src/certificates/cluster.ts';
import { systemSource } from '../../src/certificates/issue.ts';
import { caPath } from '../../src/certificates/paths.ts';
import { kubeconfigPathOf } from '../../src/config/load.ts';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { isTrusted } from '../../src/lab/trust.ts';
import { readersOf } from '../../src/planes/files.ts';
import type { CaRotation, Json, JsonObject, StateDocument } from '../../src/state/rkestate.ts';
import { MemoryLab, type Access, type Ran, type RunOptions } from './memory-lab.ts';

/** Keys take long to make: one for all leaves, and for CAs one after the other, so that none follows itself. */
const keys: KeyObject[] = [];
let given = 0;
beforeAll(() => {
  for (let i = 0; i < 6; i += 1) keys.push(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
  vi.spyOn(systemSource, 'newKey').mockImplementation((name) => {
    const index = caNames.some((ca) => ca === name) ? 1 + (given++ % 5) : 0;
    return Promise.resolve(keys[index] as KeyObject);
  });
});
afterAll(() => vi.restoreAllMocks());

const folder = '/etc/kubernetes/ssl';
const requestHeader = 'kube-apiserver-requestheader-ca';

/** etcd-rolling-snapshots reads certificates for each snapshot anew; the others read none. */
const readers: readonly string[] = readersOf(caPath, { address: '', internalAddress: '' });

interface Loaded {
  readonly startedAt: string;
  readonly cas: Readonly<Record<string, string>>;
  readonly leaves: readonly Leaf[];
}

interface Leaf {
  readonly name: string;
  readonly pem: string;
}

/**
 * Every certificate that lies on a node, or lay there when a container was started that still runs, must have a CA
 * that all nodes and all such containers trust: whether a service reads a file at its start or anew, nobody can tell.
 */
class Trust {
  readonly problems: string[] = [];
  readonly #lab: MemoryLab;
  readonly #loaded = new Map<string, Loaded>();
  #access: Access[] = [];
  #seen = '';

  constructor(lab: MemoryLab) {
    this.#lab = lab;
  }

  readonly onAccess = (access: Access, again: boolean): void => {
    this.#access = again ? [access] : [...this.#access, access];
    this.#seen = '';
  };

  readonly onDone = ({ what }: Effect): void => {
    const { model } = this.#lab;
    if (model.generation === this.#seen || this.problems.length > 0) return;
    this.#seen = model.generation;
    const disks = model.nodes.map(({ name }) => this.#lookAt(name));
    for (const { name } of model.nodes) {
      for (const { status, startedAt, name: container } of model.engine(name).containers) {
        const key = `${name}/${container}`;
        if (status !== 'running' || !readers.includes(container)) this.#loaded.delete(key);
        else if (this.#loaded.get(key)?.startedAt !== startedAt)
          this.#loaded.set(key, { startedAt, ...this.#lookAt(name) });
      }
    }
    const all = [...disks, ...this.#loaded.values()];
    for (const trusting of all) {
      for (const shown of all) for (const leaf of shown.leaves) this.#expect(leaf, trusting.cas, what);
      for (const { cert } of this.#access)
        this.#expect({ name: 'kube-admin', pem: cert }, trusting.cas, what);
    }
    for (const { ca } of this.#access) {
      const own = { 'kube-ca': ca };
      for (const { leaves } of all) for (const leaf of leaves) this.#expect(leaf, own, `${what}, by tsrke`);
    }
  };

  #expect({ name, pem }: Leaf, cas: Readonly<Record<string, string>>, what: string): void {
    const ca = cas[name === 'kube-apiserver-proxy-client' ? requestHeader : 'kube-ca'];
    if (ca === undefined || isTrusted(pem, ca)) return;
    this.problems.push(`${name} is not trusted after ${what}`);
  }

  #lookAt(node: string): Pick<Loaded, 'cas' | 'leaves'> {
    const all = [...this.#lab.model.host(node).files].flatMap(([path, { bytes }]): Leaf[] => {
      const [, name = ''] = /^\/etc\/kubernetes\/ssl\/(kube-.*(?<!-key))\.pem$/.exec(path) ?? [];
      return name === '' || name === 'kube-service-account-token' ? [] : [{ name, pem: bytes.toString() }];
    });
    const isCa = ({ name }: Leaf) => caNames.some((ca) => ca === name);
    return {
      cas: Object.fromEntries(all.filter(isCa).map(({ name, pem }) => [name, pem])),
      leaves: all.filter((each) => !isCa(each)),
    };
  }
}

interface Bed {
  readonly lab: MemoryLab;
  readonly trust: Trust;
  readonly before: Bundle;
  run(options?: RunOptions & { readonly pauses?: boolean }): Promise<Ran>;
}

const bundleOf = (lab: MemoryLab): Bundle =>
  bundleIn(lab.store.read()?.document.currentState?.certificatesBundle ?? {});
const rotationOf = (lab: MemoryLab): CaRotation | undefined => lab.store.read()?.tsrke.caRotation;

async function cluster(): Promise<Bed> {
  const lab = new MemoryLab({ nodes: 3, bare: true, encrypted: true });
  const { error, notes } = await lab.up();
  expect(error, notes.join('\n')).toBeUndefined();
  lab.create('one');
  const trust = new Trust(lab);
  const { onDone, onAccess } = trust;
  return {
    ...{ lab, trust, before: bundleOf(lab) },
    run: async (options = {}) => {
      const ran = await lab.rotateCas({ onDone, onAccess, ...options });
      await lab.settled();
      expect(trust.problems).toEqual([]);
      return ran;
    },
  };
}

const body = (pem: string) => pem.trim().split('\n').slice(1, -1).join('\n');

async function expectRotated({ lab, before }: Bed): Promise<void> {
  const now = bundleOf(lab);
  const state = lab.store.read();
  expect(state?.document.desiredState?.certificatesBundle).toEqual(
    state?.document.currentState?.certificatesBundle,
  );
  expect(rotationOf(lab)).toBeUndefined();
  const { 'kube-service-account-token': token, ...others } = now;
  expect(token).toEqual(before['kube-service-account-token']);
  for (const [name, { certificatePEM }] of Object.entries(others)) {
    const ca = name === 'kube-apiserver-proxy-client' || name === requestHeader ? requestHeader : 'kube-ca';
    expect(certificatePEM.match(/BEGIN/g)).toHaveLength(1);
    expect(isTrusted(certificatePEM, now[ca]?.certificatePEM ?? ''), name).toBe(true);
    expect(isTrusted(certificatePEM, before[ca]?.certificatePEM ?? ''), name).toBe(false);
    for (const node of lab.model.nodes) {
      const read = (path: string) => lab.model.host(node.name).read(path)?.bytes.toString();
      const isThere = name !== 'kube-admin';
      expect(read(`${folder}/${name}.pem`)).toBe(isThere ? certificatePEM : undefined);
      expect(read(`${folder}/${name}-key.pem`)).toBe(isThere ? now[name]?.keyPEM : undefined);
    }
  }
  const old = body(before['kube-ca']?.certificatePEM ?? '');
  expect(JSON.stringify(now).replaceAll('\\n', '\n')).not.toContain(old);
  const kubeconfig = readFileSync(kubeconfigPathOf(lab.configs.on), 'utf8');
  expect(kubeconfig.trim()).toBe(now['kube-admin']?.config);
  expect((await lab.up()).said).toMatch(/^nothing to do/);
  expect((await lab.tsrke('rotate')).error).toBeUndefined();
  expect(lab.problems()).toEqual([]);
}

const once = (words: RegExp, fault: Fault, from = 1) => {
  let met = 0;
  return ({ what }: Effect) => (words.test(what) && ++met === from ? fault : undefined);
};

it('comes in three passes, with a pause once both are trusted; what is done meanwhile is not undone', async () => {
  const bed = await cluster();
  const { lab, before } = bed;
  const paused = await bed.run({ pauses: true });
  expect(paused.said).toMatch(/^the new CAs are trusted beside the old ones.*: 18 restarts$/);
  expect((await bed.run({ pauses: true })).said).toMatch(/: 0 restarts$/);
  const [ca, old] = [bundleOf(lab), before].map((bundle) => bundle['kube-ca']);
  expect(ca?.keyPEM).toBe(old?.keyPEM);
  expect(ca?.certificatePEM.match(/BEGIN/g)).toHaveLength(2);
  expect(ca?.certificatePEM.startsWith(old?.certificatePEM ?? '-')).toBe(true);
  expect((await lab.up()).said).toMatch(/^nothing to do/);
  expect((await lab.tsrke('rotate')).error).toBeUndefined();
  expect(rotationOf(lab)).toMatchObject({ phase: 'trust-both', done: true });
  const { said } = await bed.run();
  expect(said).toMatch(/^kube-ca and kube-apiserver-requestheader-ca are new, and 10 certificates with them/);
  expect(said).toMatch(/: 36 restarts$/);
  await expectRotated(bed);
  // And those can be rotated in their turn.
  const again = { ...bed, before: bundleOf(lab) };
  expect((await again.run()).said).toMatch(/: 54 restarts$/);
  await expectRotated(again);
});

type Moment = readonly [phase: CaRotation['phase'] | undefined, words: RegExp, when: 'before' | 'after'];

const inEach = (phase: CaRotation['phase']): Moment[] => [
  [phase, /PUT .*archive on cp-2/, 'after'],
  [phase, /etcd\/restart on cp-2/, 'after'],
  [phase, /kube-apiserver\/restart on cp-1/, 'before'],
  [phase, /kubelet\/restart on cp-3/, 'after'],
];

it('killed again and again, the same command finishes', async () => {
  const bed = await cluster();
  const moments: readonly Moment[] = [
    [undefined, /^state write/, 'before'],
    ['trust-both', /^state write/, 'after'],
    ...inEach('trust-both'),
    ['trust-both', /^state write/, 'before'],
    ...inEach('trust-both').slice(1, 2),
    ['trust-both', /^state write/, 'after'],
    ['trust-both', /^state write/, 'before'],
    ['issue', /^state write/, 'after'],
    ...inEach('issue'),
    ['issue', /^state write/, 'before'],
    ['issue', /^state write/, 'after'],
    ['retire', /^state write/, 'after'],
    ...inEach('retire'),
    ['retire', /^state write/, 'before'],
    ['retire', /^state write/, 'after'],
  ];
  for (const [phase, words, when] of moments) {
    const { said, effects } = await bed.run({ faultOf: once(words, { kind: 'killed', when }) });
    expect(said).toBeUndefined();
    expect(effects.injected.size, String(words)).toBe(1);
    expect(rotationOf(bed.lab)?.phase, String(words)).toBe(phase);
  }
  expect((await bed.run()).error).toBeUndefined();
  await expectRotated(bed);
});

it('`up` finishes a pass that was cut off, and goes no further', async () => {
  const bed = await cluster();
  const { onDone, onAccess } = bed.trust;
  for (const phase of ['trust-both', 'issue', 'retire'] as const) {
    // What `up` has finished the command does once more: it cannot know who was restarted.
    const pass = phase === 'trust-both' ? 1 : 2;
    const killed = once(/etcd\/restart on cp-2/, { kind: 'killed', when: 'after' }, pass);
    expect((await bed.run({ faultOf: killed })).said).toBeUndefined();
    expect((await bed.lab.up({ onDone, onAccess })).said).toMatch(/^\d+ changes on 3 nodes/);
    expect(bed.trust.problems).toEqual([]);
    expect(rotationOf(bed.lab)).toMatchObject({ phase, done: false });
    expect((await bed.lab.up()).said).toMatch(/^nothing to do/);
  }
  expect((await bed.run()).error).toBeUndefined();
  await expectRotated(bed);
});

it('begins nothing while a node cannot be reached, and goes on once it can', async () => {
  const bed = await cluster();
  // The first time it is connected to is that of the control plane.
  const away = once(/connect on cp-3/, { kind: 'fails', when: 'before' }, 2);
  expect((await bed.run({ faultOf: away })).error).toMatchObject({ code: 'NODE_UNREACHABLE', node: 'cp-3' });
  expect(rotationOf(bed.lab)).toBeUndefined();
  const cut = once(/kube-scheduler\/restart on cp-2/, { kind: 'power-cut', when: 'before' });
  expect((await bed.run({ faultOf: cut })).error).toBeDefined();
  expect((await bed.run()).error).toMatchObject({ code: 'NODE_UNREACHABLE' });
  expect(rotationOf(bed.lab)).toMatchObject({ phase: 'trust-both', done: false });
  bed.lab.model.powerOn('cp-2');
  expect((await bed.run()).error).toBeUndefined();
  await expectRotated(bed);
});

it('is refused before anything is done where it could not go well', async () => {
  const bed = await cluster();
  const { lab } = bed;
  const { state } = lab.store;
  const { document } = state;
  const { currentState = {} } = document;
  const refused = async (change: Partial<StateDocument>) => {
    lab.store.state = { ...state, document: { ...document, ...change } };
    const { error, effects } = await bed.run();
    expect(effects.log.filter(({ what }) => /restart|PUT .*archive|state write/.test(what))).toEqual([]);
    return error;
  };

  const scheduler = lab.model.engine('cp-2').get('kube-scheduler');
  const { config } = scheduler;
  Object.assign(scheduler, { config: { ...config, Entrypoint: [...(config.Entrypoint ?? []), '--v=9'] } });
  expect(await refused({})).toMatchObject({
    code: 'NOT_AS_WANTED',
    details: [expect.stringMatching(/^cp-2: make kube-scheduler anew/)],
  });
  Object.assign(scheduler, { config });

  const rke = (change: JsonObject) => ({
    ...currentState,
    rkeConfig: { ...currentState.rkeConfig, ...change },
  });
  const services = currentState.rkeConfig?.['services'] as JsonObject;
  const extraArgs = { 'cluster-signing-cert-file': caPath };
  const kubeController = { ...(services['kubeController'] as JsonObject), extraArgs };
  const signs = rke({ services: { ...services, kubeController } });
  expect(await refused({ currentState: signs })).toMatchObject({ code: 'UNSUPPORTED' });

  const nodes = currentState.rkeConfig?.['nodes'] as Json[];
  const joins = rke({ nodes: nodes.slice(1) });
  expect(await refused({ desiredState: joins })).toMatchObject({ code: 'OUT_OF_ORDER' });

  const bundle = currentState.certificatesBundle ?? {};
  const certificatesBundle = { ...bundle, 'kube-ca': { ...bundle['kube-ca'], keyPEM: '' } };
  const custom = { ...currentState, certificatesBundle };
  expect(await refused({ desiredState: custom, currentState: custom })).toMatchObject({
    code: 'CERTIFICATES_INVALID',
  });
});
