/**
 * tsrke's ports straight into the model: the adapters of hosts/ as they are, on a Docker client that calls the model
 * instead of a socket; the kube API and etcd without HTTP or gRPC. A whole rotation costs milliseconds.
 */
import { imageSources } from '../config/private-registries.ts';
import { TsrkeError } from '../errors.ts';
import { dockerRuntime } from '../hosts/docker.ts';
import { dockerFiles } from '../hosts/files.ts';
import { hostFiles } from '../hosts/host-files.ts';
import { kmsContainers } from '../hosts/kms-containers.ts';
import { serviceContainers } from '../hosts/service-containers.ts';
import type { Etcd, KmsPlugins, KubeApi, NodeName } from '../ports.ts';
import type { Link } from '../provision/links.ts';
import { dockerClient, lostAnswer, unreachable } from './docker-client.ts';
import type { Effects } from './faults.ts';
import { labHealth } from './health.ts';
import { labMembership } from './membership.ts';
import type { KmsPlugin } from './kms-plugin.ts';
import { NoAnswer, type LabSurface } from './surface.ts';

/** Milliseconds until the real adapters give up. */
const patience = { kube: 30_000, etcd: 60_000, kms: 10_000, ssh: 15_000 };

/** A link for one tsrke whose every effect passes through `effects`. */
export function labLink(surface: LabSurface, effects: Effects): Link {
  const docker = (node: NodeName, signal: AbortSignal) =>
    Promise.resolve(dockerClient(surface, effects, node, signal));
  return ({ report, config }) => {
    const runtime = dockerRuntime({ docker, report, stopTimeout: 60 });
    const containers = { docker, stopTimeout: 60, imageSource: imageSources(config.raw) };
    return {
      files: dockerFiles({ docker }),
      runtime,
      markers: runtime,
      kube: kubeApi(surface, effects),
      plugins: pluginsOf(surface, effects),
      kmsContainers: kmsContainers(containers),
      services: serviceContainers(containers),
      hostFiles: hostFiles({ docker }),
      health: labHealth(surface, effects),
      clock: effects.clock,
      etcd: () => etcdOf(surface, effects),
      membership: ({ endpoints }) => labMembership(surface, effects, endpoints),
      hostKeysSeen: () => ({}),
      close: () => Promise.resolve(),
      connect: (node, signal) =>
        effects.run({
          kind: 'ssh',
          node,
          what: 'connect',
          changes: false,
          signal,
          work: async () => {
            const ask = { method: 'GET', path: '/_ping', headers: {}, body: Buffer.alloc(0) };
            await surface.docker(node, ask).catch((error: unknown) => {
              throw unreachable(node, 'connecting', error);
            });
          },
          lost: () => unreachable(node, 'connecting', lostAnswer()),
          patience: patience.ssh,
        }),
    };
  };
}

function kubeApi(surface: LabSurface, effects: Effects): KubeApi {
  return {
    async request(node, ask, signal) {
      const what = `${ask.method} ${ask.path.replace(/\?.*/s, '')}`;
      const failed = (cause: unknown) =>
        new TsrkeError('KUBE', `kube-apiserver did not answer ${what}`, { node, cause });
      return await effects.run({
        kind: 'kube',
        node,
        what,
        changes: ask.method !== 'GET',
        signal,
        work: async () => {
          const headers = {
            accept: ask.accept ?? 'application/json',
            ...(ask.body === undefined ? {} : { 'content-type': ask.contentType ?? 'application/json' }),
          };
          const body = Buffer.from(ask.body === undefined ? '' : JSON.stringify(ask.body));
          const asked = { method: ask.method, path: ask.path, headers, body };
          const answer = await surface.kube(node, asked).catch((error: unknown) => {
            throw error instanceof NoAnswer ? failed(error) : error;
          });
          return { status: answer.status, headers: answer.headers, text: answer.body.toString() };
        },
        lost: () => failed(lostAnswer()),
        patience: ask.timeout ?? patience.kube,
      });
    },
  };
}

/** The plugins as they are, without gRPC. */
function pluginsOf(surface: LabSurface, effects: Effects): KmsPlugins {
  return {
    plugin(node, path, version) {
      const call = <T>(what: string, signal: AbortSignal, work: (plugin: KmsPlugin) => T): Promise<T> => {
        const failed = (cause: unknown) =>
          new TsrkeError('KMS_UNHEALTHY', `the KMS plugin at ${path} did not answer ${what}`, {
            node,
            cause,
          });
        return effects.run({
          ...{ kind: 'kms', node, what, changes: false, signal },
          work: () =>
            new Promise((resolve) => {
              const plugin = surface.plugin?.(node, path);
              if (plugin === undefined) throw failed(new NoAnswer('ECONNREFUSED', `connect ${path}`));
              resolve(work(plugin));
            }),
          lost: () => failed(lostAnswer()),
          patience: patience.kms,
        });
      };
      const needWell = ({ healthy }: KmsPlugin) => {
        if (!healthy) throw new TsrkeError('KMS_UNHEALTHY', 'the KMS does not answer', { node });
      };
      const idOf = (plugin: KmsPlugin) => (version === 'v1' ? '' : plugin.keyId);
      return {
        status: (signal) =>
          call('Status', signal, (plugin) => ({
            version: version === 'v1' ? 'v1beta1' : 'v2',
            healthz: plugin.healthy || version === 'v1' ? 'ok' : 'the KMS does not answer',
            keyId: idOf(plugin),
          })),
        encrypt: (plain, signal) =>
          call('Encrypt', signal, (plugin) => {
            needWell(plugin);
            return { ciphertext: plugin.encrypt(plain), keyId: idOf(plugin), annotations: {} };
          }),
        decrypt: ({ ciphertext }, signal) =>
          call('Decrypt', signal, (plugin) => {
            needWell(plugin);
            const plain = plugin.decrypt(ciphertext);
            if (plain !== undefined) return plain;
            throw new TsrkeError('KMS_UNHEALTHY', 'the KMS has no key for this ciphertext', { node });
          }),
        close: () => undefined,
      };
    },
  };
}

function etcdOf(surface: LabSurface, effects: Effects): Etcd {
  const call = <T>(what: string, changes: boolean, signal: AbortSignal, work: () => Promise<T>): Promise<T> =>
    effects.run({
      kind: 'etcd',
      what,
      changes,
      signal,
      work,
      lost: () => new TsrkeError('ETCD', `no etcd member answered ${what}`, { cause: lostAnswer() }),
      patience: patience.etcd,
    });
  const { etcd } = surface;
  return {
    range: (request, signal) => call('Range', false, signal, () => etcd.range(request, signal)),
    compact: (revision, signal) => call('Compact', true, signal, () => etcd.compact(revision, signal)),
    size: (signal) => call('Status', false, signal, () => etcd.size(signal)),
    close: () => undefined,
  };
}
