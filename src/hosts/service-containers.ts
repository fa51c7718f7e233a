/** ServiceContainers on Docker: RKE's containers by RKE's names, exchanged as kube-apiserver's is. */
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { HostInfo, NodeName, SeenService, ServiceContainers } from '../ports.ts';
import { definitionOf, serviceNames, type ServiceName } from '../services/container.ts';
import type { InspectedContainer } from '../services/differences.ts';
import {
  create,
  heirOf,
  inspect,
  inspectThree,
  logsOf,
  remove,
  restart,
  start,
  statesOf,
  type Inspected,
  type NameOf,
} from './containers.ts';
import { unless } from './docker-client.ts';
import { exchange, finishExchange, isExchangeOpen, settleExchange, type Exchanged } from './exchange.ts';
import { needImage, type ImageSource } from './images.ts';
import { fresh, inUse, isInterrupted, old } from './recreation.ts';

export interface ServiceContainersOptions {
  /** As DockerOptions'; `timeout`: milliseconds until a call is given up, where it is not the usual. */
  readonly docker: (node: NodeName, signal: AbortSignal, timeout?: number) => Promise<Docker>;
  /** Seconds that kube-apiserver gets to finish requests in flight before it is killed. */
  readonly stopTimeout: number;
  readonly imageSource: (image: string) => ImageSource;
}

const roles = [fresh, old, inUse] as const;
/** Seconds until a service is killed when it is stopped: RKE's, but etcd hands its leadership over first. */
const rkeStopTimeout = 5;
const etcdStopTimeout = 10;

