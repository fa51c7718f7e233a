/** A whole cluster made on bare hosts of the memory lab, over its SSH, Docker, kube API and etcd. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Lab } from '../lab/lab.ts';
import { openMemoryLab } from '../lab/memory-lab.ts';

let opened: Lab | undefined;
let lab: Lab;

beforeAll(async () => {
  opened = lab = await openMemoryLab({
    ...{ bare: true, hosts: 3 },
    roles: [
      ['controlplane', 'etcd'],
      ['controlplane', 'etcd', 'worker'],
      ['etcd', 'worker'],
    ],
  });
});
afterAll(() => opened?.close());

describe('a cluster on bare hosts', () => {
  it('up makes it, with encryption from the first Secret on', async () => {
    const made = await lab.tsrke(['up']);
    expect(made.code, made.stderr).toBe(0);
    await lab.ready();
    const [host] = lab.hosts;
    if (host === undefined) throw new Error('the lab has no host');
    const { items } = JSON.parse((await lab.kube(host, 'GET', '/api/v1/nodes')).text) as {
      items: { metadata: { name: string }; status: { conditions: { status: string }[] } }[];
    };
    expect(items.map(({ metadata, status }) => [metadata.name, status.conditions[0]?.status])).toEqual([
      ['h1', 'True'],
      ['h2', 'True'],
      ['h3', 'True'],
    ]);
    await lab.createSecrets(5);
    const prefixes = new Set((await lab.etcd.prefixes()).values());
    expect([...prefixes].join()).toMatch(/^k8s:enc:aescbc:v1:k-\w+:$/);
  });

  it('the next up has nothing to do, and a rotation goes its usual way', async () => {
    expect((await lab.tsrke(['up'])).stdout).toMatch(/^nothing to do/);
    const { code, stdout, stderr } = await lab.tsrke(['encrypt', 'rotate-key']);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('6 restarts on 2 node(s)');
  });

  it('nothing of it is made anew where the state is lost', async () => {
    rmSync(lab.state);
    const { code } = await lab.tsrke(['up']);
    expect(code).toBe(4);
  });
});
