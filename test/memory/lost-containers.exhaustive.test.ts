/** A cluster whose containers somebody has removed: `tsrke up` makes them again, and nothing that was stored is lost. */
import { describe, expect, it } from 'vitest';
import { providerPath } from '../../src/encryption/world.ts';
import { Effects, type Effect, type Fault } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { serviceNames, type ServiceName } from '../../src/services/container.ts';
import { planUp } from '../../src/provision/plan-up.ts';
import { MemoryLab } from './memory-lab.ts';
import { silent } from './silent.ts';

async function cluster(): Promise<MemoryLab> {
  const lab = new MemoryLab({ nodes: 3, bare: true, encrypted: true });
  const { error, notes } = await lab.up();
  expect(error, notes.join('\n')).toBeUndefined();
  lab.create('one');
  return lab;
}

/** As `docker rm -f` does; what it took along stays on the disks. */
function remove(lab: MemoryLab, services: readonly ServiceName[], nodes = ['cp-1', 'cp-2', 'cp-3']): void {
  for (const name of nodes) {
    const engine = lab.model.engine(name);
    for (const service of services) {
      const container = engine.find(service);
      if (container !== undefined) engine.remove(container, true, lab.clock.now().getTime());
    }
  }
  // Its invariants are those of a cluster that serves.
  lab.tampered = true;
}

const servers: readonly ServiceName[] = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];
const fileOf = (lab: MemoryLab, node: string) => lab.model.host(node).read(providerPath)?.bytes.toString();

async function expectServed(lab: MemoryLab): Promise<void> {
  for (const { name } of lab.model.nodes) {
    const { status, body } = await lab.model.kube(name, {
      ...{ method: 'GET', path: '/api/v1/namespaces/default/secrets/one' },
      ...{ headers: { accept: 'application/json' }, body: Buffer.alloc(0) },
    });
    expect([name, status]).toEqual([name, 200]);
    expect(body.toString()).toContain(Buffer.from('of one').toString('base64'));
  }
  expect(lab.problems()).toEqual([]);
}

describe('with no kube-apiserver left on any node', () => {
  it('up makes the control plane again, with the provider file that lies there, and has nothing to do then', async () => {
    const lab = await cluster();
    const files = lab.model.nodes.map(({ name }) => fileOf(lab, name));
    remove(lab, servers);
    const { said, error, notes } = await lab.up();
    expect(error, notes.join('\n')).toBeUndefined();
    expect(said).toMatch(/^9 containers on 3 nodes made again; secrets are encrypted/);
    await expectServed(lab);
    expect(lab.model.nodes.map(({ name }) => fileOf(lab, name))).toEqual(files);
    const started = lab.model.engine('cp-1').get('kube-apiserver').startedAt;
    expect((await lab.up()).said).toMatch(/^nothing to do/);
    expect(lab.model.engine('cp-1').get('kube-apiserver').startedAt).toBe(started);
  });

  it('a provider file that is gone as well comes out of the state before the server that needs it', async () => {
    const lab = await cluster();
    const [file] = lab.model.nodes.map(({ name }) => fileOf(lab, name));
    remove(lab, serviceNames);
    for (const { name } of lab.model.nodes) lab.model.host(name).empty('/etc/kubernetes');
    const { error, notes } = await lab.up();
    expect(error, notes.join('\n')).toBeUndefined();
    await expectServed(lab);
    expect(fileOf(lab, 'cp-3')).toBe(file);
  });

  it('in the midst of a rotation too: all keys of the line that was under way are there', async () => {
    for (const [words, hasFiles] of [
      [/restart on cp-2/, true],
      [/restart on cp-2/, false],
      [/^kube PATCH .*secrets\/one/, false],
    ] as const) {
      const lab = await cluster();
      let met = false;
      await lab.tsrke('rotate', {
        faultOf: ({ what }) => {
          if (met || !words.test(what)) return undefined;
          met = true;
          return { kind: 'killed', when: 'after' };
        },
      });
      expect(met).toBe(true);
      await lab.settled();
      lab.create('two');
      remove(lab, servers);
      if (!hasFiles) for (const { name } of lab.model.nodes) lab.model.host(name).remove(providerPath);
      const { error, notes } = await lab.up();
      expect(error, notes.join('\n')).toBeUndefined();
      await expectServed(lab);
      expect(lab.store.state.tsrke.transition).toBeUndefined();
    }
  });

  it('under a state that is an older one the files stay, so that nothing becomes unreadable, and that is said', async () => {
    const lab = await cluster();
    const old = lab.store.state;
    expect((await lab.tsrke('rotate')).error).toBeUndefined();
    lab.store.state = old;
    remove(lab, servers);
    // The cluster's own copy then shows that this state is the older one: nothing else is done with it.
    expect((await lab.up({ invariants: false })).error).toMatchObject({ code: 'STATE_STALE' });
    const { status } = await lab.model.kube('cp-1', {
      ...{ method: 'GET', path: '/api/v1/namespaces/default/secrets/one' },
      ...{ headers: { accept: 'application/json' }, body: Buffer.alloc(0) },
    });
    expect(status).toBe(200);
  });

  it('of a node that cannot be reached nobody knows: nothing is touched', async () => {
    const lab = await cluster();
    remove(lab, servers);
    lab.model.powerOff('cp-2');
    const { error, effects } = await lab.up();
    expect(error).toMatchObject({ code: 'NODE_UNREACHABLE' });
    expect(effects.log.filter(({ changes }) => changes)).toEqual([]);
  });
});

