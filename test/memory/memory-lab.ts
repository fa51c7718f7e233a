/** A lab in memory, and tsrke run against its model: the whole of a command, in milliseconds. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf, type RkeConfig } from '../../src/config/rke-config.ts';
import { managedFile, renderProviderFile } from '../../src/encryption/configuration.ts';
import { Secret, type Key } from '../../src/encryption/key.ts';
import type { Action } from '../../src/encryption/target.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import { Effects, type Effect, type Fault } from '../../src/lab/faults.ts';
import { checkInvariants, lostKeys } from '../../src/lab/invariants.ts';
import { labLink } from '../../src/lab/link.ts';
import { MemoryStore } from '../../src/lab/memory-store.ts';
import { LabModel, type ModelOptions } from '../../src/lab/model.ts';
import type { HttpAnswer, LabNode } from '../../src/lab/surface.ts';
import type { Report } from '../../src/ports.ts';
import { connectCluster } from '../../src/provision/cluster.ts';
import type { Link } from '../../src/provision/links.ts';
import { rotateCertificates } from '../../src/provision/cert-rotate.ts';
import { rotateCas } from '../../src/provision/ca-rotate.ts';
import { up } from '../../src/provision/up.ts';
import { changeEncryption, type EncryptionOptions } from '../../src/provision/encryption.ts';
import type { ClusterState, JsonObject } from '../../src/state/rkestate.ts';

export interface LabOptions extends Omit<ModelOptions, 'nodes' | 'clock' | 'config' | 'providerFile'> {
  readonly nodes: 1 | 3 | 5;
  /** Nothing on the hosts and no state: `up` makes the cluster, without pods. Secrets come later. */
  readonly bare?: boolean;
  /** Path of a cluster.yml of the caller's own, for as many nodes. Default: one of the lab's. */
  readonly config?: string;
  /** Encryption as RKE has enabled it, and cluster.yml says so. Default false. */
  readonly encrypted?: boolean;
  /** Default 5. */
  readonly secrets?: number;
}

export interface RunOptions {
  readonly faultOf?: (effect: Effect) => Fault | undefined;
  /** Told after each effect, before the invariants are looked at. */
  readonly onDone?: (effect: Effect) => void;
  /** Told what each connection trusts, and shows; `again`: all of before are closed. */
  readonly onAccess?: (access: Access, again: boolean) => void;
  readonly onProgress?: (text: string) => void;
  readonly signal?: AbortSignal;
  readonly ifDue?: boolean;
  readonly keepsOldKey?: boolean;
  readonly approve?: EncryptionOptions['approve'];
  /** Certificates of the user's own CA; of `up` alone. */
  readonly certDir?: string;
  /** Default true. False where the state file itself was swapped for another. */
  readonly invariants?: boolean;
}

/** PEM texts. */
export interface Access {
  readonly ca: string;
  readonly cert: string;
}

export interface Ran {
  /** What the command said; undefined when it failed. */
  readonly said: string | undefined;
  readonly error: Error | undefined;
  readonly effects: Effects;
  readonly notes: readonly string[];
}

