/** `tsrke cert generate-csr`, a CA of the operator's own, `tsrke up --custom-certs`: the whole way, in the lab's model. */
import { generateKeyPairSync, createPublicKey, type KeyObject } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { generateRequests } from '../../src/cli/certificates.ts';
import { certifiedClusterOf, leavesOf } from '../../src/certificates/cluster.ts';
import { readCertificate } from '../../src/certificates/certificate.ts';
import { readRequest } from '../../src/certificates/request.ts';
import { certificatePem, keyPem, selfIssuer, type CertificateOptions } from '../../src/certificates/x509.ts';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import { TsrkeError } from '../../src/errors.ts';
import { Effects } from '../../src/lab/faults.ts';
import { labLink } from '../../src/lab/link.ts';
import { bundleFor } from '../../src/provision/planes.ts';
import { planUp } from '../../src/provision/plan-up.ts';
import { MemoryLab } from './memory-lab.ts';
import { silent } from './silent.ts';

const newKey = () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const caKey = newKey();
const caSubject = { commonName: 'Example Root', organisation: 'Example' };

let requests = '';
let dir = '';
beforeAll(async () => {
  requests = mkdtempSync(join(tmpdir(), 'tsrke-requests-'));
  await generateRequests({ config: config(bare()), certDir: requests });
});
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-own-ca-'));
  cpSync(requests, dir, { recursive: true });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));
afterAll(() => rmSync(requests, { recursive: true, force: true }));
const bare = () => new MemoryLab({ nodes: 3, bare: true, encrypted: true });
const at = (file: string) => join(dir, file);

/** As a CA does: with its own idea of when, and a name more than was asked for. */
function sign(configPath: string, more: Partial<CertificateOptions> = {}, key: KeyObject = caKey): void {
  const issuer = selfIssuer(caSubject, key);
  const made = (options: Pick<CertificateOptions, 'subject' | 'publicKey' | 'ca' | 'usages' | 'names'>) =>
    certificatePem({
      ...{ issuer, serial: 7n, notBefore: new Date('2024-06-01'), notAfter: new Date('2034-06-01') },
      ...options,
      ...(options.ca ? { notBefore: new Date('2020-01-01'), notAfter: new Date('2044-01-01') } : more),
    });
  const names = { dns: [], ip: [] };
  const ca = { subject: caSubject, publicKey: createPublicKey(key), ca: true, usages: [], names };
  writeFileSync(at('kube-ca.pem'), made(ca));
  for (const leaf of leavesOf(certifiedClusterOf(rkeConfigOf(loadConfig(configPath)), configPath))) {
    const request = readRequest(readFileSync(at(`${leaf.name}-csr.pem`), 'utf8'));
    if (request === undefined) throw new Error(`there is no request for ${leaf.name}`);
    const { dns, ip } = request.names;
    const publicKey = createPublicKey({ key: request.publicKey, format: 'der', type: 'spki' });
    const all = dns.length + ip.length === 0 ? request.names : { dns: [...dns, leaf.name], ip };
    const { subject, usages } = leaf;
    writeFileSync(at(`${leaf.name}.pem`), made({ subject, usages, publicKey, ca: false, names: all }));
  }
}

const config = (lab: MemoryLab) => (lab.enabled ? lab.configs.on : lab.configs.off);
const onDisk = (lab: MemoryLab, node: string, file: string) =>
  lab.model.host(node).read(`/etc/kubernetes/ssl/${file}`)?.bytes.toString();

async function made(lab: MemoryLab): Promise<void> {
  sign(config(lab));
  const { error, notes } = await lab.up({ certDir: dir });
  expect(error, notes.join('\n')).toBeUndefined();
}

it('a cluster on bare hosts has them from its first container on, encrypts, and has nothing to do then', async () => {
  const lab = bare();
  await made(lab);
  lab.create('one');
  expect(lab.problems()).toEqual([]);
  const { value } = lab.model.store.get('/registry/secrets/default/one') ?? {};
  expect(value?.toString('latin1')).toMatch(/^k8s:enc:aescbc:v1:/);
  for (const { name } of lab.model.nodes) {
    expect(readCertificate(onDisk(lab, name, 'kube-ca.pem') ?? '')?.x509.subject).toContain('Example Root');
    expect(onDisk(lab, name, 'kube-ca-key.pem')).toBeUndefined();
    const own = readFileSync(at('kube-apiserver.pem'), 'utf8');
    expect(onDisk(lab, name, 'kube-apiserver.pem')?.trim()).toBe(own.trim());
  }
  // With the flags and without: names in another order, and more of them, are no reason.
  expect((await lab.up()).said).toMatch(/^nothing to do/);
  expect((await lab.up({ certDir: dir })).said).toMatch(/^nothing to do/);
});

it('those of its own CA, issued again, come to a cluster that is there: nodes restart who reads them', async () => {
  const lab = bare();
  await made(lab);
  sign(config(lab), { notBefore: new Date('2024-07-01') });
  const before = onDisk(lab, 'cp-2', 'kube-apiserver.pem');
  const { id, startedAt } = lab.model.engine('cp-2').get('kube-scheduler');
  const { said, error } = await lab.up({ certDir: dir });
  expect(error).toBeUndefined();
  expect(said).toMatch(/^\d+ changes on 3 nodes/);
  expect(onDisk(lab, 'cp-2', 'kube-apiserver.pem')).not.toBe(before);
  const after = lab.model.engine('cp-2').get('kube-scheduler');
  expect(after.id).toBe(id);
  expect(after.startedAt).not.toBe(startedAt);
  expect((await lab.up()).said).toMatch(/^nothing to do/);
});

