/**
 * Real hosts: network namespaces with sshd and dockerd (hosts.sh). One set at a time on a machine; they stay up from one
 * lab to the next of this process.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { chmod, copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Docker from 'dockerode';
import type { Vault } from '../../src/lab/kms-plugin.ts';
import { describeOwner, type LabHost, type Ran } from './lab.ts';
import { RealKms } from './real-kms.ts';

export interface RealHost extends LabHost {
  sh(command: string): Promise<Ran>;
}

const here = dirname(fileURLToPath(import.meta.url));
export const stateDir = '/var/lib/tsrke-lab';
/** Of all that there can be, in order. */
export const names = ['h1', 'h2', 'h3'];
/** This machine, as the hosts see it. */
const outside = '198.51.100.1';
export const addressOf = (name: string) => `198.51.100.${10 + Number(name.slice(1))}`;
/** sshd's log has its own words for the algorithm of a key. */
const loggedKinds = new Map([
  ['ED25519', 'ssh-ed25519'],
  ['ED25519-CERT', 'ssh-ed25519-cert-v01@openssh.com'],
]);

/** What kubelets need: `cri` a container runtime, `pods` one that has the images of pods. */
export type Kubelets = 'cri' | 'pods';

let holder: ChildProcess | undefined;
let running = 0;
/** With them hosts are for one lab only: what kubelets make is more than containers and files. */
let kubelets: Kubelets | undefined;

/** Names of the hosts that are up. */
export const namesUp = (): string[] => names.slice(0, running);

function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

async function script(name: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await run(join(here, name), args);
  if (code !== 0) throw new Error(`${name} ${args.join(' ')} failed: ${stderr.trim()}`);
}

