/**
 * One run of kube-apiserver, from its start to its end: what it has loaded, whether it listens, whether it is ready.
 * Time is only ever looked at (`advance`), so the same model serves virtual and real clocks.
 */
import { createHash } from 'node:crypto';
import {
  noFile,
  parseProviderFile,
  writeKeyOf,
  type KmsProvider,
  type ProviderFile,
} from '../encryption/configuration.ts';
import { serverOptionsOf } from '../encryption/server-options.ts';
import { providerFlag, providerPathOf } from '../encryption/world.ts';
import { messageOf } from '../errors.ts';
import { filesNamed, flagsOf, WillNotStart } from './command-line.ts';
import type { EtcdStore, StoredValue } from './etcd-store.ts';
import { deserialise, etcdKeyOf, secrets, type Kind } from './kinds.ts';
import { KmsClient } from './kms-client.ts';
import type { KmsPlugin } from './kms-plugin.ts';
import type { ServerCertificate } from './kube-server.ts';
import { transformerFor, type Keks, type Read, type Transformer } from './storage.ts';

export interface Surroundings {
  /** The key space behind the first of these hosts that answers this client; undefined: none does. */
  readonly etcd: (hosts: readonly string[], client: EtcdClient) => EtcdStore | undefined;
  /** The KMS plugin of the host behind a socket. */
  readonly plugin: (endpoint: string) => KmsPlugin | undefined;
  /** false: its informers do not sync just now, whatever etcd holds. */
  readonly canSync: () => boolean;
  /** A file of the host by kube-apiserver's path. */
  readonly readFile: (path: string) => Buffer | undefined;
  /** Whether another process of the host listens on its port. */
  readonly portTaken: () => boolean;
  /** Whether a changed file cannot be loaded now, whatever it holds. */
  readonly reloadFails: () => boolean;
  readonly log: (line: string) => void;
  /** Milliseconds from the start until it listens. */
  readonly startTime: number;
  /** Milliseconds between its looks at the provider file, with automatic reload. */
  readonly pollEvery: number;
  /** Kubernetes' minor version. */
  readonly minor: number;
  /** Told when what it has loaded changed. */
  readonly changed: () => void;
}

/** PEM texts. */
export interface EtcdClient {
  readonly ca: string;
  readonly cert: string;
}

/** A provider file as one server has loaded it. */
export class Loaded {
  readonly file: ProviderFile;
  /** Lower-case hex of the file's bytes; undefined without a file. */
  readonly sha256: string | undefined;
  readonly #keks: Keks;
  readonly #written: Map<string, number>;
  readonly #transformers = new Map<string, Transformer>();
  readonly #readable = new WeakMap<Buffer, boolean>();

  /** `written` is counted up. */
  constructor(
    file: ProviderFile,
    sha256: string | undefined,
    keks: Keks = () => undefined,
    written = new Map<string, number>(),
  ) {
    this.file = file;
    this.sha256 = sha256;
    this.#keks = keks;
    this.#written = written;
  }

  write(kind: Kind, plain: Buffer, etcdKey: string): Buffer {
    const value = this.#transformer(kind).toStorage(plain, etcdKey);
    const key = writeKeyOf(this.file, kind.resource).stored;
    this.#written.set(key, (this.#written.get(key) ?? 0) + 1);
    return value;
  }

  read(kind: Kind, { value, key }: StoredValue): Read {
    return this.#transformer(kind).fromStorage(value, key);
  }

  /** Decrypts and decodes. Remembered for each value, unless a KMS plugin has a say in it. */
  reads(kind: Kind, stored: StoredValue): boolean {
    const known = this.#readable.get(stored.value);
    if (known !== undefined) return known;
    let readable = true;
    try {
      deserialise(this.read(kind, stored).plain, stored.modRevision);
    } catch {
      readable = false;
    }
    if (!stored.value.subarray(0, 12).equals(kmsMarker)) this.#readable.set(stored.value, readable);
    return readable;
  }

  #transformer(kind: Kind): Transformer {
    const known = this.#transformers.get(kind.resource);
    if (known !== undefined) return known;
    const made = transformerFor(this.file, kind.resource, this.#keks);
    this.#transformers.set(kind.resource, made);
    return made;
  }
}

