/** What scenarios ask of a lab, whichever it is: the real one (real-lab.ts) or the one in memory (memory-lab.ts). */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';
import { dump, load } from 'js-yaml';
import type { KmsPlugin } from '../../src/lab/kms-plugin.ts';
import type { RunningClients } from './clients.ts';
import type { LabEtcd } from './lab-etcd.ts';

export type Role = 'controlplane' | 'etcd' | 'worker';

export interface LabOptions {
  readonly hosts?: 1 | 3;
  readonly encryption?: 'off' | 'on';
  /**
   * All of RKE's containers do their work; else those that are neither etcd nor kube-apiserver run and do nothing. The
   * nodes are not ready without a network plugin.
   */
  readonly kubelets?: boolean;
  /**
   * The hosts have nothing on them (no container, no certificate) and there is no state: only cluster.yml, which asks
   * for a whole cluster, with encryption unless that is off. Of the other options `roles` and `network` are for it.
   */
  readonly bare?: boolean;
  /** Of the bare hosts, in order; default all three of each. */
  readonly roles?: readonly (readonly Role[])[];
  /**
   * With `bare` what cluster.yml asks for: with `flannel` also for CoreDNS and metrics-server, else for no pods at all.
   * With `kubelets` just their images are there. Default none.
   */
  readonly network?: 'none' | 'flannel';
  /** Secrets to make at once, in namespace `default`; default none. */
  readonly secrets?: number;
  readonly secretSize?: number;
  readonly version?: '1.37' | '1.34' | '1.33';
  /**
   * A KMS plugin runs on every host; kube-apiserver does not see its socket before cluster.yml's extra_binds bring it in.
   * `v1`: kube-apiserver has the feature gate for KMS v1, in cluster.yml's extra_args, too.
   */
  readonly kms?: 'v1' | 'v2';
  /** Arguments of kube-apiserver without their `--`, as in cluster.yml's extra_args, which has them. */
  readonly apiserverArgs?: Readonly<Record<string, string>>;
}

/**
 * Where the KMS plugins of a host listen: `socket.sock` in this folder, as in the AWS example of RKE's documents, and
 * `moved.sock`.
 */
export const kmsFolder = '/var/run/kmsplugin';

/** A KMS plugin of one host. */
export interface HostKms {
  /** What it does. By default all, of every host, share their keys. */
  plugin: KmsPlugin;
  readonly runs: boolean;
  start(): Promise<void>;
  /** The end of its process: the socket goes, and every connection. */
  stop(): void;
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A user who was let in over SSH. */
export interface Login {
  readonly user: string;
  /** `outside` (this machine), or the name of the host that it came through. */
  readonly from: string;
  /** `ssh-ed25519`, or with a certificate `ssh-ed25519-cert-v01@openssh.com`. */
  readonly key: string;
}

export interface LabHost {
  readonly name: string;
  readonly address: string;
  readonly docker: Docker;
  readonly kms: HostKms;
  /** The one at `moved.sock`; it does not run before it is started. */
  readonly movedKms: HostKms;
  /** Of the container of this name; default kube-apiserver. */
  inspect(name?: string): Promise<ContainerInspectInfo>;
  readFile(path: string): Promise<string | undefined>;
  writeFile(path: string, text: string, mode: number): Promise<void>;
  removeFile(path: string): Promise<void>;
  /** Names of what is in a folder. */
  list(folder: string): Promise<string[]>;
  /** `root root 600`; undefined: no such file. */
  ownerAndMode(path: string): Promise<string | undefined>;
  /**
   * From its next start on kube-apiserver says `words` and exits with 1, unless the first name in its provider file
   * (`identity`, or its first key's; `none` without a file) contains one of these.
   */
  failStarts(words: string, unless?: readonly string[]): Promise<void>;
  /** Ends `failStarts`. */
  letStart(): Promise<void>;
  /** Kills every process at once and starts again; resolves when dockerd answers (see Lab.ready). */
  reboot(): Promise<void>;
  /** Nobody reaches it any more, and nothing on it reaches others; until `reinstall` and `plug`. */
  die(): Promise<void>;
  /** A new disk: no container, nothing of a cluster; images and the host's key are as before. */
  reinstall(): Promise<void>;
  unplug(): Promise<void>;
  plug(): Promise<void>;
  /** etcd answers the host's own root (kube-apiserver, etcd) only: nobody else, also not `operator` through SSH. */
  hideEtcd(): Promise<void>;
  /** Ends `hideEtcd`. */
  showEtcd(): Promise<void>;
  /** A firewall lets nothing but SSH in from outside, as ever in the memory lab, until the returned function is called. */
  letOnlySshIn(): Promise<() => Promise<void>>;
  /** In order, since the hosts came up. */
  logins(): Promise<Login[]>;
  /** What dockerd and sshd have logged; the memory lab's log nothing. */
  daemonLogs(): Promise<string[]>;
  /** How often kube-apiserver's container was started since the lab was open: restarts, recreations, reboots. */
  apiserverStarts(): Promise<number>;
}

export interface KubeAnswer {
  readonly status: number;
  readonly text: string;
}

export interface TsrkeOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Its working directory and HOME; default the lab's. */
  readonly dir?: string;
  /** SIGKILL to tsrke and all it started as soon as stdout and stderr so far match. */
  readonly killWhen?: RegExp;
  /** SIGKILL once this is aborted. */
  readonly kill?: AbortSignal;
  /** No file can be written beyond this many blocks of 512 bytes, as on a disk that is full. */
  readonly fileSize?: number;
  /** This signal, once, as soon as stdout and stderr so far match. */
  readonly signalWhen?: { readonly match: RegExp; readonly signal: NodeJS.Signals };
  /** Each piece of stdout and stderr as it comes. */
  readonly onOutput?: (text: string) => void;
}

