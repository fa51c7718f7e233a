/**
 * cluster.rkestate: RKE's format byte for byte where RKE has a field, plus one top-level key of our own, `tsrke`.
 * Fields that nobody here knows are kept. RKE 1.6 drops `tsrke` when it writes; everything in it can be found
 * again or done without, save retired keys.
 */
import { randomUUID } from 'node:crypto';
import { keyId, Secret, type Key, type KeyRecord, type LocalProvider } from '../encryption/key.ts';
import { TsrkeError } from '../errors.ts';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = Record<string, Json>;

/** The half of the state that RKE calls desiredState or currentState. */
export interface RkeHalf {
  rkeConfig?: JsonObject;
  certificatesBundle?: Record<string, JsonObject>;
  /** The provider file's text; absent when encryption is off. */
  encryptionConfig?: string;
}

export type TransitionKind = 'enable' | 'disable' | 'rotate' | 'change' | 'adopt' | 'abort';

/** The last line of work that a transition taken in steps may do until the next command; `prune`: all of them. */
export type Held = 'read' | 'write' | 'rewrite' | 'prune';

export interface Transition {
  readonly kind: TransitionKind;
  /** The wanted provider file's text; empty: encryption off. */
  readonly target: string;
  /** What was in force before, as `target`: what an abort goes back to. */
  readonly from?: string;
  /** RFC 3339. */
  readonly started: string;
  /** It is taken in steps: `tsrke encrypt prepare`, `rotate` and `reencrypt`. */
  readonly held?: Held;
}

/** The file a member's kube-apiserver has loaded, for this very start of its container (before 1.34: our only proof). */
export interface LoadedRecord {
  readonly startedAt: string;
  readonly sha256: string;
}

/** The last time that etcd showed every value under the write key of the file that all members run. */
export interface ProofRecord {
  /** RFC 3339. */
  readonly taken: string;
  /** Each etcd's cluster id, and the revision that was counted. */
  readonly at: readonly { readonly clusterId: string; readonly revision: string }[];
  readonly objects: number;
  /** The file's `meaningHash`. */
  readonly target: string;
}

/** A key that a KMS keeps. */
export interface KekRecord {
  /** As the plugin calls it; undefined for KMS v1, which does not tell. */
  readonly keyId?: string;
  /** RFC 3339: when all values were first seen under it, or (KMS v1) last brought under it. */
  readonly since: string;
}

/** New CAs on their way into a cluster that runs, in passes over all of its nodes. */
export interface CaRotation {
  /** The pass that was begun last; desiredState has its certificates. */
  readonly phase: 'trust-both' | 'issue' | 'retire';
  /** It has reached every node, and every service has read what it brought. */
  readonly done: boolean;
  /** The new CAs, PEM texts by name, until they sign: from then on they stand in the certificates. */
  readonly next?: Readonly<Record<string, { readonly certificatePEM: string; readonly keyPEM: string }>>;
}

/** What tsrke keeps beyond RKE's fields. */
export interface TsrkeBlock {
  readonly formatVersion: 1;
  /** Grows with every save; `lineage` tells states apart that were never one. */
  readonly serial: number;
  readonly lineage: string;
  readonly transition?: Transition;
  readonly keyRing: readonly KeyRecord[];
  readonly proof?: ProofRecord;
  readonly loaded: Readonly<Record<string, LoadedRecord>>;
  readonly hostKeys: Readonly<Record<string, string | readonly string[]>>;
  /** Key encryption keys of KMS providers that write, as the last finished change left them (`kms2:NAME`). */
  readonly keks?: Readonly<Record<string, KekRecord>>;
  readonly caRotation?: CaRotation;
  /** Fields of cluster.yml that RKE does not know, as they were last acted on. */
  readonly config?: JsonObject;
}

/** The file as parsed; fields that nobody here knows are kept in their places. */
export interface StateDocument {
  readonly [key: string]: unknown;
  readonly desiredState?: RkeHalf;
  readonly currentState?: RkeHalf;
}

export interface ClusterState {
  /** The whole document, as parsed; `desiredState` and `currentState` are read and changed here. */
  readonly document: StateDocument;
  readonly tsrke: TsrkeBlock;
}

/** RKE's copy of the state in the cluster: Secret kube-system/full-cluster-state, and the key in its data. */
export const copyName = 'full-cluster-state';

/** The cluster's own copy of the state is newer than our file. */
export function stale(): TsrkeError {
  return new TsrkeError(
    'STATE_STALE',
    'the state file is older than the cluster’s own copy: another run changed the cluster',
    {
      next: `bring the state file of that run here, or run \`tsrke util get-state-file\`; nothing was touched`,
    },
  );
}

/** Throws STATE_INVALID. No message holds a value from the file. */
export function parseState(text: string, where: string): ClusterState {
  const invalid = (what: string) =>
    new TsrkeError('STATE_INVALID', `${where} is not a usable state file: ${what}`, {
      next: `restore it from its backup (${where}.backup) or from where it is kept; never start over without it: it holds the keys`,
    });
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw invalid(text.trim() === '' ? 'it is empty' : 'it is not valid JSON; it may have been cut off');
  }
  if (!isObject(document)) throw invalid('it is not a JSON object');
  for (const half of ['desiredState', 'currentState'] as const) {
    const value = document[half];
    if (value === undefined) continue;
    if (!isObject(value)) throw invalid(`${half} is not an object`);
    const { encryptionConfig, certificatesBundle, rkeConfig } = value;
    if (encryptionConfig !== undefined && typeof encryptionConfig !== 'string') {
      throw invalid(`${half}.encryptionConfig is not a string`);
    }
    for (const part of [certificatesBundle, rkeConfig]) {
      if (part !== undefined && !isObject(part)) throw invalid(`a part of ${half} is not an object`);
    }
  }
  if (document['desiredState'] === undefined && document['currentState'] === undefined) {
    throw invalid('it has neither desiredState nor currentState');
  }
  return { document: document, tsrke: blockOf(document['tsrke'], invalid) };
}

