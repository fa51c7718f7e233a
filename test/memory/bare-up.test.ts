/** `tsrke up` on bare hosts of the lab's model, with what must hold looked at after every single effect. */
import { describe, expect, it } from 'vitest';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { MemoryLab } from './memory-lab.ts';

const bare = () => new MemoryLab({ nodes: 3, bare: true, encrypted: true });

async function finish(lab: MemoryLab): Promise<void> {
  const { error, notes } = await lab.up();
  expect(error, notes.join('\n')).toBeUndefined();
  lab.create('one');
  expect(lab.problems()).toEqual([]);
  const { value } = lab.model.store.get('/registry/secrets/default/one') ?? {};
  expect(value?.toString('latin1')).toMatch(/^k8s:enc:aescbc:v1:/);
}

it('makes a cluster whose Secrets were never in plain form, and has nothing to do then', async () => {
  const lab = bare();
  await finish(lab);
  expect((await lab.up()).said).toMatch(/^nothing to do/);
});

/** The last thing that a run does, or meets, each told by its words. */
const moments: readonly (readonly [title: string, words: RegExp, fault: Fault])[] = [
  ['killed once an image is there', /images\/create on cp-2/, { kind: 'killed', when: 'after' }],
  ['killed with keys on their way', /archive on cp-3/, { kind: 'killed', when: 'after' }],
  ['killed with one member of etcd', /etcd\/start on cp-1/, { kind: 'killed', when: 'after' }],
  ['killed before the last member', /etcd\/start on cp-3/, { kind: 'killed', when: 'before' }],
  ['killed as kube-apiserver is made', /kube-apiserver\/start on cp-1/, { kind: 'killed', when: 'before' }],
  ['a start whose answer is lost', /kube-apiserver\/start on cp-2/, { kind: 'fails', when: 'after' }],
  ['killed before the copy of the state', /POST .*secrets/, { kind: 'killed', when: 'before' }],
  ['killed in the middle of RBAC', /clusterrolebindings\/proxy/, { kind: 'killed', when: 'before' }],
  [
    'a kubelet that starts later',
    /kubelet\/start on cp-2/,
    { kind: 'done-later', caller: 'killed', milliseconds: 9 },
  ],
  ['killed at the last node', /PATCH .*nodes\/cp-3/, { kind: 'killed', when: 'before' }],
  ['the state cannot be written', /^state write/, { kind: 'fails', when: 'before' }],
];

describe('cut off, the next run goes on from it', () => {
  it.each(moments)('%s', async (_, words, fault) => {
    const lab = bare();
    let met = false;
    const faultOf = ({ what }: Effect) => {
      if (met || !words.test(what)) return undefined;
      met = true;
      return fault;
    };
    const { said } = await lab.up({ faultOf });
    expect(met).toBe(true);
    if (fault.kind !== 'fails') expect(said).toBeUndefined();
    await lab.settled();
    await finish(lab);
  });
});

it('what must hold is noticed where it does not', async () => {
  const lab = bare();
  await finish(lab);
  const stop = (name: string) => {
    const engine = lab.model.engine(name);
    engine.stop(engine.get('etcd'), lab.clock.now().getTime());
  };
  stop('cp-2');
  expect(lab.problems()).toEqual([]);
  lab.model.powerOff('cp-1');
  expect(lab.problems()).toEqual([]);
  lab.model.powerOn('cp-1');
  stop('cp-3');
  expect(lab.problems().join()).toMatch(/^of 3 votes of etcd 1 run/);
  for (const name of ['cp-2', 'cp-3']) {
    lab.model.engine(name).start(lab.model.engine(name).get('etcd'), lab.clock.now().getTime());
  }
  expect(lab.problems()).toEqual([]);
  lab.model.store.put('/registry/secrets/default/two', Buffer.from('plain'));
  lab.model.store.delete('/registry/secrets/default/two');
  lab.model.store.compact(lab.model.store.revision);
  expect(lab.problems().join()).toMatch(/secrets\/default\/two was written in plain form/);
});

it('a node that loses its power midway is waited for, and then finished', async () => {
  const lab = bare();
  let off = false;
  const { error } = await lab.up({
    faultOf: ({ what }) => {
      if (off || !/kube-scheduler\/start on cp-2/.test(what)) return undefined;
      off = true;
      return { kind: 'power-cut', when: 'before' };
    },
  });
  expect(error).toMatchObject({ code: 'NODE_UNREACHABLE' });
  expect((await lab.up()).error).toBeDefined();
  lab.model.powerOn('cp-2');
  await finish(lab);
});

// Before 1.34 no server tells what it has loaded; one with another start than the recorded one would be restarted.
it('servers that were made anew beside encryption are known to have loaded their file', async () => {
  const lab = new MemoryLab({ nodes: 3, bare: true, encrypted: true, minor: 30 });
  await finish(lab);
  lab.configure('secrets_encryption_config: {enabled: true}', 'extra_args: {v: "4"}');
  const started = () =>
    lab.model.nodes.map(({ name }) => lab.model.engine(name).get('kube-apiserver').startedAt);
  const before = started();
  const { said, error } = await lab.up();
  expect(error).toBeUndefined();
  expect(said).toMatch(/^\d+ changes on 3 nodes; secrets are encrypted/);
  const after = started();
  for (const [index, at] of after.entries()) expect(at).not.toBe(before[index]);
  expect((await lab.up()).said).toMatch(/^nothing to do/);
  expect(started()).toEqual(after);
});