export interface Lab {
  readonly dir: string;
  /** Path of cluster.yml. */
  readonly config: string;
  /** Path of cluster.rkestate. */
  readonly state: string;
  /** What gets into the hosts by SSH as root, or as `operator`; `games` is not of the docker group. All paths in `dir`. */
  readonly ssh: {
    /** Private key that the hosts accept; cluster.yml names it, and it is ~/.ssh/id_ed25519 of `tsrke`. */
    readonly key: string;
    /** Private key of the CA whose user certificates they accept (principal: the user's name). */
    readonly userCa: string;
    /** The hosts' keys by address; not where OpenSSH or tsrke would look by themselves. */
    readonly knownHosts: string;
  };
  readonly hosts: readonly LabHost[];
  readonly etcd: LabEtcd;
  /** bin/tsrke.js of this checkout (as built), in `dir`, with HOME = `dir`. */
  tsrke(
    args: readonly string[],
    options?: TsrkeOptions,
  ): Promise<Ran & { signal: NodeJS.Signals | null; seconds: number }>;
  /** With the kube-admin certificate of the state; rejects when there is no answer. */
  kube(
    host: LabHost,
    method: string,
    path: string,
    body?: unknown,
    contentType?: string,
  ): Promise<KubeAnswer>;
  /** Numbered on from the last call with the same namespace and prefix: `secret-00001`, … */
  createSecrets(n: number, options?: { size?: number; namespace?: string; prefix?: string }): Promise<void>;
  startClients(): Promise<RunningClients>;
  /** Polls until every kube-apiserver answers /readyz with 200. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

type Kube = Lab['kube'];

/** Secrets in series: `secret-00001`, … */
export class NumberedSecrets {
  readonly #hosts: readonly LabHost[];
  readonly #kube: Kube;
  readonly #numbers = new Map<string, number>();

  constructor(hosts: readonly LabHost[], kube: Kube) {
    this.#hosts = hosts;
    this.#kube = kube;
  }

  async create(
    n: number,
    { size = 1024, namespace = 'default', prefix = 'secret' }: Parameters<Lab['createSecrets']>[1] = {},
  ): Promise<void> {
    const [first] = this.#hosts;
    if (first === undefined) return;
    const made = await this.#kube(first, 'POST', '/api/v1/namespaces', { metadata: { name: namespace } });
    if (made.status !== 201 && made.status !== 409) throw new Error(`namespace ${namespace}: ${made.text}`);
    const series = `${namespace}/${prefix}`;
    let next = this.#numbers.get(series) ?? 0;
    const last = next + n;
    this.#numbers.set(series, last);
    const worker = async (index: number) => {
      const host = this.#hosts[index % this.#hosts.length] ?? first;
      while (next < last) {
        next += 1;
        const secret = {
          metadata: { name: `${prefix}-${String(next).padStart(5, '0')}` },
          data: { value: randomBytes(size).toString('base64') },
        };
        const path = `/api/v1/namespaces/${namespace}/secrets`;
        const { status, text } = await this.#kube(host, 'POST', path, secret);
        if (status !== 201) throw new Error(`secret ${secret.metadata.name}: ${status} ${text}`);
      }
    };
    await Promise.all(Array.from({ length: Math.min(48, n) }, (_, index) => worker(index)));
  }
}

const patience = 180_000;

/** Until every kube-apiserver answers /readyz with 200. */
export async function pollReady(hosts: readonly LabHost[], kube: Kube): Promise<void> {
  await Promise.all(
    hosts.map((host) =>
      poll(`/readyz of ${host.name}`, async () => {
        const { status, text } = await kube(host, 'GET', '/readyz');
        return status === 200 || text;
      }),
    ),
  );
}

/** For LabHost.ownerAndMode. */
export function describeOwner({ uid, gid, mode }: { uid: number; gid: number; mode: number }): string {
  const [user, group] = [uid, gid].map((id) => (id === 0 ? 'root' : String(id)));
  return `${user} ${group} ${(mode & 0o777).toString(8)}`;
}

/** Tries until it resolves to true; rejects with the last outcome after three minutes. */
export async function poll(what: string, attempt: () => Promise<unknown>): Promise<void> {
  const end = Date.now() + patience;
  let last = '';
  while (Date.now() < end) {
    try {
      last = String(await attempt());
      if (last === 'true') return;
    } catch (error) {
      last = String(error);
    }
    await sleep(100);
  }
  throw new Error(`${what} took more than ${patience / 1000} s: ${last}`);
}

/** Changes `services.kube-api` of cluster.yml, as an operator edits it. */
export function editKubeApi({ config }: Pick<Lab, 'config'>, change: object): void {
  const yaml = load(readFileSync(config, 'utf8')) as { services: Record<string, object> };
  yaml.services['kube-api'] = { ...yaml.services['kube-api'], ...change };
  writeFileSync(config, dump(yaml));
}

/** As in cluster.yml's extra_args of kube-apiserver. */
export function extraArgs({ kms, apiserverArgs }: LabOptions): Readonly<Record<string, string>> {
  return { ...(kms === 'v1' && { 'feature-gates': 'KMSv1=true' }), ...apiserverArgs };
}

/** What extra_args make of a component's arguments. */
export function withExtraArgs(args: readonly string[], extra: Readonly<Record<string, string>>): string[] {
  const isReplaced = (arg: string) => Object.keys(extra).some((flag) => arg.startsWith(`--${flag}=`));
  return [
    ...args.filter((arg) => !isReplaced(arg)),
    ...Object.entries(extra).map(([flag, value]) => `--${flag}=${value}`),
  ];
}
