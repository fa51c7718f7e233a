/** KMS v1, as RKE's documents have it for AWS: behind its feature gate, and without. */
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

test.each(['1.34', '1.37'] as const)(
  "RKE's AWS example works unchanged on %s with the gate for KMS v1, and can be left",
  async (version) => {
    const lab = await openLab({ hosts: 1, version, encryption: 'off', secrets: 20, kms: 'v1' });
    try {
      editKubeApi(lab, load(awsExample) as object);
      await up(lab);
      expect(await stored(lab)).toEqual(['k8s:enc:kms:v1:aws-encryption-provider:']);
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
