/** `services.kube-api.extra_binds`: what cluster.yml names is there before a provider file needs it, and goes last. */
import { expect, it } from 'vitest';
import type { JsonObject } from '../../src/state/rkestate.ts';
import { MemoryLab } from './memory-lab.ts';

function ask(lab: MemoryLab, enabled: boolean, binds: readonly string[]): void {
  lab.configure(
    `secrets_encryption_config: {enabled: ${enabled}}`,
    ...(binds.length === 0 ? [] : [`extra_binds: ${JSON.stringify(binds)}`]),
  );
}

/** What each node's kube-apiserver has besides RKE's own. */
const extra = (lab: MemoryLab) =>
  lab.model.nodes.map(({ name }) =>
    (lab.model.engine(name).get('kube-apiserver').hostConfig.Binds ?? []).filter(
      (bind) => !bind.includes('/etc/kubernetes') && !bind.includes('/var/log/kube-audit'),
    ),
  );

function recorded(lab: MemoryLab): unknown {
  const services = lab.store.state.document.currentState?.rkeConfig?.['services'] as JsonObject;
  return (services['kubeApi'] as JsonObject)['extraBinds'];
}

const plugin = '/var/run/kmsplugin:/var/run/kmsplugin';
const other = '/srv/policies:/srv/policies:ro';

it('come with the restarts that an enable needs anyway', async () => {
  const lab = new MemoryLab({ nodes: 3 });
  ask(lab, true, [plugin]);
  const { said, error } = await lab.tsrke('up');
  expect(error).toBeUndefined();
  expect(said).toMatch(/ 6 restarts on 3 node/);
  expect(extra(lab)).toEqual([[plugin], [plugin], [plugin]]);
  expect(recorded(lab)).toEqual([plugin]);
  expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
});

it('added, exchanged and removed: one recreation for each node, one after the other', async () => {
  const lab = new MemoryLab({ nodes: 3 });
  for (const binds of [[plugin], [other], []]) {
    ask(lab, false, binds);
    const { said, error, notes } = await lab.tsrke('up');
    expect(error).toBeUndefined();
    expect(said).toMatch(/^encryption of secrets is off: 0 rewritten, 3 restarts on 3 node/);
    expect(notes).toContain('task recreate kube-apiserver as cluster.yml asks');
    expect(extra(lab)).toEqual([binds, binds, binds]);
    expect(recorded(lab)).toEqual(binds.length === 0 ? undefined : binds);
    expect((await lab.tsrke('up')).said).toMatch(/^nothing to do/);
  }
});

it('that are gone from cluster.yml stay until `up`', async () => {
  const lab = new MemoryLab({ nodes: 1 });
  ask(lab, true, [plugin]);
  await lab.tsrke('up');
  ask(lab, true, []);
  expect((await lab.tsrke('rotate')).error).toBeUndefined();
  expect(extra(lab)).toEqual([[plugin]]);
  expect(recorded(lab)).toEqual([plugin]);
  expect((await lab.tsrke('up')).error).toBeUndefined();
  expect(extra(lab)).toEqual([[]]);
});

it('with which kube-apiserver does not come up are taken back', async () => {
  const lab = new MemoryLab({ nodes: 1, encrypted: true });
  lab.model.startFails.set('cp-1', () =>
    lab.model.engine('cp-1').find('old-kube-apiserver') === undefined ? undefined : 'no such plugin',
  );
  ask(lab, true, [plugin]);
  const { error } = await lab.tsrke('up');
  expect(error?.message).toContain('it runs again with the file it had before');
  expect(extra(lab)).toEqual([[]]);
  expect(lab.model.running().map(({ listens }) => listens)).toEqual([true]);
  lab.model.startFails.clear();
  expect((await lab.tsrke('up')).error).toBeUndefined();
  expect(extra(lab)).toEqual([[plugin]]);
});
