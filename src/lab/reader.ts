/** A user of the lab's cluster who reads one Secret all the while, through whichever node serves, as behind a load balancer. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { example } from './seed.ts';
import { NoAnswer, type LabSurface } from './surface.ts';

export interface Reader {
  stop(): Promise<{ readonly reads: number; readonly failed: number }>;
}

/** Milliseconds between two reads. */
const pause = 20;

export function startReader(surface: LabSurface, secret: typeof example): Reader {
  const path = `/api/v1/namespaces/${secret.namespace}/secrets/${secret.name}`;
  const ask = { method: 'GET', path, headers: { accept: 'application/json' }, body: Buffer.alloc(0) };
  const wanted = Buffer.from(secret.text).toString('base64');
  let stopping = false;
  let turn = 0;

  /** A node that does not answer is passed over; one that answers must answer right. */
  async function read(): Promise<boolean> {
    turn += 1;
    for (let tried = 0; tried < surface.nodes.length; tried += 1) {
      const node = surface.nodes[(turn + tried) % surface.nodes.length];
      if (node === undefined) break;
      try {
        const { status, body } = await surface.kube(node.name, ask);
        return status === 200 && body.toString().includes(wanted);
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
      }
    }
    return false;
  }

  const reading = (async () => {
    const counts = { reads: 0, failed: 0 };
    while (!stopping) {
      counts.reads += 1;
      if (!(await read())) counts.failed += 1;
      await sleep(pause);
    }
    return counts;
  })();
  return {
    stop() {
      stopping = true;
      return reading;
    },
  };
}
