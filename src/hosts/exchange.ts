/** One container in the place of another, by the moves of recreation.ts: looked at anew after each of them. */
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { NodeName } from '../ports.ts';
import { create, inspectThree, policyOf, remove, start, statesOf, stop, type NameOf } from './containers.ts';
import { fresh, inUse, isInterrupted, nextMove, old, type Move } from './recreation.ts';

interface RestartPolicy {
  readonly Name: string;
  readonly MaximumRetryCount: number;
}

/** RKE's policy for its services, for one that has lost its own. */
const rkePolicy: RestartPolicy = { Name: 'always', MaximumRetryCount: 0 };
const noPolicy: RestartPolicy = { Name: 'no', MaximumRetryCount: 0 };

export interface Exchanged {
  readonly docker: Docker;
  readonly node: NodeName;
  readonly nameOf: NameOf;
  /** Seconds until it is killed when it is stopped. */
  readonly stopTimeout: number;
  /** What is thrown where there is no container at all. */
  readonly missing: () => TsrkeError;
}

/** Finishes whatever was cut off, up to the first move of the kind `until`; the container runs afterwards. */
export async function finishExchange(
  exchanged: Exchanged,
  signal: AbortSignal,
  until?: Move['kind'],
  policy = rkePolicy,
): Promise<void> {
  const { docker, nameOf, node } = exchanged;
  // Far more than there can be; looking again after each move is what makes any of them repeatable.
  for (let moves = 0; moves < 30; moves++) {
    signal.throwIfAborted();
    const inspected = await inspectThree(docker, nameOf);
    if (Object.keys(inspected).length === 0) throw exchanged.missing();
    const move = nextMove(statesOf(inspected));
    if (move === undefined || move.kind === until) return;
    await make(exchanged, move, restartPolicy(inspected[old]) ?? policy, signal);
  }
  throw new TsrkeError('DOCKER', `the containers of ${nameOf(inUse)} keep changing`, {
    node,
    next: 'see with `docker ps -a` who else is at work on this node, then run the same command again',
  });
}

/** Makes a container of this definition in the place of the one in use, which is kept aside until `settleExchange`. */
export async function exchange(exchanged: Exchanged, definition: object, signal: AbortSignal): Promise<void> {
  const { docker, nameOf, node } = exchanged;
  if (!(await create(docker, nameOf(fresh), definition))) {
    throw new TsrkeError('DOCKER', `a container named ${nameOf(fresh)} has just appeared`, {
      node,
      next: 'see who else is at work on this node, then run the same command again',
    });
  }
  // From here on the new one is the successor: see nextMove.
  await docker.getContainer(nameOf(inUse)).update({ RestartPolicy: noPolicy });
  await finishExchange(exchanged, signal, 'remove-fallback');
}

/** Keeps the new container and removes the old one, or puts the old one back. */
export async function settleExchange(
  exchanged: Exchanged,
  which: 'keep' | 'back',
  signal: AbortSignal,
): Promise<void> {
  if (which === 'keep') return finishExchange(exchanged, signal);
  const { docker, nameOf, node } = exchanged;
  const inspected = await inspectThree(docker, nameOf);
  if (inspected[old] === undefined) {
    throw new TsrkeError('DOCKER', `there is no ${nameOf(old)} to go back to`, {
      node,
      next: 'run the same command again; it looks at what is there and goes on from it',
    });
  }
  if (inspected[fresh] !== undefined) await remove(docker, nameOf(fresh), signal);
  // Without its policy the new one is on its way out, whatever happens next: see nextMove.
  await docker.getContainer(nameOf(old)).update({ RestartPolicy: noPolicy });
  if (inspected[inUse] !== undefined) {
    await docker.getContainer(nameOf(inUse)).update({ RestartPolicy: noPolicy });
  }
  await finishExchange(exchanged, signal, undefined, restartPolicy(inspected[inUse] ?? inspected[fresh]));
}

/** Whether an exchange was cut off here. */
export async function isExchangeOpen({ docker, nameOf }: Exchanged): Promise<boolean> {
  return isInterrupted(statesOf(await inspectThree(docker, nameOf)));
}

async function make(
  { docker, nameOf, stopTimeout }: Exchanged,
  move: Move,
  policy: RestartPolicy,
  signal: AbortSignal,
): Promise<void> {
  const name = nameOf(move.name);
  switch (move.kind) {
    case 'start':
      return start(docker, name);
    case 'stop':
      return stop(docker, name, stopTimeout);
    case 'unpause':
      await docker.getContainer(name).unpause();
      return;
    case 'remove':
    case 'remove-fallback':
      return remove(docker, name, signal);
    case 'rename':
      await docker.getContainer(name).rename({ name: nameOf(move.to) });
      return;
    case 'restore-policy':
      await docker.getContainer(name).update({ RestartPolicy: policy });
      return;
  }
}

/** A container's restart policy, if it has one. */
function restartPolicy(info: ContainerInspectInfo | undefined): RestartPolicy | undefined {
  if (info === undefined || policyOf(info) === 'no') return undefined;
  return { Name: policyOf(info), MaximumRetryCount: info.HostConfig.RestartPolicy?.MaximumRetryCount ?? 0 };
}
