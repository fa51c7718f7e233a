/** A cluster from bare hosts to its end: made, enlarged, changed, upgraded, made smaller, removed. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dump, load } from 'js-yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Lab, LabHost, Role } from '../lab/lab.ts';
import { closeLabs, labName, openLab } from '../lab/open-lab.ts';
import { takesAll } from '../part.ts';

interface Yaml {
  nodes: { address: string; hostname_override: string; role: readonly Role[] }[];
  kubernetes_version: string;
  services: Record<string, { extra_args?: Record<string, string> }>;
}

const all: readonly Role[] = ['controlplane', 'etcd', 'worker'];
const newest = 'v1.30.5-rancher1-1';
const before = 'v1.30.4-rancher1-1';

let lab: Lab;
let h1: LabHost;
let h2: LabHost;
/** With all three hosts. */
let whole: Yaml;

beforeAll(async () => {
  lab = await openLab({ hosts: 3, bare: true });
  const [first, second, third] = lab.hosts;
  if (first === undefined || second === undefined || third === undefined) throw new Error('no three hosts');
  [h1, h2] = [first, second];
  whole = load(readFileSync(lab.config, 'utf8')) as Yaml;
});

afterAll(async () => {
  await lab.close();
  await closeLabs();
});

/** cluster.yml with these hosts and roles. */
function ask(
  roles: Readonly<Record<string, readonly Role[]>>,
  change: (yaml: Yaml) => void = () => undefined,
): void {
  const yaml = load(readFileSync(lab.config, 'utf8')) as Yaml;
  yaml.nodes = whole.nodes
    .filter(({ hostname_override: name }) => roles[name] !== undefined)
    .map((node) => ({ ...node, role: roles[node.hostname_override] ?? [] }));
  change(yaml);
  writeFileSync(lab.config, dump(yaml));
}

