/** `plan`, dry runs and `up --plan`: nothing changes before it is approved, and then just that happens. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dump, load } from 'js-yaml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { PlanDocument } from '../../src/encryption/plan-document.ts';
import type { Lab } from '../lab/lab.ts';
import { closeLabs, fewHosts, openLab } from '../lab/open-lab.ts';

const providerFile = '/etc/kubernetes/ssl/encryption.yaml';
const leasePath = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/tsrke';

let opened: Lab | undefined;
let lab: Lab;

beforeAll(async () => {
  opened = lab = await openLab({ hosts: fewHosts, encryption: 'on', secrets: 20 });
});

afterAll(async () => {
  await opened?.close();
  await closeLabs();
});

/** All that a run could touch: state, its backup and lock, files, containers, values in etcd, the Lease. */
async function world() {
  const nodes = await Promise.all(
    lab.hosts.map(async (host) => {
      const { Id, State } = await host.inspect();
      return { id: Id, startedAt: State.StartedAt, file: await host.readFile(providerFile) };
    }),
  );
  const [host] = lab.hosts;
  const lease = host === undefined ? undefined : (await lab.kube(host, 'GET', leasePath)).text;
  const values = [...(await lab.etcd.prefixes()).keys()].map(async (key) => [
    key,
    (await lab.etcd.get(key))?.toString('hex'),
  ]);
  return {
    ...{ nodes, lease, values: (await Promise.all(values)).toSorted() },
    state: readFileSync(lab.state, 'utf8'),
    others: ['.lock', '.backup'].map((end) => existsSync(`${lab.state}${end}`)),
  };
}

async function planned(command: readonly string[], code: 0 | 2): Promise<PlanDocument> {
  const before = await world();
  const ran = await lab.tsrke([...command, '--output', 'json']);
  expect(ran.code, ran.stdout + ran.stderr).toBe(code);
  expect(ran.stderr).toBe('');
  expect(await world()).toEqual(before);
  for (const [, secret = ''] of before.state.matchAll(/secret: ?(\S+?)(?:\\n|")/g)) {
    expect(ran.stdout).not.toContain(secret);
  }
  return JSON.parse(ran.stdout) as PlanDocument;
}

it('as RKE left it there is nothing to do; a rotation would do this, and as planned it is done', async () => {
  expect(await planned(['plan'], 0)).toMatchObject({ somethingToDo: false, steps: [] });
  expect(await planned(['up', '--dry-run'], 0)).toMatchObject({ somethingToDo: false });

  const file = `${lab.dir}/plan.json`;
  const plan = await planned(['encrypt', 'rotate-key', '--dry-run', '--out', file], 2);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(plan);
  expect(plan).toMatchObject({ action: 'rotate', change: { kind: 'rotate' } });
  expect(plan.objects).toBe((await lab.etcd.prefixes()).size);

  const ran = await lab.tsrke(['up', '--plan', file]);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toContain(`${plan.restarts} restarts`);
  for (const host of lab.hosts) expect(await host.apiserverStarts()).toBe(plan.restarts / lab.hosts.length);

  const after = await world();
  const again = await lab.tsrke(['up', '--plan', file]);
  expect(again, again.stderr).toMatchObject({ code: 4, stdout: '' });
  expect(again.stderr).toMatch(/\(PLAN_STALE\)\nthe state is another: serial \d+, the plan is of 0\n/);
  expect(again.stderr).toMatch(/^secrets lay under aescbc:\S+, lie under aescbc:\S+$/m);
  // The lock that it had taken is given back; nothing else is different.
  expect({ ...(await world()), lease: '' }).toEqual({ ...after, lease: '' });

  expect(await planned(['plan'], 0)).toMatchObject({
    somethingToDo: false,
    steps: [],
    restarts: 0,
    objects: 0,
  });
});

it('what is left of a change that was cut off is planned, and done by up', async () => {
  const killed = await lab.tsrke(['encrypt', 'rotate-key'], { killWhen: /rewrite secrets/ });
  expect(killed.signal, killed.stderr).toBe('SIGKILL');
  const plan = await planned(['plan'], 2);
  expect(plan.note).toMatch(/^continuing the rotate of /);
  expect(plan.steps.map(({ line }) => line)).toEqual(['rewrite', 'prune']);
  expect(plan.restarts).toBe(lab.hosts.length);
  const ran = await lab.tsrke(['up']);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toContain(`${plan.restarts} restarts`);
  expect(await planned(['plan'], 0)).toMatchObject({ somethingToDo: false });
});

it('a disable is told step by step, for people too', async () => {
  const on = readFileSync(lab.config, 'utf8');
  const yaml = load(on) as { services: Record<string, unknown> };
  delete yaml.services['kube-api'];
  writeFileSync(lab.config, dump(yaml));
  const before = await world();
  const ran = await lab.tsrke(['plan']);
  expect(ran.code, ran.stderr).toBe(2);
  expect(ran.stdout).toMatch(/^tsrke up would do this\n {2}what {2}disable\n/);
  expect(ran.stdout).toMatch(/h1: recreate kube-apiserver, remove the provider file/);
  expect(ran.stdout).toMatch(/is retired; the state keeps it/);
  expect(ran.stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
  writeFileSync(lab.config, on);
  expect(await world()).toEqual(before);
});