/** What a command runs with. */
interface Running {
  readonly effects: Effects;
  readonly link: Link;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** No command needs so many effects. */
const endless = 20_000;

/** An invariant that does not hold, with all effects until then. */
export class Violation extends Error {}

const folder = mkdtempSync(join(tmpdir(), 'tsrke-memory-'));

const written = new Map<string, string>();

/** A cluster.yml, the same one for the same text. `kubeApi`: lines under services.kube-api. */
function configFor(
  nodes: readonly LabNode[],
  kubeApi: readonly string[],
  more: readonly string[] = [],
): string {
  const text = [
    'nodes:',
    ...nodes.map(
      ({ name, address }) =>
        `- {address: ${address}, user: root, role: [controlplane, etcd], hostname_override: ${name}}`,
    ),
    'services:',
    '  kube-api:',
    ...kubeApi.map((line) => `    ${line}`),
    ...more,
    '',
  ].join('\n');
  const known = written.get(text);
  if (known !== undefined) return known;
  const path = join(folder, `cluster-${written.size + 1}.yml`);
  writeFileSync(path, text);
  written.set(text, path);
  return path;
}

const withoutPods = ['network', 'dns', 'monitoring', 'ingress'].map((each) =>
  each === 'network' ? 'network: {plugin: none}' : `${each}: {provider: none}`,
);

const read = new Map<string, RkeConfig>();

/** As RKE has it in its state. */
function rkeOf(path: string): RkeConfig {
  const known = read.get(path) ?? rkeConfigOf(loadConfig(path));
  read.set(path, known);
  return known;
}

const simply = (enabled: boolean) => [`secrets_encryption_config: {enabled: ${enabled}}`];

/** As the user has asked RKE for automatic reload. */
const reloads = 'extra_args: {encryption-provider-config-automatic-reload: "true"}';

/** As RKE 1.6 makes it: 32 hexadecimal characters as the key's bytes. */
const firstKey: Key = {
  provider: 'aescbc',
  name: 'k-first',
  secret: new Secret(Buffer.from('24811EB0400596C3BE10B2E71C703227').toString('base64')),
};

function initialState(nodes: readonly LabNode[], text: string | undefined): ClusterState {
  const config: JsonObject = {
    nodes: nodes.map(({ name, address }) => ({
      address,
      user: 'root',
      role: ['controlplane', 'etcd'],
      hostnameOverride: name,
    })),
    services: {
      kubeApi: text === undefined ? {} : { secretsEncryptionConfig: { enabled: true } },
    },
  };
  const pem = { certificatePEM: 'a certificate', keyPEM: 'a key' };
  const certificatesBundle: Record<string, JsonObject> = {
    'kube-ca': { ...pem, path: '/etc/kubernetes/ssl/kube-ca.pem' },
    'kube-admin': pem,
    'kube-node': {
      ...pem,
      path: '/etc/kubernetes/ssl/kube-node.pem',
      keyPath: '/etc/kubernetes/ssl/kube-node-key.pem',
    },
  };
  const half = {
    rkeConfig: config,
    certificatesBundle,
    ...(text === undefined ? {} : { encryptionConfig: text }),
  };
  return {
    document: { desiredState: half, currentState: half },
    tsrke: { formatVersion: 1, serial: 0, lineage: 'lab', keyRing: [], loaded: {}, hostKeys: {} },
  };
}

export class MemoryLab {
  readonly clock = new VirtualClock();
  readonly model: LabModel;
  readonly store: MemoryStore;
  configs: { readonly on: string; readonly off: string };
  /** What cluster.yml asks. */
  enabled: boolean;
  /**
   * An old file or a restored etcd was put in, which no tool can answer for: until the next run has finished, only
   * keys are looked at.
   */
  tampered = false;
  /** No Secret was ever to be written in plain form. */
  readonly #neverPlain: boolean;
  /** Lines of cluster.yml outside of services. */
  readonly #more: readonly string[];
  #checked = '';
  /** Of all runs so far that may still have effects to come. */
  readonly runs: Effects[] = [];
  #state: ClusterState | undefined;

  constructor(options: LabOptions) {
    const own = options.config;
    const nodes =
      own === undefined
        ? Array.from({ length: options.nodes }, (_, i) => ({
            name: `cp-${i + 1}`,
            address: `198.51.100.${11 + i}`,
          }))
        : rkeOf(own).nodes.map(({ hostnameOverride: name, address, role: roles }) => ({
            ...{ name, address, roles },
          }));
    const text = options.encrypted === true ? renderProviderFile(managedFile(firstKey)) : undefined;
    const more = options.bare === true ? withoutPods : [];
    this.#more = more;
    this.configs = {
      on: own ?? configFor(nodes, [...simply(true), ...(options.reload === true ? [reloads] : [])], more),
      off: own ?? configFor(nodes, simply(false), more),
    };
    this.#neverPlain = options.bare === true && options.encrypted === true;
    this.enabled = options.encrypted ?? false;
    this.model = new LabModel({
      ...{ minor: 34, ...options, nodes, clock: this.clock },
      config: rkeOf(this.enabled ? this.configs.on : this.configs.off),
      ...(text === undefined ? {} : { providerFile: `${text}\n` }),
    });
    this.store = new MemoryStore(options.bare === true ? undefined : initialState(nodes, text));
    const secrets = options.bare === true ? 0 : (options.secrets ?? 5);
    for (let i = 1; i <= secrets; i += 1) this.create(`secret-${i}`);
  }

  /** From now on cluster.yml has these lines under services.kube-api, whatever `enabled` says. */
  configure(...kubeApi: readonly string[]): void {
    const path = configFor(this.model.nodes, kubeApi, this.#more);
    this.configs = { on: path, off: path };
  }

  create(name: string): void {
    void this.put('POST', '/api/v1/namespaces/default/secrets', {
      metadata: { name },
      stringData: { password: `of ${name}` },
    });
  }

  /** A client's request through the first apiserver that serves; undefined when none does. */
  put(method: string, path: string, body?: unknown): Promise<HttpAnswer> | undefined {
    this.model.advance();
    const node = this.model.running().find(({ listens }) => listens)?.node;
    if (node === undefined) return undefined;
    return this.model.kube(node, {
      method,
      path,
      headers: {
        'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
        accept: 'application/json',
      },
      body: Buffer.from(body === undefined ? '' : JSON.stringify(body)),
    });
  }

  /** Runs a whole command. Throws a Violation; whatever the command itself meets is in the answer. */
  async tsrke(command: Action, options: RunOptions = {}): Promise<Ran> {
    return await this.#run(options, ({ effects, link, report, signal }) =>
      changeEncryption(
        {
          configPath: this.enabled ? this.configs.on : this.configs.off,
          action: command,
          ifDue: options.ifDue === true,
          keepsOldKey: options.keepsOldKey === true,
          ...(options.approve === undefined ? {} : { approve: options.approve }),
          ...{ report, signal },
        },
        {
          store: this.store.through(effects),
          connect: (each) => connectCluster(each, link),
          now: () => this.clock.now(),
        },
      ),
    );
  }

