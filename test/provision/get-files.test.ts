/** Which of two states is kept, the file's or the cluster's copy; and where the kubeconfig leads to. */
import { createPrivateKey } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Secret } from '../../src/encryption/key.ts';
import type { TsrkeError } from '../../src/errors.ts';
import type { Fetched, FetchOptions } from '../../src/provision/fetch.ts';
import { getKubeconfig, getStateFile, type GetOptions } from '../../src/provision/get-files.ts';
import {
  parseState,
  serialiseState,
  serialiseWithoutKeys,
  type ClusterState,
} from '../../src/state/rkestate.ts';
import { fileStore } from '../../src/state/store.ts';
import { elementIn, fixtures, rkeBundle } from '../certificates/rke.ts';

const fixture = (name: string) => readFileSync(join(fixtures, name), 'utf8');
const stateOf = (name: string): ClusterState => parseState(fixture(name), name);
const rke = stateOf('enabled.rkestate');
const rotated = stateOf('rotated.rkestate');

/** As tsrke keeps it: a serial, and a key that retired. */
const old = {
  provider: 'aescbc',
  name: 'k-old',
  secret: new Secret(Buffer.alloc(32, 7).toString('base64')),
} as const;
const record = { ...old, created: '2026-01-01T00:00:00Z', retired: '2026-02-01T00:00:00Z', why: 'rotated' };
const ours = (serial: number, from: ClusterState = rke, lineage = 'one'): ClusterState => ({
  ...from,
  tsrke: { ...from.tsrke, serial, lineage, keyRing: [record] },
});

