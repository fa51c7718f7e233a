/** `tsrke util get-state-file` and `get-kubeconfig`: an operator's files, out of the state or out of the cluster itself. */
import { readFileSync } from 'node:fs';
import { bundleIn, type Bundle } from '../certificates/bundle.ts';
import { readCertificate } from '../certificates/certificate.ts';
import { adminKubeconfig } from '../certificates/kubeconfig.ts';
import { kubeconfigPathOf, loadConfig, type ClusterConfig, type LoadOptions } from '../config/load.ts';
import { localKeysOf, parseProviderFile } from '../encryption/configuration.ts';
import { keyId } from '../encryption/key.ts';
import { messageOf, TsrkeError } from '../errors.ts';
import { openTcp } from '../kube/connect.ts';
import type { Report } from '../ports.ts';
import { readState, replaceFile } from '../state/file.ts';
import { serialiseState, type ClusterState } from '../state/rkestate.ts';
import type { StateStore } from '../state/store.ts';
import { fetchState, type Fetched, type FetchOptions } from './fetch.ts';
import { securePort } from './links.ts';

export interface GetOptions extends LoadOptions {
  readonly configPath: string;
  readonly store: StateStore;
  readonly report: Report;
  readonly signal: AbortSignal;
  /** For tests. */
  readonly fetch?: (options: FetchOptions) => Promise<Fetched>;
  /** Whether something listens there, as seen from here. */
  readonly reaches?: (address: string, port: number) => Promise<boolean>;
}

/**
 * Writes the cluster's copy beside cluster.yml; the file that was there becomes `.backup`. Resolves to the sentence for
 * the user. Throws STATE_STALE where the copy is older than the file, WRONG_CLUSTER where it is another cluster's,
 * KEY_MISSING where neither it nor the node has the bytes of a key in use; and as `fetchState`.
 */
export async function getStateFile(options: GetOptions): Promise<string> {
  const { store, report } = options;
  const config = loadConfig(options.configPath, options);
  const unlock = store.lock(new Date());
  try {
    const local = localState(store, report);
    const fetched = await copyOfCluster(options, config, local);
    const next = chosen(local, fetched, store.where);
    if (next === undefined) return `nothing to do: ${store.where} is as new as the cluster’s copy`;
    await store.write(next);
    for (const text of warningsOf(next, fetched)) report.note('warning', text);
    const former = local === undefined ? '' : `; the one before it is ${store.where}.backup`;
    return `${store.where} is the cluster’s own copy, read through ${fetched.node.name}${former}`;
  } finally {
    unlock();
  }
}

/**
 * Writes the admin's kubeconfig as RKE does, for the first controlplane node that can be reached from here. Resolves to
 * the sentence for the user. Throws STATE_INVALID; where there is no state, as `fetchState`.
 */
export async function getKubeconfig(options: GetOptions): Promise<string> {
  const { store, report, reaches = answers } = options;
  const config = loadConfig(options.configPath, options);
  const local = store.read();
  if (local === undefined) report.note('info', `there is no state file ${store.where}: the cluster is asked`);
  const bundle = bundleOf(local ?? (await copyOfCluster(options, config, undefined)).state);
  const [ca, admin] = [bundle['kube-ca'], bundle['kube-admin']];
  if (ca === undefined || admin === undefined || admin.keyPEM === '') {
    throw new TsrkeError('STATE_INVALID', `${store.where} holds no certificate kube-admin`, {
      next: 'restore the state file of this cluster: `tsrke util get-state-file`',
    });
  }
  const path = kubeconfigPathOf(options.configPath);
  const address = await firstReached(config, reaches, report);
  const text = adminKubeconfig({
    ...{ clusterName: config.name, address, ca: ca.certificatePEM },
    ...{ cert: admin.certificatePEM, key: admin.keyPEM },
  });
  const former = readIfThere(path);
  if (former?.trimEnd() === text) return `nothing to do: ${path} is as it should be`;
  await writeKubeconfig(path, text);
  return `${path} leads to https://${address}:${securePort}${former === undefined ? '' : `; the one before it is ${path}.backup`}`;
}

