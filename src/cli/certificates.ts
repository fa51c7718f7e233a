/** `tsrke cert generate-csr`: requests for the certificates of the cluster, for a CA of the user's own. Offline. */
import { certDirOf, requestedIn, writeRequests } from '../certificates/cert-dir.ts';
import { certifiedClusterOf } from '../certificates/cluster.ts';
import { requestsFor } from '../certificates/request.ts';
import { loadConfig } from '../config/load.ts';
import { rkeConfigOf } from '../config/rke-config.ts';
import { counted } from '../words.ts';

export interface RequestFlags {
  readonly config: string;
  readonly certDir?: string;
  readonly ignoreUnknownKeys?: boolean;
}

/** Resolves to the sentence for the user. */
export async function generateRequests(flags: RequestFlags): Promise<string> {
  const { config: path, certDir, ignoreUnknownKeys } = flags;
  const dir = certDir ?? certDirOf(path);
  const config = loadConfig(path, { ignoreUnknownKeys: ignoreUnknownKeys === true });
  const cluster = certifiedClusterOf(rkeConfigOf(config), path);
  const made = await requestsFor(cluster, (name) => requestedIn(dir, name));
  if (made.length === 0) return `nothing to do: the requests in ${dir} are as cluster.yml wants them`;
  await writeRequests(dir, made);
  const keys = made.filter(({ key }) => key !== undefined).length;
  return `${counted(made.length, 'request')} and ${counted(keys, 'new key')} in ${dir}: ${made.map(({ name }) => name).join(', ')}`;
}
