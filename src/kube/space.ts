/** Every rewrite is a new revision, which etcd keeps until it is compacted: its quota must not be reached. */
import { TsrkeError } from '../errors.ts';
import type { Clock } from '../ports.ts';

export interface EtcdSize {
  /** Bytes in use; space that compaction has freed does not count, etcd fills it again. */
  readonly used: number;
  /** Bytes; undefined where etcd does not say: then its default of 2 GiB is assumed. */
  readonly quota: number | undefined;
}

export interface SpaceWatchOptions {
  readonly size: (signal: AbortSignal) => Promise<EtcdSize>;
  readonly relieve: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** etcd's --quota-backend-bytes when it is not set. */
export const defaultQuota = 2 * 1024 ** 3;
const lookEvery = 1_000;
const relieveEvery = 60_000;
/** Twice what kube-apiserver's own compaction (5 minutes, of what is 5 minutes old) needs, and some. */
const longestPause = 25 * 60_000;

/**
 * Looks every second until the signal aborts, and says each time whether to pause (the reason) or to go on
 * (undefined). A look that fails changes nothing: whoever writes will meet etcd's own refusal.
 * Throws ETCD when space has not become free within 25 minutes.
 */
export async function watchSpace(
  { size, relieve, clock, signal }: SpaceWatchOptions,
  pause: (reason: string | undefined) => void,
): Promise<void> {
  let full: string | undefined;
  let since: number | undefined;
  let relieved = -Infinity;
  while (!signal.aborted) {
    full = await look(size, signal).catch(() => full);
    pause(full);
    const now = clock.now().getTime();
    since = full === undefined ? undefined : (since ?? now);
    if (full !== undefined && since !== undefined && now - since > longestPause) throw stillFull(full);
    if (full !== undefined && now - relieved >= relieveEvery) {
      relieved = now;
      // Without it the pause just lasts longer: kube-apiserver compacts by itself.
      await relieve?.(signal).catch(() => undefined);
    }
    await clock.sleep(lookEvery, signal).catch(() => undefined);
  }
}

async function look(size: SpaceWatchOptions['size'], signal: AbortSignal): Promise<string | undefined> {
  const { used, quota = defaultQuota } = await size(signal);
  if (used <= 0.8 * quota) return undefined;
  return `etcd holds ${mebibytes(used)} of its ${mebibytes(quota)}; waiting for compaction`;
}

function stillFull(seen: string): TsrkeError {
  return new TsrkeError('ETCD', `no space became free in etcd within 25 minutes: ${seen}`, {
    next: 'compact and defragment etcd or raise its quota, then run the same command again',
  });
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`;
}
