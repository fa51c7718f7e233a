/** What a run that was cut off has left on nodes is gone with the next, wherever that one leads. */
import { expect, it, test } from 'vitest';
import { providerPath } from '../../src/encryption/world.ts';
import type { Effect, Fault } from '../../src/lab/faults.ts';
import { parseState } from '../../src/state/rkestate.ts';
import { MemoryLab } from './memory-lab.ts';

const mover = 'tsrke-file-mover';
const beside = `${providerPath}.tsrke-tmp`;
const node = 'cp-3';

const left = ({ model }: MemoryLab) =>
  [model.host(node).read(beside) && beside, model.engine(node).find(mover)?.name].filter(Boolean);

/** A rotation that is killed right after it has put a file with the new key beside that of the last node. */
async function cutOff(): Promise<MemoryLab> {
  const lab = new MemoryLab({ nodes: 3, encrypted: true });
  const killed = await lab.tsrke('rotate', {
    faultOf: ({ what }): Fault | undefined =>
      what.includes(`PUT /containers/`) && what.endsWith(node)
        ? { kind: 'killed', when: 'after' }
        : undefined,
  });
  expect(killed.error).toBeDefined();
  const { hostConfig, config } = lab.model.engine(node).get('kube-apiserver');
  lab.model.engine(node).create(mover, { ...config, HostConfig: hostConfig }, lab.clock.now().getTime());
  expect(left(lab)).toEqual([beside, mover]);
  return lab;
}

/** The run's calls that are about them. */
const looks = (log: readonly Effect[]) => log.filter(({ what }) => what.includes(mover));

it.each(['resume', 'abort', 'up'] as const)(
  '%s clears it away, the next run does not look',
  async (command) => {
    const lab = await cutOff();
    const ran = await lab.tsrke(command);
    expect(ran.error).toBeUndefined();
    expect(left(lab)).toEqual([]);
    const again = await lab.tsrke('up');
    expect(again.said).toMatch(/^nothing to do/);
    expect(looks(again.effects.log)).toEqual([]);
  },
);

test('so does a run whose state RKE has written anew meanwhile', async () => {
  const lab = await cutOff();
  const { tsrke: _dropped, ...document } = lab.store.state.document as Record<string, unknown>;
  lab.store.state = parseState(JSON.stringify(document), 'state');
  const ran = await lab.tsrke('up', { invariants: false });
  expect(ran.error).toBeUndefined();
  expect(left(lab)).toEqual([]);
});

test('a run that does not get the lock leaves it to the one that has it', async () => {
  const lab = await cutOff();
  const path = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/tsrke';
  // Somebody else's, renewed all the time.
  const renew = () => {
    const body = {
      metadata: { name: 'tsrke', namespace: 'kube-system' },
      spec: {
        ...{ holderIdentity: 'ann on desk, pid 1', leaseDurationSeconds: 60 },
        renewTime: lab.clock.now().toISOString().replace('Z', '000Z'),
      },
    };
    void lab.put('PATCH', path, body);
  };
  const ran = await lab.tsrke('resume', { onDone: renew });
  expect(ran.error).toMatchObject({
    code: 'LOCKED',
    message: expect.stringContaining('ann on desk') as string,
  });
  expect(left(lab)).toEqual([beside, mover]);
  expect(looks(ran.effects.log)).toEqual([]);
});
