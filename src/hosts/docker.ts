/** ContainerRuntime on Docker: what tsrke does to a node's kube-apiserver container, and markers for the lock. */
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { ApiserverContainer, ContainerRuntime, Markers, NodeName, Report } from '../ports.ts';
import { apiserverName, create, heirOf, inspect, inspectThree, isUp, logsOf } from './containers.ts';
import { remove, restart, statesOf } from './containers.ts';
import { unless } from './docker-client.ts';
import { exchange, finishExchange, isExchangeOpen, settleExchange, type Exchanged } from './exchange.ts';
import { argumentsOf, inUse, isInterrupted, withArguments, type Command } from './recreation.ts';

export interface DockerOptions {
  /** A client for the node whose calls end with the signal. */
  readonly docker: (node: NodeName, signal: AbortSignal) => Promise<Docker>;
  readonly report: Report;
  /** Seconds that kube-apiserver gets to finish requests in flight before it is killed. */
  readonly stopTimeout: number;
}

export function dockerRuntime(options: DockerOptions): ContainerRuntime & Markers {
  const { report, stopTimeout } = options;

  async function exchanged(node: NodeName, signal: AbortSignal): Promise<Exchanged> {
    const docker = await options.docker(node, signal);
    return { docker, node, nameOf: apiserverName, stopTimeout, missing: () => missing(node) };
  }

  async function someApiserver(docker: Docker, node: NodeName): Promise<ContainerInspectInfo> {
    const info = heirOf(await inspectThree(docker, apiserverName));
    if (info === undefined) throw missing(node);
    return info;
  }

  return {
    async version(node, signal) {
      const docker = await options.docker(node, signal);
      return (await docker.version()).Version;
    },

    async apiserver(node, signal): Promise<ApiserverContainer | undefined> {
      const docker = await options.docker(node, signal);
      const inspected = await inspectThree(docker, apiserverName);
      const info = heirOf(inspected);
      if (info === undefined) return undefined;
      return {
        running: isUp(info),
        startedAt: info.State.StartedAt,
        args: argumentsOf(commandOf(info)),
        binds: info.HostConfig.Binds ?? [],
        image: info.Config.Image,
        hostname: await hostnameOf(docker, info),
        interrupted: isInterrupted(statesOf(inspected)),
      };
    },

    async restartApiserver(node, signal) {
      const docker = await options.docker(node, signal);
      const info = await inspect(docker, inUse);
      if (info === undefined) throw missing(node);
      await restart(docker, inUse, info, stopTimeout);
    },

    async recreateApiserver(node, change, signal) {
      const one = await exchanged(node, signal);
      const { docker } = one;
      if (await isExchangeOpen(one)) await finishExchange(one, signal);
      const info = await inspect(docker, inUse);
      if (info === undefined) throw missing(node);
      await exchange(one, definitionOf(info, change, await imageFor(docker, node, info)), signal);
    },

    async settleApiserver(node, which, signal) {
      await settleExchange(await exchanged(node, signal), which, signal);
    },

    async finishRecreation(node, signal) {
      await finishExchange(await exchanged(node, signal), signal);
    },

    async logs(node, lines, signal) {
      const docker = await options.docker(node, signal);
      const info = await someApiserver(docker, node);
      return logsOf(docker, info, lines);
    },

    async marker(node, name, signal) {
      const docker = await options.docker(node, signal);
      const info = await inspect(docker, name);
      if (info === undefined) return undefined;
      return { labels: info.Config.Labels, beats: info.HostConfig.RestartPolicy?.MaximumRetryCount ?? 0 };
    },

    async createMarker(node, name, labels, signal) {
      const docker = await options.docker(node, signal);
      const { Image } = await someApiserver(docker, node);
      return create(docker, name, {
        Image,
        Entrypoint: ['true'],
        Labels: labels,
        NetworkDisabled: true,
        HostConfig: { NetworkMode: 'none', RestartPolicy: { Name: 'no' } },
      });
    },

    async beatMarker(node, name, beats, signal) {
      const docker = await options.docker(node, signal);
      // Labels of a container cannot be changed, this can; one that was never started is not started by it either.
      const policy = { Name: 'on-failure', MaximumRetryCount: beats };
      await docker.getContainer(name).update({ RestartPolicy: policy });
    },

    async removeMarker(node, name, labels, signal) {
      const docker = await options.docker(node, signal);
      const found = await inspect(docker, name);
      if (found === undefined) return true;
      if (Object.entries(labels).some(([key, value]) => found.Config.Labels[key] !== value)) return false;
      // By id: one that has been put there since is left alone.
      await remove(docker, found.Id, signal);
      return true;
    },
  };

  /** The container's image by the name it was given; by its id where that name has moved on, so that nothing else changes. */
  async function imageFor(docker: Docker, node: NodeName, info: ContainerInspectInfo): Promise<string> {
    const named = await unless([404], docker.getImage(info.Config.Image).inspect());
    if (named?.Id === info.Image) return info.Config.Image;
    report.note(
      'warning',
      `image ${info.Config.Image} is ${named === undefined ? 'gone' : 'another one by now'}; ` +
        `kube-apiserver keeps its image by id, and the next \`rke up\` would make the container anew`,
      node,
    );
    return info.Image;
  }
}

/** All of a container as inspected, save what is to change and the image. */
function definitionOf(
  info: ContainerInspectInfo,
  { args, binds }: Parameters<ContainerRuntime['recreateApiserver']>[1],
  image: string,
): object {
  const config: Record<string, unknown> = {
    ...info.Config,
    ...(args === undefined ? {} : withArguments(commandOf(info), args)),
    Image: image,
    HostConfig: binds === undefined ? info.HostConfig : { ...info.HostConfig, Binds: binds },
  };
  // Docker names such containers after the host by itself, and refuses to be told.
  if (sharesHostname(info)) delete config['Hostname'];
  return config;
}

/** dockerode's types say less than Docker sends. */
function commandOf(info: ContainerInspectInfo): Command {
  return info.Config as unknown as Command;
}

function sharesHostname(info: ContainerInspectInfo): boolean {
  return info.HostConfig.UTSMode === 'host' || (info.HostConfig.NetworkMode ?? '').startsWith('container:');
}

/** What os.Hostname() says inside; with the host's network Docker has copied the host's own name at creation. */
async function hostnameOf(docker: Docker, info: ContainerInspectInfo): Promise<string> {
  const { Hostname, Domainname } = info.Config;
  if (!sharesHostname(info) && Hostname !== '')
    return Domainname === '' ? Hostname : `${Hostname}.${Domainname}`;
  return ((await docker.info()) as { Name: string }).Name;
}

function missing(node: NodeName): TsrkeError {
  return new TsrkeError('APISERVER_MISSING', 'there is no kube-apiserver container', {
    node,
    next: 'see with `docker ps -a` on the node; `up` deploys one',
  });
}
