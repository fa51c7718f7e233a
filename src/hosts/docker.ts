/** ContainerRuntime on Docker: what tsrke does to a node's kube-apiserver container, and markers for the lock. */
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { TsrkeError } from '../errors.ts';
import type { ApiserverContainer, ContainerRuntime, Markers, NodeName, Report } from '../ports.ts';
import {
  create,
  heirOf,
  inspect,
  inspectApiserver,
  isUp,
  policyOf,
  remove,
  start,
  statesOf,
  stop,
} from './containers.ts';
import { demultiplex, unless } from './docker-client.ts';
import { argumentsOf, fresh, inUse, isInterrupted, nextMove, old, withArguments } from './recreation.ts';
import type { Command, Move } from './recreation.ts';

export interface DockerOptions {
  /** A client for the node whose calls end with the signal. */
  readonly docker: (node: NodeName, signal: AbortSignal) => Promise<Docker>;
  readonly report: Report;
  /** Seconds that kube-apiserver gets to finish requests in flight before it is killed. */
  readonly stopTimeout: number;
}

interface RestartPolicy {
  readonly Name: string;
  readonly MaximumRetryCount: number;
}

/** RKE's policy for kube-apiserver, for one that has lost its own. */
const rkePolicy: RestartPolicy = { Name: 'always', MaximumRetryCount: 0 };
const noPolicy: RestartPolicy = { Name: 'no', MaximumRetryCount: 0 };

export function dockerRuntime(options: DockerOptions): ContainerRuntime & Markers {
  const { report, stopTimeout } = options;

  async function finish(
    node: NodeName,
    signal: AbortSignal,
    until: Move['kind'] | undefined,
    policy: RestartPolicy = rkePolicy,
  ): Promise<void> {
    const docker = await options.docker(node, signal);
    // Far more than there can be; looking again after each move is what makes any of them repeatable.
    for (let moves = 0; moves < 30; moves++) {
      signal.throwIfAborted();
      const inspected = await inspectApiserver(docker);
      if (Object.keys(inspected).length === 0) throw missing(node);
      const move = nextMove(statesOf(inspected));
      if (move === undefined || move.kind === until) return;
      await make(docker, move, restartPolicy(inspected[old]) ?? policy, signal);
    }
    throw new TsrkeError('DOCKER', 'the kube-apiserver containers keep changing', {
      node,
      next: 'see with `docker ps -a` who else is at work on this node, then run the same command again',
    });
  }

  async function make(docker: Docker, move: Move, policy: RestartPolicy, signal: AbortSignal): Promise<void> {
    switch (move.kind) {
      case 'start':
        return start(docker, move.name);
      case 'stop':
        return stop(docker, move.name, stopTimeout);
      case 'unpause':
        await docker.getContainer(move.name).unpause();
        return;
      case 'remove':
      case 'remove-fallback':
        return remove(docker, move.name, signal);
      case 'rename':
        await docker.getContainer(move.name).rename({ name: move.to });
        return;
      case 'restore-policy':
        await docker.getContainer(move.name).update({ RestartPolicy: policy });
        return;
    }
  }

  async function someApiserver(docker: Docker, node: NodeName): Promise<ContainerInspectInfo> {
    const info = heirOf(await inspectApiserver(docker));
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
      const inspected = await inspectApiserver(docker);
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
      if (info.State.Paused) await docker.getContainer(inUse).unpause();
      if (info.State.Running) await docker.getContainer(inUse).restart({ t: stopTimeout });
      else await start(docker, inUse);
    },

    async recreateApiserver(node, change, signal) {
      const docker = await options.docker(node, signal);
      if (isInterrupted(statesOf(await inspectApiserver(docker)))) await finish(node, signal, undefined);
      const info = await inspect(docker, inUse);
      if (info === undefined) throw missing(node);
      const definition = definitionOf(info, change, await imageFor(docker, node, info));
      if (!(await create(docker, fresh, definition))) {
        throw new TsrkeError('DOCKER', `a container named ${fresh} has just appeared`, {
          node,
          next: 'see who else is at work on this node, then run the same command again',
        });
      }
      // From here on the new one is the successor: see nextMove.
      await docker.getContainer(inUse).update({ RestartPolicy: noPolicy });
      await finish(node, signal, 'remove-fallback');
    },

    async settleApiserver(node, which, signal) {
      if (which === 'keep') return finish(node, signal, undefined);
      const docker = await options.docker(node, signal);
      const inspected = await inspectApiserver(docker);
      if (inspected[old] === undefined) {
        throw new TsrkeError('DOCKER', `there is no ${old} to go back to`, {
          node,
          next: 'run the same command again; it looks at what is there and goes on from it',
        });
      }
      if (inspected[fresh] !== undefined) await remove(docker, fresh, signal);
      // Without its policy the new one is on its way out, whatever happens next: see nextMove.
      await docker.getContainer(old).update({ RestartPolicy: noPolicy });
      if (inspected[inUse] !== undefined) {
        await docker.getContainer(inUse).update({ RestartPolicy: noPolicy });
      }
      await finish(node, signal, undefined, restartPolicy(inspected[inUse] ?? inspected[fresh]));
    },

    async finishRecreation(node, signal) {
      await finish(node, signal, undefined);
    },

    async logs(node, lines, signal) {
      const docker = await options.docker(node, signal);
      const info = await someApiserver(docker, node);
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

/** A container's restart policy, if it has one. */
function restartPolicy(info: ContainerInspectInfo | undefined): RestartPolicy | undefined {
  if (info === undefined || policyOf(info) === 'no') return undefined;
  return { Name: policyOf(info), MaximumRetryCount: info.HostConfig.RestartPolicy?.MaximumRetryCount ?? 0 };
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
