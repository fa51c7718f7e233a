/** A node whose kube-apiserver does not come up with its new file: the run ends there, the node serves again. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, expect, it } from 'vitest';
import type { Lab, LabHost } from '../lab/lab.ts';
import { closeLabs, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const words = 'this node does not like its provider file';

afterAll(closeLabs);

const startedAt = async (host: LabHost) => (await host.inspect()).State.StartedAt;

const enabled = (text: string) =>
  text.replace('services:', 'services:\n  kube-api: {secrets_encryption_config: {enabled: true}}');

function keysIn(text: string | undefined): string[] {
  return [...(text ?? '').matchAll(/(name: \S+|identity)/g)].map(([match]) => match.replace('name: ', ''));
}

/** No secret of the state's key ring is in what was said, nor in what Docker tells of any container. */
async function expectNoKeys(lab: Lab, said: string): Promise<void> {
  const { tsrke } = JSON.parse(readFileSync(lab.state, 'utf8')) as {
    tsrke: { keyRing: { secret: string }[] };
  };
  expect(tsrke.keyRing.length).toBeGreaterThan(0);
  let all = said;
  for (const { docker } of lab.hosts) {
    for (const { Id } of await docker.listContainers({ all: true })) {
      all += JSON.stringify(await docker.getContainer(Id).inspect());
    }
  }
  for (const { secret } of tsrke.keyRing) {
    const bytes = Buffer.from(secret, 'base64');
    expect(bytes.length).toBeGreaterThanOrEqual(16);
    for (const form of [secret, bytes.toString('hex'), Buffer.from(secret).toString('base64')]) {
      expect(all.includes(form.replace(/=+$/, ''))).toBe(false);
    }
  }
}

it('stops at a node that does not come up, and goes on once the cause is gone', async () => {
  const lab = await openLab({ hosts: 3, encryption: 'off', secrets: 50 });
  try {
    const [h1, h2, h3] = lab.hosts;
    if (h1 === undefined || h2 === undefined || h3 === undefined) throw new Error('three hosts are needed');
    writeFileSync(lab.config, enabled(readFileSync(lab.config, 'utf8')));
    await h2.failStarts(words, ['none']);
    const before = await startedAt(h3);

    const failed = await lab.tsrke(['--debug', 'up']);
    expect(failed, failed.stderr).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr).toMatch(
      /^h2: .*it runs again with the file it had before \(APISERVER_NOT_READY\)/m,
    );
    expect(failed.stderr).toMatch(new RegExp(`^ {2}.*${words}`, 'm'));
    expect(failed.stderr).toMatch(/^next: /m);
    await expectNoKeys(lab, failed.stdout + failed.stderr);
    // h1 has the file, h2 serves without it, h3 was not touched.
    expect((await h1.inspect()).Args.join(' ')).toContain('--encryption-provider-config=');
    expect((await h2.inspect()).Args.join(' ')).not.toContain('--encryption-provider-config=');
    expect((await h2.inspect()).HostConfig.RestartPolicy?.Name).toBe('always');
    expect(await h2.readFile(providerFile)).toBeUndefined();
    expect(await startedAt(h3)).toBe(before);
    expect(await h3.readFile(providerFile)).toBeUndefined();
    await h3.reboot();
    await lab.ready();
    expect(new Set((await lab.etcd.prefixes()).values())).toEqual(new Set(['']));

    await h2.letStart();
    const ran = await lab.tsrke(['--debug', 'up']);
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(ran.stdout).toMatch(/^secrets are encrypted /);
    await expectNoKeys(lab, ran.stdout + ran.stderr);
    const stored = [...new Set((await lab.etcd.prefixes()).values())];
    expect(stored).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:/)]);
    for (const host of lab.hosts) {
      expect(await host.ownerAndMode(providerFile)).toBe('root root 600');
    }
    await lab.ready();
  } finally {
    await lab.close();
  }
});

it('falls back to what can read both keys where there is only one node', async () => {
  const lab = await openLab({ hosts: 1, encryption: 'off', secrets: 20 });
  try {
    const [host] = lab.hosts;
    if (host === undefined) throw new Error('no host');
    const keysOnNode = async () => keysIn(await host.readFile(providerFile));
    const stored = async () => [...new Set((await lab.etcd.prefixes()).values())].toSorted();
    const failsAndServes = async (args: string[], accepts: string): Promise<void> => {
      await host.failStarts(words, ['none', accepts]);
      const failed = await lab.tsrke(args);
      expect(failed, failed.stderr).toMatchObject({ code: 1, stdout: '' });
      expect(failed.stderr).toMatch(
        /^h1: .*it runs again with the file it had before \(APISERVER_NOT_READY\)/m,
      );
      expect(failed.stderr).toMatch(new RegExp(`^ {2}.*${words}`, 'm'));
      await host.reboot();
      await lab.ready();
      expect((await lab.kube(host, 'GET', '/api/v1/secrets')).status).toBe(200);
    };

    writeFileSync(lab.config, enabled(readFileSync(lab.config, 'utf8')));
    await failsAndServes(['up'], 'identity');
    const [identity, first = '', ...others] = await keysOnNode();
    expect([identity, others]).toEqual(['identity', []]);
    await host.letStart();
    const ran = await lab.tsrke(['up']);
    expect(ran.code, ran.stderr).toBe(0);
    expect(await keysOnNode()).toEqual([first, 'identity']);
    expect(await stored()).toEqual([`k8s:enc:aescbc:v1:${first}:`]);

    await failsAndServes(['encrypt', 'rotate-key'], first);
    const [old, second = '', last] = await keysOnNode();
    expect([old, last]).toEqual([first, 'identity']);
    await host.letStart();
    const rotated = await lab.tsrke(['encrypt', 'rotate-key']);
    expect(rotated.code, rotated.stderr).toBe(0);
    expect(await keysOnNode()).toEqual([second, 'identity']);
    expect(await stored()).toEqual([`k8s:enc:aescbc:v1:${second}:`]);
  } finally {
    await lab.close();
  }
});
