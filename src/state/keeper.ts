/** Keeps the state durable: the file first, then RKE's copy in the cluster, both before any node sees a key. */
import { messageOf, TsrkeError } from '../errors.ts';
import { decryptionFailure } from '../kube/decryption.ts';
import { readiness } from '../kube/ready.ts';
import { parseJson, reasonOf } from '../kube/status.ts';
import type { KubeApi, KubeResponse, NodeName, Report } from '../ports.ts';
import { localKeysOf, parseProviderFile } from '../encryption/configuration.ts';
import { keyId, type Key } from '../encryption/key.ts';
import {
  copyName,
  parseState,
  serialiseState,
  serialiseWithoutKeys,
  stale,
  type ClusterState,
} from './rkestate.ts';
import type { StateStore } from './store.ts';

const copyPath = `/api/v1/namespaces/kube-system/secrets/${copyName}`;

export interface StateKeeperOptions {
  readonly store: StateStore;
  readonly kube: KubeApi;
  readonly nodes: () => readonly NodeName[];
  readonly hostKeys: () => Record<string, string | readonly string[]>;
  readonly report: Report;
}

export interface MetCopy {
  readonly state: ClusterState;
  /** Both are of the same save. */
  readonly agrees: boolean;
  /** Names of keys that only the copy has; empty where serials tell which of the two is newer. */
  readonly lacks: readonly string[];
}

interface Copy {
  readonly resourceVersion: string;
  readonly text: string | undefined;
}

/** What the node's kube-apiserver answered; `copy` undefined: there is none. */
interface Read {
  readonly node: NodeName;
  readonly copy: Copy | undefined;
}

export class StateKeeper {
  readonly #options: StateKeeperOptions;

  constructor(options: StateKeeperOptions) {
    this.#options = options;
  }

  /**
   * Compares our file with the cluster's own copy. Throws STATE_STALE where that one is newer: another pipeline was
   * here; KUBE where it cannot be read, unless for want of its key: that is what a repair is for, and it goes on. RKE drops our part of the state when it writes; what the copy still has of it (serial, retired keys) is then
   * taken over, and `lacks` names the keys that only the copy has: if one of them is in use, our file is the older one.
   */
  async meetCopy(state: ClusterState, signal: AbortSignal): Promise<MetCopy> {
    const copy = await this.#readCopy(signal).then((read) => read?.copy, this.#unlessUndecryptable);
    const other = copy === undefined ? undefined : this.#parse(copy);
    if (other === undefined) return { state, agrees: false, lacks: [] };
    const [ours, theirs] = [state.tsrke, other.tsrke];
    if (ours.serial > 0 && theirs.serial > 0) {
      if (theirs.lineage !== ours.lineage || theirs.serial > ours.serial) throw stale();
      return { state, agrees: theirs.serial === ours.serial, lacks: [] };
    }
    const known = new Set([...ours.keyRing, ...keysIn(state)].map((key) => key.name));
    const lacks = keyNamesIn(other).filter((name) => !known.has(name));
    if (theirs.serial === 0) return { state, agrees: false, lacks };
    const retired = theirs.keyRing.filter((key) => key.secret.isKey && key.retired !== undefined);
    const ids = new Set(ours.keyRing.map(keyId));
    const keyRing = [...ours.keyRing, ...retired.filter((key) => !ids.has(keyId(key)))];
    const { serial, lineage } = theirs;
    return { state: { ...state, tsrke: { ...ours, serial, lineage, keyRing } }, agrees: false, lacks };
  }

