/**
 * A lab in the shape of somebody's cluster: names of the controlplane nodes, version, what cluster.yml asks for, and
 * what keys the state knows. Of the real cluster's keys and certificates not one byte gets into it.
 */
import { randomBytes } from 'node:crypto';
import { loadConfig, statePathOf } from '../config/load.ts';
import { parseProviderFile, renderProviderFile, type ProviderFile } from '../encryption/configuration.ts';
import { keyId, Secret, type Key } from '../encryption/key.ts';
import { TsrkeError } from '../errors.ts';
import { readState } from '../state/file.ts';
import type { ClusterState, JsonObject } from '../state/rkestate.ts';
import type { LabOptions } from './lab.ts';

export type Shape = Pick<
  LabOptions,
  'controlplane' | 'clusterName' | 'kubernetesVersion' | 'encryption' | 'wanted' | 'tsrke'
>;

/** Reads both files and changes neither. Throws what reading them throws, and UNSUPPORTED for what a lab has not. */
export function shapeOf(configPath: string): Shape {
  const config = loadConfig(configPath, { ignoreUnknownKeys: true });
  const controlplane = config.nodes.filter(({ roles }) => roles.includes('controlplane'));
  if (controlplane.length === 0) {
    throw new TsrkeError('CONFIG_INVALID', `${configPath} names no node with the role controlplane`);
  }
  if (config.encryption.customConfig !== undefined) {
    throw unsupported('`custom_config` holds keys, and a rehearsal takes none over');
  }
  const state = readState(statePathOf(configPath));
  const twins = new Twins();
  const text = state?.document.currentState?.encryptionConfig;
  const providerFile = text === undefined || text === '' ? undefined : twins.file(text, 'the state');
  return {
    controlplane: controlplane.map(({ name }) => name),
    clusterName: config.name,
    ...(config.kubernetesVersion === undefined ? {} : { kubernetesVersion: config.kubernetesVersion }),
    encryption: providerFile === undefined ? 'off' : { providerFile },
    wanted: config.encryption.enabled,
    ...(state === undefined || state.tsrke.serial === 0 ? {} : { tsrke: blockOf(state, twins) }),
  };
}

/** Without proof, loaded files and host keys: those belong to the real nodes. */
function blockOf({ tsrke }: ClusterState, twins: Twins): JsonObject {
  const { transition } = tsrke;
  const target = transition?.target ?? '';
  return {
    formatVersion: 1,
    serial: tsrke.serial,
    lineage: `rehearsal-${tsrke.lineage}`,
    ...(transition === undefined
      ? {}
      : {
          transition: {
            ...{ kind: transition.kind, started: transition.started },
            target: target === '' ? '' : twins.file(target, 'the state'),
          },
        }),
    keyRing: tsrke.keyRing.map((key) => {
      const twin = twins.key(key);
      return {
        ...{ name: twin.name, provider: twin.provider, secret: twin.secret.reveal() },
        ...{ fingerprint: twin.secret.fingerprint, created: key.created, why: key.why },
        ...(key.retired === undefined ? {} : { retired: key.retired }),
      };
    }),
    loaded: {},
    hostKeys: {},
  };
}

/** For each key another one of the same provider, name and length, and always the same for the same. */
class Twins {
  readonly #keys = new Map<string, Key>();

  key(key: Key): Key {
    const known = this.#keys.get(keyId(key));
    if (known !== undefined) return known;
    const secret = new Secret(randomBytes(key.secret.bytes().length).toString('base64'));
    const twin = { provider: key.provider, name: key.name, secret };
    this.#keys.set(keyId(key), twin);
    return twin;
  }

  file(text: string, where: string): string {
    const file = parseProviderFile(text, where);
    const twin: ProviderFile = {
      entries: file.entries.map((entry) => ({
        ...entry,
        providers: entry.providers.map((provider) => {
          if (provider.kind === 'kms') throw unsupported('a lab has no KMS plugin');
          if (provider.kind === 'identity') return provider;
          return { ...provider, keys: provider.keys.map((key) => this.key(key)) };
        }),
      })),
    };
    return renderProviderFile(twin);
  }
}

function unsupported(why: string): TsrkeError {
  return new TsrkeError('UNSUPPORTED', `this cluster cannot be rehearsed: ${why}`, {
    next: 'try the commands on a plain lab: `tsrke lab`',
  });
}
