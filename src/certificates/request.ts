/** Requests for certificates of a CA that is not the cluster's own (`cert generate-csr`): which are kept, which made. */
import { createPublicKey } from 'node:crypto';
import { leavesOf, type CertifiedCluster, type Leaf } from './cluster.ts';
import { namesIn, readKey } from './certificate.ts';
import { elements, inside, oid } from './der.ts';
import { systemSource, type Source } from './issue.ts';
import { ids, keyPem, requestPem } from './x509.ts';

/** PEM texts of one certificate to be: its request and its key; undefined: there is none yet. */
export interface Requested {
  readonly request: string | undefined;
  readonly key: string | undefined;
}

/** What is to be written: the key only where it is new. */
export interface MadeRequest {
  readonly name: string;
  readonly request: string;
  readonly key: string | undefined;
}

/**
 * For every certificate that a CA signs, by RKE's rule: a request is kept while it asks for the right names with the
 * key beside it; a key that is there is never replaced. `found` must hold readable keys only.
 */
export async function requestsFor(
  cluster: CertifiedCluster,
  found: (name: string) => Requested,
  source: Pick<Source, 'newKey'> = systemSource,
): Promise<MadeRequest[]> {
  const wanted = leavesOf(cluster).filter((leaf) => !serves(leaf, found(leaf.name)));
  return await Promise.all(
    wanted.map(async ({ name, subject, usages, names }) => {
      const there = readKey(found(name).key ?? '');
      const privateKey = there ?? (await source.newKey(name));
      const request = requestPem({ subject, privateKey, usages, names });
      return { name, request, key: there === undefined ? keyPem(privateKey) : undefined };
    }),
  );
}

function serves({ names }: Leaf, { request, key }: Requested): boolean {
  const own = readKey(key ?? '');
  const asks = readRequest(request ?? '');
  if (own === undefined || asks === undefined) return false;
  const { dns, ip } = asks.names;
  const sameKey = createPublicKey(own).export({ format: 'der', type: 'spki' }).equals(asks.publicKey);
  return sameKey && dns.join() === names.dns.join() && ip.join() === names.ip.join();
}

/** The public key (SPKI) and the names that a request asks for; undefined: it is none. */
export function readRequest(
  pem: string,
): { readonly publicKey: Buffer; readonly names: Leaf['names'] } | undefined {
  const [, base64] = /-----BEGIN CERTIFICATE REQUEST-----([^-]*)-----END/.exec(pem) ?? [];
  if (base64 === undefined) return undefined;
  try {
    const [body] = elements(inside(Buffer.from(base64, 'base64')));
    const [, , publicKey, attributes] = elements(body?.content ?? Buffer.alloc(0));
    if (publicKey === undefined) return undefined;
    const asked = elements(attributes?.content ?? Buffer.alloc(0)).find(({ content }) =>
      elements(content)[0]?.whole.equals(oid(ids.extensionRequest)),
    );
    const list = asked === undefined ? undefined : elements(asked.content)[1]?.content;
    return { publicKey: publicKey.whole, names: namesIn(list) };
  } catch {
    return undefined;
  }
}