  readonly #unlessUndecryptable = (error: unknown): undefined => {
    if (!isUndecryptable(error)) throw error;
    this.#options.report.note('warning', `${messageOf(error)}; it follows once it can be read`);
    return undefined;
  };

  #parse(copy: Copy): ClusterState | undefined {
    if (copy.text === undefined) return undefined;
    try {
      return parseState(copy.text, `Secret kube-system/${copyName}`);
    } catch (error) {
      this.#options.report.note('warning', `${messageOf(error)}; it is written anew`);
      return undefined;
    }
  }

  /** See World.save. The serial grows by one. */
  async save(state: ClusterState, encrypted: boolean, signal: AbortSignal): Promise<ClusterState> {
    const { store, report, hostKeys } = this.#options;
    const onDisk = store.read()?.tsrke.serial ?? 0;
    if (onDisk > state.tsrke.serial) {
      throw new TsrkeError('STATE_STALE', `${store.where} was changed by another run`, {
        next: 'see which run that was, then run the same command again',
      });
    }
    const next: ClusterState = {
      ...state,
      tsrke: {
        ...state.tsrke,
        serial: state.tsrke.serial + 1,
        hostKeys: { ...state.tsrke.hostKeys, ...hostKeys() },
      },
    };
    await store.write(next);
    report.note('info', `state saved (serial ${next.tsrke.serial})`);
    const text = encrypted ? serialiseState(next, { compact: true }) : serialiseWithoutKeys(next);
    await this.#writeCopy(text, { encrypted, serial: next.tsrke.serial }, signal);
    return next;
  }

  async #request(
    node: NodeName,
    method: 'GET' | 'PUT' | 'POST',
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<KubeResponse> {
    return await this.#options.kube.request(
      node,
      { method, path, ...(body === undefined ? {} : { body }) },
      signal,
    );
  }

  /** By the first kube-apiserver that is ready and can; undefined: none is ready. Throws KUBE. */
  async #readCopy(signal: AbortSignal): Promise<Read | undefined> {
    const failures: TsrkeError[] = [];
    for (const node of this.#options.nodes()) {
      if (!(await readiness(this.#options.kube, node, signal)).ready) continue;
      try {
        const answer = await this.#request(node, 'GET', copyPath, undefined, signal);
        if (answer.status === 404) return { node, copy: undefined };
        if (answer.status !== 200) throw unreadable(node, answer);
        const { metadata, data } = parseJson(answer, node, `GET ${copyPath}`) as {
          metadata: { resourceVersion: string };
          data?: Record<string, string>;
        };
        const encoded = data?.[copyName];
        const text = encoded === undefined ? undefined : Buffer.from(encoded, 'base64').toString();
        return { node, copy: { resourceVersion: metadata.resourceVersion, text } };
      } catch (error) {
        if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
        failures.push(error);
      }
    }
    const failure = failures.find((each) => !isUndecryptable(each)) ?? failures[0];
    if (failure !== undefined) throw failure;
    return undefined;
  }

  /**
   * By compare-and-swap. That no apiserver serves is no reason to stop a repair: the copy follows with a later save.
   * Throws KUBE where keys must leave the copy and cannot: the rewrite of a disable would store it in the clear.
   */
  async #writeCopy(
    text: string,
    { encrypted, serial }: { readonly encrypted: boolean; readonly serial: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { report } = this.#options;
    // Until it was read nobody knows what is in it; what cannot be decrypted, the rewrite cannot store in the clear.
    let keysMustGo = !encrypted;
    let problem: string | undefined;
    try {
      const read = await this.#readCopy(signal);
      if (read === undefined) {
        report.note(
          'warning',
          `no apiserver is ready: the copy in Secret kube-system/${copyName} follows later`,
        );
        return;
      }
      const { node, copy } = read;
      const other = copy === undefined ? undefined : this.#parse(copy);
      if (other !== undefined && other.tsrke.serial >= serial) throw stale();
      keysMustGo = !encrypted && other !== undefined && holdsKeys(other);
      const metadata = { name: copyName, namespace: 'kube-system' };
      const body = {
        apiVersion: 'v1',
        kind: 'Secret',
        type: 'Opaque',
        metadata: copy === undefined ? metadata : { ...metadata, resourceVersion: copy.resourceVersion },
        data: { [copyName]: Buffer.from(text).toString('base64') },
      };
      const answer =
        copy === undefined
          ? await this.#request(node, 'POST', '/api/v1/namespaces/kube-system/secrets', body, signal)
          : await this.#request(node, 'PUT', copyPath, body, signal);
      if (answer.status === 409) {
        throw new TsrkeError(
          'STATE_STALE',
          `another run changed Secret kube-system/${copyName} at the same moment`,
          {
            next: 'wait for that run to end, then run the same command again',
          },
        );
      }
      if (answer.status >= 300) problem = `status ${answer.status}`;
    } catch (error) {
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      problem = messageOf(error);
      if (isUndecryptable(error)) keysMustGo = false;
    }
    if (problem === undefined) return;
    const what = `Secret kube-system/${copyName} could not be written (${problem})`;
    if (keysMustGo) {
      throw new TsrkeError('KUBE', `${what}, and keys in it might soon lie in the clear`, {
        next: 'make it writable, then run the same command again; it continues from here',
      });
    }
    report.note('warning', `${what}; it follows later`);
  }
}

function unreadable(node: NodeName, answer: KubeResponse): TsrkeError {
  const words = `Secret kube-system/${copyName} cannot be read (${answer.status}): ${reasonOf(answer)}`;
  return new TsrkeError('KUBE', words, {
    node,
    next: 'see what refuses it (a webhook, etcd), then run the same command again',
  });
}

function isUndecryptable(error: unknown): boolean {
  return (
    error instanceof TsrkeError && error.code === 'KUBE' && decryptionFailure(error.message) !== undefined
  );
}

/** Key bytes, not only fingerprints of them. */
function holdsKeys({ document, tsrke }: ClusterState): boolean {
  const texts = [document.currentState, document.desiredState].map((half) => half?.encryptionConfig ?? '');
  const inFile = texts.some((text) => /^\s*(?:- )?secret:\s*"?(?!sha256:)\S/m.test(text));
  return inFile || tsrke.keyRing.some(({ secret }) => secret.isKey);
}

function keysIn(state: ClusterState): Key[] {
  const text = state.document.currentState?.encryptionConfig ?? '';
  return text === '' ? [] : localKeysOf(parseProviderFile(text, "the state's currentState"));
}

/** Also of a copy that holds fingerprints in place of keys. */
function keyNamesIn(state: ClusterState): string[] {
  const text = state.document.currentState?.encryptionConfig ?? '';
  return [...text.matchAll(/^\s*(?:- )?name:\s*"?([^"\s]+)"?\s*$/gm)].map((match) => match[1] ?? '');
}
