/** Certificates of a CA of the user's own: where they are, and `tsrke cert generate-csr`, which makes requests. Offline. */
import { certDirOf, requestedIn, writeRequests } from '../certificates/cert-dir.ts';
import { certifiedClusterOf } from '../certificates/cluster.ts';
import { requestsFor } from '../certificates/request.ts';
import { loadConfig } from '../config/load.ts';
import { TsrkeError } from '../errors.ts';
import { rkeConfigOf } from '../config/rke-config.ts';
import { counted } from '../words.ts';

export interface RequestFlags {
  readonly config: string;
  readonly certDir?: string;
  readonly ignoreUnknownKeys?: boolean;
}

/** Where `--custom-certs` takes them from; undefined: it was not asked for. Throws CONFIG_INVALID. */
export function certDirIn(flags: {
  readonly config: string;
  readonly certDir?: string;
  readonly customCerts?: boolean;
}): string | undefined {
  if (flags.customCerts === true) return flags.certDir ?? certDirOf(flags.config);
  if (flags.certDir === undefined) return undefined;
  throw new TsrkeError('CONFIG_INVALID', `--cert-dir ${flags.certDir} is not used without --custom-certs`, {
    next: 'give both to take the certificates in it, or neither. Nothing was touched',
  });
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