async function copyOfCluster(
  { report, signal, fetch = fetchState }: GetOptions,
  config: ClusterConfig,
  local: ClusterState | undefined,
): Promise<Fetched> {
  return await report.task('read the cluster’s copy of its state', () =>
    fetch({
      ...{ config, hostKeys: local?.tsrke.hostKeys ?? {}, report, signal },
      known: local?.tsrke.keyRing.filter(({ secret }) => secret.isKey) ?? [],
    }),
  );
}

/**
 * A file that cannot be used is as good as none; it is kept as the backup, unless that would cost a backup that can be
 * used: it may have bytes of retired keys of which the copy has the names only. Throws STATE_INVALID.
 */
function localState(store: StateStore, report: Report): ClusterState | undefined {
  try {
    return store.read();
  } catch (error) {
    if (!(error instanceof TsrkeError) || error.code !== 'STATE_INVALID') throw error;
    if (hasUsableBackup(store)) throw error;
    report.note('warning', messageOf(error));
    return undefined;
  }
}

function hasUsableBackup({ where }: StateStore): boolean {
  try {
    return readState(`${where}.backup`) !== undefined;
  } catch {
    return false;
  }
}

/** What is to be written; undefined: the file that is there is as new. */
function chosen(
  local: ClusterState | undefined,
  { state: copy }: Fetched,
  where: string,
): ClusterState | undefined {
  needKeyBytes(copy);
  if (local === undefined) return copy;
  const [ours, theirs] = [local.tsrke, copy.tsrke];
  const sameLine = ours.serial > 0 && theirs.serial > 0 && ours.lineage === theirs.lineage;
  // Of one line, its CAs may have been rotated since.
  if (!sameLine && !sameCa(local, copy)) {
    throw new TsrkeError(
      'WRONG_CLUSTER',
      `${where} is the state of another cluster than cluster.yml leads to`,
      {
        next: 'see which of both is the wrong one; move the state file away to replace it all the same',
      },
    );
  }
  const known = new Set(keysOf(copy).map(keyId));
  const lacks = keysOf(local).filter((key) => !known.has(keyId(key)));
  if (sameLine && ours.serial >= theirs.serial) return undefined;
  // RKE's `encrypt rotate-key` leaves the copy as it was: the older key must not come back with it.
  if (!sameLine && lacks.length > 0) {
    throw new TsrkeError(
      'STATE_STALE',
      `the cluster’s copy lacks a key that ${where} has (${lacks.map(({ name }) => name).join(', ')}): the file is the newer one`,
      { next: 'keep it; move it away to replace it all the same' },
    );
  }
  // Rings are only ever merged by union.
  const ids = new Set(theirs.keyRing.map(keyId));
  const keyRing = [...theirs.keyRing, ...ours.keyRing.filter((key) => !ids.has(keyId(key)))];
  const block = theirs.serial === 0 && ours.serial > 0 ? ours : theirs;
  const merged = { ...copy, tsrke: { ...block, keyRing } };
  return serialiseState(merged) === serialiseState(local) ? undefined : merged;
}

/** A state with fingerprints for keys in use would have them deployed as keys. */
function needKeyBytes({ document, tsrke }: ClusterState): void {
  const halves = [document.currentState, document.desiredState];
  const texts = [
    ...halves.map((half) => half?.encryptionConfig),
    ...halves.map((half) => JSON.stringify(half?.rkeConfig?.['services'] ?? null)),
    ...[tsrke.transition?.target, tsrke.transition?.from],
  ];
  if (!texts.some((text) => /secret"?:\s*"?sha256:/.test(text ?? ''))) return;
  throw new TsrkeError(
    'KEY_MISSING',
    'the cluster’s copy of its state names a key in use, but does not carry it, nor does the node that was asked',
    {
      next: 'a change of encryption was under way when the state file was lost: bring the state file itself, or its .backup, from where `tsrke` ran; nothing was written',
    },
  );
}

