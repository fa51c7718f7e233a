/** The lab of the vitest project that runs (vitest.config.ts): one scenario, every lab. */
import type { Lab, LabOptions } from './lab.ts';

export const labName: 'memory' | 'real' = process.env['TSRKE_LAB'] === 'memory' ? 'memory' : 'real';

export async function openLab(options: LabOptions = {}): Promise<Lab> {
  if (labName === 'memory') return (await import('./memory-lab.ts')).openMemoryLab(options);
  return (await import('./real-lab.ts')).openRealLab(options);
}

/** At a file's end: gives back what labs share, the real one's hosts. */
export async function closeLabs(): Promise<void> {
  if (labName === 'real') await (await import('./real-lab.ts')).closeHosts();
}
