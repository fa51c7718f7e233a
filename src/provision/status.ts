/** `tsrke encrypt status`: looks, and changes nothing: no lock, no state, no node, no Lease. */
import { loadConfig, statePathOf, type LoadOptions } from '../config/load.ts';
import { statusOf, type EncryptionStatus } from '../encryption/status/status.ts';
import type { Report } from '../ports.ts';
import { fileStore, stateIn, type StateStore } from '../state/store.ts';
import { linkOverSsh, type Link } from './links.ts';
import { sightCluster } from './sight.ts';
import { wantedOf } from './wanted.ts';

export interface LookOptions extends LoadOptions {
  readonly configPath: string;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** What a look needs besides its options; tests plug a lab's model in here. */
export interface LookSurroundings {
  readonly store: StateStore;
  readonly link: Link;
}

export interface StatusAnswer extends EncryptionStatus {
  /** When it was looked at, RFC 3339. */
  readonly time: string;
  readonly cluster: string;
}

/** Rejects with TsrkeError where cluster.yml or the state cannot be read; what cannot be seen is in the answer. */
export async function readStatus(
  options: LookOptions,
  { store, link }: LookSurroundings = surroundingsOf(options),
): Promise<StatusAnswer> {
  const { report, signal } = options;
  const config = loadConfig(options.configPath, options);
  const wanted = wantedOf(config);
  const state = stateIn(store);
  const sight = await sightCluster({ config, state, store, report, signal }, link);
  return {
    time: sight.time.toISOString(),
    cluster: config.name,
    ...statusOf({ sight, state, wanted, maxKeyAge: config.encryption.maxKeyAge }),
  };
}

export function surroundingsOf({ configPath }: LookOptions): LookSurroundings {
  return { store: fileStore(statePathOf(configPath)), link: linkOverSsh };
}
