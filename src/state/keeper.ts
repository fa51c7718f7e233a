/** Keeps the state durable: the file first, then RKE's copy in the cluster, both before any node sees a key. */
import { messageOf, TsrkeError } from '../errors.ts';
import { readiness } from '../kube/ready.ts';
import type { KubeApi, KubeResponse, NodeName, Report } from '../ports.ts';
import { localKeysOf, parseProviderFile } from '../encryption/configuration.ts';
import { keyId } from '../encryption/key.ts';
import { parseState, serialiseState, serialiseWithoutKeys, type ClusterState } from './rkestate.ts';
import type { StateStore } from './store.ts';

const copyName = 'full-cluster-state';
const copyPath = `/api/v1/namespaces/kube-system/secrets/${copyName}`;

export interface StateKeeperOptions {
  readonly store: StateStore;
  readonly kube: KubeApi;
  readonly nodes: () => readonly NodeName[];
  readonly hostKeys: () => Record<string, string | readonly string[]>;
  readonly report: Report;
}

interface Copy {
  readonly resourceVersion: string;
  readonly text: string | undefined;
}

export class StateKeeper {
  readonly #options: StateKeeperOptions;

  constructor(options: StateKeeperOptions) {
    this.#options = options;
  }

  /** Another pipeline was here when the cluster's copy is newer than our file: throws STATE_STALE. */
  async refuseStale(state: ClusterState, signal: AbortSignal): Promise<void> {
    const copy = await this.#readCopy(signal);
    if (copy?.text === undefined) return;
    const other = parseState(copy.text, `Secret kube-system/${copyName}`);
    const newer = other.tsrke.serial > state.tsrke.serial && other.tsrke.serial > 0;
    const known = new Set([...state.tsrke.keyRing, ...[state].flatMap(keysIn)].map((key) => key.name));
    const lacks = other.tsrke.serial === 0 && keysIn(other).some((key) => !known.has(key.name));
    if (!newer && !lacks) return;
    throw new TsrkeError(
      'STATE_STALE',
      'the state file is older than the cluster’s own copy: another run changed the cluster',
      {
        next: `bring the state file of that run here, or restore it from Secret kube-system/${copyName}; nothing was touched`,
      },
    );
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
    await this.#writeCopy(
      encrypted ? serialiseState(next, { compact: true }) : serialiseWithoutKeys(next),
      signal,
    );
    return next;
  }

  async #serving(signal: AbortSignal): Promise<NodeName | undefined> {
    for (const node of this.#options.nodes()) {
      if ((await readiness(this.#options.kube, node, signal)).ready) return node;
    }
    return undefined;
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

  async #readCopy(signal: AbortSignal): Promise<Copy | undefined> {
    const node = await this.#serving(signal);
    if (node === undefined) return undefined;
    const answer = await this.#request(node, 'GET', copyPath, undefined, signal);
    if (answer.status !== 200) return undefined;
    const { metadata, data } = JSON.parse(answer.text) as {
      metadata: { resourceVersion: string };
      data?: Record<string, string>;
    };
    const encoded = data?.[copyName];
    return {
      resourceVersion: metadata.resourceVersion,
      text: encoded === undefined ? undefined : Buffer.from(encoded, 'base64').toString(),
    };
  }

  /** By compare-and-swap. That no apiserver serves is no reason to stop a repair: the copy follows with a later save. */
  async #writeCopy(text: string, signal: AbortSignal): Promise<void> {
    const { report } = this.#options;
    const node = await this.#serving(signal);
    if (node === undefined) {
      report.note(
        'warning',
        `no apiserver is ready: the copy in Secret kube-system/${copyName} follows later`,
      );
      return;
    }
    try {
      const copy = await this.#readCopy(signal);
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
      if (answer.status >= 300) {
        report.note(
          'warning',
          `Secret kube-system/${copyName} could not be written (status ${answer.status}); it follows later`,
        );
      }
    } catch (error) {
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      report.note(
        'warning',
        `Secret kube-system/${copyName} could not be written (${messageOf(error)}); it follows later`,
      );
    }
  }
}

function keysIn(state: ClusterState) {
  const text = state.document.currentState?.encryptionConfig;
  if (text === undefined || text === '' || text.includes('secret: sha256:')) return [];
  const keys = localKeysOf(parseProviderFile(text, 'the state'));
  return [...new Map(keys.map((key) => [keyId(key), key])).values()];
}
