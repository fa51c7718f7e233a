/** A lab whose nodes have a KMS plugin each, behind one socket path, and cluster.yml with a custom_config. */
import { storedKeyOf } from '../../src/etcd/stored.ts';
import { KmsPlugin, type Vault } from '../../src/lab/kms-plugin.ts';
import { MemoryLab, type LabOptions, type Ran, type RunOptions } from './memory-lab.ts';

export const socket = 'unix:///var/run/kmsplugin/socket.sock';

/** The same plugins, where only their own node reaches them. */
export const abstract = 'unix:///@kms';

export const kms = (apiVersion: 'v1' | 'v2', name = 'vault', endpoint = socket) =>
  `{kms: {apiVersion: ${apiVersion}, name: ${name}, endpoint: '${endpoint}'}}`;

/** An entry for these resources: the providers, then identity. */
export const entry = (provider: string, resources = 'secrets') =>
  `{resources: [${resources}], providers: [${provider}, {identity: {}}]}`;

export class KmsLab extends MemoryLab {
  readonly vault: Vault = new Map();
  readonly plugins: ReadonlyMap<string, KmsPlugin>;
  /** Those at another socket, `moved.sock`; none by default. */
  readonly moved: Map<string, KmsPlugin>;

  constructor(options: LabOptions) {
    const plugins = new Map<string, KmsPlugin>();
    const moved = new Map<string, KmsPlugin>();
    const at = new Map([
      [socket, plugins],
      [abstract, plugins],
      [socket.replace('/socket.sock', '/moved.sock'), moved],
    ]);
    super({ ...options, plugins: (node, endpoint) => at.get(endpoint)?.get(node) });
    this.plugins = plugins;
    this.moved = moved;
    for (const { name } of this.model.nodes) plugins.set(name, new KmsPlugin(this.vault, 'kek-1'));
  }

  /** What cluster.yml asks: `secrets_encryption_config`. */
  wishes(wish: string): void {
    this.configure(
      'extra_binds: ["/var/run/kmsplugin:/var/run/kmsplugin"]',
      `secrets_encryption_config: ${wish}`,
    );
    this.enabled = true;
  }

  /** A custom_config of these entries; none: a key that tsrke makes. */
  asks(...entries: readonly string[]): void {
    const custom = `, custom_config: {resources: [${entries.join(', ')}]}`;
    this.wishes(`{enabled: true${entries.length === 0 ? '' : custom}}`);
  }

  async done(command: 'up' | 'rotate' | 'resume' | 'abort', options: RunOptions = {}): Promise<Ran> {
    const ran = await this.tsrke(command, options);
    if (ran.error !== undefined) throw ran.error;
    return ran;
  }

  /** The plugins of these nodes (default: all) encrypt with another key from now on. */
  newKek(keyId: string, nodes: Iterable<string> = this.plugins.keys()): void {
    this.model.advance();
    for (const name of nodes) this.plugins.get(name)?.rotate(keyId);
  }

  plugin(node: string): KmsPlugin {
    const found = this.plugins.get(node);
    if (found === undefined) throw new Error(`no plugin on ${node}`);
    return found;
  }

  /** What Secrets lie under, with how many: `kms2:vault:kek-1` or, for KMS v1, `kms1:vault:kek-1` too. */
  lies(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { value } of this.model.store.range('/registry/secrets/', '/registry/secrets0').values) {
      const { id, provider, keyId } = storedKeyOf(value);
      const kek = provider === 'kms1' ? kekOfV1(value) : keyId;
      const under = kek === undefined ? id : `${id}:${kek}`;
      counts[under] = (counts[under] ?? 0) + 1;
    }
    return counts;
  }

  /** A Secret (`NAMESPACE/NAME`) as the first apiserver that serves shows it. */
  read(secret: string): unknown {
    this.model.advance();
    const [namespace = '', name = ''] = secret.split('/');
    const node = this.model.running().find(({ listens }) => listens)?.node ?? '';
    const path = `/api/v1/namespaces/${namespace}/secrets/${name}`;
    const { body } = this.model.ask(node, { method: 'GET', path, headers: {}, body: Buffer.alloc(0) });
    return JSON.parse(body.toString());
  }

  restarts(): string {
    return this.model
      .running()
      .map(({ node }) => this.model.engine(node).find('kube-apiserver')?.startedAt)
      .join();
  }
}

/** The lab's plugin puts its key id in front of what it encrypts: prefix, two bytes of length, key id, zero byte. */
function kekOfV1(value: Buffer): string {
  const start = value.indexOf('vault:') + 'vault:'.length + 2;
  return value.toString('utf8', start, value.indexOf(0, start));
}
