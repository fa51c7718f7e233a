/** Keys that a KMS plugin holds: into its hands, rotated there. Out of them: pairs.test.ts; while it is down: kms-down.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { providerPath } from '../../src/encryption/world.ts';
import { KmsPlugin } from '../../src/lab/kms-plugin.ts';
import { editKubeApi, kmsFolder, type Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

const kms = {
  apiVersion: 'v2',
  name: 'vault',
  endpoint: `unix://${kmsFolder}/socket.sock`,
  timeout: '3s',
};
const enabled = {
  extra_binds: [`${kmsFolder}/:${kmsFolder}/`],
  secrets_encryption_config: {
    enabled: true,
    custom_config: { resources: [{ resources: ['secrets'], providers: [{ kms }, { identity: {} }] }] },
  },
};

afterAll(closeLabs);

const stored = (lab: Lab) => storedPrefixes(lab.etcd);

/** Under the eyes of clients: none of them meets a value that its server cannot read. */
async function up(lab: Lab): Promise<void> {
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
}

describe.each([
  { version: '1.34', hosts: 3 },
  { version: '1.37', hosts: 1 },
] as const)('with kube-apiserver $version on $hosts host(s)', ({ version, hosts }) => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await openLab({ hosts, version, encryption: 'off', secrets: 60, kms: 'v2' });
  });
  afterAll(() => lab.close());

  const others = hosts === 1 ? [] : (['one host'] as const);
  test.each(others)('a plugin that has another key on %s is found before anything is touched', async () => {
    const nodes = () => Promise.all(lab.hosts.map((host) => host.inspect()));
    const before = await nodes();
    const kms3 = lab.hosts[2]?.kms;
    if (kms3 === undefined) throw new Error('no third host');
    const shared = kms3.plugin;
    kms3.plugin = new KmsPlugin(new Map(), 'kek-1');
    await kms3.start();
    editKubeApi(lab, enabled);
    const ran = await lab.tsrke(['up']);
    expect(ran.code, ran.stderr).toBe(1);
    expect(ran.stderr).toMatch(/^h3: the KMS plugin vault does not decrypt what the one on h[12] encrypts/m);
    expect(ran.stderr).toContain('no file was pushed');
    const started = (all: Awaited<ReturnType<typeof nodes>>) =>
      all.map(({ Id, State: { StartedAt } }) => [Id, StartedAt]);
    expect(started(await nodes())).toEqual(started(before));
    for (const host of lab.hosts) expect(await host.readFile(providerPath), host.name).toBeUndefined();
    expect(await stored(lab)).toEqual(['']);
    kms3.plugin = shared;
    await kms3.start();
  });

  test('encryption is enabled at once with a KMS plugin, whose socket comes in by extra_binds', async () => {
    editKubeApi(lab, enabled);
    await up(lab);
    expect(await stored(lab)).toEqual(['k8s:enc:kms:v2:vault:']);
  });

  test('rotate-key follows a key that the KMS has rotated, without a restart; then the old one can be destroyed', async () => {
    const starts = () => Promise.all(lab.hosts.map((host) => host.apiserverStarts()));
    const before = await starts();
    for (const host of lab.hosts) host.kms.plugin.rotate('kek-2');
    const planned = await lab.tsrke(['encrypt', 'rotate-key', '--dry-run']);
    expect(planned, planned.stderr).toMatchObject({ code: 2 });
    expect(planned.stdout).toContain('its key is kek-2 by now');
    expect(planned.stdout).toMatch(/^0 restarts, \d+ objects to rewrite/m);
    const clients = await lab.startClients();
    const ran = await lab.tsrke(['encrypt', 'rotate-key']);
    const met = await clients.stop();
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(ran.stdout).toContain('kek-2');
    for (const [name, seen] of Object.entries(met.hosts)) {
      expect(seen, name).toMatchObject({ decryption: 0, refused: 0, other: [] });
    }
    expect(await starts()).toEqual(before);
    const again = await lab.tsrke(['encrypt', 'rotate-key', '--dry-run']);
    expect(again, again.stderr).toMatchObject({ code: 0 });
    expect(again.stdout.replace(/\s+/g, ' ')).toContain('the key that the KMS plugin has (vault: kek-2)');
    for (const host of lab.hosts) host.kms.plugin.destroy('kek-1');
    for (const host of lab.hosts) await host.reboot();
    await lab.ready();
    const [first] = lab.hosts;
    if (first === undefined) throw new Error('no host');
    const { status } = await lab.kube(first, 'GET', '/api/v1/secrets');
    expect(status).toBe(200);
  });
});