async function done(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.tsrke(args);
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

const containers = async (host: LabHost) =>
  (await host.docker.listContainers({ all: true })).map(({ Names }) => (Names[0] ?? '').slice(1)).sort();

async function nodes(): Promise<Record<string, { ready: boolean; version: string }>> {
  const { text } = await lab.kube(h1, 'GET', '/api/v1/nodes');
  const { items } = JSON.parse(text) as {
    items: {
      metadata: { name: string };
      status: { conditions: { type: string; status: string }[]; nodeInfo: { kubeletVersion: string } };
    }[];
  };
  return Object.fromEntries(
    items.map(({ metadata, status }) => [
      metadata.name,
      {
        ready: status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
        version: status.nodeInfo.kubeletVersion,
      },
    ]),
  );
}

/** While it is done clients use every kube-apiserver that there is: refused connections apart nothing may go wrong. */
async function undisturbed(work: () => Promise<void>): Promise<void> {
  const clients = await lab.startClients();
  try {
    await work();
  } finally {
    const { hosts } = await clients.stop();
    for (const [name, { decryption, other }] of Object.entries(hosts)) {
      expect({ name, decryption, other }).toEqual({ name, decryption: 0, other: [] });
    }
  }
}

/** Keys under which Secrets lie; '' for one in the clear. */
const storedUnder = async () => [...new Set((await lab.etcd.prefixes()).values())];

it('two bare hosts become a cluster whose secrets are encrypted from the first one on', async () => {
  ask({ h1: all, h2: ['worker'] }, (yaml) => (yaml.kubernetes_version = before));
  const plan = await lab.tsrke(['plan']);
  expect(plan.code, plan.stderr).toBe(2);
  expect(plan.stdout).toContain('h1: create kube-apiserver');
  expect(existsSync(lab.state)).toBe(false);
  expect(await containers(h1)).toEqual([]);

  expect(await done('up')).toMatch(
    /^cluster \S+ is there: 2 nodes; secrets are encrypted \(secrets: aescbc:/,
  );
  expect(await storedUnder()).toEqual([expect.stringMatching(/^k8s:enc:aescbc:v1:/)]);
  expect(Object.keys(await nodes()).sort()).toEqual(['h1', 'h2']);
  expect(await containers(h2)).toEqual(['kube-proxy', 'kubelet', 'nginx-proxy', 'service-sidekick']);
  expect(await done('up')).toMatch(/^nothing to do/);
  expect((await lab.tsrke(['plan'])).code).toBe(0);
  for (let index = 1; index <= 20; index += 1) {
    const secret = {
      metadata: { name: `early-${index}` },
      stringData: { value: 'of before the others came' },
    };
    expect((await lab.kube(h1, 'POST', '/api/v1/namespaces/default/secrets', secret)).status).toBe(201);
  }
});

it('a worker becomes controlplane and etcd, a new host comes with both, and the key rotates', async () => {
  ask({ h1: all, h2: all, h3: all });
  await undisturbed(async () => {
    expect((await lab.tsrke(['plan'])).stdout).toContain('h3: join etcd');
    await done('up');
    await lab.ready();
    await done('encrypt', 'rotate-key');
  });
  expect(await containers(h2)).toEqual(await containers(h1));
  expect(await storedUnder()).toHaveLength(1);
  expect(await done('up')).toMatch(/^nothing to do/);
});

it('a changed argument and a newer patch version reach every node, one after the other', async () => {
  ask({ h1: all, h2: all, h3: all }, (yaml) => {
    yaml.kubernetes_version = newest;
    yaml.services['kubelet'] = { extra_args: { v: '3' } };
  });
  await undisturbed(async () => {
    await done('up');
    await done('encrypt', 'rotate-key');
  });
  for (const host of lab.hosts) {
    const { Config } = await host.inspect('kubelet');
    expect(Config.Image).toContain('v1.30.5');
    expect([Config.Entrypoint ?? []].flat()).toContain('--v=3');
  }
  expect(await done('up')).toMatch(/^nothing to do/);
});

it('certificates rotate, the CA stays, and the key rotates right after', async () => {
  const certificate = async () => await h2.readFile('/etc/kubernetes/ssl/kube-apiserver.pem');
  const ca = await h2.readFile('/etc/kubernetes/ssl/kube-ca.pem');
  const old = await certificate();
  await undisturbed(async () => {
    expect(await done('cert', 'rotate')).toMatch(/certificates are new/);
    await done('encrypt', 'rotate-key');
  });
  expect(await certificate()).not.toBe(old);
  expect(await h2.readFile('/etc/kubernetes/ssl/kube-ca.pem')).toBe(ca);
  expect(await done('up')).toMatch(/^nothing to do/);
});

// Real hosts take five minutes for it.
const replaces = labName === 'memory' || takesAll;
it.runIf(replaces)(
  'a dead node is replaced: taken out while nobody reaches it, and in again with a new disk',
  async () => {
    await undisturbed(async () => {
      await h2.die();
      const stuck = await lab.tsrke(['up']);
      expect(stuck.code, stuck.stdout).toBe(1);
      expect(stuck.stderr).toMatch(/^h2: /m);
      ask({ h1: all, h3: all });
      // Its kube-apiserver could be alive and serve others: its Lease has to end.
      await expect
        .poll(async () => (await lab.tsrke(['up'])).code, { timeout: 180_000, interval: 5_000 })
        .toBe(0);
      await h2.reinstall();
      await h2.plug();
      ask({ h1: all, h2: all, h3: all });
      await done('up');
      await done('encrypt', 'rotate-key');
    });
    expect(await containers(h2)).toEqual(await containers(h1));
    expect(await storedUnder()).toHaveLength(1);
    expect(await done('up')).toMatch(/^nothing to do/);
  },
);

it('a node that is taken out leaves etcd and Kubernetes, and its host is empty', async () => {
  ask({ h1: all, h3: all });
  expect((await lab.tsrke(['plan'])).stdout).toContain('h2: leave etcd');
  await undisturbed(async () => {
    await done('up');
    await done('encrypt', 'rotate-key');
  });
  expect(Object.keys(await nodes()).sort()).toEqual(['h1', 'h3']);
  expect(await containers(h2)).toEqual([]);
  expect(await h2.list('/etc/kubernetes')).toEqual([]);
  expect(await done('up')).toMatch(/^nothing to do/);
});

it('in the end the cluster is removed: its hosts are empty, and the state is kept for its snapshots', async () => {
  expect((await lab.tsrke(['remove'])).code).toBe(3);
  expect(await done('remove', '--force')).toContain('removed');
  for (const host of lab.hosts) {
    expect(await containers(host)).toEqual([]);
    for (const folder of ['/etc/kubernetes', '/var/lib/etcd']) expect(await host.list(folder)).toEqual([]);
  }
  expect(existsSync(lab.state)).toBe(false);
  expect(existsSync(`${lab.state}.removed`)).toBe(true);
});
