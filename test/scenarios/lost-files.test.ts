/** An operator whose files are gone gets them back with nothing but cluster.yml and her SSH key. */
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { load } from 'js-yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HttpAnswer } from '../../src/lab/surface.ts';
import type { Lab } from '../lab/lab.ts';
import { openMemoryLab } from '../lab/memory-lab.ts';
import { labOfFile } from '../lab/open-lab.ts';

const bed = labOfFile({ hosts: 3, encryption: 'off', secrets: 20 });

const enabled = 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}';
const kubeconfig = () => join(bed.lab.dir, 'kube_config_cluster.yml');
const backup = () => `${bed.lab.state}.backup`;
const text = (path: string) => readFileSync(path, 'utf8');

async function tsrke(...args: string[]): Promise<string> {
  const ran = await bed.lab.tsrke(args);
  expect(ran.code, ran.stderr + ran.stdout).toBe(0);
  return ran.stdout.trim();
}

function lose(): void {
  for (const path of [bed.lab.state, backup(), kubeconfig(), `${kubeconfig()}.backup`])
    rmSync(path, { force: true });
}

it('before tsrke has ever changed anything, the state that RKE left is brought back', async () => {
  const before = text(bed.lab.state);
  lose();
  expect(await tsrke('util', 'get-state-file')).toBe(
    'cluster.rkestate is the cluster’s own copy, read through h1',
  );
  expect(text(bed.lab.state)).toBe(before);
  expect(statSync(bed.lab.state).mode & 0o777).toBe(0o600);
  expect(existsSync(backup())).toBe(false);
});

it('an enable is cut off and the state lost: the key comes from the nodes, and the same command finishes', async () => {
  writeFileSync(bed.lab.config, bed.clusterYml.replace('services:', enabled));
  const cut = await bed.lab.tsrke(['up'], { killWhen: /h2 is ready/ });
  expect(cut.signal, cut.stdout + cut.stderr).toBe('SIGKILL');
  const before = text(bed.lab.state);
  lose();
  await tsrke('util', 'get-state-file');
  expect(ring(text(bed.lab.state))).toEqual(ring(before));
  expect(await tsrke('up')).toMatch(/^secrets are encrypted/);
  expect([...new Set((await bed.lab.etcd.prefixes()).values())]).toHaveLength(1);
});

it('with encryption on, the state comes back as it was, keys and all, and there is nothing to do', async () => {
  const before = text(bed.lab.state);
  lose();
  await tsrke('util', 'get-state-file');
  expect(text(bed.lab.state)).toBe(before);
  expect(await tsrke('util', 'get-state-file')).toBe(
    'nothing to do: cluster.rkestate is as new as the cluster’s copy',
  );
  expect(await tsrke('up')).toContain('nothing to do');
});

it('a state file that cannot be used is replaced, and kept as the backup', async () => {
  const before = text(bed.lab.state);
  writeFileSync(bed.lab.state, before.slice(0, 1000));
  expect(await tsrke('util', 'get-state-file')).toContain('the cluster’s own copy');
  expect(text(bed.lab.state)).toBe(before);
  expect(text(backup())).toBe(before.slice(0, 1000));
});

it('the kubeconfig comes from the state, and without one from the cluster; kube-apiserver takes it', async () => {
  rmSync(kubeconfig(), { force: true });
  expect(await tsrke('util', 'get-kubeconfig')).toMatch(
    /^kube_config_cluster\.yml leads to https:\/\/.*:6443$/,
  );
  const before = text(kubeconfig());
  const { users } = load(before) as { users: { user: Record<string, string> }[] };
  const { currentState } = JSON.parse(text(bed.lab.state)) as {
    currentState: { certificatesBundle: Record<string, { certificatePEM: string; keyPEM: string }> };
  };
  const admin = currentState.certificatesBundle['kube-admin'];
  const base64 = (pem = '') => Buffer.from(pem).toString('base64');
  expect(users[0]?.user).toEqual({
    'client-certificate-data': base64(admin?.certificatePEM),
    'client-key-data': base64(admin?.keyPEM),
  });
  expect(statSync(kubeconfig()).mode & 0o777).toBe(0o600);
  expect(await tsrke('util', 'get-kubeconfig')).toMatch(/^nothing to do/);

  lose();
  await tsrke('util', 'get-kubeconfig');
  expect(text(kubeconfig())).toBe(before);
  expect(existsSync(bed.lab.state)).toBe(false);
  await tsrke('util', 'get-state-file');
});

it('a node that is down is passed over', async () => {
  const aside = `${bed.lab.state}.aside`;
  renameSync(bed.lab.state, aside);
  await bed.host.unplug();
  try {
    expect(await tsrke('util', 'get-state-file')).toContain('read through h2');
  } finally {
    await bed.host.plug();
  }
  expect(text(bed.lab.state)).toBe(text(aside));
  rmSync(aside);
});

