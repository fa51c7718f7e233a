/** What cluster.yml says otherwise than the state. */
import type { ClusterConfig } from './load.ts';

export interface Difference {
  path: string;
  from: unknown;
  to: unknown;
}

export function differences(config: ClusterConfig, stateRkeConfig: Record<string, unknown>): Difference[] {
  throw new Error(`not yet written: ${config.path} ${String(Object.keys(stateRkeConfig).length)}`);
}
