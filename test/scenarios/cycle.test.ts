import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

afterAll(closeLabs);

const enabled = 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}';

interface Ring {
  readonly tsrke: {
    readonly keyRing: readonly {
      readonly name: string;
      readonly secret: string;
      readonly retired?: string;
    }[];
  };
}

async function storedUnder(lab: Lab): Promise<string[]> {
  return [...new Set((await lab.etcd.prefixes()).values())];
}

const ring = (lab: Lab) => (JSON.parse(readFileSync(lab.state, 'utf8')) as Ring).tsrke.keyRing;

/** Runs tsrke while clients read and write through every apiserver: they must see refused connections at worst. */
async function undisturbed(lab: Lab, ...args: string[]): Promise<string> {
  const clients = await lab.startClients();
  const ran = await lab.tsrke(args);
  const { hosts, bothDown } = await clients.stop();
  expect(ran.stderr + ran.stdout, `exit code ${ran.code ?? 'none'}`).not.toMatch(/next:/);
  expect(ran.code).toBe(0);
  expect(bothDown).toBe(0);
  for (const seen of Object.values(hosts)) {
    expect(seen.ok).toBeGreaterThan(0);
    expect(seen).toMatchObject({ decryption: 0, other: [] });
  }
  return ran.stdout;
}

async function starts(lab: Lab): Promise<string[]> {
  return await Promise.all(lab.hosts.map(async (host) => (await host.inspect()).State.StartedAt));
}

it('three nodes with 300 secrets: enabled, rotated, disabled and enabled again under the eyes of their clients', async () => {
  const lab = await openLab({ hosts: 3, encryption: 'off', secrets: 300 });
  try {
    const off = readFileSync(lab.config, 'utf8');
    writeFileSync(lab.config, off.replace('services:', enabled));
    expect(await storedUnder(lab)).toEqual(['']);

    await undisturbed(lab, 'up');
    const [first] = ring(lab);
    expect(Buffer.from(first?.secret ?? '', 'base64')).toHaveLength(32);
    expect(await storedUnder(lab)).toEqual([`k8s:enc:aescbc:v1:${first?.name ?? ''}:`]);
    expect(statSync(lab.state).mode & 0o777).toBe(0o600);
    const [host] = lab.hosts;
    if (host === undefined) throw new Error('no host');
    const copy = await lab.kube(host, 'GET', '/api/v1/namespaces/kube-system/secrets/full-cluster-state');
    expect(copy.text).toContain('full-cluster-state');

    const before = { starts: await starts(lab), state: readFileSync(lab.state, 'utf8') };
    expect(await undisturbed(lab, 'up')).toContain('nothing to do');
    expect({ starts: await starts(lab), state: readFileSync(lab.state, 'utf8') }).toEqual(before);

    expect(await undisturbed(lab, 'encrypt', 'rotate-key')).toContain('9 restarts');
    const [old, second] = ring(lab);
    expect(old).toMatchObject({ name: first?.name, retired: expect.any(String) as string });
    expect(await storedUnder(lab)).toEqual([`k8s:enc:aescbc:v1:${second?.name ?? ''}:`]);
    for (const each of lab.hosts) {
      const file = (await each.readFile('/etc/kubernetes/ssl/encryption.yaml')) ?? '';
      expect(file).toContain(second?.name);
      expect(file).not.toContain(first?.name);
    }

    // Without the block, which says the same as `enabled: false`.
    writeFileSync(lab.config, off);
    await undisturbed(lab, 'up');
    expect(await storedUnder(lab)).toEqual(['']);
    for (const each of lab.hosts) {
      expect(await each.readFile('/etc/kubernetes/ssl/encryption.yaml')).toBeUndefined();
      expect(JSON.stringify((await each.inspect()).Config)).not.toContain('encryption-provider-config');
    }
    expect(ring(lab).every((key) => key.retired !== undefined)).toBe(true);

    writeFileSync(lab.config, off.replace('services:', enabled));
    await undisturbed(lab, 'up');
    const third = ring(lab).find((key) => key.retired === undefined);
    expect(ring(lab)).toHaveLength(3);
    expect(await storedUnder(lab)).toEqual([`k8s:enc:aescbc:v1:${third?.name ?? ''}:`]);
  } finally {
    await lab.close();
  }
});
