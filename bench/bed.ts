/**
 * A bed for measurements: one etcd and some kube-apiservers as plain processes on loopback, with the binaries the
 * real lab has built and the throwaway certificates of its fixtures. No root, no hosts, no containers: what is
 * measured is tsrke against kube-apiserver and nothing else.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once, setMaxListeners } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKubeApi, type ClosableKubeApi } from '../src/kube/client.ts';
import { waitReady } from '../src/kube/ready.ts';
import { createEtcd } from '../src/etcd/client.ts';
import type { Clock, Etcd } from '../src/ports.ts';

export const clock: Clock = {
  now: () => new Date(),
  sleep: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }),
};

export interface Bed {
  readonly names: readonly string[];
  readonly ports: readonly number[];
  readonly credentials: { readonly ca: string; readonly cert: string; readonly key: string };
  /** An admin kubeconfig for the first apiserver. */
  readonly kubeconfig: string;
  readonly kube: ClosableKubeApi;
  readonly etcd: Etcd;
  readonly etcdUrl: string;
  readonly pids: readonly number[];
  /** Writes the provider file and restarts all apiservers with it; resolves once all are ready. */
  load(providerFile: string): Promise<void>;
  stop(): Promise<void>;
}

interface Certificate {
  readonly certificatePEM: string;
  readonly keyPEM: string;
}

const fixture = new URL('../test/fixtures/rke-1.6.3/enabled.rkestate', import.meta.url);
const never = new AbortController().signal;
setMaxListeners(0, never);

export async function startBed(apiservers: number, providerFile: string): Promise<Bed> {
  const folder = await mkdtemp(join(tmpdir(), 'tsrke-bench-'));
  const state = JSON.parse(await readFile(fixture, 'utf8')) as {
    currentState: { certificatesBundle: Record<string, Certificate> };
  };
  const certificate = (name: string): Certificate => {
    const found = state.currentState.certificatesBundle[name];
    if (found === undefined) throw new Error(`the fixture holds no certificate ${name}`);
    return found;
  };
  const put = async (name: string, text: string) => {
    const path = join(folder, name);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  };
  const pair = async (name: string) => ({
    cert: await put(`${name}.pem`, certificate(name).certificatePEM),
    key: await put(`${name}-key.pem`, certificate(name).keyPEM),
  });
  const ca = await put('kube-ca.pem', certificate('kube-ca').certificatePEM);
  const proxyCa = await put('proxy-ca.pem', certificate('kube-apiserver-requestheader-ca').certificatePEM);
  const etcdPair = await pair('kube-etcd-198-51-100-11');
  const server = await pair('kube-apiserver');
  const proxy = await pair('kube-apiserver-proxy-client');
  const tokens = await pair('kube-service-account-token');
  const admin = certificate('kube-admin');
  const providerPath = join(folder, 'encryption.yaml');

  const [clientPort, peerPort, ...ports] = await freePorts(2 + apiservers);
  const etcdUrl = `https://127.0.0.1:${String(clientPort)}`;
  const etcdProcess = start(folder, 'etcd', await binary('etcd-'), [
    `--data-dir=${join(folder, 'data')}`,
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=http://127.0.0.1:${String(peerPort)}`,
    `--initial-advertise-peer-urls=http://127.0.0.1:${String(peerPort)}`,
    `--initial-cluster=default=http://127.0.0.1:${String(peerPort)}`,
    `--cert-file=${etcdPair.cert}`,
    `--key-file=${etcdPair.key}`,
    `--trusted-ca-file=${ca}`,
    '--client-cert-auth',
  ]);
  const apiserver = await binary('kube-apiserver-v1.34');
  const args = (port: number) => [
    `--secure-port=${port}`,
    '--bind-address=127.0.0.1',
    '--endpoint-reconciler-type=none',
    `--etcd-servers=${etcdUrl}`,
    `--etcd-cafile=${ca}`,
    `--etcd-certfile=${etcdPair.cert}`,
    `--etcd-keyfile=${etcdPair.key}`,
    `--client-ca-file=${ca}`,
    `--tls-cert-file=${server.cert}`,
    `--tls-private-key-file=${server.key}`,
    `--requestheader-client-ca-file=${proxyCa}`,
    '--requestheader-allowed-names=kube-apiserver-proxy-client',
    `--proxy-client-cert-file=${proxy.cert}`,
    `--proxy-client-key-file=${proxy.key}`,
    `--service-account-key-file=${tokens.key}`,
    `--service-account-signing-key-file=${tokens.key}`,
    '--service-account-issuer=rke',
    '--service-cluster-ip-range=10.43.0.0/16',
    '--authorization-mode=Node,RBAC',
    '--anonymous-auth=false',
    '--profiling=false',
    `--encryption-provider-config=${providerPath}`,
  ];

  const credentials = { ca: await readFile(ca, 'utf8'), cert: admin.certificatePEM, key: admin.keyPEM };
  const names = ports.map((_, index) => `cp-${index + 1}`);
  const dial = () => Promise.reject(new Error('no SSH on this bed'));
  const kube = createKubeApi({
    nodes: ports.map((port, index) => ({ name: names[index] ?? '', addresses: ['127.0.0.1'], port })),
    ...credentials,
    dial,
    report: { debug: () => undefined },
  });
  const etcd = createEtcd({
    endpoints: [etcdUrl],
    ca: credentials.ca,
    cert: await readFile(etcdPair.cert, 'utf8'),
    key: await readFile(etcdPair.key, 'utf8'),
    dial,
    node: 'cp-1',
  });
  let processes: ChildProcess[] = [];
  const pids: number[] = [];
  const load = async (text: string) => {
    await Promise.all(processes.map(end));
    await writeFile(providerPath, text, { mode: 0o600 });
    processes = ports.map((port, index) => start(folder, names[index] ?? '', apiserver, args(port)));
    pids.splice(0, pids.length, ...processes.flatMap((each) => each.pid ?? []));
    for (const node of names) {
      const seen = await waitReady({ kube, node, limit: 60_000, clock, signal: never });
      if (!seen.ready) throw new Error(`${node} is not ready: ${seen.failing.join(', ')}; see ${folder}`);
    }
  };
  const stop = async () => {
    etcd.close();
    await kube.close();
    await Promise.all(processes.map(end));
    await end(etcdProcess);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await load(providerFile);
  } catch (error) {
    await Promise.all([...processes, etcdProcess].map(end));
    throw error;
  }
  return {
    names,
    ports,
    credentials,
    kubeconfig: await put('kubeconfig', kubeconfigOf(ports[0] ?? 0, credentials)),
    kube,
    etcd,
    etcdUrl,
    pids,
    load,
    stop,
  };
}