it('nothing that was said holds a key', async () => {
  lose();
  const said = await bed.lab.tsrke(['--debug', 'util', 'get-state-file', '--output', 'json']);
  expect(said.code, said.stderr).toBe(0);
  const secrets = ring(text(bed.lab.state)).map(({ secret }) => secret);
  expect(secrets).not.toEqual([]);
  for (const secret of secrets) expect(said.stdout + said.stderr).not.toContain(secret);
  expect(said.stdout + said.stderr).not.toMatch(/PRIVATE KEY/);
});

describe('a cluster whose copy is not where it should be', () => {
  let cluster: Lab;
  /** What is answered to a request for the copy, by the kind that is asked for; undefined: what there is. */
  let answers: Partial<Record<'secrets' | 'configmaps', HttpAnswer>> = {};
  const json = (status: number, body: unknown): HttpAnswer => ({
    ...{ status, headers: { 'content-type': 'application/json' } },
    body: Buffer.from(JSON.stringify(body)),
  });
  const status = (code: number, message: string) => json(code, { kind: 'Status', code, message });

  beforeAll(async () => {
    cluster = await openMemoryLab(
      { hosts: 1, encryption: 'off' },
      {
        through: (surface) => ({
          ...{ nodes: surface.nodes, etcd: surface.etcd },
          docker: (node, ask) => surface.docker(node, ask),
          kube: async (node, ask) => {
            const [, kind] = /\/(secrets|configmaps)\/full-cluster-state$/.exec(ask.path) ?? [];
            const prepared = kind === 'secrets' || kind === 'configmaps' ? answers[kind] : undefined;
            return prepared ?? (await surface.kube(node, ask));
          },
        }),
      },
    );
  });
  afterAll(() => cluster.close());

  const lost = async () => {
    rmSync(cluster.state, { force: true });
    return await cluster.tsrke(['util', 'get-state-file']);
  };

  it('in a ConfigMap, as before RKE 1.6', async () => {
    const before = text(cluster.state);
    answers = {
      secrets: status(404, 'not found'),
      configmaps: json(200, { data: { 'full-cluster-state': JSON.stringify(JSON.parse(before)) } }),
    };
    expect(await lost()).toMatchObject({ code: 0 });
    expect(text(cluster.state)).toBe(before);
  });

  it.each([
    [
      'nowhere',
      { secrets: status(404, 'not found'), configmaps: status(404, 'not found') },
      4,
      'STATE_MISSING',
    ],
    ['kube-node may not read it', { secrets: status(403, 'secrets is forbidden') }, 1, 'KUBE'],
    ['it cannot be decrypted', { secrets: status(500, 'no matching prefix found') }, 1, 'KUBE'],
    [
      'it was cut off',
      {
        secrets: json(200, { data: { 'full-cluster-state': Buffer.from('{"currentS').toString('base64') } }),
      },
      3,
      'STATE_INVALID',
    ],
  ] as const)('%s: said in one sentence, and nothing is written', async (_where, prepared, code, name) => {
    answers = prepared;
    const ran = await lost();
    expect(ran).toMatchObject({ code, stdout: '' });
    expect(ran.stderr).toMatch(new RegExp(`\\(${name}\\)$`, 'm'));
    expect(ran.stderr).not.toMatch(/^ {4}at /m);
    expect(existsSync(cluster.state)).toBe(false);
  });

  it('from a host that shows another key than this very state has for it: not believed', async () => {
    answers = {};
    expect(await lost()).toMatchObject({ code: 0 });
    const { nodes } = load(text(cluster.config)) as { nodes: { address: string; port?: number }[] };
    const hosts = nodes.map(({ address, port = 22 }) => [`${address}:${port}`, 'ssh-ed25519 AAAA']);
    const tsrke = { formatVersion: 1, serial: 1, lineage: 'one', keyRing: [], loaded: {} };
    const state = {
      ...(JSON.parse(text(cluster.state)) as object),
      tsrke: { ...tsrke, hostKeys: Object.fromEntries(hosts) as object },
    };
    const data = { 'full-cluster-state': Buffer.from(JSON.stringify(state)).toString('base64') };
    answers = { secrets: json(200, { data }) };
    const ran = await lost();
    expect(ran).toMatchObject({ code: 3, stdout: '' });
    expect(ran.stderr).toMatch(/another host key than the state that it gave records \(HOST_KEY_CHANGED\)$/m);
    expect(existsSync(cluster.state)).toBe(false);
  });

  it('a node that is none of RKE’s has no certificate to read it with', async () => {
    answers = {};
    await cluster.hosts[0]?.removeFile('/etc/kubernetes/ssl/kube-node-key.pem');
    const ran = await lost();
    expect(ran).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(/^h1: has no .*kube-node-key\.pem.*\(APISERVER_MISSING\)$/m);
  });
});

function ring(state: string): { name: string; secret: string }[] {
  const { tsrke } = JSON.parse(state) as { tsrke: { keyRing: { name: string; secret: string }[] } };
  return tsrke.keyRing.map(({ name, secret }) => ({ name, secret }));
}
