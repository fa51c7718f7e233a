/** One run at a time on this machine: a file beside the state that says who holds it. Never taken from the living. */
import { openSync, readFileSync, rmSync, writeSync, closeSync } from 'node:fs';
import { hostname } from 'node:os';
import { TsrkeError } from '../errors.ts';

export interface Owner {
  readonly host: string;
  /** Of this boot of the machine; empty where the system does not say. */
  readonly boot: string;
  readonly pid: number;
  /** The process's start time in clock ticks since boot; empty where the system does not say. */
  readonly started: string;
  /** RFC 3339. */
  readonly since: string;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Field 22 of /proc/PID/stat (Linux); it tells a process from a later one with the same pid. */
function startOf(pid: number): string {
  const stat = read(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

const bootId = (): string => read('/proc/sys/kernel/random/boot_id')?.trim() ?? '';

export function thisOwner(since: Date): Owner {
  const { pid } = process;
  return { host: hostname(), boot: bootId(), pid, started: startOf(pid), since: since.toISOString() };
}

/** One word for a run, as Leases and messages name it. */
export function identityOf({ host, pid, since }: Owner): string {
  return `${host}/${pid}/${since}`;
}

/** A run as people are told of it. */
export function whoIs({ pid, host, since }: Owner): string {
  return `process ${pid} on ${host} since ${since}`;
}

/** Who holds the state on this machine, as far as is known to live; undefined: nobody. Only looks. */
export function lockHolder(statePath: string): string | undefined {
  const text = read(`${statePath}.lock`);
  if (text === undefined) return undefined;
  const owner = ownerIn(text);
  if (owner === undefined) return 'an unknown run';
  return isDead(owner) ? undefined : whoIs(owner);
}

function ownerIn(text: string): Owner | undefined {
  try {
    return JSON.parse(text) as Owner;
  } catch {
    // Cut off between creating and writing it: its maker is gone or about to write.
    return undefined;
  }
}

/** The cluster's lock is held by a run that lives. */
export function locked(holder: string): TsrkeError {
  return new TsrkeError('LOCKED', `the cluster is locked by ${holder === '' ? 'another run' : holder}`, {
    next: 'wait for that run to end; it renewed its lock a moment ago',
  });
}

/** True only where it is certain: same machine, and it rebooted since or that process is gone. */
export function isDead(owner: Owner): boolean {
  if (owner.host !== hostname()) return false;
  if (owner.boot !== bootId()) return true;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
  return owner.started !== '' && startOf(owner.pid) !== owner.started;
}

/** Throws LOCKED, naming the owner. The returned function gives the lock back. */
export function lockState(statePath: string, now: Date): () => void {
  const path = `${statePath}.lock`;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const file = openSync(path, 'wx', 0o600);
      writeSync(file, JSON.stringify(thisOwner(now)));
      closeSync(file);
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw new TsrkeError('STATE_WRITE', `the lock ${path} could not be made`, { cause: error });
      }
    }
    const text = read(path);
    if (text === undefined) continue;
    const owner = ownerIn(text);
    if (owner !== undefined && isDead(owner) && attempt < 3) {
      rmSync(path, { force: true });
      continue;
    }
    const who = owner === undefined ? 'an unknown run' : whoIs(owner);
    throw new TsrkeError('LOCKED', `the state is locked by ${who}`, {
      next: `wait for that run to end; if you are certain that it is dead, remove ${path}`,
    });
  }
}
