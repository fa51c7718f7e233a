import { describe, expect, test } from 'vitest';
import { carryOutAddons } from '../../src/addons/carry-out.ts';
import { planAddons } from '../../src/addons/plan.ts';
import { seeAddons } from '../../src/addons/seen.ts';
import { wantedAddons } from '../../src/addons/wanted.ts';
import { rkeConfigOf, type RkeConfig } from '../../src/config/rke-config.ts';
import { TsrkeError } from '../../src/errors.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import type { Report } from '../../src/ports.ts';
import { FakeObjects, status } from '../kube/fake-objects.ts';
import { configOf, nodes } from '../services/inputs.ts';

const { signal } = new AbortController();
const bare =
  'network: {plugin: none}\ndns: {provider: none}\nmonitoring: {provider: none}\ningress: {provider: none}\n';
const flannel = bare.replace('plugin: none', 'plugin: flannel');
const recordPath = '/api/v1/namespaces/kube-system/configmaps/tsrke-addons';
const bindings = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings';

class Cluster {
  readonly kube = new FakeObjects();
  readonly told: string[] = [];
  #former: RkeConfig | undefined;

  constructor() {
    // As kube-apiserver itself makes it.
    this.kube.put(bindings, { metadata: { name: 'system:node' } });
  }

  /** What `up` does with addons. Resolves to the titles of its tasks. */
  async up(more: string): Promise<string[]> {
    const tasks: string[] = [];
    const report: Report = {
      note: (level, text) => this.told.push(`${level}: ${text}`),
      debug: () => undefined,
      task: (title, work) => {
        tasks.push(title);
        return work({ progress: () => undefined, done: () => undefined });
      },
    };
    const config = configOf(nodes + more);
    const rke = rkeConfigOf(config);
    const server = { kube: this.kube, node: 'cp-1', clock: new VirtualClock(), random: () => 0.5 };
    const seen = await seeAddons(server, signal);
    const plan = planAddons({ config, rke, wanted: wantedAddons(rke, []), seen, former: this.#former });
    await carryOutAddons({ server, plan, record: seen.record, timeout: 5, report, signal });
    this.#former = rke;
    return tasks;
  }

  /** RKE has brought it up with this cluster.yml. */
  rkeMade(more: string): void {
    this.#former = rkeConfigOf(configOf(nodes + more));
    const subjects = [{ kind: 'Group', name: 'system:nodes' }];
    this.kube.put(bindings, { metadata: { name: 'system:node' }, subjects });
    this.kube.put(bindings, { metadata: { name: 'proxy-role-binding-kubernetes-master' } });
    const role = { metadata: { name: 'proxy-clusterrole-kubeapiserver' } };
    this.kube.put('/apis/rbac.authorization.k8s.io/v1/clusterroles', role);
  }

  get record(): Record<string, string> {
    const data = (this.kube.get(recordPath)?.['data'] ?? {}) as Record<string, string>;
    return Object.fromEntries(
      Object.entries(data).map(([name, text]) => {
        const { sha256, objects } = JSON.parse(text) as { sha256: string; objects: { name: string }[] };
        return [name, `${sha256 === '' ? 'open' : 'done'}: ${objects.map((each) => each.name).join()}`];
      }),
    );
  }

  /** Names of the user's own objects. */
  get pods(): string[] {
    return this.kube.names.filter((name) => name.startsWith('secrets/'));
  }
}

const secrets = (...names: string[]) =>
  `addons: |-\n${names.map((name) => `  ---\n  {apiVersion: v1, kind: Secret, metadata: {name: ${name}}}\n`).join('')}`;

describe('addons', () => {
  test('are applied once, and a second run does nothing', async () => {
    const cluster = new Cluster();
    expect(await cluster.up(flannel + secrets('a'))).toEqual([
      'apply RBAC: 3 objects',
      'apply flannel: 5 objects',
      'apply `addons`: 1 object',
      'wait for the pods of addons',
    ]);
    expect(cluster.kube.names).toContain('daemonsets/kube-flannel');
    expect(cluster.record).toEqual({
      rbac: 'done: system:node,proxy-clusterrole-kubeapiserver,proxy-role-binding-kubernetes-master',
      network: 'done: flannel,flannel,flannel,kube-flannel-cfg,kube-flannel',
      addons: 'done: a',
    });
    cluster.kube.requests.length = 0;
    expect(await cluster.up(flannel + secrets('a'))).toEqual([]);
    expect(cluster.kube.requests.every(({ method }) => method === 'GET')).toBe(true);
  });

  test('whose pods do not run in time are warned of', async () => {
    const cluster = new Cluster();
    await cluster.up(flannel);
    expect(cluster.told).toEqual([
      expect.stringMatching(/^warning: DaemonSet kube-system\/kube-flannel: .* after 5 s$/),
    ]);
  });

  test('lose what is taken out of cluster.yml, namespaces excepted', async () => {
    const cluster = new Cluster();
    const web = '  ---\n  {apiVersion: v1, kind: Namespace, metadata: {name: web}}\n';
    await cluster.up(bare + secrets('a', 'b') + web);
    await cluster.up(bare + secrets('a'));
    expect(cluster.pods).toEqual(['secrets/a']);
    expect(cluster.kube.get('/api/v1/namespaces/web')).toBeDefined();
    expect(cluster.told.at(-1)).toMatch(/^info: Namespace web is no longer wanted and stays/);
    expect(await cluster.up(bare)).toEqual(['remove `addons`: 1 object']);
    expect(cluster.pods).toEqual([]);
    expect(Object.keys(cluster.record)).toEqual(['rbac']);
  });

  test('of the user that fail are a warning, and tried again', async () => {
    const cluster = new Cluster();
    cluster.kube.before = ({ method, path }) =>
      method === 'PATCH' && path.includes('/secrets/b?') ? status(403, 'Forbidden', 'not b') : undefined;
    await cluster.up(bare + secrets('a', 'b'));
    expect(cluster.told).toEqual([
      'warning: addons, document 2: Secret b could not be applied: not b (403); the next run tries again',
    ]);
    expect(cluster.record['addons']).toBe('open: a,b');
    cluster.kube.before = () => undefined;
    expect(await cluster.up(bare + secrets('a', 'b'))).toEqual(['apply `addons`: 2 objects']);
    expect(await cluster.up(bare + secrets('a', 'b'))).toEqual([]);
  });

  test('that the cluster needs fail the run', async () => {
    const cluster = new Cluster();
    cluster.kube.before = ({ method, path }) =>
      method === 'PATCH' && path.includes('/kube-flannel?') ? status(422, 'Invalid', 'no') : undefined;
    await expect(cluster.up(flannel + secrets('a'))).rejects.toThrow(
      'flannel: DaemonSet kube-system/kube-flannel could not be applied: no (422)',
    );
    expect(cluster.pods).toEqual([]);
  });

  test('that are cut off leave nothing behind that the record does not name', async () => {
    const cluster = new Cluster();
    await cluster.up(bare + secrets('a', 'b'));
    let left = 3;
    const changes = async () => {
      // The run ends at each of its changes in turn.
      for (let end = 0; end < 6; end += 1) {
        left = end;
        cluster.kube.before = ({ method }) =>
          method !== 'GET' && (left -= 1) < 0 ? new Error('cut off') : undefined;
        await cluster.up(bare + secrets('b', 'c')).catch((error: unknown) => {
          if (error instanceof TsrkeError) throw error;
        });
        const named = cluster.record['addons']?.replace(/^\w+: /, '').split(',') ?? [];
        for (const name of cluster.pods) expect(named).toContain(name.replace('secrets/', ''));
      }
    };
    await changes();
    cluster.kube.before = () => undefined;
    await cluster.up(bare + secrets('b', 'c'));
    expect(cluster.pods.toSorted()).toEqual(['secrets/b', 'secrets/c']);
  });
});

describe('a cluster that RKE has made', () => {
  const text = secrets('a', 'b').replace('addons: |-\n', '').replace(/^ {2}/gm, '');

  function made(): Cluster {
    const cluster = new Cluster();
    cluster.rkeMade(bare + secrets('a', 'b'));
    cluster.kube.configMap('rke-user-addon', { 'rke-user-addon': text });
    cluster.kube.put('/apis/batch/v1/namespaces/kube-system/jobs', {
      metadata: { name: 'rke-user-addon-deploy-job' },
    });
    for (const name of ['a', 'b'])
      cluster.kube.put('/api/v1/namespaces/default/secrets', { metadata: { name } });
    return cluster;
  }

  test('is not touched while nothing has changed', async () => {
    const cluster = made();
    expect(await cluster.up(bare + secrets('a', 'b'))).toEqual([]);
    expect(cluster.kube.requests.every(({ method }) => method === 'GET')).toBe(true);
  });

  test('hands over an addon that has changed, with what is no longer in it', async () => {
    const cluster = made();
    expect(await cluster.up(bare + secrets('b', 'c'))).toEqual(['apply `addons`: 2 objects, 1 to remove']);
    expect(cluster.pods.toSorted()).toEqual(['secrets/b', 'secrets/c']);
    expect(cluster.kube.names.filter((name) => name.includes('/rke-'))).toEqual([]);
    expect(cluster.record).toEqual({ addons: 'done: b,c' });
    expect(await cluster.up(bare + secrets('b', 'c'))).toEqual([]);
  });

  test('whose manifests cannot be read loses none of them', async () => {
    const cluster = made();
    cluster.kube.configMap('rke-user-addon', { 'rke-user-addon': 'a: [' });
    expect(await cluster.up(bare + secrets('b'))).toEqual(['apply `addons`: 1 object']);
    expect(cluster.pods.toSorted()).toEqual(['secrets/a', 'secrets/b']);
  });
});

test('a record that somebody has spoilt is none', async () => {
  const cluster = new Cluster();
  await cluster.up(bare + secrets('a'));
  cluster.kube.configMap('tsrke-addons', { addons: 'not json', rbac: '{"sha256": 1}' });
  expect(await cluster.up(bare + secrets('a'))).toEqual(['apply `addons`: 1 object']);
});