function warningsOf({ tsrke }: ClusterState, { state, keys, node }: Fetched): string[] {
  const without = tsrke.keyRing.filter(({ secret }) => !secret.isKey).map(({ name }) => name);
  const known = new Set([...keysOf(state), ...tsrke.keyRing].map(keyId));
  const beyond = keys.filter((key) => !known.has(keyId(key))).map(({ name }) => name);
  return [
    ...(without.length === 0
      ? []
      : [
          `of retired keys it has the names only (${without.join(', ')}): snapshots of etcd that need them are lost without an older state file`,
        ]),
    ...(beyond.length === 0
      ? []
      : [
          `${node.name} has a key that it does not know (${beyond.join(', ')}), as after a rotation of RKE’s: \`tsrke up\` takes it up; \`rke up\` would bring the old one back`,
        ]),
  ];
}

function keysOf({ document }: ClusterState) {
  const text = document.currentState?.encryptionConfig ?? '';
  return text === ''
    ? []
    : localKeysOf(parseProviderFile(text, 'currentState')).filter(({ secret }) => secret.isKey);
}

function bundleOf({ document: { currentState, desiredState } }: ClusterState) {
  return bundleIn(currentState?.certificatesBundle ?? desiredState?.certificatesBundle ?? {});
}

function sameCa(a: ClusterState, b: ClusterState): boolean {
  const key = (state: ClusterState) =>
    readCertificate(bundleOf(state)['kube-ca']?.certificatePEM ?? '')?.x509.publicKey;
  const [ours, theirs] = [key(a), key(b)];
  return ours === undefined || theirs === undefined || ours.equals(theirs);
}

async function firstReached(
  config: ClusterConfig,
  reaches: (address: string, port: number) => Promise<boolean>,
  report: Report,
): Promise<string> {
  const addresses = config.nodes
    .filter(({ roles }) => roles.includes('controlplane'))
    .map(({ address }) => address);
  const [first] = addresses;
  if (first === undefined) throw new TsrkeError('CONFIG_INVALID', 'cluster.yml has no controlplane node');
  for (const address of addresses) if (await reaches(address, securePort)) return address;
  report.note(
    'warning',
    `port ${securePort} of no controlplane node can be reached from here; it leads to the first`,
  );
  return first;
}

async function answers(address: string, port: number): Promise<boolean> {
  try {
    (await openTcp(address, port, 2_000)).destroy();
    return true;
  } catch {
    return false;
  }
}

export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Throws STATE_WRITE, and then the file is as it was. */
export async function writeKubeconfig(path: string, text: string): Promise<void> {
  try {
    await replaceFile(path, text);
  } catch (cause) {
    throw new TsrkeError('STATE_WRITE', `the kubeconfig could not be written to ${path}`, { cause });
  }
}

/**
 * The one beside cluster.yml gets the certificates of this bundle and keeps the address that it leads to; one that is
 * none of RKE's making is left alone. Throws STATE_WRITE.
 */
export async function renewKubeconfig(path: string, bundle: Bundle, report: Report): Promise<void> {
  const config = bundle['kube-admin']?.config ?? '';
  const found = readIfThere(path);
  if (config === '' || found === undefined) return;
  const line = /^ *server: .*$/m;
  const wanted = config.replace(line, line.exec(found)?.[0] ?? '');
  if (found.trim() === wanted.trim()) return;
  const shape = (text: string) => text.trim().replace(/^( *\S+-data: ).*$/gm, '$1');
  if (shape(found) === shape(wanted)) await writeKubeconfig(path, wanted);
  else
    report.note(
      'warning',
      `${path} is not as RKE writes it and stays as it is: give it the new certificates`,
    );
}
