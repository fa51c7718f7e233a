/** The cluster's own copy of its state, read with nothing but SSH to a controlplane node: for an operator whose files are gone. */
import type { ClusterConfig, ConfigNode } from '../config/load.ts';
import { imageSources } from '../config/private-registries.ts';
import { caPath, certificatePath, keyPath } from '../certificates/paths.ts';
import { localKeysOf, parseProviderFile } from '../encryption/configuration.ts';
import type { Key } from '../encryption/key.ts';
import { providerPath, providerPathOf } from '../encryption/world.ts';
import { messageOf, TsrkeError } from '../errors.ts';
import { loadHostKeys, type HostKeyRecords } from '../hosts/host-keys.ts';
import { connectHosts, type Hosts } from '../hosts/ssh.ts';
import { createKubeApi } from '../kube/client.ts';
import { expectOk, parseJson, reasonOf } from '../kube/status.ts';
import type { KubeResponse, Report } from '../ports.ts';
import { copyName, parseState, type ClusterState } from '../state/rkestate.ts';
import { securePort } from './links.ts';

export interface FetchOptions {
  readonly config: ClusterConfig;
  /** As recorded in the state that there still is, and its keys. */
  readonly hostKeys: HostKeyRecords;
  readonly known: readonly Key[];
  readonly report: Report;
  readonly signal: AbortSignal;
}

export interface Fetched {
  readonly state: ClusterState;
  /** The node it came through, and the keys of its provider file. */
  readonly node: ConfigNode;
  readonly keys: readonly Key[];
}

/**
 * By the first controlplane node that can. Throws WRONG_CLUSTER, HOST_KEY_CHANGED, STATE_INVALID, STATE_MISSING where
 * the cluster has no copy, else the failures of all nodes.
 */
export async function fetchState(options: FetchOptions): Promise<Fetched> {
  const { config, report, signal } = options;
  const nodes = config.nodes.filter(({ roles }) => roles.includes('controlplane'));
  const hostKeys = loadHostKeys({ recorded: options.hostKeys });
  const { bastion, raw } = config;
  const hosts = connectHosts({ nodes, bastion, hostKeys, report, imageSource: imageSources(raw) });
  const failures: TsrkeError[] = [];
  try {
    for (const [index, node] of nodes.entries()) {
      try {
        await hosts.connect(node.name, signal);
        const keys = await keysOn(node, hosts, report, signal);
        const state = await readCopy(node, [...keys, ...options.known], hosts, report, signal);
        refuseOtherHost(state, hostKeys.seen());
        return { state, node, keys };
      } catch (error) {
        const another = ['NODE_UNREACHABLE', 'DOCKER', 'APISERVER_MISSING', 'KUBE'];
        if (!(error instanceof TsrkeError) || !another.includes(error.code)) throw error;
        if (index + 1 < nodes.length) report.note('warning', messageOf(error), node.name);
        failures.push(error);
      }
    }
  } finally {
    hosts.close();
  }
  const [only] = failures;
  if (only !== undefined && failures.length === 1) throw only;
  if (failures.length > 1) throw new AggregateError(failures);
  throw new TsrkeError('CONFIG_INVALID', 'cluster.yml has no controlplane node that could be asked');
}

/** RKE leaves the admin's certificate on no node; kube-node's is on each, and its group may read Secrets. */
async function readCopy(
  { name, address, internalAddress }: ConfigNode,
  keys: readonly Key[],
  hosts: Hosts,
  report: Report,
  signal: AbortSignal,
): Promise<ClusterState> {
  const pem = async (path: string) => {
    const found = await hosts.files.read(name, path, signal);
    if (found !== undefined) return found.text;
    throw new TsrkeError('APISERVER_MISSING', `has no ${path}: it is no node that RKE or tsrke made`, {
      node: name,
    });
  };
  const kube = createKubeApi({
    nodes: [{ name, addresses: [...new Set([address, internalAddress])], port: securePort }],
    ...{
      ca: await pem(caPath),
      cert: await pem(certificatePath('kube-node')),
      key: await pem(keyPath('kube-node')),
    },
    ...{ dial: hosts.dial, report },
  });
  try {
    const ask = async (kind: 'secrets' | 'configmaps') => {
      const path = `/api/v1/namespaces/kube-system/${kind}/${copyName}`;
      const answer = await kube.request(name, { method: 'GET', path }, signal);
      return answer.status === 404 ? undefined : dataIn(answer, name, `GET ${path}`);
    };
    const secret = await ask('secrets');
    // Before 1.6 RKE kept it in a ConfigMap, where it is not encoded.
    const text = secret === undefined ? await ask('configmaps') : Buffer.from(secret, 'base64').toString();
    if (text === undefined) {
      throw new TsrkeError(
        'STATE_MISSING',
        `the cluster holds no copy of its state (Secret kube-system/${copyName})`,
        {
          node: name,
          next: 'look for cluster.rkestate in the backups of the machine that ran `rke up`, and in snapshots of etcd',
        },
      );
    }
    return parseState(withKeyBytes(text, keys), `Secret kube-system/${copyName}`);
  } finally {
    await kube.close();
  }
}

function dataIn(answer: KubeResponse, node: string, what: string): string | undefined {
  if (answer.status === 403) {
    throw new TsrkeError('KUBE', `kube-node may not read the copy of the state: ${reasonOf(answer)}`, {
      node,
      next: `read Secret kube-system/${copyName} as an administrator of the cluster; its data is the state file`,
    });
  }
  const { data } = parseJson(expectOk(answer, node, what), node, what) as { data?: Record<string, string> };
  return data?.[copyName];
}

async function keysOn(
  node: ConfigNode,
  hosts: Hosts,
  report: Report,
  signal: AbortSignal,
): Promise<readonly Key[]> {
  const container = await hosts.runtime.apiserver(node.name, signal);
  if (container === undefined) {
    throw new TsrkeError('APISERVER_MISSING', 'runs no kube-apiserver', { node: node.name });
  }
  const path = providerPathOf(container.args) ?? providerPath;
  const file = await hosts.files.read(node.name, path, signal);
  if (file === undefined) return [];
  try {
    return localKeysOf(parseProviderFile(file.text, path));
  } catch (error) {
    if (!(error instanceof TsrkeError)) throw error;
    report.note('warning', messageOf(error), node.name);
    return [];
  }
}

/** While it is not stored encrypted, the copy has fingerprints in place of keys. */
function withKeyBytes(text: string, keys: readonly Key[]): string {
  return keys.reduce(
    (all, { secret }) => all.replaceAll(`sha256:${secret.fingerprint}`, secret.reveal()),
    text,
  );
}

/** Who stands between us and a node can show us any host key, but not the state that records another one. */
function refuseOtherHost({ tsrke }: ClusterState, seen: HostKeyRecords): void {
  for (const [host, key] of Object.entries(seen)) {
    const recorded = tsrke.hostKeys[host];
    if (recorded === undefined || [recorded].flat().includes(key as string)) continue;
    throw new TsrkeError(
      'HOST_KEY_CHANGED',
      `${host} shows another host key than the state that it gave records`,
      {
        next: 'find out what answers at this address; nothing was written',
      },
    );
  }
}