it('cut off, the next run goes on with them, with the flags or without', async () => {
  for (const certDir of [undefined, dir]) {
    const lab = bare();
    sign(config(lab));
    let met = false;
    const { said } = await lab.up({
      certDir: dir,
      faultOf: ({ what }) => {
        if (met || !/kube-apiserver\/start on cp-2/.test(what)) return undefined;
        met = true;
        return { kind: 'killed', when: 'before' };
      },
    });
    expect(said).toBeUndefined();
    await lab.settled();
    const { error } = await lab.up(certDir === undefined ? {} : { certDir });
    expect(error).toBeUndefined();
    expect(readCertificate(onDisk(lab, 'cp-1', 'kube-ca.pem') ?? '')?.x509.subject).toContain('Example Root');
  }
});

it('a certificate that only the CA can make is asked for, before anything is touched', async () => {
  const lab = bare();
  await made(lab);
  lab.configure('secrets_encryption_config: {enabled: false}', 'service_cluster_ip_range: 10.44.0.0/16');
  const { generation } = lab.model;
  const { error, effects } = await lab.up();
  expect(error).toMatchObject({ code: 'CERTIFICATES_INVALID', exitCode: 3 });
  expect(error?.message).toMatch(
    /^kube-apiserver, kube-etcd-.* must be issued, and the state has no key of kube-ca/,
  );
  expect((error as TsrkeError).details).toContain('kube-apiserver: it lacks 10.44.0.1');
  expect((error as TsrkeError).next).toMatch(/generate-csr.*--custom-certs/);
  expect(effects.log.filter(({ changes }) => changes)).toEqual([]);
  expect(lab.model.generation).toBe(generation);
});

it('one that ends soon stays, with a warning; one that has ended is asked for', async () => {
  const lab = bare();
  await made(lab);
  const rke = rkeConfigOf(loadConfig(config(lab)));
  const on = (day: string) =>
    bundleFor({ rke, configPath: config(lab), state: lab.store.state, now: new Date(day) });
  const { isNew, warnings } = await on('2034-05-20');
  expect(isNew).toBe(false);
  expect(warnings).toHaveLength(10);
  expect(warnings[0]).toMatch(/^certificate kube-apiserver: it ends on 2034-06-01, and only your own CA/);
  await expect(on('2034-06-02')).rejects.toMatchObject({ code: 'CERTIFICATES_INVALID' });
});

it('every mistake is named at once, and nothing is touched', async () => {
  const lab = bare();
  sign(config(lab), {}, newKey());
  const strange = readFileSync(at('kube-admin.pem'));
  sign(config(lab), { notAfter: new Date('2024-12-01') });
  const ended = readFileSync(at('kube-controller-manager.pem'));
  sign(config(lab));
  writeFileSync(at('kube-admin.pem'), strange);
  writeFileSync(at('kube-controller-manager.pem'), ended);
  rmSync(at('kube-scheduler.pem'));
  writeFileSync(at('kube-proxy-key.pem'), keyPem(newKey()));
  const { error, effects } = await lab.up({ certDir: dir });
  expect(error).toMatchObject({ code: 'CERTIFICATES_INVALID', exitCode: 3 });
  expect((error as TsrkeError).details).toEqual([
    'kube-controller-manager.pem ended on 2024-12-01',
    'kube-scheduler.pem is missing',
    'kube-proxy-key.pem is not the key of kube-proxy.pem',
    'kube-admin.pem is not signed by kube-ca.pem',
  ]);
  expect(effects.log).toEqual([]);
  expect(lab.store.read()).toBeUndefined();
});

it('a cluster that is there does not change its CA, and encryption is not touched before that is said', async () => {
  const lab = bare();
  expect((await lab.up()).error).toBeUndefined();
  sign(config(lab));
  lab.configure('secrets_encryption_config: {enabled: false}');
  const { error, effects } = await lab.up({ certDir: dir });
  expect(error).toMatchObject({ code: 'CERTIFICATES_INVALID' });
  expect(error?.message).toContain('another CA than the cluster’s');
  expect(effects.log).toEqual([]);
});

it('a plan shows what they would change, and keeps nothing', async () => {
  const lab = bare();
  await made(lab);
  sign(config(lab), { notBefore: new Date('2024-07-01') });
  const effects = new Effects({ clock: lab.clock });
  const { signal } = new AbortController();
  const plan = await planUp(
    { configPath: config(lab), certDir: dir, report: silent, signal },
    { store: lab.store.through(effects), link: labLink(lab.model, effects) },
  );
  expect(plan.somethingToDo).toBe(true);
  expect(JSON.stringify(plan.stages)).toContain('it has not read kube-controller-manager.pem');
  expect(effects.log.filter(({ changes }) => changes)).toEqual([]);
  expect(readdirSync(dir)).toContain('kube-ca.pem');
});