const kmsMarker = Buffer.from('k8s:enc:kms:');
/** Files that it does not start without. */
const fileFlags = [
  ...(['client-ca-file', 'tls-cert-file', 'tls-private-key-file'] as const),
  ...(['etcd-cafile', 'etcd-certfile', 'etcd-keyfile'] as const),
  ...(['kubelet-client-certificate', 'kubelet-client-key', 'kubelet-certificate-authority'] as const),
  ...(['proxy-client-cert-file', 'proxy-client-key-file', 'requestheader-client-ca-file'] as const),
  ...(['service-account-key-file', 'service-account-signing-key-file'] as const),
  ...(['admission-control-config-file', 'audit-policy-file'] as const),
  ...(['authentication-token-webhook-config-file', 'cloud-config'] as const),
] as const;
/** From its start to its exit with a file that it refuses. */
const failsAfter = 500;

export class Apiserver {
  /** When it ends by itself, and its exit code; undefined: it stays. */
  readonly ends: { readonly at: number; readonly code: number } | undefined;
  readonly #around: Surroundings;
  readonly #startedAt: number;
  readonly #path: string | undefined;
  readonly #reloads: boolean;
  readonly #kmsV1: boolean;
  /** Of its clients and of itself. */
  readonly tls: ServerCertificate = { ca: '', cert: '', key: '' };
  readonly #etcdHosts: readonly string[];
  readonly #etcdClient: EtcdClient = { ca: '', cert: '' };
  #loaded: Loaded;
  #synced = false;
  #polled: number;
  #seen: string | undefined;
  #counts = { success: 0, failure: 0 };
  #reloadedAt: number | undefined;
  readonly #written = new Map<string, number>();
  readonly #clients = new Map<string, KmsClient>();
  #now: number;

