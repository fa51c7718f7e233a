import type { Report } from '../../src/ports.ts';

/** A Report that remembers what was said. */
export class Notes implements Report {
  readonly notes: string[] = [];
  readonly debugs: string[] = [];

  note(_level: 'info' | 'warning', text: string, node?: string): void {
    this.notes.push(`${node ?? ''}: ${text}`);
  }

  debug(text: string, node?: string): void {
    this.debugs.push(`${node ?? ''}: ${text}`);
  }

  task<T>(_title: string, work: Parameters<Report['task']>[1]): Promise<T> {
    return work({ progress: () => undefined, done: () => undefined }) as Promise<T>;
  }
}
