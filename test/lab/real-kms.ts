/** A KMS plugin of a real host: in this process, on a socket in the host's own file system. */
import { mkdir } from 'node:fs/promises';
import { listenAsKms } from '../../src/lab/kms-server.ts';
import { KmsPlugin, type Vault } from '../../src/lab/kms-plugin.ts';
import { kmsFolder, type HostKms } from './lab.ts';

export class RealKms implements HostKms {
  plugin: KmsPlugin;
  readonly #socket: string;
  readonly #inside: (path: string) => Promise<string>;
  #end: (() => void) | undefined;

  /** `socket`: its name in kmsFolder; `inside`: a path of the host as this process reaches it. */
  constructor(socket: string, vault: Vault, inside: (path: string) => Promise<string>) {
    this.plugin = new KmsPlugin(vault, 'kek-1');
    this.#socket = socket;
    this.#inside = inside;
  }

  get runs(): boolean {
    return this.#end !== undefined;
  }

  async start(): Promise<void> {
    this.stop();
    // The real folder: through the link /var/run one would end up in this machine's own /run.
    const folder = await this.#inside(kmsFolder.replace('/var/run/', '/run/'));
    await mkdir(folder, { recursive: true });
    this.#end = await listenAsKms(this.plugin, `${folder}/${this.#socket}`);
  }

  stop(): void {
    this.#end?.();
    this.#end = undefined;
  }
}