export function serviceContainers({
  docker: open,
  stopTimeout,
  imageSource,
}: ServiceContainersOptions): ServiceContainers {
  /** By image id, which stands for the same bytes everywhere and for ever. */
  const environments = new Map<string, readonly string[]>();

  async function environmentOf(docker: Docker, image: string): Promise<readonly string[]> {
    const known = environments.get(image);
    if (known !== undefined) return known;
    const found = (await unless([404], docker.getImage(image).inspect())) as
      { readonly Config?: { readonly Env?: readonly string[] | null } } | undefined;
    // Of an image that somebody has removed nobody knows; RKE makes the container anew as well.
    if (found === undefined) return [];
    const environment = found.Config?.Env ?? [];
    environments.set(image, environment);
    return environment;
  }

  async function exchanged(node: NodeName, name: ServiceName, signal: AbortSignal): Promise<Exchanged> {
    return {
      docker: await open(node, signal),
      node,
      nameOf: namesOf(name),
      stopTimeout: secondsFor(name),
      missing: () => missing(node, name),
    };
  }

  function secondsFor(name: ServiceName): number {
    if (name === 'kube-apiserver') return stopTimeout;
    return name === 'etcd' ? etcdStopTimeout : rkeStopTimeout;
  }

  async function removeAll(docker: Docker, name: ServiceName, signal: AbortSignal): Promise<void> {
    for (const role of roles) await remove(docker, namesOf(name)(role), signal);
  }

  return {
    async info(node, signal) {
      return (await (await open(node, signal)).info()) as HostInfo;
    },

    async list(node, signal) {
      const docker = await open(node, signal);
      const all = await docker.listContainers({ all: true });
      const there = new Set(all.flatMap(({ Names }) => Names.map((each) => each.replace(/^\//, ''))));
      const names = serviceNames.filter((name) => roles.some((role) => there.has(namesOf(name)(role))));
      const inspected = await Promise.all(
        names.map(async (name) => {
          const three = await inspectThree(docker, namesOf(name));
          // One may have gone since.
          const info = heirOf(three);
          return info === undefined ? undefined : { name, three, info };
        }),
      );
      const found = inspected.filter((each) => each !== undefined);
      const images = [...new Set(found.map(({ info }) => info.Image))];
      const envOf = new Map(
        await Promise.all(images.map(async (image) => [image, await environmentOf(docker, image)] as const)),
      );
      return new Map(
        found.map(({ name, three, info }) => [
          name,
          describe(name, info, three, envOf.get(info.Image) ?? []),
        ]),
      );
    },

    async needImage(node, image, signal) {
      await needImage({ docker: open, node, image, source: imageSource(image) }, signal);
    },

    async create(node, container, signal) {
      const docker = await open(node, signal);
      await make(docker, node, container.name, definitionOf(container));
      if (container.restart !== undefined) await start(docker, container.name);
    },

    async exchange(node, container, signal) {
      const one = await exchanged(node, container.name, signal);
      if (container.restart === undefined) {
        // Others use its volume, which Docker keeps as long as one of them is there.
        await removeAll(one.docker, container.name, signal);
        await make(one.docker, node, container.name, definitionOf(container));
        return;
      }
      if (await isExchangeOpen(one)) await finishExchange(one, signal);
      if ((await inspect(one.docker, container.name)) === undefined) throw missing(node, container.name);
      await exchange(one, definitionOf(container), signal);
    },

    async settle(node, name, which, signal) {
      // There never was anything aside.
      if (isNeverStarted(name)) return;
      await settleExchange(await exchanged(node, name, signal), which, signal);
    },

    async finish(node, name, signal) {
      const one = await exchanged(node, name, signal);
      await (isNeverStarted(name) ? keepOne(one, signal) : finishExchange(one, signal));
    },

    async restart(node, name, signal) {
      const docker = await open(node, signal);
      const info = await inspect(docker, name);
      if (info === undefined) throw missing(node, name);
      if (!isNeverStarted(name)) await restart(docker, name, info, secondsFor(name));
    },

    async remove(node, name, signal) {
      await removeAll(await open(node, signal), name, signal);
    },

    async logs(node, name, lines, signal) {
      const docker = await open(node, signal);
      const info = heirOf(await inspectThree(docker, namesOf(name)));
      return info === undefined ? [] : logsOf(docker, info, lines);
    },

    async leftovers(node, signal) {
      return (await leftoversOn(await open(node, signal))).map(({ name }) => name);
    },

    async removeLeftovers(node, signal) {
      const docker = await open(node, signal);
      // A sandbox has the network of its pod's containers, so it goes last.
      const isSandbox = ({ name }: Leftover) => name.startsWith('k8s_POD_');
      const found = (await leftoversOn(docker)).toSorted(
        (a, b) => Number(isSandbox(a)) - Number(isSandbox(b)),
      );
      for (const { id } of found) await remove(docker, id, signal);
    },
  };
}

interface Leftover {
  readonly id: string;
  readonly name: string;
}

/** Containers that run once, of RKE and tsrke; those of RKE may have keys in their environment. */
const helpers = new Set([
  ...['cert-deployer', 'cert-fetcher', 'cluster-state-deployer', 'extract-statefile-configmap'],
  ...['file-deployer', 'etcd-fix-perm', 'rke-bundle-cert', 'rke-log-linker', 'rke-log-cleaner'],
  ...['rke-etcd-port-listener', 'rke-cp-port-listener', 'rke-worker-port-listener', 'rke-port-checker'],
  ...['rke-selinux-checker', 'kube-cleaner', 'tsrke-files'],
]);

/** cri-dockerd names all that it makes `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`. */
async function leftoversOn(docker: Docker): Promise<Leftover[]> {
  const all = await docker.listContainers({ all: true });
  return all.flatMap(({ Id: id, Names }) => {
    const [name = ''] = Names.map((each) => each.replace(/^\//, ''));
    return /^k8s_.*_.*_.*_/.test(name) || helpers.has(name) ? [{ id, name }] : [];
  });
}

/** kube-apiserver's are those of recreation.ts: whoever finds one exchange cut off can finish it. */
function namesOf(name: ServiceName): NameOf {
  return (role) => ({ [inUse]: name, [fresh]: `tsrke-new-${name}`, [old]: `old-${name}` })[role];
}

/** It has no restart policy either, which means something else with all others. */
function isNeverStarted(name: ServiceName): boolean {
  return name === 'service-sidekick';
}

/** RKE renames it as well before it makes it anew. */
async function keepOne({ docker, nameOf, missing }: Exchanged, signal: AbortSignal): Promise<void> {
  const inspected = await inspectThree(docker, nameOf);
  const info = heirOf(inspected);
  if (info === undefined) throw missing();
  if (inspected[inUse] === undefined) await docker.getContainer(info.Id).rename({ name: nameOf(inUse) });
  for (const role of [fresh, old] as const) {
    if (inspected[role] !== undefined && inspected[role] !== info) await remove(docker, nameOf(role), signal);
  }
}

function describe(
  name: ServiceName,
  info: ContainerInspectInfo,
  inspected: Inspected,
  imageEnv: readonly string[],
): SeenService {
  const { Running, Paused } = info.State;
  // dockerode's types say less than Docker sends.
  const { Config, HostConfig } = info as unknown as InspectedContainer;
  return {
    inspect: { Config, HostConfig, State: { Running: Running && !Paused } },
    imageEnv,
    startedAt: info.State.StartedAt,
    interrupted: isNeverStarted(name)
      ? inspected[fresh] !== undefined || inspected[old] !== undefined
      : isInterrupted(statesOf(inspected)),
  };
}

async function make(docker: Docker, node: NodeName, name: ServiceName, definition: object): Promise<void> {
  if (await create(docker, name, definition)) return;
  throw new TsrkeError('DOCKER', `there is a container ${name} already`, {
    node,
    next: 'see with `docker ps -a` who else is at work on this node, then run the same command again',
  });
}

function missing(node: NodeName, name: ServiceName): TsrkeError {
  return new TsrkeError('DOCKER', `there is no container ${name} any more`, {
    node,
    next: 'see with `docker ps -a` who else is at work on this node, then run the same command again',
  });
}
