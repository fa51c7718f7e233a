/**
 * One run at a time on the whole cluster: a Lease in kube-system. Dead and cut off look alike from here, so safety
 * never rests on it (a file replaces only what was seen); it keeps two runs from getting in each other's way.
 */
import { messageOf, TsrkeError } from '../errors.ts';
import type { Clock, KubeApi, KubeResponse, NodeName, Report } from '../ports.ts';
import { isDead, type Owner } from '../state/lock.ts';
import { readiness } from './ready.ts';

const collection = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases';
const leaseName = 'tsrke';
const ownerAnnotation = 'tsrke.io/owner';

export interface ClusterLockOptions {
  readonly kube: KubeApi;
  readonly nodes: () => readonly NodeName[];
  readonly owner: Owner;
  readonly clock: Clock;
  readonly report: Pick<Report, 'note'>;
  /** Seconds; longer than a restart of kube-apiserver. Default 60. */
  readonly seconds?: number;
}

interface Lease {
  readonly metadata: {
    readonly resourceVersion?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: { readonly holderIdentity?: string; readonly leaseDurationSeconds?: number };
}

export class ClusterLock {
  readonly #options: ClusterLockOptions;
  readonly #identity: string;
  readonly #seconds: number;
  #version: string | undefined;
  #renewed = -Infinity;
  #held = false;
  #lost: string | undefined;
  #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(options: ClusterLockOptions) {
    this.#options = options;
    const { owner } = options;
    this.#identity = `${owner.host}/${owner.pid}/${owner.since}`;
    this.#seconds = options.seconds ?? 60;
  }

  /**
   * Takes the lock and keeps it. Another's is taken only when its process is known to be gone, or after it was
   * seen unchanged for its whole length. Throws LOCKED, naming the owner. While no apiserver is ready there is no
   * Lease to take: the run goes on (a repair) and takes it as soon as one is.
   */
  async acquire(signal: AbortSignal): Promise<void> {
    if (!(await this.#take(signal))) {
      this.#options.report.note(
        'warning',
        'no apiserver is ready: the cluster is locked on this machine only',
      );
    }
    const stop = this.#stop.signal;
    this.#loop = this.#keep(stop);
  }

  async #keep(stop: AbortSignal): Promise<void> {
    try {
      for (;;) {
        await this.#options.clock.sleep((this.#seconds * 1000) / 6, stop);
        if (this.#held) await this.#renew(stop);
      }
    } catch (error) {
      // Given back, or an answer that makes no sense: hold() tries again, and throws where it matters.
      if (!stop.aborted) this.#options.report.note('warning', `the lock is not renewed: ${messageOf(error)}`);
    }
  }

  /** Before each effect: throws LOCK_LOST once another run has taken the lock; waits while it cannot be renewed. */
  async hold(signal: AbortSignal): Promise<void> {
    if (!this.#held && this.#lost === undefined) await this.#take(signal);
    const half = (this.#seconds * 1000) / 2;
    if (this.#held && this.#options.clock.now().getTime() - this.#renewed > half) await this.#renew(signal);
    if (this.#lost === undefined) return;
    throw new TsrkeError('LOCK_LOST', `the lock on the cluster was taken by ${this.#lost}`, {
      next: 'wait for that run to end, then run the same command again; it continues from here',
    });
  }

  async release(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    if (!this.#held) return;
    try {
      await this.#put('', AbortSignal.timeout(5_000));
    } catch {
      // It ends by itself.
    }
  }

  async #take(signal: AbortSignal): Promise<boolean> {
    let seen: string | undefined;
    let since = 0;
    while (true) {
      const node = await this.#serving(signal);
      if (node === undefined) return false;
      const answer = await this.#request(node, 'GET', `${collection}/${leaseName}`, undefined, signal);
      if (answer.status === 404) {
        this.#version = undefined;
        if (await this.#put(this.#identity, signal)) return true;
        continue;
      }
      if (answer.status !== 200)
        throw new TsrkeError('KUBE', `the Lease kube-system/${leaseName} answered status ${answer.status}`);
      const lease = JSON.parse(answer.text) as Lease;
      const owner = ownerOf(lease);
      const now = this.#options.clock.now().getTime();
      const length = (lease.spec.leaseDurationSeconds ?? this.#seconds) * 1000;
      const free = (lease.spec.holderIdentity ?? '') === '' || (owner !== undefined && isDead(owner));
      if (free || (seen === lease.metadata.resourceVersion && now - since >= length)) {
        this.#version = lease.metadata.resourceVersion;
        if (await this.#put(this.#identity, signal)) return true;
        seen = undefined;
        continue;
      }
      if (seen === undefined) {
        seen = lease.metadata.resourceVersion;
        since = now;
        this.#options.report.note(
          'info',
          `waiting for the lock of ${lease.spec.holderIdentity ?? ''}, if that run is dead`,
        );
      } else if (seen !== lease.metadata.resourceVersion) {
        throw new TsrkeError(
          'LOCKED',
          `the cluster is locked by ${lease.spec.holderIdentity ?? 'another run'}`,
          {
            next: 'wait for that run to end; it renewed its lock a moment ago',
          },
        );
      }
      await this.#options.clock.sleep(1_000, signal);
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    try {
      if (await this.#put(this.#identity, signal)) return;
      const node = await this.#serving(signal);
      if (node === undefined) return;
      const answer = await this.#request(node, 'GET', `${collection}/${leaseName}`, undefined, signal);
      if (answer.status !== 200) return;
      const lease = JSON.parse(answer.text) as Lease;
      this.#version = lease.metadata.resourceVersion;
      if (lease.spec.holderIdentity !== this.#identity)
        this.#lost = lease.spec.holderIdentity ?? 'another run';
    } catch (error) {
      // While no apiserver answers nobody else can take it either; the next try will tell.
      if (!(error instanceof TsrkeError) || error.code !== 'KUBE') throw error;
      this.#options.report.note('info', `the lock could not be renewed just now: ${messageOf(error)}`);
    }
  }

  /** False: somebody else was faster. */
  async #put(holder: string, signal: AbortSignal): Promise<boolean> {
    const node = await this.#serving(signal);
    if (node === undefined) throw new TsrkeError('KUBE', 'no apiserver is ready');
    const now = this.#options.clock.now().toISOString().replace('Z', '000Z');
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        name: leaseName,
        namespace: 'kube-system',
        annotations: { [ownerAnnotation]: JSON.stringify(this.#options.owner) },
        ...(this.#version === undefined ? {} : { resourceVersion: this.#version }),
      },
      spec: { holderIdentity: holder, leaseDurationSeconds: this.#seconds, renewTime: now },
    };
    const create = this.#version === undefined;
    const path = create ? collection : `${collection}/${leaseName}`;
    const answer = await this.#request(node, create ? 'POST' : 'PUT', path, body, signal);
    if (answer.status === 409 || answer.status === 404) return false;
    if (answer.status >= 300)
      throw new TsrkeError(
        'KUBE',
        `the Lease kube-system/${leaseName} could not be written (status ${answer.status})`,
      );
    this.#version = (JSON.parse(answer.text) as Lease).metadata.resourceVersion;
    this.#renewed = this.#options.clock.now().getTime();
    this.#held = true;
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

function ownerOf(lease: Lease): Owner | undefined {
  try {
    return JSON.parse(lease.metadata.annotations?.[ownerAnnotation] ?? '') as Owner;
  } catch {
    return undefined;
  }
}
