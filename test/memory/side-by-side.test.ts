/** A run that finds nothing to do, a plan and a status reach each node once, and all nodes at the same time. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Effects, type Fault } from '../../src/lab/faults.ts';
import { startLab, type Lab } from '../../src/lab/lab.ts';
import { labLink } from '../../src/lab/link.ts';
import { connectCluster } from '../../src/provision/cluster.ts';
import { changeEncryption } from '../../src/provision/encryption.ts';
import { planChange } from '../../src/provision/plan.ts';
import { readStatus } from '../../src/provision/status.ts';
import { MemoryLab } from './memory-lab.ts';
import { silent } from './silent.ts';

const commands = ['up', 'plan', 'encrypt status'] as const;
type Command = (typeof commands)[number];

const common = () => ({ report: silent, signal: new AbortController().signal });

/** Milliseconds of each effect; nothing else takes time on the lab's clock. */
const each = 100;

/** How long it takes where every call to a node takes its time. */
async function duration(command: Command, nodes: 3 | 5): Promise<number> {
  const lab = new MemoryLab({ nodes, encrypted: true, secrets: 2 });
  expect((await lab.tsrke('up')).said).toContain('nothing to do');
  await lab.settled();
  const late = (): Fault => ({ kind: 'late', milliseconds: each });
  const effects = new Effects({ clock: lab.clock, faultOf: late });
  const link = labLink(lab.model, effects);
  const options = { configPath: lab.configs.on, ...common() };
  const store = lab.store.through(effects);
  const connect = (to: Parameters<typeof connectCluster>[0]) => connectCluster(to, link);
  const began = lab.clock.now().getTime();
  if (command === 'up') await changeEncryption({ ...options, action: 'up' }, { store, connect });
  else if (command === 'plan') await planChange({ ...options, action: 'up' }, { store, connect });
  else await readStatus(options, { store, link });
  const took = lab.clock.now().getTime() - began;
  effects.kill();
  expect(effects.log.filter(({ kind }) => kind === 'ssh')).toHaveLength(nodes);
  return took;
}

it.each(commands)('%s takes no longer on five nodes than on three', async (command) => {
  const three = await duration(command, 3);
  expect(three).toBeGreaterThan(5 * each);
  expect(await duration(command, 5)).toBe(three);
});

describe.each([
  ['nodes that are reached directly', false],
  ['nodes behind a bastion', true],
])('%s', (_, bastion) => {
  let dir = '';
  let lab: Lab;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'tsrke-side-by-side-'));
    lab = await startLab({ dir, bastion, controlplane: 6, secrets: 3, encryption: 'on' });
  });
  afterAll(() => {
    lab.close();
    rmSync(dir, { recursive: true });
  });

  it('has etcd on the first five of six, in cluster.yml, too', () => {
    const roles = [...readFileSync(lab.config, 'utf8').matchAll(/role: \[(.*)\]/g)].map(([, role]) => role);
    expect(roles).toEqual([...Array<string>(5).fill('controlplane, etcd'), 'controlplane']);
    const withEtcd = lab.model.nodes.filter(({ name }) => lab.model.engine(name).find('etcd') !== undefined);
    expect(withEtcd.map(({ name }) => name)).toEqual(['cp-1', 'cp-2', 'cp-3', 'cp-4', 'cp-5']);
  });

  it.each(commands)('%s opens one SSH connection to each', async (command) => {
    const before = lab.servers.logins.length;
    const options = { configPath: lab.config, ...common() };
    if (command === 'up') {
      expect(await changeEncryption({ ...options, action: 'up' })).toContain('nothing to do');
    } else if (command === 'plan') {
      expect(await planChange({ ...options, action: 'up' })).toMatchObject({ somethingToDo: false });
    } else {
      expect(await readStatus(options)).toMatchObject({ asItShouldBe: true });
    }
    const hosts = lab.servers.logins.slice(before).map(({ host }) => host);
    const nodes = lab.model.nodes.map(({ name }) => name);
    expect(hosts.toSorted()).toEqual([...(bastion ? ['bastion'] : []), ...nodes]);
  });
});
