/** A container that runs one command and goes. */
import type Docker from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { NodeName } from '../ports.ts';
import { create, remove, start } from './containers.ts';
import { demultiplex } from './docker-client.ts';

export interface OneShot {
  readonly docker: Docker;
  readonly node: NodeName;
  readonly name: string;
  /** What Docker makes it from; its root runs it, without a network. */
  readonly definition: {
    readonly Image: string;
    readonly Entrypoint: readonly string[];
    readonly Cmd: readonly string[];
    readonly HostConfig: object;
  };
  /** Its output is wanted also where it ends well. */
  readonly isHeard?: boolean;
  /** With the container made and not started yet. */
  readonly before?: (container: Docker.Container) => Promise<void>;
  /** Once it has ended well. */
  readonly after?: (container: Docker.Container) => Promise<void>;
}

export interface Outcome {
  readonly code: number;
  /** Its last lines; where it ended well and is not heard, none. */
  readonly output: string;
}

/** One of this name that a call has left behind is removed first. Cut off, this one stays until the next call. */
export async function runOneShot(
  { docker, node, name, definition, isHeard = false, before, after }: OneShot,
  signal: AbortSignal,
): Promise<Outcome> {
  await remove(docker, name, signal);
  const whole = {
    ...definition,
    User: '0:0',
    NetworkDisabled: true,
    Labels: {},
    HostConfig: { ...definition.HostConfig, NetworkMode: 'none', RestartPolicy: { Name: 'no' } },
  };
  if (!(await create(docker, name, whole))) {
    throw new TsrkeError('DOCKER', `a container named ${name} has just appeared`, {
      node,
      next: 'see who else is at work on this node, then run the same command again',
    });
  }
  try {
    const container = docker.getContainer(name);
    await before?.(container);
    await start(docker, name);
    const { StatusCode: code } = (await container.wait()) as { StatusCode: number };
    const output = code === 0 && !isHeard ? '' : await lastWords(container);
    if (code === 0) await after?.(container);
    return { code, output };
  } finally {
    if (!signal.aborted) await remove(docker, name, signal);
  }
}

async function lastWords(container: Docker.Container): Promise<string> {
  const raw: unknown = await container.logs({ stdout: true, stderr: true, tail: 20, follow: false });
  return Buffer.isBuffer(raw) ? demultiplex(raw) : '';
}
