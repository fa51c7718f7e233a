/** `tsrke cert generate-csr`: what it writes, what it keeps, and that a CA can make certificates of it. */
import { createPrivateKey } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { generateRequests } from '../../src/cli/certificates.ts';
import { leavesOf } from '../../src/certificates/cluster.ts';
import { readRequest, requestsFor, type Requested } from '../../src/certificates/request.ts';
import { elements, inside, oid } from '../../src/certificates/der.ts';
import { certificateIn, elementIn, fixtures, rkeBundle, rkeCluster } from './rke.ts';

const names = leavesOf(rkeCluster).map(({ name }) => name);
/** For clients, for servers (RFC 5280, 4.2.1.12). */
const purposes = ['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1'];

let dir = '';
const at = (name: string) => join(dir, name);
const config = () => at('cluster.yml');
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-certificates-'));
  writeFileSync(config(), readFileSync(join(fixtures, 'cluster.yml')));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** RKE's keys for names that have them: nothing is made that takes long. */
const withKeys = (name: string): Requested => ({
  request: undefined,
  key: elementIn(rkeBundle, name).keyPEM,
});
const noKey = { newKey: () => Promise.reject(new Error('no key is needed')) };

test('each request asks for what RKE’s certificate has: subject, names and usages, with the key beside it', async () => {
  const made = await requestsFor(rkeCluster, withKeys, noKey);
  expect(made.map(({ name }) => name)).toEqual(names);
  for (const { name, request, key } of made) {
    const certificate = certificateIn(rkeBundle, name);
    expect(key).toBeUndefined();
    const asked = readRequest(request);
    expect(asked?.names).toEqual(certificate.names);
    const own = certificate.x509.publicKey.export({ format: 'der', type: 'spki' });
    expect(asked?.publicKey.equals(own)).toBe(true);
    const [body] = elements(inside(derOf(request)));
    const [version, subject] = elements(body?.content ?? Buffer.alloc(0));
    expect(version?.content).toEqual(Buffer.from([0]));
    expect(subject?.whole.equals(certificate.subject)).toBe(true);
    const usages = purposes.filter((each) => derOf(request).includes(oid(each)));
    expect(usages).toEqual(purposes.filter((each) => certificate.x509.keyUsage.includes(each)));
  }
});

test('a request is kept while it asks for the right names, and is made again with the same key', async () => {
  const first = new Map(
    (await requestsFor(rkeCluster, withKeys, noKey)).map((each) => [each.name, each.request]),
  );
  const found = (name: string): Requested => ({ ...withKeys(name), request: first.get(name) });
  expect(await requestsFor(rkeCluster, found, noKey)).toEqual([]);

  const more = await requestsFor({ ...rkeCluster, sans: ['api.example.org'] }, found, noKey);
  expect(more).toMatchObject([{ name: 'kube-apiserver', key: undefined }]);
  expect(readRequest(more[0]?.request ?? '')?.names.dns).toContain('api.example.org');

  // A request of another key is of no use.
  const swapped = (name: string): Requested =>
    name === 'kube-scheduler' ? { ...found(name), key: withKeys('kube-proxy').key } : found(name);
  expect((await requestsFor(rkeCluster, swapped, noKey)).map(({ name }) => name)).toEqual(['kube-scheduler']);
});

test('the command writes keys and requests in mode 0600, and a second run changes none', async () => {
  const said = await generateRequests({ config: config() });
  expect(said).toBe(`10 requests and 10 new keys in ${at('cluster_certs')}: ${names.join(', ')}`);
  const files = readdirSync(at('cluster_certs'));
  expect(files.sort()).toEqual(names.flatMap((name) => [`${name}-csr.pem`, `${name}-key.pem`]).sort());
  const texts = files.map((file) => readFileSync(join(dir, 'cluster_certs', file), 'utf8'));
  for (const file of files) expect(statSync(join(dir, 'cluster_certs', file)).mode & 0o777).toBe(0o600);
  for (const name of names) {
    const key = createPrivateKey(readFileSync(join(dir, 'cluster_certs', `${name}-key.pem`)));
    expect(key.asymmetricKeyDetails?.modulusLength).toBe(2048);
  }
  expect(await generateRequests({ config: config() })).toMatch(/^nothing to do/);
  expect(files.map((file) => readFileSync(join(dir, 'cluster_certs', file), 'utf8'))).toEqual(texts);
});

test('a key that it cannot read is not replaced', async () => {
  const own = at('own');
  mkdirSync(own);
  for (const name of names) {
    writeFileSync(join(own, `${name}-key.pem`), elementIn(rkeBundle, name).keyPEM);
  }
  writeFileSync(join(own, 'kube-scheduler-key.pem'), 'hidden');
  const error: unknown = await generateRequests({ config: config(), certDir: own }).catch(
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ code: 'CERTIFICATES_INVALID' });
  expect(String(error)).not.toContain('hidden');
  expect(readdirSync(own).filter((file) => file.endsWith('-csr.pem'))).toEqual([]);
  expect(readFileSync(join(own, 'kube-scheduler-key.pem'), 'utf8')).toBe('hidden');
});

function derOf(pem: string): Buffer {
  return Buffer.from(pem.replace(/-----.*-----/g, ''), 'base64');
}
