/** The lock on a cluster as its own apiservers keep it: a Lease in kube-system. */
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, KubeResponse, NodeName, Report } from '../ports.ts';
import { identityOf, isDead, locked, whoIs, type Owner } from '../state/lock.ts';
import { readiness } from './ready.ts';

const collection = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases';
const leaseName = 'tsrke';
const ownerAnnotation = 'tsrke.io/owner';

export interface LeaseOptions {
  readonly kube: KubeApi;
  readonly nodes: () => readonly NodeName[];
  readonly owner: Owner;
  readonly clock: Clock;
  readonly report: Pick<Report, 'note'>;
  /** How long it holds without being renewed. */
  readonly seconds: number;
}

interface Lease {
  readonly metadata: {
    readonly resourceVersion?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly renewTime?: string;
  };
}

export class ClusterLease {
  readonly #options: LeaseOptions;
  readonly #identity: string;
  #version: string | undefined;
  #outlived: string | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#identity = identityOf(options.owner);
  }

  /** The run whose Lease was taken because it did not move for its whole length. */
  get outlived(): string | undefined {
    return this.#outlived;
  }

  /**
   * Another's Lease is taken only when its process is known to be gone, or after it was seen unchanged for its whole
   * length. Resolves to false when no apiserver is ready. Throws LOCKED, naming the owner.
   */
  async take(signal: AbortSignal): Promise<boolean> {
    const { clock, report, seconds } = this.#options;
    let seen: string | undefined;
    let since = 0;
    while (true) {
      const lease = await this.#get(signal);
      if (lease === 'no apiserver') return false;
      if (lease === undefined) {
        this.#version = undefined;
        if (await this.#put(this.#identity, signal)) return true;
        continue;
      }
      const owner = ownerOf(lease);
      const holder = lease.spec.holderIdentity ?? '';
      const now = clock.now().getTime();
      const length = (lease.spec.leaseDurationSeconds ?? seconds) * 1000;
      const free = holder === '' || holder === this.#identity || (owner !== undefined && isDead(owner));
      if (free || (seen === lease.metadata.resourceVersion && now - since >= length)) {
        this.#version = lease.metadata.resourceVersion;
        if (await this.#put(this.#identity, signal)) {
          if (!free) this.#outlived = holder;
          return true;
        }
        seen = undefined;
        continue;
      }
      if (seen === undefined) {
        seen = lease.metadata.resourceVersion;
        since = now;
        report.note(
          'info',
          `waiting for the lock of ${holder}, in case that run is dead (up to ${length / 1000} s)`,
        );
      } else if (seen !== lease.metadata.resourceVersion) {
        throw locked(holder);
      }
      await clock.sleep(1_000, signal);
    }
  }

  /** 'lost' comes with who has it now. */
  async renew(signal: AbortSignal): Promise<'renewed' | 'no apiserver' | { readonly lostTo: string }> {
    try {
      // A write of our own whose answer got lost moves the version too: look, then try once more.
      for (let attempt = 1; attempt <= 2; attempt += 1) {
        if (await this.#put(this.#identity, signal)) return 'renewed';
        const lease = await this.#get(signal);
        if (lease === 'no apiserver') return lease;
        this.#version = lease?.metadata.resourceVersion;
        if (lease !== undefined && lease.spec.holderIdentity !== this.#identity) {
          return { lostTo: lease.spec.holderIdentity ?? 'another run' };
        }
      }
      return 'no apiserver';
    } catch (error) {
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      this.#options.report.note('info', `the lock could not be renewed just now: ${messageOf(error)}`);
      return 'no apiserver';
    }
  }

  async release(signal: AbortSignal): Promise<void> {
    await this.#put('', signal);
  }

  async #get(signal: AbortSignal): Promise<Lease | undefined | 'no apiserver'> {
    const node = await this.#serving(signal);
    if (node === undefined) return 'no apiserver';
    const answer = await this.#request(node, 'GET', `${collection}/${leaseName}`, undefined, signal);
    if (answer.status === 404) return undefined;
    if (answer.status === 200) return JSON.parse(answer.text) as Lease;
    throw new TsrkeError('KUBE', `the Lease kube-system/${leaseName} answered status ${answer.status}`);
  }

  /** False: somebody else was faster. */
  async #put(holder: string, signal: AbortSignal): Promise<boolean> {
    const { clock, owner, seconds } = this.#options;
    const node = await this.#serving(signal);
    if (node === undefined) throw new TsrkeError('KUBE', 'no apiserver is ready');
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        name: leaseName,
        namespace: 'kube-system',
        annotations: { [ownerAnnotation]: JSON.stringify(owner) },
        ...(this.#version === undefined ? {} : { resourceVersion: this.#version }),
      },
      spec: {
        holderIdentity: holder,
        leaseDurationSeconds: seconds,
        // MicroTime.
        renewTime: clock.now().toISOString().replace('Z', '000Z'),
      },
    };
    const create = this.#version === undefined;
    const path = create ? collection : `${collection}/${leaseName}`;
    const answer = await this.#request(node, create ? 'POST' : 'PUT', path, body, signal);
    if (answer.status === 409 || answer.status === 404) return false;
    if (answer.status >= 300) {
      throw new TsrkeError(
        'KUBE',
        `the Lease kube-system/${leaseName} could not be written (status ${answer.status})`,
      );
    }
    this.#version = (JSON.parse(answer.text) as Lease).metadata.resourceVersion;
    return true;
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
}

/**
 * Who has the lock just now, by the Lease: its time is not over by the answering server's own clock, and the run is not
 * known to be dead. Only looks. Resolves to undefined also where the server does not say.
 */
export async function leaseHolder(
  kube: KubeApi,
  node: NodeName,
  signal: AbortSignal,
): Promise<string | undefined> {
  let answer: KubeResponse;
  try {
    answer = await kube.request(node, { method: 'GET', path: `${collection}/${leaseName}` }, signal);
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
    return undefined;
  }
  if (answer.status !== 200) return undefined;
  const lease = JSON.parse(answer.text) as Lease;
  const { holderIdentity: holder = '', leaseDurationSeconds = 0, renewTime = '' } = lease.spec;
  const owner = ownerOf(lease);
  const age = Date.parse(answer.headers['date'] ?? '') - Date.parse(renewTime);
  if (holder === '' || !(age < leaseDurationSeconds * 1000) || (owner !== undefined && isDead(owner))) {
    return undefined;
  }
  return owner === undefined ? holder : whoIs(owner);
}

function ownerOf(lease: Lease): Owner | undefined {
  try {
    return JSON.parse(lease.metadata.annotations?.[ownerAnnotation] ?? '') as Owner;
  } catch {
    return undefined;
  }
}