  constructor(args: readonly string[], around: Surroundings, now: number) {
    this.#around = around;
    this.#startedAt = now;
    this.#now = now;
    this.#polled = now + around.startTime;
    this.#path = providerPathOf(args);
    this.#reloads = args.includes(`${providerFlag}-automatic-reload=true`);
    this.#kmsV1 = serverOptionsOf(args).kmsV1Gate === true;
    this.#loaded = new Loaded(noFile, undefined, undefined, this.#written);
    const flags = flagsOf(args);
    const urls = (flags.get('etcd-servers') ?? '').split(',').filter((each) => each !== '');
    this.#etcdHosts = urls.map((url) => new URL(url).hostname);
    try {
      if (urls.length === 0) throw new WillNotStart('[--etcd-servers must be specified]');
      const files = filesNamed(flags, fileFlags, around.readFile);
      this.tls = {
        ca: files['client-ca-file'],
        cert: files['tls-cert-file'],
        key: files['tls-private-key-file'],
      };
      this.#etcdClient = { ca: files['etcd-cafile'], cert: files['etcd-certfile'] };
      if (this.#path === undefined && this.#reloads) {
        throw new Error(
          `[--encryption-provider-config must be set with --encryption-provider-config-automatic-reload]`,
        );
      }
      if (this.#path !== undefined) this.#loaded = this.#load(this.#path);
      if (around.portTaken()) {
        throw new Error(
          'failed to create listener: failed to listen on 0.0.0.0:6443: listen tcp 0.0.0.0:6443: bind: address already in use',
        );
      }
    } catch (error) {
      around.log(`"command failed" err="${(error as Error).message}"`);
      this.ends = { at: now + failsAfter, code: 1 };
    }
    this.#seen = this.#loaded.sha256;
  }

  /** Milliseconds since 1970. */
  get startedAt(): number {
    return this.#startedAt;
  }

  /** Undefined: no member of its etcd answers. */
  get etcd(): EtcdStore | undefined {
    return this.#around.etcd(this.#etcdHosts, this.#etcdClient);
  }

  /** Kubernetes' minor version. */
  get minor(): number {
    return this.#around.minor;
  }

  get loaded(): Loaded {
    return this.#loaded;
  }

  get counts(): { readonly success: number; readonly failure: number } {
    return this.#counts;
  }

  /** When it last loaded a changed file by itself. */
  get reloadedAt(): number | undefined {
    return this.#reloadedAt;
  }

  get reloads(): boolean {
    return this.#reloads;
  }

  /** Values written since its start, by key as etcd shows it (`aesgcm:NAME`). */
  get written(): ReadonlyMap<string, number> {
    return this.#written;
  }

  /** The KMS providers it has loaded, in the file's order. */
  get kms(): { readonly provider: KmsProvider; readonly client: KmsClient }[] {
    const providers = this.#loaded.file.entries.flatMap((entry) => entry.providers);
    return providers.flatMap((provider) =>
      provider.kind === 'kms' ? [{ provider, client: this.#client(provider.endpoint) }] : [],
    );
  }

  listens(now: number): boolean {
    return this.ends === undefined && now >= this.#startedAt + this.#around.startTime;
  }

  /** `informer-sync`: all Secrets could be listed once since the start; later failures do not count. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Catches up with what happens by itself: informers that list, and with automatic reload the look at the file. */
  advance(now: number): void {
    this.#now = now;
    for (const client of this.#clients.values()) client.advance(now);
    if (!this.listens(now)) return;
    if (!this.#synced && this.#around.canSync()) this.#synced = this.#canListSecrets();
    if (!this.#reloads || this.#path === undefined) return;
    while (this.#polled + this.#around.pollEvery <= now) {
      this.#polled += this.#around.pollEvery;
      this.#poll(this.#path);
    }
  }

  #poll(path: string): void {
    const bytes = this.#around.readFile(path);
    const sha256 = bytes === undefined ? undefined : sha256Of(bytes);
    if (sha256 === this.#loaded.sha256 && sha256 === this.#seen) return;
    this.#seen = sha256;
    try {
      if (this.#around.reloadFails()) throw new Error('error while building transformers: no plugin');
      this.#loaded = this.#load(path);
      this.#counts.success += 1;
      this.#reloadedAt = this.#polled;
      this.#around.changed();
    } catch (error) {
      this.#counts.failure += 1;
      this.#around.log(`"failed to load encryption config" err="${(error as Error).message}"`);
    }
  }

  #load(path: string): Loaded {
    const bytes = this.#around.readFile(path);
    if (bytes === undefined) {
      throw new Error(
        `error opening encryption provider configuration file "${path}": open ${path}: no such file or directory`,
      );
    }
    if (bytes.length === 0) throw new Error(`encryption provider configuration file "${path}" is empty`);
    let file: ProviderFile;
    try {
      file = parseProviderFile(bytes.toString(), path);
    } catch (error) {
      throw new Error(`error while parsing file: ${messageOf(error)}`, { cause: error });
    }
    const v1 = file.entries
      .flatMap((entry) => entry.providers)
      .find((each) => each.kind === 'kms' && each.apiVersion === 'v1');
    if (v1 !== undefined && this.#around.minor >= 29 && !this.#kmsV1) {
      throw new Error(
        'error while building transformers: KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead. Set --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.',
      );
    }
    const keks: Keks = (endpoint, apiVersion) => this.#client(endpoint)[apiVersion];
    const loaded = new Loaded(file, sha256Of(bytes), keks, this.#written);
    for (const provider of file.entries.flatMap((entry) => entry.providers)) {
      if (provider.kind === 'kms') this.#client(provider.endpoint);
    }
    return loaded;
  }

  #client(endpoint: string): KmsClient {
    const known = this.#clients.get(endpoint);
    if (known !== undefined) return known;
    const client = new KmsClient(endpoint, () => this.#around.plugin(endpoint), this.#now);
    this.#clients.set(endpoint, client);
    return client;
  }

  #canListSecrets(): boolean {
    const from = etcdKeyOf(secrets, '', '');
    const { etcd } = this;
    if (etcd === undefined) return false;
    const { values } = etcd.range(from, `${from}\uffff`);
    return values.every((stored) => this.#loaded.reads(secrets, stored));
  }
}

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
