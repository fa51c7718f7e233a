/** A first `tsrke up` whose images all lie in a registry of the user's own, which asks who they are. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { rkeConfigOf } from '../../src/config/rke-config.ts';
import { MemoryLab } from './memory-lab.ts';

const registry = 'registry.example';
const password = 'so secret';
const folder = mkdtempSync(join(tmpdir(), 'tsrke-registry-'));
afterAll(() => rmSync(folder, { recursive: true }));

function cluster(asked: string): MemoryLab {
  const config = join(folder, `cluster-${asked}.yml`);
  writeFileSync(
    config,
    `nodes:
- {address: 198.51.100.11, user: root, role: [controlplane, etcd, worker], hostname_override: h1}
network: {plugin: none}
dns: {provider: none}
monitoring: {provider: none}
ingress: {provider: none}
private_registries: [{url: ${registry}, user: puller, password: ${asked}, is_default: true}]
services: {kube-api: {secrets_encryption_config: {enabled: true}}}
`,
  );
  const lab = new MemoryLab({ nodes: 1, bare: true, encrypted: true, config });
  const { registry: images, logins } = lab.model.engine('h1');
  for (const image of Object.values(rkeConfigOf(loadConfig(config)).systemImages)) {
    images.add(image.startsWith(registry) ? image : `${registry}/${image}`);
  }
  logins.set(registry, { user: 'puller', password });
  return lab;
}

it('makes the cluster from it, and nothing comes from anywhere else', async () => {
  const lab = cluster(password);
  const { error, effects, notes } = await lab.up();
  expect(error, notes.join('\n')).toBeUndefined();
  const pulls = effects.log.filter(({ what }) => what.includes('/images/create'));
  expect(pulls.length).toBeGreaterThan(2);
  for (const { config } of lab.model.engine('h1').containers) {
    expect(config.Image).toMatch(/^registry\.example\/rancher\//);
  }
  expect(notes.join('\n')).not.toContain(password);
  expect((await lab.up()).said).toMatch(/^nothing to do/);
  expect((await lab.tsrke('rotate')).error).toBeUndefined();
});

it('says what is wrong with credentials that it does not take, before anything is made', async () => {
  const lab = cluster('other');
  const { error } = await lab.up();
  expect(error).toMatchObject({
    message: expect.stringMatching(
      /could not be pulled from registry\.example with its credentials/,
    ) as string,
    next: 'see that user and password of registry.example in private_registries are right, then run the same command again',
  });
  expect(error?.message).not.toContain('other');
  expect(lab.model.engine('h1').containers).toEqual([]);
});