let dir = '';
let notes: string[] = [];
const config = () => join(dir, 'cluster.yml');
const state = () => join(dir, 'cluster.rkestate');
const kubeconfig = () => join(dir, 'kube_config_cluster.yml');

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsrke-get-files-'));
  notes = [];
  writeFileSync(config(), fixture('cluster.yml'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function options(copy: ClusterState, more: Partial<GetOptions> = {}): GetOptions {
  const [node] = [{ name: 'h1' } as Fetched['node']];
  return {
    configPath: config(),
    store: fileStore(state()),
    signal: new AbortController().signal,
    report: {
      note: (_level, text) => notes.push(text),
      debug: () => undefined,
      task: (_title, work) => work({ progress: () => undefined, done: () => undefined }),
    },
    fetch: () => Promise.resolve({ state: copy, node, keys: [] }),
    reaches: () => Promise.resolve(true),
    ...more,
  };
}

const put = (local: ClusterState) => writeFileSync(state(), serialiseState(local), { mode: 0o600 });
const now = () => readFileSync(state(), 'utf8');
const codeOf = async (work: Promise<unknown>) => {
  const error = await work.catch((thrown: unknown) => thrown as TsrkeError);
  return (error as TsrkeError).code;
};

describe('the state file', () => {
  test('that cannot be used does not take the place of a backup that can be', async () => {
    const backup = serialiseState(ours(4));
    writeFileSync(state(), '{');
    writeFileSync(`${state()}.backup`, backup);
    expect(await codeOf(getStateFile(options(ours(5))))).toBe('STATE_INVALID');
    expect([now(), readFileSync(`${state()}.backup`, 'utf8')]).toEqual(['{', backup]);
    writeFileSync(`${state()}.backup`, '{"truncated');
    await getStateFile(options(ours(5)));
    expect(parseState(now(), 'after').tsrke.serial).toBe(5);
    expect(readFileSync(`${state()}.backup`, 'utf8')).toBe('{');
  });

  test('of another run, newer: its copy comes here, the file stays as the backup, rings are united', async () => {
    const local = { ...ours(3), tsrke: { ...ours(3).tsrke, keyRing: [{ ...record, name: 'k-mine' }] } };
    put(local);
    await getStateFile(options(ours(5)));
    const after = parseState(now(), 'after');
    expect(after.tsrke.serial).toBe(5);
    expect(after.tsrke.keyRing.map(({ name, retired }) => [name, retired])).toEqual([
      ['k-old', record.retired],
      ['k-mine', record.retired],
    ]);
    expect(readFileSync(`${state()}.backup`, 'utf8')).toBe(serialiseState(local));
    expect(statSync(`${state()}.backup`).mode & 0o777).toBe(0o600);
  });

  test.each([5, 6])('of the same run, serial %i over 5: left as it is', async (serial) => {
    put(ours(serial));
    expect(await getStateFile(options(ours(5)))).toMatch(/^nothing to do/);
    expect(now()).toBe(serialiseState(ours(serial)));
  });

  test('after a rotation of RKE’s, which leaves the copy as it was: the older key does not come back', async () => {
    put(rotated);
    expect(await codeOf(getStateFile(options(rke)))).toBe('STATE_STALE');
    expect(now()).toBe(serialiseState(rotated));
  });

  test('that RKE has written over tsrke’s copy: RKE’s fields, and what tsrke alone knows', async () => {
    const renamed = structuredClone(rke.document) as { currentState: { rkeConfig: { clusterName: string } } };
    renamed.currentState.rkeConfig.clusterName = 'by-rke';
    put(ours(4));
    await getStateFile(options({ document: renamed, tsrke: rke.tsrke }));
    const after = parseState(now(), 'after');
    expect(after.document.currentState?.rkeConfig?.['clusterName']).toBe('by-rke');
    expect(after.tsrke).toMatchObject({ serial: 4, lineage: 'one', keyRing: [{ name: 'k-old' }] });
  });

  /** With another kube-ca. */
  function strange(): ClusterState {
    const document = structuredClone(rke.document) as {
      currentState: { certificatesBundle: Record<string, { certificatePEM: string }> };
    };
    const ca = document.currentState.certificatesBundle['kube-ca'];
    if (ca !== undefined)
      ca.certificatePEM = elementIn(rkeBundle, 'kube-apiserver-requestheader-ca').certificatePEM;
    return { ...rke, document };
  }

  test('of before new CAs came: replaced', async () => {
    put(ours(2, strange()));
    await getStateFile(options(ours(3)));
    expect(parseState(now(), 'after').tsrke.serial).toBe(3);
  });

  test('of another cluster: refused', async () => {
    put(strange());
    const before = now();
    expect(await codeOf(getStateFile(options(rke)))).toBe('WRONG_CLUSTER');
    expect(now()).toBe(before);
  });

  test('whose copy has a fingerprint for a key in use: refused, for it would be deployed as a key', async () => {
    const copy = parseState(serialiseWithoutKeys(ours(2)), 'copy');
    expect(await codeOf(getStateFile(options(copy)))).toBe('KEY_MISSING');
    expect(() => now()).toThrow();
  });

  test('whose copy has fingerprints of retired keys only: taken, and that is said', async () => {
    const off = ours(2, { ...rke, document: withoutEncryption() });
    await getStateFile(options(parseState(serialiseWithoutKeys(off), 'copy')));
    expect(notes).toEqual([expect.stringContaining('names only (k-old)')]);
  });

  test('a key that only the node has is said, with what RKE would do', async () => {
    const found = await options(rke).fetch?.({} as FetchOptions);
    if (found === undefined) throw new Error('nothing was fetched');
    await getStateFile(options(rke, { fetch: () => Promise.resolve({ ...found, keys: [old] }) }));
    expect(notes).toEqual([expect.stringContaining('has a key that it does not know (k-old)')]);
  });

  test('the keys and host keys of the file that is there are made use of', async () => {
    let asked: FetchOptions | undefined;
    const hostKeys = { '198.51.100.11:22': 'ssh-ed25519 AAAA' };
    put({ ...ours(1), tsrke: { ...ours(1).tsrke, hostKeys } });
    const fetch: GetOptions['fetch'] = (given) => {
      asked = given;
      return Promise.reject(new Error('enough'));
    };
    await expect(getStateFile(options(rke, { fetch }))).rejects.toThrow('enough');
    expect(asked?.hostKeys).toEqual(hostKeys);
    expect(asked?.known.map(({ name }) => name)).toEqual(['k-old']);
    // The lock on this machine is given back.
    await getStateFile(options(ours(2)));
  });
});

describe('the kubeconfig', () => {
  const never: GetOptions['fetch'] = () => Promise.reject(new Error('the cluster was asked'));

  test('is RKE’s, character by character', async () => {
    put(rke);
    const reaches = (address: string) => Promise.resolve(address === '198.51.100.13');
    await getKubeconfig(options(rke, { fetch: never, reaches }));
    expect(readFileSync(kubeconfig(), 'utf8')).toBe(fixture('kube_config_cluster.yml'));
    expect(statSync(kubeconfig()).mode & 0o777).toBe(0o600);
    expect(notes).toEqual([]);
  });

  test('leads to the first node where none can be reached from here, and says so', async () => {
    put(rke);
    const said = await getKubeconfig(options(rke, { fetch: never, reaches: () => Promise.resolve(false) }));
    expect(said).toBe(`${kubeconfig()} leads to https://198.51.100.11:6443`);
    expect(notes).toEqual([expect.stringContaining('of no controlplane node can be reached from here')]);
  });

  test('that is there stays as the backup; one that is as it should be is left alone', async () => {
    put(rke);
    writeFileSync(kubeconfig(), 'old');
    expect(await getKubeconfig(options(rke))).toContain('.backup');
    expect(readFileSync(`${kubeconfig()}.backup`, 'utf8')).toBe('old');
    expect(await getKubeconfig(options(rke))).toMatch(/^nothing to do/);
    expect(readFileSync(`${kubeconfig()}.backup`, 'utf8')).toBe('old');
  });

  test('comes from the cluster where there is no state, and no state is written', async () => {
    await getKubeconfig(options(rke));
    const key = Buffer.from(elementIn(rkeBundle, 'kube-admin').keyPEM).toString('base64');
    expect(readFileSync(kubeconfig(), 'utf8')).toContain(`client-key-data: ${key}`);
    expect(() => now()).toThrow();
    expect(createPrivateKey(Buffer.from(key, 'base64')).asymmetricKeyType).toBe('rsa');
  });

  test('of a state without the admin’s certificate: refused', async () => {
    put({ ...rke, document: { currentState: {} } });
    expect(await codeOf(getKubeconfig(options(rke)))).toBe('STATE_INVALID');
  });
});

function withoutEncryption(): ClusterState['document'] {
  const half = (part = rke.document.currentState) => {
    const { encryptionConfig: _text, ...rest } = structuredClone(part ?? {});
    return rest;
  };
  return { desiredState: half(rke.document.desiredState), currentState: half() };
}
