/** Whether a key is old enough to be rotated, told by cluster.yml and the state file alone. */
import { inWords } from '../config/duration.ts';
import type { ClusterConfig } from '../config/load.ts';
import { writeKeyAges } from '../encryption/age.ts';
import { noFile, type ProviderFile } from '../encryption/configuration.ts';
import { recordedFiles } from '../encryption/observe.ts';
import { dueText } from '../encryption/status/warnings.ts';
import { TsrkeError } from '../errors.ts';
import type { ClusterState } from '../state/rkestate.ts';

/**
 * A sentence where `rotate-key --if-due` has nothing to do; undefined: go on. A change that was cut off is finished at
 * any age. Throws CONFIG_INVALID without `max_key_age`: a pipeline would wait for ever.
 */
export function notYetDue(config: ClusterConfig, state: ClusterState, now: Date): string | undefined {
  const { enabled, maxKeyAge } = config.encryption;
  if (maxKeyAge === undefined) {
    throw new TsrkeError('CONFIG_INVALID', 'cluster.yml does not say when a key is due to be rotated', {
      next: 'set services.kube-api.secrets_encryption_config.max_key_age, such as 90d (0: never by age)',
    });
  }
  if (!enabled || state.tsrke.transition !== undefined) return undefined;
  if (maxKeyAge === 0) return 'nothing to do: max_key_age is 0, so no key is ever due by its age';
  const [file = noFile] = recordedFiles(state);
  const ages = writeKeyAges(file, state.tsrke, now, maxKeyAge);
  if (ages.length === 0 || ages.some(({ due }) => due)) return undefined;
  const oldest = ages.reduce((a, b) => ((b.age ?? 0) > (a.age ?? 0) ? b : a));
  const { stored, age = 0 } = oldest;
  return `nothing to do: ${stored} is ${inWords(age)} old, and due in ${inWords(maxKeyAge - age)}`;
}

/** What `up` says of keys that are due; it never rotates by age itself. */
export function dueNotes(
  target: ProviderFile,
  state: ClusterState,
  { encryption: { maxKeyAge } }: ClusterConfig,
  now: Date,
): string[] {
  return writeKeyAges(target, state.tsrke, now, maxKeyAge)
    .filter(({ due, age }) => due && age !== undefined)
    .map(dueText);
}
