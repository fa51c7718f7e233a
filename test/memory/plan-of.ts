/** `tsrke plan` against a lab's model. */
import { expect } from 'vitest';
import type { PlanDocument } from '../../src/encryption/plan-document.ts';
import { Effects } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { connectCluster } from '../../src/provision/cluster.ts';
import { planChange } from '../../src/provision/plan.ts';
import type { MemoryLab } from './memory-lab.ts';
import { silent } from './silent.ts';

/** What a run would do, looked at without a trace. */
export async function planOf(lab: MemoryLab, action: 'up' | 'rotate'): Promise<PlanDocument> {
  const effects = new Effects({ clock: lab.clock });
  const link = labLink(lab.model, effects);
  const { generation } = lab.model;
  const { state } = lab.store;
  const plan = await planChange(
    {
      configPath: lab.enabled ? lab.configs.on : lab.configs.off,
      action,
      report: silent,
      signal: new AbortController().signal,
    },
    { store: lab.store.through(effects), connect: (options) => connectCluster(options, link) },
  );
  expect(effects.log.filter(({ changes }) => changes)).toEqual([]);
  expect(lab.model.generation).toBe(generation);
  expect(lab.store.state).toBe(state);
  return plan;
}