/** A provider file for secrets (and configmaps) whose keys of one provider come in this order, identity last. */
export function providerFileOf(names: readonly string[], provider = 'aescbc'): string {
  const keys = names.map((name) => ({ name, secret: Buffer.alloc(32, name).toString('base64') }));
  return JSON.stringify({
    apiVersion: 'apiserver.config.k8s.io/v1',
    kind: 'EncryptionConfiguration',
    resources: [{ resources: ['secrets'], providers: [{ [provider]: { keys } }, { identity: {} }] }],
  });
}

/** Makes secrets of about `bytes` bytes, `count` of them, over ten namespaces. */
export async function makeSecrets(bed: Bed, count: number, bytes: number, first = 0): Promise<void> {
  const data = { value: Buffer.alloc(bytes, 'x').toString('base64') };
  const post = async (path: string, body: unknown) => {
    const { status } = await bed.kube.request(bed.names[0] ?? '', { method: 'POST', path, body }, never);
    if (status !== 201 && status !== 409) throw new Error(`POST ${path} answered ${status}`);
  };
  for (let index = 0; index < 10; index += 1) {
    const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: `bench-${index}` } };
    await post('/api/v1/namespaces', body);
  }
  let next = first;
  const worker = async () => {
    while (next < count) {
      const name = `s-${String(next).padStart(6, '0')}`;
      const namespace = `bench-${next % 10}`;
      next += 1;
      const body = { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace }, data };
      await post(`/api/v1/namespaces/${namespace}/secrets`, body);
    }
  };
  await Promise.all(Array.from({ length: 32 }, worker));
}

function start(folder: string, name: string, path: string, args: readonly string[]): ChildProcess {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const log = createWriteStream(join(folder, `${name}.log`), { flags: 'a' });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function binary(prefix: string): Promise<string> {
  const cache =
    process.env['TSRKE_LAB_CACHE'] ??
    join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'tsrke-lab');
  const found = (await readdir(cache).catch(() => [])).find((name) => name.startsWith(prefix));
  if (found === undefined)
    throw new Error(`no ${prefix}… in ${cache}: start the real lab once, it builds them`);
  return join(cache, found);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ports.push((server.address() as AddressInfo).port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function kubeconfigOf(port: number, { ca, cert, key }: Bed['credentials']): string {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const server = `https://127.0.0.1:${port}`;
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'bed', cluster: { server, 'certificate-authority-data': base64(ca) } }],
    users: [
      { name: 'admin', user: { 'client-certificate-data': base64(cert), 'client-key-data': base64(key) } },
    ],
    contexts: [{ name: 'bed', context: { cluster: 'bed', user: 'admin' } }],
    'current-context': 'bed',
  });
}
