/**
 * The lab's KMS plugin as an image: what its container serves, and at which socket. Its keys follow from KMS_SECRET, so
 * that plugins with the same one share all of them, and KMS_KEY_ID names the one that it encrypts with.
 */
import { createHash } from 'node:crypto';
import type { Container, Process } from './docker-engine.ts';
import { hostPathOf } from './docker-engine.ts';
import { KmsPlugin } from './kms-plugin.ts';

export const kmsImage = 'tsrke/lab-kms-plugin';

/** Any tag of it, from any registry. */
export function isKmsImage(image: string): boolean {
  return `/${image.replace(/:[^:/]*$/, '')}`.endsWith(`/${kmsImage}`);
}

export class KmsProcess implements Process {
  readonly ends = undefined;
  readonly plugin: KmsPlugin;
  /** On the host; undefined: nobody outside of the container can reach it. */
  readonly socket: string | undefined;

  constructor(plugin: KmsPlugin, socket: string | undefined) {
    this.plugin = plugin;
    this.socket = socket;
  }

  advance(): void {
    // It does nothing by itself.
  }
}

/** Starts as the container says, or ends at once with 1 and its reason in the log. */
export function startKmsPlugin(container: Container, now: number): Process {
  const command = container.config.Cmd ?? [];
  const option = '--listen=';
  const listen = command.find((word) => word.startsWith(option))?.slice(option.length);
  const env = Object.fromEntries(
    ((container.config['Env'] ?? []) as string[]).map((each): [string, string] => {
      const at = each.indexOf('=');
      return [each.slice(0, at), each.slice(at + 1)];
    }),
  );
  const secret = env['KMS_SECRET'] ?? '';
  const fail = (words: string): Process => {
    container.log.push(words);
    return { ends: { at: now, code: 1 }, advance: () => undefined };
  };
  if (listen === undefined) return fail('--listen=SOCKET is missing');
  // As indiscreet as plugins are.
  if (secret.length < 16) return fail(`KMS_SECRET is "${secret}", which is too short`);
  container.log.push(`serving key ${env['KMS_KEY_ID'] ?? 'kek-1'} at ${listen}`);
  return new KmsProcess(
    new KmsPlugin(new DerivedKeys(secret), env['KMS_KEY_ID'] ?? 'kek-1'),
    hostPathOf(container, listen),
  );
}

/** Every key id has its key. */
class DerivedKeys extends Map<string, Buffer> {
  readonly #secret: string;

  constructor(secret: string) {
    super();
    this.#secret = secret;
  }

  override has(): boolean {
    return true;
  }

  override get(keyId: string): Buffer {
    return createHash('sha256').update(`${this.#secret}:${keyId}`).digest();
  }
}
