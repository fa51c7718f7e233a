/** The lab of the vitest project that runs (vitest.config.ts): one scenario, every lab. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll } from 'vitest';
import type { Lab, LabHost, LabOptions } from './lab.ts';

export const labName: 'memory' | 'real' = process.env['TSRKE_LAB'] === 'memory' ? 'memory' : 'real';

export async function openLab(options: LabOptions = {}): Promise<Lab> {
  if (labName === 'memory') return (await import('./memory-lab.ts')).openMemoryLab(options);
  return (await import('./real-lab.ts')).openRealLab(options);
}

/** One lab of one host for all scenarios of a file, given back at its end. To be called at the top of the file. */
export function labOfOneHost(options: Omit<LabOptions, 'hosts'>): {
  readonly lab: Lab;
  readonly host: LabHost;
  /** cluster.yml's text as it was in the beginning. */
  readonly clusterYml: string;
} {
  let opened: ReturnType<typeof labOfOneHost> | undefined;
  beforeAll(async () => {
    const lab = await openLab({ ...options, hosts: 1 });
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
