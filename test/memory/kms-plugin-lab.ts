/** A lab whose KMS plugin tsrke runs itself, by cluster.yml's `kms_plugin`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { kmsImage } from '../../src/lab/kms-container.ts';
import { MemoryLab, type Ran, type RunOptions } from './memory-lab.ts';
import { entry } from './kms-lab.ts';

export const socket = '/var/run/kmsplugin/socket.sock';
export const secret = 'correct horse battery staple';

export interface PluginWish {
  /** Tag of the image; default 1. */
  readonly tag?: string;
  readonly keyId?: string;
  readonly secret?: string;
  readonly command?: string;
  /** Host of its registry, with a slash; default none. */
  readonly registry?: string;
}

export function plugin({ tag = '1', keyId = 'kek-1', ...more }: PluginWish = {}): string {
  const env = JSON.stringify([`KMS_KEY_ID=${keyId}`, `KMS_SECRET=${more.secret ?? secret}`]);
  const command = JSON.stringify([more.command ?? `--listen=${socket}`]);
  return `{image: "${more.registry ?? ''}${kmsImage}:${tag}", command: ${command}, env: ${env}, socket: ${socket}}`;
}

export const vault = (endpoint = socket) =>
  entry(`{kms: {apiVersion: v2, name: vault, endpoint: 'unix://${endpoint}'}}`);

export class PluginLab extends MemoryLab {
  /** What cluster.yml asks; no entries: a key that tsrke makes. `kmsPlugin`: undefined for none. */
  asks(kmsPlugin: string | undefined, ...entries: readonly string[]): void {
    const custom = entries.length === 0 ? '' : `, custom_config: {resources: [${entries.join(', ')}]}`;
    const own = kmsPlugin === undefined ? '' : `, kms_plugin: ${kmsPlugin}`;
    this.configure(`secrets_encryption_config: {enabled: true${custom}${own}}`);
    this.enabled = true;
  }

  /** cluster.yml gets this field as well, until it asks for something else. */
  names(privateRegistries: string): void {
    const path = this.configs.on.replace(/\.yml$/, '-registries.yml');
    writeFileSync(path, `${readFileSync(this.configs.on, 'utf8')}private_registries: ${privateRegistries}\n`);
    this.configs = { on: path, off: path };
  }

  async done(options: RunOptions = {}): Promise<Ran> {
    const ran = await this.tsrke('up', options);
    if (ran.error !== undefined) throw ran.error;
    return ran;
  }

  /** By node, the names, tags, keys and states of the containers that tsrke made for plugins. */
  plugins(): string[][] {
    this.model.advance();
    return this.model.nodes.map(({ name }) =>
      this.model
        .engine(name)
        .containers.filter((each) => each.name.startsWith('tsrke-kms-'))
        .map(({ name: container, config, status, hostConfig }) => {
          const env = (config['Env'] ?? []) as string[];
          const key = env.find((each) => each.startsWith('KMS_KEY_ID='))?.slice(11) ?? '';
          const policy = hostConfig.RestartPolicy?.Name ?? 'no';
          const role = /-(?:new|old)$/.exec(container)?.[0] ?? '';
          return `${config.Image.split(':')[1] ?? ''} ${key} ${status} ${policy}${role}`;
        }),
    );
  }
}
