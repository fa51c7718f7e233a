/** From each kind of encryption to each other, and what is peculiar to KMS names and wildcards, under clients' eyes. */
import { expect, test, describe } from 'vitest';
import type { Effect } from '../../src/lab/faults.ts';
import { KmsPlugin, type Vault } from '../../src/lab/kms-plugin.ts';
import { NoAnswer } from '../../src/lab/surface.ts';
import { astray, eight, wanted, type Wanted } from '../lab/wanted.ts';
import { inPart } from '../part.ts';
import { KmsLab } from './kms-lab.ts';

async function open(nodes: 1 | 3): Promise<KmsLab> {
  const lab = new KmsLab({ nodes, secrets: 3, startTime: 300 });
  await lab.put('POST', '/api/v1/namespaces/default/configmaps', {
    metadata: { name: 'settings' },
    data: {},
  });
  await lab.put('POST', '/apis/example.com/v1/namespaces/default/widgets', {
    ...{ apiVersion: 'example.com/v1', kind: 'Widget', metadata: { name: 'one' }, spec: {} },
  });
  return lab;
}

const objects = [
  '/api/v1/namespaces/default/secrets/secret-1',
  '/api/v1/namespaces/default/configmaps/settings',
  '/apis/example.com/v1/namespaces/default/widgets/one',
];

/** After each change, write an object through one apiserver and read it through all; each time the next, and another object. */
class Clients {
  readonly #lab: KmsLab;
  #turn = 0;
  /** Answers that are neither a success nor a server's that is not there. */
  readonly met: string[] = [];
  /** Requests that were answered. */
  answered = 0;

  constructor(lab: KmsLab) {
    this.#lab = lab;
  }

  act({ what, changes }: Effect): void {
    if (!changes) return;
    this.#turn += 1;
    const nodes = this.#lab.model.nodes.map(({ name }) => name);
    const path = objects[this.#turn % objects.length] ?? '';
    const change = { metadata: { labels: { turn: String(this.#turn) } } };
    this.#ask(nodes[this.#turn % nodes.length] ?? '', 'PATCH', path, what, change);
    for (const node of nodes) this.#ask(node, 'GET', path, what);
  }

  #ask(node: string, method: string, path: string, what: string, body?: object): void {
    const headers = { 'content-type': 'application/merge-patch+json', accept: 'application/json' };
    const bytes = Buffer.from(body === undefined ? '' : JSON.stringify(body));
    try {
      const { status, body: text } = this.#lab.model.ask(node, { method, path, headers, body: bytes });
      this.answered += 1;
      if (status !== 200) this.met.push(`${node} ${method} ${path} after ${what}: ${status} ${String(text)}`);
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
    }
  }
}

function want(lab: KmsLab, name: string): Wanted {
  const found = wanted[name];
  if (found === undefined) throw new Error(`nothing is called ${name}`);
  lab.wishes(JSON.stringify(found.block));
  return found;
}

/** Done, under clients' eyes, with everything where it belongs, and nothing left to do. */
async function up(lab: KmsLab, name: string): Promise<void> {
  const wants = want(lab, name);
  const clients = new Clients(lab);
  await lab.done('up', { onDone: (effect) => clients.act(effect) });
  expect(clients.met).toEqual([]);
  expect(clients.answered).toBeGreaterThan(0);
  expect(astray(stored(lab), wants)).toEqual([]);
  const again = await lab.done('up');
  expect(again.said).toMatch(/^nothing to do/);
}

function stored({ model }: KmsLab): [string, string][] {
  return model.store.range('/registry/', '/registry0').values.map(({ key, value }) => {
    const head = value.subarray(0, 300).toString('latin1');
    return [key, /^k8s:enc:[^:]+:v\d+:[^:]*:/.exec(head)?.[0] ?? ''];
  });
}

const names = Object.keys(eight);
const pairs = names.flatMap((a) => names.filter((b) => b !== a).map((b) => [a, b]));

describe.each([1, 3] as const)('on %i node(s)', (nodes) => {
  test.each(pairs.filter((_, index) => inPart(index + nodes)))('from %s to %s', async (a, b) => {
    const lab = await open(nodes);
    want(lab, a);
    // That nothing is lost on the way to `a` the other pairs show.
    await lab.done('up', { invariants: false });
    await up(lab, b);
  });

  test.each([
    { title: 'a resource leaves a KMS v2 entry', walk: ['KMS v2 for two resources', 'KMS v2'] },
    { title: 'a KMS v2 entry is split', walk: ['KMS v2 for two resources', 'a KMS name for each'] },
    { title: 'two KMS v2 entries become one', walk: ['a KMS name for each', 'KMS v2 for two resources'] },
    { title: 'a wildcard shrinks, and shrinks again', walk: ['everything', 'wildcard', 'aesgcm'] },
  ])('$title', async ({ walk }) => {
    const lab = await open(nodes);
    for (const name of walk) await up(lab, name);
  });

  test('a KMS name moves to another socket whose plugins have the same keys: node by node, without a rewrite', async () => {
    const lab = await open(nodes);
    await up(lab, 'KMS v2');
    for (const { name } of lab.model.nodes) lab.moved.set(name, new KmsPlugin(lab.vault, 'kek-1'));
    const rewritten: string[] = [];
    want(lab, 'KMS v2 elsewhere');
    await lab.done('up', { onDone: ({ what }) => what.startsWith('kube PATCH') && rewritten.push(what) });
    expect(rewritten).toEqual([]);
    await up(lab, 'KMS v2 elsewhere');
  });

  test('a KMS name cannot move to another socket whose plugins have other keys', async () => {
    const lab = await open(nodes);
    await up(lab, 'KMS v2');
    const others: Vault = new Map();
    for (const { name } of lab.model.nodes) lab.moved.set(name, new KmsPlugin(others, 'kek-1'));
    want(lab, 'KMS v2 elsewhere');
    const before = lab.restarts();
    const { error } = await lab.tsrke('up');
    expect(error).toMatchObject({
      code: 'KEY_CONFLICT',
      next: expect.stringContaining(
        'give the one at unix:///var/run/kmsplugin/moved.sock a name of its own',
      ) as string,
    });
    expect(lab.restarts()).toBe(before);
    expect(lab.store.state.tsrke.transition).toBeUndefined();
    await up(lab, 'KMS v2');
  });
});
