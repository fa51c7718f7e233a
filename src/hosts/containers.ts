/** The containers of one host that matter here, by name, and the few calls made on them. */
import { setTimeout as delay } from 'node:timers/promises';
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { demultiplex, statusOf, unless } from './docker-client.ts';
import { fresh, heir, inUse, old } from './recreation.ts';
import type { Containers, ContainerState } from './recreation.ts';

/** `docker inspect` of each of the three that exists. */
export type Inspected = Readonly<Partial<Record<keyof Containers, ContainerInspectInfo>>>;

/** What a container that is recreated is called in each of its three roles; for kube-apiserver the role is the name. */
export type NameOf = (role: keyof Containers) => string;

export const apiserverName: NameOf = (role) => role;

export async function inspectThree(docker: Docker, nameOf: NameOf): Promise<Inspected> {
  const found = await Promise.all(
    ([inUse, fresh, old] as const).map(async (role) => [role, await inspect(docker, nameOf(role))] as const),
  );
  return Object.fromEntries(found.filter(([, info]) => info !== undefined));
}

export async function inspect(docker: Docker, name: string): Promise<ContainerInspectInfo | undefined> {
  return unless([404], docker.getContainer(name).inspect());
}

export function statesOf(inspected: Inspected): Containers {
  return Object.fromEntries(
    Object.entries(inspected).map(([name, info]): [string, ContainerState] => [
      name,
      { running: info.State.Running, paused: info.State.Paused, policy: policyOf(info) },
    ]),
  );
}

/** Docker writes a policy of none as `no` or as nothing at all. */
export function policyOf(info: ContainerInspectInfo): string {
  const name = info.HostConfig.RestartPolicy?.Name ?? '';
  return name === '' ? 'no' : name;
}

/** The kube-apiserver container there is, under whichever of its names. */
export function heirOf(inspected: Inspected): ContainerInspectInfo | undefined {
  const name = heir(statesOf(inspected));
  return name === undefined ? undefined : inspected[name];
}

/** True when commands can be run in it; one that Docker restarts again and again is none. */
export function isUp(info: ContainerInspectInfo): boolean {
  return info.State.Running && !info.State.Restarting && !info.State.Paused;
}

/** Creates without starting. Resolves to false when the name is taken. */
export async function create(docker: Docker, name: string, definition: object): Promise<boolean> {
  // dockerode puts all of its options into the URL as well, unless query and body are told apart.
  const options = { _query: { name }, _body: definition } as unknown as Docker.ContainerCreateOptions;
  try {
    await docker.createContainer(options);
    return true;
  } catch (error) {
    if (statusOf(error) === 409) return false;
    throw error;
  }
}

/** Starts; one that runs is fine. */
export async function start(docker: Docker, name: string): Promise<void> {
  await unless([304], docker.getContainer(name).start());
}

/** Stops, killing after `timeout` seconds; one that does not run is fine. */
export async function stop(docker: Docker, name: string, timeout: number): Promise<void> {
  await unless([304], docker.getContainer(name).stop({ t: timeout }));
}

/** Stops and starts it, or starts a stopped one. */
export async function restart(
  docker: Docker,
  name: string,
  { State }: ContainerInspectInfo,
  timeout: number,
): Promise<void> {
  if (State.Paused) await docker.getContainer(name).unpause();
  if (State.Running) await docker.getContainer(name).restart({ t: timeout });
  else await start(docker, name);
}

/**
 * Removes it whether or not it runs, with its anonymous volumes as RKE does; Docker keeps those that another
 * container (service-sidekick) holds. None there is fine.
 */
export async function remove(docker: Docker, name: string, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await docker.getContainer(name).remove({ force: true, v: true });
      return;
    } catch (error) {
      if (statusOf(error) === 404) return;
      // Another call is at it already, perhaps one of a run that was cut off.
      if (statusOf(error) !== 409 || attempt === 20) throw error;
      await delay(250, undefined, { signal });
    }
  }
}

/** A container's last log lines, oldest first. */
export async function logsOf(docker: Docker, info: ContainerInspectInfo, lines: number): Promise<string[]> {
  const raw: unknown = await docker
    .getContainer(info.Id)
    .logs({ stdout: true, stderr: true, tail: lines, follow: false });
  // With a terminal there is nothing to take apart, and docker-modem parses what happens to be JSON.
  const text = !Buffer.isBuffer(raw)
    ? JSON.stringify(raw)
    : info.Config.Tty
      ? raw.toString()
      : demultiplex(raw);
  return text
    .split(/\r?\n/)
    .filter((line) => line !== '')
    .slice(-lines);
}
