/** A KMS provider's name that is to stand for another plugin: one of the other API version, or one at another socket. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { providerPath } from '../../src/encryption/world.ts';
import { KmsPlugin } from '../../src/lab/kms-plugin.ts';
import { editKubeApi, kmsFolder, type Lab, type Ran } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, fewHosts, labName, openLab } from '../lab/open-lab.ts';

interface Provider {
  readonly apiVersion: 'v1' | 'v2';
  readonly name: string;
  /** The name of its file in kmsFolder; default `socket`. */
  readonly socket?: 'socket' | 'moved';
}

function ask(lab: Lab, { apiVersion, name, socket = 'socket' }: Provider): void {
  const kms = { apiVersion, name, endpoint: `unix://${kmsFolder}/${socket}.sock`, timeout: '3s' };
  editKubeApi(lab, {
    extra_binds: [`${kmsFolder}:${kmsFolder}`],
    secrets_encryption_config: {
      enabled: true,
      custom_config: { resources: [{ resources: ['secrets'], providers: [{ kms }, { identity: {} }] }] },
    },
  });
}

const stored = (lab: Lab) => storedPrefixes(lab.etcd);

/** Under the eyes of clients: none of them meets a value that its server cannot read. */
async function up(lab: Lab): Promise<Ran> {
  const clients = await lab.startClients();
  const ran = await lab.tsrke(['up']);
  const { hosts, bothDown } = await clients.stop();
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  for (const [name, seen] of Object.entries(hosts)) {
    expect(seen, name).toMatchObject({ decryption: 0, other: [] });
  }
  expect(bothDown).toBe(0);
  const again = await lab.tsrke(['up']);
  expect(again.stdout, again.stderr).toMatch(/^nothing to do/);
  return ran;
}

const starts = (lab: Lab) => Promise.all(lab.hosts.map((host) => host.apiserverStarts()));
const files = (lab: Lab) => Promise.all(lab.hosts.map((host) => host.readFile(providerPath)));

/** `up` says why not and what to do instead (exit code 3), and neither a file nor a kube-apiserver is touched. */
async function expectRefused(lab: Lab, why: string): Promise<void> {
  const before = [await files(lab), await starts(lab)];
  const { code, stderr } = await lab.tsrke(['up']);
  expect(code, stderr).toBe(3);
  expect(stderr).toContain(why);
  expect(stderr).toMatch(
    /^next: no provider file can hold both: give the .* a name of its own in cluster.yml/m,
  );
  expect([await files(lab), await starts(lab)]).toEqual(before);
}

/** The revision of each Secret that no client made: it moves with every write. */
async function revisions(lab: Lab): Promise<Record<string, string>> {
  const [host] = lab.hosts;
  if (host === undefined) throw new Error('no host');
  const { status, text } = await lab.kube(host, 'GET', '/api/v1/namespaces/default/secrets');
  expect(status, text).toBe(200);
  const { items } = JSON.parse(text) as { items: { metadata: { name: string; resourceVersion: string } }[] };
  const ours = items.filter(({ metadata }) => metadata.name.startsWith('secret-'));
  expect(ours).toHaveLength(20);
  return Object.fromEntries(ours.map(({ metadata }) => [metadata.name, metadata.resourceVersion]));
}

describe.each(labName === 'memory' ? [1, 3] : [fewHosts])('on %i host(s)', (hosts) => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await openLab({ hosts: hosts as 1 | 3, encryption: 'off', secrets: 20, kms: 'v1' });
    ask(lab, { apiVersion: 'v1', name: 'vault' });
    await up(lab);
  });
  afterAll(async () => {
    await lab.close();
    await closeLabs();
  });

  test('KMS v1 does not become v2 under the name it has', async () => {
    ask(lab, { apiVersion: 'v2', name: 'vault' });
    await expectRefused(lab, 'the name vault would stand for KMS v1 and v2');
    expect(await stored(lab)).toEqual(['k8s:enc:kms:v1:vault:']);
  });

  test('KMS v1 becomes v2 under a new name in one run, and not v1 again under that', async () => {
    ask(lab, { apiVersion: 'v2', name: 'vault-2' });
    await up(lab);
    expect(await stored(lab)).toEqual(['k8s:enc:kms:v2:vault-2:']);
    ask(lab, { apiVersion: 'v1', name: 'vault-2' });
    await expectRefused(lab, 'the name vault-2 would stand for KMS v1 and v2');
  });

  test('a name does not move to another socket whose plugins have other keys', async () => {
    const shared = lab.hosts.map(({ movedKms }) => movedKms.plugin);
    const others = new Map<string, Buffer>();
    for (const { movedKms } of lab.hosts) {
      movedKms.plugin = new KmsPlugin(others, 'kek-1');
      await movedKms.start();
    }
    ask(lab, { apiVersion: 'v2', name: 'vault-2', socket: 'moved' });
    await expectRefused(
      lab,
      "the KMS plugins at the two sockets of vault-2, old and new, do not decrypt each other's",
    );
    expect(await stored(lab)).toEqual(['k8s:enc:kms:v2:vault-2:']);
    for (const [i, plugin] of shared.entries()) {
      const moved = lab.hosts[i]?.movedKms;
      if (moved !== undefined) moved.plugin = plugin;
      await moved?.start();
    }
  });

  test('a name moves node by node to another socket whose plugins have the same keys, and nothing is rewritten', async () => {
    const before = { revisions: await revisions(lab), starts: await starts(lab) };
    ask(lab, { apiVersion: 'v2', name: 'vault-2', socket: 'moved' });
    const { stdout } = await up(lab);
    expect(stdout).toContain(`0 rewritten, ${hosts} restarts`);
    expect(await revisions(lab)).toEqual(before.revisions);
    expect(await starts(lab)).toEqual(before.starts.map((count) => count + 1));
    expect(await stored(lab)).toEqual(['k8s:enc:kms:v2:vault-2:']);
    for (const { kms } of lab.hosts) kms.stop();
    await Promise.all(lab.hosts.map((host) => host.reboot()));
    await lab.ready();
    expect(await revisions(lab)).toEqual(before.revisions);
  });
});