describe('with no etcd left on any node', () => {
  it.each([
    ['alone', ['etcd']],
    ['and no other container', serviceNames],
  ] as const)('%s: its data are taken up again', async (_, services) => {
    const lab = await cluster();
    const { clusterId } = lab.model.store;
    remove(lab, services);
    const { said, error, notes } = await lab.up();
    expect(error, notes.join('\n')).toBeUndefined();
    expect(said).toContain('made again');
    expect(lab.model.store.clusterId).toBe(clusterId);
    await expectServed(lab);
    expect((await lab.up()).said).toMatch(/^nothing to do/);
  });

  it('one member without its data joins the others anew', async () => {
    const lab = await cluster();
    const { clusterId } = lab.model.store;
    remove(lab, serviceNames);
    lab.model.host('cp-3').empty('/var/lib/etcd');
    const { error, notes } = await lab.up();
    expect(error, notes.join('\n')).toBeUndefined();
    expect(lab.model.store.clusterId).toBe(clusterId);
    await expectServed(lab);
  });

  it('nor its data on most of them: no new etcd is begun, and nothing is touched', async () => {
    const lab = await cluster();
    remove(lab, serviceNames);
    for (const name of ['cp-2', 'cp-3']) lab.model.host(name).empty('/var/lib/etcd');
    const { error } = await lab.up();
    expect(error).toMatchObject({ code: 'ETCD' });
    expect(error?.message).toBe(
      'of 3 members of etcd only 1 still has its data: it cannot have a quorum again',
    );
    for (const { name } of lab.model.nodes) {
      for (const service of serviceNames) expect(lab.model.engine(name).find(service)).toBeUndefined();
    }
  });
});

/** The last thing that a run does, each told by its words. */
const moments: readonly (readonly [title: string, words: RegExp, fault: Fault])[] = [
  ['with one member of etcd', /etcd\/start on cp-1/, { kind: 'killed', when: 'after' }],
  ['before the first kube-apiserver', /kube-apiserver\/start on cp-1/, { kind: 'killed', when: 'before' }],
  ['with one kube-apiserver', /kube-apiserver\/start on cp-2/, { kind: 'killed', when: 'after' }],
  ['before its state is saved', /^state write/, { kind: 'killed', when: 'before' }],
];

describe('cut off', () => {
  it.each(moments)('%s, the next run goes on from it', async (_, words, fault) => {
    const lab = await cluster();
    remove(lab, serviceNames);
    let met = false;
    const faultOf = ({ what }: Effect) => {
      if (met || !words.test(what)) return undefined;
      met = true;
      return fault;
    };
    await lab.up({ faultOf });
    expect(met).toBe(true);
    await lab.settled();
    lab.tampered = true;
    const { error, notes } = await lab.up();
    expect(error, notes.join('\n')).toBeUndefined();
    await expectServed(lab);
  });
});

it('a plan shows what is made again, and changes nothing', async () => {
  const lab = await cluster();
  remove(lab, serviceNames);
  const effects = new Effects({ clock: lab.clock });
  const { signal } = new AbortController();
  const plan = await planUp(
    { configPath: lab.configs.on, report: silent, signal },
    { store: lab.store.through(effects), link: labLink(lab.model, effects) },
  );
  expect(plan).toMatchObject({ somethingToDo: true, note: expect.stringMatching(/lost/) as string });
  expect(JSON.stringify(plan.stages)).toContain('create kube-apiserver');
  expect(JSON.stringify(plan.stages)).not.toContain('create kubelet');
  expect(effects.log.filter(({ changes }) => changes)).toEqual([]);
});