function blockOf(value: Json | undefined, invalid: (what: string) => TsrkeError): TsrkeBlock {
  if (value === undefined) {
    return { formatVersion: 1, serial: 0, lineage: randomUUID(), keyRing: [], loaded: {}, hostKeys: {} };
  }
  if (!isObject(value)) throw invalid('its `tsrke` part is not an object');
  if (value['formatVersion'] !== 1) {
    throw invalid(
      'its `tsrke` part was written by another version of tsrke; use that version or a newer one',
    );
  }
  const ring = value['keyRing'];
  if (!Array.isArray(ring)) throw invalid('its key ring is missing');
  const keyRing = ring.map((each): KeyRecord => {
    if (!isObject(each)) throw invalid('its key ring holds something that is no key');
    const { provider, name, secret, created, retired, why } = each;
    if (typeof name !== 'string' || typeof secret !== 'string')
      throw invalid('a key in its ring has no name or secret');
    return {
      provider: provider as LocalProvider,
      name,
      secret: new Secret(secret),
      created: typeof created === 'string' ? created : '',
      ...(typeof retired === 'string' ? { retired } : {}),
      why: typeof why === 'string' ? why : '',
    };
  });
  return { ...(value as unknown as TsrkeBlock), keyRing };
}

/** The file's text, as Go's encoder writes it: two spaces, `<`, `>` and `&` escaped, no newline at the end. */
export function serialiseState(state: ClusterState, options: { readonly compact?: boolean } = {}): string {
  return goJson(
    withBlock(state, (key) => key.secret.reveal()),
    options.compact === true ? undefined : 2,
  );
}

/**
 * The copy for the cluster itself while it is not stored encrypted there: names and fingerprints in place of keys.
 */
export function serialiseWithoutKeys(state: ClusterState): string {
  const document = structuredClone(withBlock(state, (key) => `sha256:${key.secret.fingerprint}`));
  const strip = (text: string) =>
    text.replace(/^(\s*secret:\s*)(\S+)$/gm, (_all, head: string, secret: string) => {
      return `${head}sha256:${new Secret(secret.replace(/^"|"$/g, '')).fingerprint}`;
    });
  for (const half of ['desiredState', 'currentState'] as const) {
    const part = document[half];
    if (part?.encryptionConfig !== undefined) part.encryptionConfig = strip(part.encryptionConfig);
    const services = part?.rkeConfig?.['services'];
    const kubeApi = isObject(services) ? services['kubeApi'] : undefined;
    if (isObject(kubeApi)) withoutCustomKeys(kubeApi['secretsEncryptionConfig']);
  }
  const block = document['tsrke'];
  if (isObject(block) && isObject(block['transition'])) {
    for (const name of ['target', 'from']) {
      const text = block['transition'][name];
      if (typeof text === 'string') block['transition'][name] = strip(text);
    }
  }
  return goJson(document, undefined);
}

/** custom_config as rkeConfig has it, keys and all. */
function withoutCustomKeys(value: unknown): void {
  if (Array.isArray(value)) for (const each of value) withoutCustomKeys(each);
  if (!isObject(value)) return;
  for (const [name, field] of Object.entries(value)) {
    if (name === 'secret' && typeof field === 'string')
      value[name] = `sha256:${new Secret(field).fingerprint}`;
    else withoutCustomKeys(field);
  }
}

function withBlock(state: ClusterState, secretOf: (key: Key) => string): StateDocument {
  if (state.tsrke.serial === 0) return state.document;
  const keyRing = state.tsrke.keyRing.map((key) => ({
    name: key.name,
    provider: key.provider,
    secret: secretOf(key),
    fingerprint: key.secret.fingerprint,
    created: key.created,
    ...(key.retired === undefined ? {} : { retired: key.retired }),
    why: key.why,
  }));
  const { tsrke: _old, ...rest } = state.document;
  return { ...rest, tsrke: { ...state.tsrke, keyRing } };
}

function goJson(value: unknown, indent: number | undefined): string {
  const escapes: Record<string, string> = { '<': '\\u003c', '>': '\\u003e', '&': '\\u0026' };
  return JSON.stringify(value, undefined, indent).replace(/[<>&\u2028\u2029]/g, (found) => {
    return escapes[found] ?? `\\u${found.charCodeAt(0).toString(16)}`;
  });
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The ring with these keys in it as well; what is there stays as it is (rings are only ever merged by union). */
export function withKeys(
  ring: readonly KeyRecord[],
  keys: readonly Key[],
  created: string,
  why: string,
): readonly KeyRecord[] {
  const all = new Map(ring.map((key) => [keyId(key), key]));
  for (const key of keys) if (!all.has(keyId(key))) all.set(keyId(key), { ...key, created, why });
  return [...all.values()];
}