  /** `tsrke up`, the planes of the cluster included. */
  async up(options: RunOptions = {}): Promise<Ran> {
    return await this.#run(options, ({ effects, link, report, signal }) =>
      up(
        {
          ...{ configPath: this.enabled ? this.configs.on : this.configs.off, report, signal },
          certDir: options.certDir,
        },
        { store: this.store.through(effects), link },
      ),
    );
  }

  /** `tsrke cert rotate --rotate-ca`. */
  async rotateCas(options: RunOptions & { readonly pauses?: boolean } = {}): Promise<Ran> {
    const { pauses = false } = options;
    return await this.#run(options, ({ effects, link, report, signal }) =>
      rotateCas(
        { configPath: this.enabled ? this.configs.on : this.configs.off, pauses, report, signal },
        { store: this.store.through(effects), link },
      ),
    );
  }

  /** `tsrke cert rotate`. */
  async rotateCertificates(options: RunOptions = {}): Promise<Ran> {
    return await this.#run(options, ({ effects, link, report, signal }) =>
      rotateCertificates(
        {
          ...{ configPath: this.enabled ? this.configs.on : this.configs.off, report, signal },
          rotation: { services: [] },
        },
        { store: this.store.through(effects), link },
      ),
    );
  }

  async #run(options: RunOptions, command: (run: Running) => Promise<string>): Promise<Ran> {
    const violations: Error[] = [];
    const notes: string[] = [];
    const effects = new Effects({
      clock: this.clock,
      powerOff: (node) => this.model.powerOff(node),
      ...(options.faultOf === undefined ? {} : { faultOf: options.faultOf }),
      onDone: (effect) => {
        options.onDone?.(effect);
        if (effect.number === endless) {
          violations.push(violation(['the run does not end'], effects, notes));
          effects.kill();
        }
        if (options.invariants === false || violations.length > 0) return;
        const problems = this.problems();
        if (problems.length > 0) violations.push(violation(problems, effects, notes));
      },
    });
    this.runs.push(effects);
    const link = watched(labLink(this.model, effects), options.onAccess);
    let said: string | undefined;
    let error: Error | undefined;
    try {
      const report = reportInto(notes, options.onProgress);
      const signal = options.signal ?? new AbortController().signal;
      const run = command({ effects, link, report, signal });
      said = await Promise.race([run, effects.died]);
    } catch (cause) {
      error = cause as Error;
    }
    effects.kill();
    const [violated] = violations;
    if (violated !== undefined) throw violated;
    if (error === undefined) this.tampered = false;
    return { said, error, effects, notes };
  }

  /** Resolves once servers have done what they still had to do for runs that are over. */
  async settled(): Promise<void> {
    await Promise.all(this.runs.splice(0).map((effects) => effects.settled()));
  }

  /** What does not hold just now. Looked at anew only when something has changed. */
  problems(): readonly string[] {
    this.model.advance();
    const state = this.store.read();
    const serving = this.model.running().map(({ node, listens }) => `${node}${listens}`);
    const seen = `${this.model.generation} ${serving.join()}`;
    if (seen === this.#checked && state === this.#state) return [];
    this.#checked = seen;
    this.#state = state;
    return this.tampered
      ? lostKeys(this.model, state)
      : checkInvariants(this.model, state, { neverPlain: this.#neverPlain });
  }
}

function watched(link: Link, told: RunOptions['onAccess'] = () => undefined): Link {
  return (options) => {
    const links = link(options);
    const asked = ({ ca = '', cert = '' }: Partial<Access>) => told({ ca, cert }, false);
    told({ ca: options.ca, cert: options.admin.cert }, true);
    const membership: typeof links.membership = (ask) => {
      asked(ask);
      return links.membership(ask);
    };
    const etcd: typeof links.etcd = (ask) => {
      asked(ask);
      return links.etcd(ask);
    };
    return { ...links, membership, etcd };
  };
}

function violation(
  problems: readonly string[],
  { log, injected }: Effects,
  notes: readonly string[],
): Violation {
  const effects = log.map(({ number, what }) => {
    const fault = injected.get(number);
    return `  ${number} ${what}${fault === undefined ? '' : `   <== ${JSON.stringify(fault)}`}`;
  });
  return new Violation(
    [...problems, 'after these effects:', ...effects, 'and these notes:', ...notes].join('\n'),
  );
}

function reportInto(notes: string[], progress: (text: string) => void = () => undefined): Report {
  return {
    note: (level, text, node) => notes.push(`${level} ${node ?? ''} ${text}`),
    debug: () => undefined,
    task: (title, work) => {
      notes.push(`task ${title}`);
      return work({ progress, done: () => undefined });
    },
  };
}
