/** `tsrke encrypt status` on a lab in memory. */
import { Effects, type Effect } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { readStatus, type StatusAnswer } from '../../src/provision/status.ts';
import type { MemoryLab } from './memory-lab.ts';
import { silent } from './silent.ts';

/** With all that it did to the world. */
export async function statusOf(lab: MemoryLab): Promise<{ status: StatusAnswer; log: readonly Effect[] }> {
  const effects = new Effects({ clock: lab.clock });
  const status = await readStatus(
    {
      configPath: lab.enabled ? lab.configs.on : lab.configs.off,
      report: silent,
      signal: new AbortController().signal,
    },
    { store: lab.store.through(effects), link: labLink(lab.model, effects) },
  );
  return { status, log: effects.log };
}
