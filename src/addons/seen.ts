/** What lies in a cluster of addons: tsrke's own record, and what RKE has left. */
import { isMap } from '../config/keys.ts';
import { TsrkeError } from '../errors.ts';
import { parseManifests, type Manifest, type ObjectRef } from '../kube/manifest.ts';
import { askPatiently, type Server } from '../kube/patient.ts';
import { expectOk, parseJson } from '../kube/status.ts';
import { addonNames, type AddonName } from './addon.ts';
import { nodesGroup } from './rbac.ts';

/** What tsrke has applied of one addon. */
export interface Recorded {
  /** `hashOf`; empty: it was not finished. */
  readonly sha256: string;
  /** All that may be there of it. */
  readonly objects: readonly ObjectRef[];
}

export type AddonRecord = ReadonlyMap<AddonName, Recorded>;

export interface SeenAddons {
  readonly record: AddonRecord;
  /** RKE's ConfigMaps by name; undefined: its manifests cannot be read. */
  readonly ofRke: ReadonlyMap<string, readonly Manifest[] | undefined>;
  /** DaemonSets in kube-system. */
  readonly daemonSets: ReadonlySet<string>;
  /** What the addon `rbac` grants is granted. */
  readonly rbac: boolean;
}

/** A cluster that is yet to be made. Not for one that cannot be asked. */
export const nothingSeen: SeenAddons = {
  record: new Map(),
  ofRke: new Map(),
  daemonSets: new Set(),
  rbac: false,
};

/** Where RKE keeps what it has deployed, in kube-system; each has a key of its own name, and a job `NAME-deploy-job`. */
export const rkeConfigMaps: Readonly<Record<AddonName, readonly string[]>> = {
  rbac: [],
  network: ['rke-network-plugin'],
  dns: ['rke-coredns-addon', 'rke-kube-dns-addon'],
  nodelocal: ['rke-nodelocal-addon'],
  metrics: ['rke-metrics-addon'],
  ingress: ['rke-ingress-controller'],
  addons: ['rke-user-addon'],
  includes: ['rke-user-includes-addons'],
};

export const recordName = 'tsrke-addons';

/** Throws KUBE. */
export async function seeAddons(server: Server, signal: AbortSignal): Promise<SeenAddons> {
  const names = Object.values(rkeConfigMaps).flat();
  const [record, granted, daemonSets, ...texts] = await Promise.all([
    readRecord(server, signal),
    seeRbac(server, signal),
    seeDaemonSets(server, signal),
    ...names.map(async (name) => (await configMap(server, name, signal))?.[name]),
  ]);
  const found = names.flatMap((name, index) => {
    const text = texts[index];
    return text === undefined ? [] : [[name, readable(text, name)] as const];
  });
  return { record, ofRke: new Map(found), daemonSets, rbac: granted };
}

/** Throws KUBE. */
async function readRecord(server: Server, signal: AbortSignal): Promise<AddonRecord> {
  const data = (await configMap(server, recordName, signal)) ?? {};
  const entries = addonNames.flatMap((name) => {
    const recorded = recordedIn(data[name]);
    return recorded === undefined ? [] : [[name, recorded] as const];
  });
  return new Map(entries);
}

/** A record that somebody has spoilt is none: the addon is applied once more. */
function recordedIn(text: string | undefined): Recorded | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (!isMap(value) || typeof value['sha256'] !== 'string' || !Array.isArray(value['objects'])) {
      return undefined;
    }
    return value as unknown as Recorded;
  } catch {
    return undefined;
  }
}

function readable(text: string, name: string): readonly Manifest[] | undefined {
  try {
    return parseManifests(text, name);
  } catch (error) {
    if (error instanceof TsrkeError) return undefined;
    throw error;
  }
}

async function configMap(
  server: Server,
  name: string,
  signal: AbortSignal,
): Promise<Readonly<Record<string, string>> | undefined> {
  const path = `/api/v1/namespaces/kube-system/configmaps/${name}`;
  const found = (await get(server, path, signal)) as { data?: Record<string, string> } | undefined;
  return found === undefined ? undefined : (found.data ?? {});
}

async function seeDaemonSets(server: Server, signal: AbortSignal): Promise<Set<string>> {
  const found = (await get(
    server,
    '/apis/apps/v1/namespaces/kube-system/daemonsets',
    signal,
    'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
  )) as { items?: { metadata?: { name?: string } }[] | null } | undefined;
  return new Set((found?.items ?? []).map(({ metadata }) => metadata?.name ?? ''));
}

/** Kubernetes itself makes the binding `system:node`, of nobody. */
async function seeRbac(server: Server, signal: AbortSignal): Promise<boolean> {
  const api = '/apis/rbac.authorization.k8s.io/v1';
  const [nodes, role, binding] = await Promise.all(
    [
      'clusterrolebindings/system:node',
      'clusterroles/proxy-clusterrole-kubeapiserver',
      'clusterrolebindings/proxy-role-binding-kubernetes-master',
    ].map((name) => get(server, `${api}/${name}`, signal)),
  );
  const { subjects } = (nodes ?? {}) as { subjects?: { kind?: string; name?: string }[] | null };
  const bound = (subjects ?? []).some(
    ({ kind, name }) => kind === nodesGroup.kind && name === nodesGroup.name,
  );
  return bound && role !== undefined && binding !== undefined;
}

/** undefined: not there. */
async function get(
  server: Server,
  path: string,
  signal: AbortSignal,
  accept = 'application/json',
): Promise<unknown> {
  const answer = await askPatiently(server, { method: 'GET', path, accept }, signal);
  if (answer.status === 404) return undefined;
  return parseJson(expectOk(answer, server.node, `GET ${path}`), server.node, `GET ${path}`);
}
