/** The ways into a model as a run has them, with certificates and a configuration that nobody looks at. */
import type { VirtualClock } from '../../src/lab/clock.ts';
import { Effects } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import type { LabModel } from '../../src/lab/model.ts';
import type { Links } from '../../src/provision/links.ts';
import { silent } from './silent.ts';

export function linksInto(model: LabModel, clock: VirtualClock): Links {
  return labLink(
    model,
    new Effects({ clock }),
  )({
    config: { raw: {} } as never,
    nodes: [],
    ca: '',
    admin: { cert: '', key: '' },
    hostKeys: {},
    report: silent,
  });
}
