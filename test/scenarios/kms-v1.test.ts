/** KMS v1, as RKE's documents have it for AWS: behind its feature gate, and without; rotated, and left. */
import { load } from 'js-yaml';
import { afterAll, expect, test } from 'vitest';
import { editKubeApi, type Lab } from '../lab/lab.ts';
import { storedPrefixes } from '../lab/lab-etcd.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

afterAll(closeLabs);

/** The custom AWS KMS example of RKE's documents: no apiVersion in the kms provider, so it is v1. */
const awsExample = `
extra_binds:
- "/var/run/kmsplugin/:/var/run/kmsplugin/"
secrets_encryption_config:
  enabled: true
  custom_config:
    apiVersion: apiserver.config.k8s.io/v1
    kind: EncryptionConfiguration
    resources:
    - resources:
      - secrets
      providers:
      - kms:
          name: aws-encryption-provider
          endpoint: unix:///var/run/kmsplugin/socket.sock
          cachesize: 1000
          timeout: 3s
      - identity: {}
`;

const stored = (lab: Lab) => storedPrefixes(lab.etcd);

async function up(lab: Lab): Promise<void> {
  const clients = await lab.startClients();
  const ran = await lab.tsrke(['up']);
  const { hosts } = await clients.stop();
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  for (const [name, seen] of Object.entries(hosts)) {
    expect(seen, name).toMatchObject({ decryption: 0, other: [] });
  }
  expect((await lab.tsrke(['up'])).stdout).toMatch(/^nothing to do/);
}

/** Of each Secret that no client made: its revision in etcd, which moves with each write, and its annotations. */
async function secretsOf(lab: Lab): Promise<Map<string, { revision: string; annotations: string[] }>> {
  const [host] = lab.hosts;
  if (host === undefined) throw new Error('no host');
  const { status, text } = await lab.kube(host, 'GET', '/api/v1/namespaces/default/secrets');
  expect(status, text).toBe(200);
  const { items } = JSON.parse(text) as {
    items: { metadata: { name: string; resourceVersion: string; annotations?: object } }[];
  };
  return new Map(
    items.map(({ metadata: { name, resourceVersion, annotations = {} } }) => [
      name,
      { revision: resourceVersion, annotations: Object.keys(annotations) },
    ]),
  );
}

/** The lab's plugin puts its key id in front of what it wraps, in clear. */
async function keksOf({ etcd }: Lab): Promise<string[]> {
  const values = await Promise.all([...(await etcd.prefixes()).keys()].map((key) => etcd.get(key)));
  return [...new Set(values.map((value) => /kek-\d+/.exec(String(value))?.[0] ?? 'none'))];
}

/** rotate-key: no key id tells what lies under the old key, so every object is really written again. */
async function rotate(lab: Lab): Promise<void> {
  const before = await secretsOf(lab);
  expect(await keksOf(lab)).toEqual(['kek-1']);
  const starts = await lab.hosts[0]?.apiserverStarts();
  for (const { kms } of lab.hosts) kms.plugin.rotate('kek-2');
  const clients = await lab.startClients();
  const ran = await lab.tsrke(['encrypt', 'rotate-key']);
  const { hosts } = await clients.stop();
  expect(ran, ran.stderr).toMatchObject({ code: 0 });
  for (const [name, seen] of Object.entries(hosts)) {
    expect(seen, name).toMatchObject({ decryption: 0, refused: 0, other: [] });
  }
  expect(await keksOf(lab)).toEqual(['kek-2']);
  const after = await secretsOf(lab);
  expect(before.size).toBeGreaterThanOrEqual(20);
  for (const [name, { revision }] of before) {
    expect(Number(after.get(name)?.revision), name).toBeGreaterThan(Number(revision));
    expect(after.get(name)?.annotations, name).toEqual([]);
  }
  expect(await lab.hosts[0]?.apiserverStarts()).toBe(starts);
  for (const { kms } of lab.hosts) kms.plugin.destroy('kek-1');
}

test.each(['1.34', '1.37'] as const)(
  "RKE's AWS example works unchanged on %s with the gate for KMS v1, can be rotated, and can be left",
  async (version) => {
    const lab = await openLab({ hosts: 1, version, encryption: 'off', secrets: 20, kms: 'v1' });
    try {
      editKubeApi(lab, load(awsExample) as object);
      await up(lab);
      expect(await stored(lab)).toEqual(['k8s:enc:kms:v1:aws-encryption-provider:']);
      await rotate(lab);
      editKubeApi(lab, { secrets_encryption_config: { enabled: true } });
      await up(lab);
      expect(await stored(lab)).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:k-\w+:$/)]);
    } finally {
      await lab.close();
    }
  },
);

test("RKE's AWS example is refused where the gate is closed, before anything is touched", async () => {
  const lab = await openLab({ hosts: 1, encryption: 'off', secrets: 20, kms: 'v2' });
  try {
    const before = await lab.hosts[0]?.inspect();
    editKubeApi(lab, load(awsExample) as object);
    const ran = await lab.tsrke(['up']);
    expect(ran.code, ran.stderr).toBe(3);
    expect(ran.stderr).toMatch(/Set --feature-gates=KMSv1=true .*\n?.*next: .*write `apiVersion: v2`/s);
    expect((await lab.hosts[0]?.inspect())?.Id).toBe(before?.Id);
    expect(await stored(lab)).toEqual(['']);
  } finally {
    await lab.close();
  }
});