/** The machine's lock, held by a process that cleans up when this one ends, however it ends. */
async function hold(): Promise<void> {
  if (holder?.exitCode === null) return;
  const child = spawn(join(here, 'hosts.sh'), ['hold', `${process.title} ${process.pid}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('error', reject).once('exit', () => reject(new Error('the lab of this machine is not free')));
  });
  child.removeAllListeners('exit');
  child.unref();
  for (const stream of [child.stdin, child.stdout]) (stream as unknown as { unref?(): void }).unref?.();
  holder = child;
  running = 0;
  kubelets = undefined;
}

/** At least so many hosts, those that live as they are; for kubelets just so many, which are new. */
export async function bringUp(count: number, wanted?: Kubelets): Promise<void> {
  await hold();
  await script('setup.sh');
  if (wanted === 'pods') await script('setup-pods.sh');
  if (wanted !== undefined || kubelets !== undefined) {
    running = 0;
    kubelets = wanted;
    await script('hosts.sh', 'up', String(count), ...(wanted === undefined ? [] : [wanted]));
    running = count;
    return;
  }
  const alive = await Promise.all(
    names.slice(0, running).map(async (name) => {
      await script('hosts.sh', 'plug', name);
      await dockerOf(name).ping();
    }),
  ).then(
    () => true,
    () => false,
  );
  if (alive && running >= count) return;
  await script('hosts.sh', 'up', String(count));
  running = count;
}

/** Ends the hosts; the next lab has new ones. */
export async function takeDown(): Promise<void> {
  running = 0;
  kubelets = undefined;
  await script('hosts.sh', 'down');
}

/** Ends the hosts and gives the machine's lock back. */
export async function closeHosts(): Promise<void> {
  const child = holder;
  holder = undefined;
  running = 0;
  kubelets = undefined;
  if (child?.exitCode !== null) return;
  child.ref();
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.stdin?.end();
  await ended;
}

function dockerOf(name: string): Docker {
  return new Docker({ socketPath: `${stateDir}/${name}/docker.sock` });
}

export function hostOf(name: string, vault: Vault): RealHost {
  const docker = dockerOf(name);
  const sh = (command: string) => run(join(here, 'hosts.sh'), ['sh', name, command]);
  // RKE's entrypoint lies in a volume of service-sidekick.
  const entrypoint = async () => {
    const { Mounts } = await docker.getContainer('service-sidekick').inspect();
    const volume = Mounts.find(({ Destination }) => Destination === '/opt/rke-tools');
    if (volume === undefined) throw new Error('service-sidekick has no volume /opt/rke-tools');
    return `${volume.Source}/entrypoint.sh`;
  };
  // The mount namespace of the host's first process, as seen from outside.
  const inside = async (path: string) => {
    const [pid = ''] = (await readFile(`${stateDir}/${name}/init`, 'utf8')).split(' ');
    return `/proc/${pid}/root${path}`;
  };
  const address = addressOf(name);
  const firewall = async (action: '-I' | '-D') => {
    const toEtcd = '-p tcp --dport 2379';
    const reject = '-j REJECT --reject-with tcp-reset';
    for (const rule of [
      `INPUT ${toEtcd} -s 198.51.100.1 ${reject}`,
      `OUTPUT ${toEtcd} -m owner ! --uid-owner 0 ${reject}`,
    ]) {
      const { code, stderr } = await sh(`iptables ${action} ${rule}`);
      if (code !== 0) throw new Error(`iptables ${action} ${rule}: ${stderr}`);
    }
  };
  const kms = new RealKms('socket.sock', vault, inside);
  const movedKms = new RealKms('moved.sock', vault, inside);
  return {
    name,
    kms,
    movedKms,
    address,
    docker,
    sh,
    inspect: (container = 'kube-apiserver') => docker.getContainer(container).inspect(),
    async readFile(path) {
      try {
        return await readFile(await inside(path), 'utf8');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    },
    async writeFile(path, text, mode) {
      const target = await inside(path);
      await mkdir(dirname(target), { recursive: true });
      await writeFile(target, text, { mode });
      await chmod(target, mode);
    },
    async removeFile(path) {
      await rm(await inside(path), { force: true });
    },
    async list(folder) {
      const path = await inside(folder);
      return existsSync(path) ? await readdir(path) : [];
    },
    async ownerAndMode(path) {
      const stat = statSync(await inside(path), { throwIfNoEntry: false });
      return stat && describeOwner(stat);
    },
    async failStarts(words, unless = []) {
      const path = await inside(await entrypoint());
      if (!existsSync(`${path}.good`)) await copyFile(path, `${path}.good`);
      await writeFile(path, failingEntrypoint(words, unless), { mode: 0o755 });
    },
    async letStart() {
      const path = await inside(await entrypoint());
      if (existsSync(`${path}.good`)) await rename(`${path}.good`, path);
    },
    async reboot() {
      const running = [kms, movedKms].filter(({ runs }) => runs);
      for (const each of running) each.stop();
      await script('hosts.sh', 'reboot', name);
      for (const each of running) await each.start();
    },
    die: () => script('hosts.sh', 'unplug', name),
    reinstall: () => wipe(name),
    unplug: () => script('hosts.sh', 'unplug', name),
    plug: () => script('hosts.sh', 'plug', name),
    hideEtcd: () => firewall('-I'),
    showEtcd: () => firewall('-D'),
    async letOnlySshIn() {
      const drop = async (action: string) => {
        const rule = `INPUT -p tcp -s ${outside} -m multiport --dports 2379,6443 -j DROP`;
        const { code, stderr } = await sh(`iptables -${action} ${rule}`);
        if (code !== 0) throw new Error(`iptables -${action} failed on ${name}: ${stderr}`);
      };
      await drop('I');
      return () => drop('D');
    },
    async logins() {
      const log = await readFile(`${stateDir}/${name}/sshd.log`, 'utf8');
      const accepted = /Accepted publickey for (\S+) from (\S+) port \d+ ssh2: (\S+)/g;
      return [...log.matchAll(accepted)].map(([, user = '', from = '', kind = '']) => ({
        user,
        from: from === outside ? 'outside' : (names.find((each) => addressOf(each) === from) ?? from),
        key: loggedKinds.get(kind) ?? kind,
      }));
    },
    daemonLogs: () =>
      Promise.all(['dockerd.log', 'sshd.log'].map((log) => readFile(`${stateDir}/${name}/${log}`, 'utf8'))),
    async apiserverStarts() {
      const starts = await readFile(`${stateDir}/${name}/starts`, 'utf8').catch(() => '');
      return starts.split('\n').filter((line) => line.includes('"kube-apiserver"')).length;
    },
  };
}

function failingEntrypoint(words: string, unless: readonly string[]): string {
  const accepts = unless.map((part) => `  *"${part}"*) exec "$@" ;;\n`);
  return `#!/bin/sh
[ "$1" = kube-apiserver ] || exec "$@"
first=none
case "$*" in
  *--encryption-provider-config=*) first=$(grep -m1 -e name: -e identity: /etc/kubernetes/ssl/encryption.yaml) ;;
esac
case "$first" in
${accepts.join('')}esac
echo '${words}' >&2
exit 1
`;
}

/** Every container and all that a cluster leaves on the disk of a host. */
export async function wipe(name: string): Promise<void> {
  const docker = dockerOf(name);
  const containers = await docker.listContainers({ all: true });
  await Promise.all(containers.map(({ Id }) => docker.getContainer(Id).remove({ force: true, v: true })));
  const disk = `${stateDir}/${name}/disk`;
  for (const path of [
    '/etc/kubernetes',
    '/var/lib/etcd',
    '/var/log/kube-audit',
    '/var/lib/rancher',
    '/opt/rke',
  ]) {
    for (const entry of await readdir(disk + path)) {
      await rm(join(disk + path, entry), { recursive: true, force: true });
    }
  }
}
