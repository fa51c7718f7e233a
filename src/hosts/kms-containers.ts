/** KmsContainers on Docker. Which container serves which socket, and made from what, stands in its labels. */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { bindOf } from '../bind.ts';
import { TsrkeError } from '../errors.ts';
import type { KmsContainer, KmsContainers, KmsDefinition, NodeName } from '../ports.ts';
import {
  create,
  heirOf,
  inspect,
  inspectThree,
  logsOf,
  remove,
  start,
  statesOf,
  stop,
  type NameOf,
} from './containers.ts';
import { exchange, finishExchange, settleExchange, type Exchanged } from './exchange.ts';
import { needImage, type ImageSource } from './images.ts';
import { fresh, inUse, isInterrupted, old } from './recreation.ts';

export interface KmsContainersOptions {
  /** As DockerOptions'; `timeout`: milliseconds until a call is given up, where it is not the usual. */
  readonly docker: (node: NodeName, signal: AbortSignal, timeout?: number) => Promise<Docker>;
  /** Seconds that a plugin gets to end by itself. */
  readonly stopTimeout: number;
  readonly imageSource: (image: string) => ImageSource;
}

const socketLabel = 'tsrke.io/kms-socket';
const hashLabel = 'tsrke.io/kms-definition';

export function kmsContainers({
  docker: open,
  stopTimeout,
  imageSource,
}: KmsContainersOptions): KmsContainers {
  async function exchanged(node: NodeName, socket: string, signal: AbortSignal): Promise<Exchanged> {
    const docker = await open(node, signal);
    const nameOf = namesFor(socket);
    const missing = () =>
      new TsrkeError('DOCKER', `there is no container ${nameOf(inUse)} any more`, {
        node,
        next: 'see with `docker ps -a` who else is at work on this node, then run the same command again',
      });
    return { docker, node, nameOf, stopTimeout, missing };
  }

  return {
    async list(node, signal) {
      const docker = await open(node, signal);
      const all = await docker.listContainers({ all: true });
      const labelled = all.flatMap(({ Labels: labels }) => labels[socketLabel] ?? []);
      const sockets = [...new Set(labelled)].toSorted();
      const found = await Promise.all(sockets.map((socket) => look(docker, socket)));
      return found.filter((each) => each !== undefined);
    },

    async needImage(node, image, signal) {
      await needImage({ docker: open, node, image, source: imageSource(image) }, signal);
    },

    async create(node, definition, signal) {
      const one = await exchanged(node, definition.socket, signal);
      const name = one.nameOf(inUse);
      if (!(await create(one.docker, name, containerOf(definition)))) {
        const there = await inspect(one.docker, name);
        if (there?.Config.Labels[socketLabel] !== definition.socket) {
          throw new TsrkeError('DOCKER', `a container named ${name} that tsrke has not made is in the way`, {
            node,
            next: `remove it (\`docker rm -f ${name}\`), then run the same command again`,
          });
        }
      }
      await finishExchange(one, signal, 'remove-fallback');
    },

    async tryOut(node, definition, signal) {
      const one = await exchanged(node, definition.socket, signal);
      const trial = trialOf(definition.socket);
      await remove(one.docker, trial.name, signal);
      // Two at once might want the same port.
      await stop(one.docker, one.nameOf(inUse), stopTimeout);
      await create(one.docker, trial.name, trialContainerOf(definition));
      await start(one.docker, trial.name);
      return trial.socket;
    },

    async isTried(node, socket, signal) {
      const info = await inspect(await open(node, signal), trialOf(socket).name);
      return info?.State.Running === true;
    },

    async endTrial(node, socket, signal) {
      await remove(await open(node, signal), trialOf(socket).name, signal);
    },

    async exchange(node, definition, signal) {
      await exchange(await exchanged(node, definition.socket, signal), containerOf(definition), signal);
    },

    async settle(node, socket, which, signal) {
      await settleExchange(await exchanged(node, socket, signal), which, signal);
    },

    async finish(node, socket, signal) {
      await remove(await open(node, signal), trialOf(socket).name, signal);
      await finishExchange(await exchanged(node, socket, signal), signal, 'remove-fallback');
    },

    async remove(node, socket, signal) {
      const docker = await open(node, signal);
      const nameOf = namesFor(socket);
      await remove(docker, trialOf(socket).name, signal);
      // The one in use last: as long as it is there it is known whose the others are.
      for (const role of [fresh, old, inUse] as const) await remove(docker, nameOf(role), signal);
    },

    async logs(node, socket, lines, signal) {
      const docker = await open(node, signal);
      const tried = await inspect(docker, trialOf(socket).name);
      const info = tried ?? heirOf(await inspectThree(docker, namesFor(socket)));
      return info === undefined ? [] : logsOf(docker, info, lines);
    },
  };
}

async function look(docker: Docker, socket: string): Promise<KmsContainer | undefined> {
  const inspected = await inspectThree(docker, namesFor(socket));
  const info = heirOf(inspected);
  if (info === undefined) return undefined;
  const tried = await inspect(docker, trialOf(socket).name);
  return {
    name: namesFor(socket)(inUse),
    socket,
    hash: hashOf(info),
    running: info.State.Running && !info.State.Paused,
    startedAt: info.State.StartedAt,
    hasFormer: inspected[old] !== undefined && info !== inspected[old],
    interrupted: isInterrupted(statesOf(inspected)) || tried !== undefined,
  };
}

function hashOf(info: ContainerInspectInfo): string {
  return info.Config.Labels[hashLabel] ?? '';
}

/** The same for a socket for ever: `tsrke-kms-kmsplugin-1a2b3c4d`. */
function namesFor(socket: string): NameOf {
  const folder = posix.basename(posix.dirname(socket)).replace(/[^\w.-]/g, '-');
  const name = `tsrke-kms-${folder}-${createHash('sha256').update(socket).digest('hex').slice(0, 8)}`;
  return (role) => ({ [inUse]: name, [fresh]: `${name}-new`, [old]: `${name}-old` })[role];
}

/** The one that is tried out, and where its socket lies on the host. */
function trialOf(socket: string): { readonly name: string; readonly socket: string } {
  const folder = posix.dirname(socket);
  return { name: `${namesFor(socket)(inUse)}-try`, socket: `${folder}.tsrke-try/${posix.basename(socket)}` };
}

/** As it will be, but for the place of its socket on the host; it neither comes back nor counts as the plugin. */
function trialContainerOf(definition: KmsDefinition): object {
  const { socket, binds } = definition;
  const folder = posix.dirname(socket);
  const others = binds.filter((bind) => bindOf(bind).target !== folder);
  const aside = `${posix.dirname(trialOf(socket).socket)}:${folder}`;
  const {
    HostConfig: host,
    Labels: _labels,
    ...container
  } = containerOf({
    ...definition,
    binds: [...others, aside],
  });
  return { ...container, HostConfig: { ...host, RestartPolicy: { Name: 'no', MaximumRetryCount: 0 } } };
}

function containerOf({ image, command, env, binds, socket, hash }: KmsDefinition) {
  const folder = posix.dirname(socket);
  const isBound = binds.some((bind) => bindOf(bind).target === folder);
  return {
    Image: image,
    ...(command.length === 0 ? {} : { Cmd: command }),
    Env: env,
    Labels: { [socketLabel]: socket, [hashLabel]: hash },
    HostConfig: {
      // Docker makes the folder on the host where there is none.
      Binds: [...binds, ...(isBound ? [] : [`${folder}:${folder}`])],
      NetworkMode: 'host',
      RestartPolicy: { Name: 'always', MaximumRetryCount: 0 },
    },
  };
}
