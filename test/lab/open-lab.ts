/** The lab of the vitest project that runs (vitest.config.ts): one scenario, every lab. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll } from 'vitest';
import type { Lab, LabHost, LabOptions } from './lab.ts';

export const labName: 'memory' | 'real' = process.env['TSRKE_LAB'] === 'memory' ? 'memory' : 'real';

export async function openLab(options: LabOptions = {}): Promise<Lab> {
  if (labName === 'memory') return (await import('./memory-lab.ts')).openMemoryLab(options);
  return (await import('./real-lab.ts')).openRealLab(options);
}

export interface Bed {
  readonly lab: Lab;
  /** Its first. */
  readonly host: LabHost;
  /** cluster.yml's text as it was in the beginning. */
  readonly clusterYml: string;
}

/** Three, but one where they are real: rotations on three real hosts take minutes. */
export const fewHosts = labName === 'memory' ? 3 : 1;

/** One lab of one host for all scenarios of a file, given back at its end. To be called at the top of the file. */
export function labOfOneHost(options: Omit<LabOptions, 'hosts'>): Bed {
  return labOfFile({ ...options, hosts: 1 });
}

/** The same, of as many hosts as it says. */
export function labOfFile(options: LabOptions): Bed {
  let opened: Bed | undefined;
  beforeAll(async () => {
    const lab = await openLab(options);
    const [host] = lab.hosts;
    if (host === undefined) throw new Error('the lab has no host');
    opened = { lab, host, clusterYml: readFileSync(lab.config, 'utf8') };
  });
  afterAll(async () => {
    await opened?.lab.close();
    await closeLabs();
  });
  const now = () => {
    if (opened === undefined) throw new Error('the lab is not open yet');
    return opened;
  };
  return {
    get lab() {
      return now().lab;
    },
    get host() {
      return now().host;
    },
    get clusterYml() {
      return now().clusterYml;
    },
  };
}

/** At a file's end: gives back what labs share, the real one's hosts. */
export async function closeLabs(): Promise<void> {
  if (labName === 'real') await (await import('./real-lab.ts')).closeHosts();
}
