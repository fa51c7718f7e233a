/** KMS plugins that tsrke runs itself: what is to be done about their containers on a node. Pure. */
import { createHash } from 'node:crypto';
import type { KmsContainer, KmsDefinition } from '../../ports.ts';
import { kmsProvidersIn, type KmsProvider, type ProviderFile } from '../configuration.ts';

/** As cluster.yml has it. */
export type KmsWish = Omit<KmsDefinition, 'hash'>;

export function definitionOf(wish: KmsWish): KmsDefinition {
  const { image, command, env, binds, socket } = wish;
  const hash = createHash('sha256').update(JSON.stringify([image, command, env, binds, socket]));
  return { image, command, env, binds, socket, hash: hash.digest('hex') };
}

/**
 * - `back`: an exchange was cut off before the new one had shown that it can do what the former did; it begins anew.
 * - `finish`: it was stopped, or cut off before anything was in its place.
 */
export type KmsMove = 'create' | 'back' | 'finish' | 'exchange';

/** The next move towards a container that is made as wanted and runs; undefined: that is what is there. */
export function nextKmsMove(
  wanted: Pick<KmsDefinition, 'hash'>,
  seen: KmsContainer | undefined,
): KmsMove | undefined {
  if (seen === undefined) return 'create';
  if (seen.hasFormer) return 'back';
  if (seen.interrupted) return 'finish';
  if (seen.hash !== wanted.hash) return 'exchange';
  return seen.running ? undefined : 'finish';
}

/** Those that cluster.yml names no more. */
export function spareContainers(
  wanted: readonly Pick<KmsDefinition, 'socket'>[],
  seen: readonly KmsContainer[],
): KmsContainer[] {
  return seen.filter(({ socket }) => wanted.every((each) => each.socket !== socket));
}

/**
 * - `unfinished`: an exchange is under way, or was cut off.
 * - `other-definition`: it runs, and `up` would make it anew.
 * - `not-wanted`: cluster.yml names it no more.
 */
export type PluginState =
  'running' | 'stopped' | 'missing' | 'unfinished' | 'other-definition' | 'not-wanted';

/** What a node has of one plugin. */
export interface PluginSight {
  readonly socket: string;
  readonly state: PluginState;
  /** Name of its container; left out where there is none. */
  readonly container?: string;
}

/** First those that cluster.yml names, in its order. */
export function pluginsOn(
  wanted: readonly Pick<KmsDefinition, 'socket' | 'hash'>[],
  seen: readonly KmsContainer[],
): PluginSight[] {
  return [
    ...wanted.map((definition): PluginSight => {
      const { socket } = definition;
      const there = seen.find((each) => each.socket === socket);
      if (there === undefined) return { socket, state: 'missing' };
      return { socket, state: stateOf(definition, there), container: there.name };
    }),
    ...spareContainers(wanted, seen).map(({ socket, name }): PluginSight => ({
      socket,
      state: 'not-wanted',
      container: name,
    })),
  ];
}

function stateOf({ hash }: Pick<KmsDefinition, 'hash'>, seen: KmsContainer): PluginState {
  if (seen.hasFormer || seen.interrupted) return 'unfinished';
  if (!seen.running) return 'stopped';
  return seen.hash === hash ? 'running' : 'other-definition';
}

/** The KMS providers of a file whose plugin listens at this socket. */
export function providersAt(socket: string, file: ProviderFile | undefined): KmsProvider[] {
  return kmsProvidersIn(file).filter(({ endpoint }) => endpoint === `unix://${socket}`);
}

/** What a plan is bound to: all but the values of its environment, whose hash somebody might guess from. */
export function outlineOf({ image, command, env, binds, socket }: KmsWish): KmsWish {
  return { image, command, env: env.map((each) => each.replace(/=.*/s, '')), binds, socket };
}

/** Log lines without the values of the plugin's environment, which a plugin may well repeat. */
export function withoutCredentials(lines: readonly string[], env: readonly string[]): string[] {
  const values = env
    .map((each) => each.slice(each.indexOf('=') + 1))
    // Shorter ones are no credentials, and taking them out would leave little to read.
    .filter((value) => value.length >= 4)
    .toSorted((a, b) => b.length - a.length);
  return lines.map((line) => values.reduce((text, value) => text.replaceAll(value, '[redacted]'), line));
}
