/** The main job, as on either lab: whatever differs between them is a bug of the memory lab. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

afterAll(closeLabs);

const enabled = 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}';
const providerFile = '/etc/kubernetes/ssl/encryption.yaml';

interface RingKey {
  readonly name: string;
  readonly secret: string;
  readonly retired?: string;
}

const ring = (lab: Lab) =>
  (JSON.parse(readFileSync(lab.state, 'utf8')) as { tsrke: { keyRing: readonly RingKey[] } }).tsrke.keyRing;

async function storedUnder(lab: Lab): Promise<string[]> {
  return [...new Set((await lab.etcd.prefixes()).values())];
}

/** Runs tsrke while clients read and write through every apiserver: they must see refused connections at worst. */
async function undisturbed(lab: Lab, ...args: string[]): Promise<string> {
  const clients = await lab.startClients();
  const ran = await lab.tsrke(args);
  const { hosts, bothDown } = await clients.stop();
  expect(ran.code, ran.stderr + ran.stdout).toBe(0);
  expect(bothDown).toBe(0);
  for (const seen of Object.values(hosts)) {
    expect(seen.ok).toBeGreaterThan(0);
    expect(seen).toMatchObject({ decryption: 0, other: [] });
  }
  return ran.stdout;
}

it('three nodes: enabled, rotated and disabled, and nobody notices', async () => {
  const lab = await openLab({ hosts: 3, encryption: 'off', secrets: 100 });
  try {
    const off = readFileSync(lab.config, 'utf8');
    expect(await storedUnder(lab)).toEqual(['']);
    expect(await undisturbed(lab, 'up')).toContain('nothing to do');

    writeFileSync(lab.config, off.replace('services:', enabled));
    await undisturbed(lab, 'up');
    const [first] = ring(lab);
    expect(await storedUnder(lab)).toEqual([`k8s:enc:aescbc:v1:${first?.name ?? ''}:`]);
    expect(statSync(lab.state).mode & 0o777).toBe(0o600);
    for (const host of lab.hosts) {
      expect(await host.ownerAndMode(providerFile)).toBe('root root 600');
      expect(await host.apiserverStarts()).toBe(2);
      expect(JSON.stringify((await host.inspect()).Config)).toContain('--encryption-provider-config=');
    }
    expect(await undisturbed(lab, 'up')).toContain('nothing to do');

    expect(await undisturbed(lab, 'encrypt', 'rotate-key')).toContain('9 restarts');
    const [old, second] = ring(lab);
    expect(old).toMatchObject({ name: first?.name, retired: expect.any(String) as string });
    expect(await storedUnder(lab)).toEqual([`k8s:enc:aescbc:v1:${second?.name ?? ''}:`]);
    for (const host of lab.hosts) {
      const file = (await host.readFile(providerFile)) ?? '';
      expect(file).toContain(second?.name);
      expect(file).not.toContain(first?.name);
      expect(await host.apiserverStarts()).toBe(5);
    }

    writeFileSync(lab.config, off);
    await undisturbed(lab, 'up');
    expect(await storedUnder(lab)).toEqual(['']);
    for (const host of lab.hosts) {
      expect(await host.readFile(providerFile)).toBeUndefined();
      expect(JSON.stringify((await host.inspect()).Config)).not.toContain('encryption-provider-config');
    }
    expect(ring(lab).every((key) => key.retired !== undefined)).toBe(true);
  } finally {
    await lab.close();
  }
});

it('cut off by SIGKILL in the middle, and with a host that reboots, the same command finishes a rotation', async () => {
  const lab = await openLab({ hosts: 3, encryption: 'on', secrets: 50 });
  try {
    const killed = await lab.tsrke(['encrypt', 'rotate-key'], { killWhen: /write with the wanted key/ });
    expect(killed.signal).toBe('SIGKILL');
    await lab.hosts[2]?.reboot();
    await lab.ready();
    await undisturbed(lab, 'encrypt', 'rotate-key');
    const open = ring(lab).filter((key) => key.retired === undefined);
    expect(open).toHaveLength(1);
    expect(ring(lab)).toHaveLength(2);
    expect(await storedUnder(lab)).toEqual([`k8s:enc:aescbc:v1:${open[0]?.name ?? ''}:`]);
  } finally {
    await lab.close();
  }
});

it('a host that is off the network stops the run before anything is touched', async () => {
  const lab = await openLab({ hosts: 3, encryption: 'on', secrets: 5 });
  try {
    await lab.hosts[1]?.unplug();
    const before = await lab.etcd.prefixes();
    const ran = await lab.tsrke(['encrypt', 'rotate-key']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/h2: .*\(NODE_UNREACHABLE\)/);
    await lab.hosts[1]?.plug();
    expect(await lab.etcd.prefixes()).toEqual(before);
    for (const host of lab.hosts) expect(await host.apiserverStarts()).toBe(0);
  } finally {
    await lab.close();
  }
});
