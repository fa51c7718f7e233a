/** The lines of src/lab/README.md, one after the other. */
import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, it, test } from 'vitest';
import { managedFile, renderProviderFile } from '../../src/encryption/configuration.ts';
import { Secret } from '../../src/encryption/key.ts';
import { providerFlag, providerPath } from '../../src/encryption/world.ts';
import { discover } from '../../src/kube/discover.ts';
import { endpointAddresses, identityLeases } from '../../src/kube/members.ts';
import { loadedHashOf, metricsOf } from '../../src/kube/metrics.ts';
import { readiness, serverVersion } from '../../src/kube/ready.ts';
import { VirtualClock } from '../../src/lab/clock.ts';
import { LabModel, type ModelOptions } from '../../src/lab/model.ts';
import type { KubeApi } from '../../src/ports.ts';
import type { Links } from '../../src/provision/links.ts';
import { linksInto } from './lab-links.ts';

const nodes = [1, 2, 3].map((i) => ({ name: `cp-${i}`, address: `198.51.100.${10 + i}` }));
const signal = new AbortController().signal;
const fileOf = (name: string, fill: number): string => {
  const secret = new Secret(Buffer.alloc(32, fill).toString('base64'));
  return `${renderProviderFile(managedFile({ provider: 'aescbc', name, secret }))}\n`;
};
const file = fileOf('k-1', 1);
const other = fileOf('k-2', 2);

let clock: VirtualClock;
let model: LabModel;
let links: Links;
let kube: KubeApi;

function open(options: Partial<ModelOptions> = {}): void {
  clock = new VirtualClock();
  model = new LabModel({ nodes, clock, minor: 34, providerFile: file, ...options });
  links = linksInto(model, clock);
  ({ kube } = links);
}

beforeEach(() => open());

async function ask(
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
  body?: unknown,
  node = 'cp-1',
) {
  const contentType = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
  const request = { method, path, contentType, ...(body === undefined ? {} : { body }) };
  const answer = await kube.request(node, request, signal);
  return {
    ...answer,
    body: JSON.parse(answer.text) as Record<string, never> & { metadata: Record<string, string> },
  };
}

const all = '/api/v1/namespaces/default/secrets';
const make = (name: string, more: object = {}) =>
  ask('POST', all, { metadata: { name }, stringData: { password: name }, ...more });

function call(node: string, method: string, path: string) {
  return model.docker(node, { method, path: `/v1.41${path}`, headers: {}, body: Buffer.alloc(0) });
}

describe('kube-apiserver and its provider file', () => {
  it('listens 3 s after a restart, and is then ready', async () => {
    await links.runtime.restartApiserver('cp-1', signal);
    clock.advance(2_999);
    expect((await readiness(kube, 'cp-1', signal)).serves).toBe(false);
    clock.advance(1);
    expect(await readiness(kube, 'cp-1', signal)).toEqual({ serves: true, ready: true, failing: [] });
  });

  it('keeps what it has loaded until it is restarted, and tells its hash', async () => {
    const hash = (text: string) => createHash('sha256').update(text).digest('hex');
    model.host('cp-1').write(providerPath, Buffer.from(other));
    expect(loadedHashOf((await metricsOf(kube, 'cp-1', signal)).text)).toBe(hash(file));
    await links.runtime.restartApiserver('cp-1', signal);
    clock.advance(3_000);
    expect(loadedHashOf((await metricsOf(kube, 'cp-1', signal)).text)).toBe(hash(other));
  });

  it('tells no hash before 1.34', async () => {
    open({ minor: 33 });
    expect((await serverVersion(kube, 'cp-1', signal)).minor).toBe(33);
    expect(loadedHashOf((await metricsOf(kube, 'cp-1', signal)).text)).toBeUndefined();
  });

  test.each([
    ['missing', undefined, /error opening encryption provider configuration file/],
    ['empty', '', /is empty/],
    ['not usable', 'kind: EncryptionConfiguration\nresources: []', /error while parsing file/],
  ])('with a file that is %s it exits, and Docker starts it again, ever later', async (_, text, words) => {
    if (text === undefined) model.host('cp-1').remove(providerPath);
    else model.host('cp-1').write(providerPath, Buffer.from(text));
    await links.runtime.restartApiserver('cp-1', signal);
    clock.advance(550);
    const state = await inspect('cp-1');
    expect(state).toMatchObject({ Status: 'restarting', Running: true, Restarting: true, ExitCode: 1 });
    expect((await links.runtime.logs('cp-1', 1, signal)).join()).toMatch(words);
    clock.advance(60_000);
    await inspect('cp-1');
    const restarts = model.engine('cp-1').find('kube-apiserver')?.restarts;
    expect(restarts).toBeGreaterThan(4);
    expect(restarts).toBeLessThan(10);
    model.host('cp-1').write(providerPath, Buffer.from(file));
    clock.advance(70_000);
    expect((await readiness(kube, 'cp-1', signal)).ready).toBe(true);
  });

  it('is never ready while a Secret cannot be read, and says which one', async () => {
    await make('db');
    model.host('cp-2').write(providerPath, Buffer.from(other));
    await links.runtime.restartApiserver('cp-2', signal);
    clock.advance(3_000);
    expect((await readiness(kube, 'cp-2', signal)).failing).toEqual(['informer-sync']);
    const alone = 'Internal error occurred: no matching key was found';
    const named =
      'Internal error occurred: unable to transform key "/registry/secrets/default/db": no matching key was found';
    for (const [method, path, words] of [
      ['GET', '/api/v1/secrets', named],
      ['GET', `${all}/db`, alone],
      ['DELETE', `${all}/db`, alone],
    ] as const) {
      const { status, text } = await ask(method, path, undefined, 'cp-2');
      expect(status).toBe(500);
      expect(text).toContain(JSON.stringify(words).slice(1, -1));
    }
    expect((await ask('GET', `${all}/db`)).status).toBe(200);
  });

  it('can be kept from becoming ready for a while, and serves all the same', async () => {
    model.unreadyUntil.set('cp-1', clock.now().getTime() + 60_000);
    expect((await readiness(kube, 'cp-1', signal)).ready).toBe(true);
    await links.runtime.restartApiserver('cp-1', signal);
    clock.advance(50_000);
    expect(await readiness(kube, 'cp-1', signal)).toMatchObject({ serves: true, failing: ['informer-sync'] });
    expect((await ask('GET', '/api/v1/secrets')).status).toBe(200);
    clock.advance(10_000);
    expect((await readiness(kube, 'cp-1', signal)).ready).toBe(true);
  });

  it('looks for a new file every minute with automatic reload, and keeps the old one when that fails', async () => {
    open({ reload: true });
    model.host('cp-1').write(providerPath, Buffer.from(other));
    clock.advance(121_000);
    const [running] = model.running();
    model.advance();
    expect(running?.server.loaded.file.entries[0]?.providers[0]).toMatchObject({ keys: [{ name: 'k-2' }] });
    model.host('cp-1').write(providerPath, Buffer.from('broken: ['));
    clock.advance(61_000);
    model.advance();
    expect(running?.server.loaded.file.entries[0]?.providers[0]).toMatchObject({ keys: [{ name: 'k-2' }] });
    const metrics = await kube.request('cp-1', { method: 'GET', path: '/metrics' }, signal);
    expect(metrics.text).toMatch(/automatic_reloads_total\{[^}]*status="failure"\} [1-9]/);
  });

  it('does not start without the flag where only automatic reload is asked for', async () => {
    await links.runtime.recreateApiserver(
      'cp-1',
      { args: [`${providerFlag}-automatic-reload=true`] },
      signal,
    );
    clock.advance(3_000);
    expect((await readiness(kube, 'cp-1', signal)).serves).toBe(false);
  });

  it('gives the port to one of two', async () => {
    const engine = model.engine('cp-1');
    const { config, hostConfig } = engine.get('kube-apiserver');
    const second = engine.create('second', { ...config, HostConfig: hostConfig }, clock.now().getTime());
    await call('cp-1', 'POST', '/containers/second/start');
    clock.advance(500);
    model.advance();
    expect(second.status).toBe('restarting');
    expect(second.log.join()).toContain('bind: address already in use');
    expect((await readiness(kube, 'cp-1', signal)).ready).toBe(true);
  });
});

describe('objects', () => {
  it('an empty patch writes again only what is stale', async () => {
    const { metadata } = (await make('db')).body;
    const { uid, resourceVersion } = metadata;
    const patch = { metadata: { uid, resourceVersion } };
    expect((await ask('PATCH', `${all}/db`, patch)).body.metadata).toMatchObject({ resourceVersion });
    const both = file.replace('      keys:\n', `      keys:\n${other.split('\n').slice(8, 10).join('\n')}\n`);
    for (const { name } of nodes) {
      model.host(name).write(providerPath, Buffer.from(both));
      await links.runtime.restartApiserver(name, signal);
    }
    clock.advance(3_000);
    const moved = (await ask('PATCH', `${all}/db`, patch)).body.metadata;
    expect(Number(moved['resourceVersion'])).toBeGreaterThan(Number(resourceVersion));
    expect(model.store.get('/registry/secrets/default/db')?.value.toString('latin1')).toMatch(
      /^k8s:enc:aescbc:v1:k-2:/,
    );
  });

  it('refuses with the Status objects that clients know', async () => {
    const { uid, resourceVersion } = (await make('db', { immutable: true })).body.metadata;
    const status = async (...args: Parameters<typeof ask>) => (await ask(...args)).body;
    expect(await status('PATCH', `${all}/db`, { metadata: { uid, resourceVersion: '1' } })).toMatchObject({
      code: 409,
      reason: 'Conflict',
      details: { kind: 'secrets', name: 'db' },
    });
    expect(await status('PATCH', `${all}/db`, { metadata: { uid: 'x', resourceVersion } })).toMatchObject({
      code: 422,
      reason: 'Invalid',
      details: { kind: 'Secret', causes: [{ field: 'metadata.uid' }] },
    });
    expect(await status('PATCH', `${all}/none`, {})).toMatchObject({
      code: 404,
      reason: 'NotFound',
      details: { kind: 'secrets', name: 'none' },
    });
    expect(await status('PATCH', `${all}/db`, { data: { password: 'eA==' } })).toMatchObject({ code: 422 });
    expect(await status('POST', all, { metadata: { name: 'db' } })).toMatchObject({
      code: 409,
      reason: 'AlreadyExists',
    });
    expect(
      await status('POST', '/api/v1/namespaces/none/secrets', { metadata: { name: 'a' } }),
    ).toMatchObject({ code: 404 });
    expect(await status('PUT', `${all}/db`, { metadata: { name: 'db', uid: 'x' } })).toMatchObject({
      code: 409,
    });
    expect(await status('DELETE', `${all}/db`, { preconditions: { uid: 'x' } })).toMatchObject({ code: 409 });
    expect(await status('DELETE', `${all}/db`, { preconditions: { uid } })).toMatchObject({
      status: 'Success',
    });
    expect((await ask('GET', `${all}/db`)).status).toBe(404);
  });

  it('an empty patch of an immutable Secret is fine', async () => {
    const { uid, resourceVersion } = (await make('db', { immutable: true })).body.metadata;
    expect((await ask('PATCH', `${all}/db`, { metadata: { uid, resourceVersion } })).status).toBe(200);
  });

  it('lists by pages at one revision, counts the rest, and answers 410 with a way on after compaction', async () => {
    for (let i = 1; i <= 5; i += 1) await make(`s-${i}`);
    const first = (await ask('GET', '/api/v1/secrets?limit=2')).body as unknown as List;
    expect(first.metadata.remainingItemCount).toBe(3);
    expect(first.items?.map(({ metadata }) => metadata.name)).toEqual(['s-1', 's-2']);
    await ask('DELETE', `${all}/s-3`);
    const token = encodeURIComponent(first.metadata.continue ?? '');
    const second = (await ask('GET', `/api/v1/secrets?limit=2&continue=${token}`)).body as unknown as List;
    expect(second.items?.map(({ metadata }) => metadata.name)).toEqual(['s-3', 's-4']);
    await links.etcd({ endpoints: [], node: 'cp-1' }).compact(BigInt(model.store.revision), signal);
    const gone = await ask('GET', `/api/v1/secrets?limit=2&continue=${token}`);
    expect(gone.status).toBe(410);
    expect(gone.body).toMatchObject({ reason: 'Expired' });
    const onward = encodeURIComponent(gone.body.metadata['continue'] ?? '');
    const rest = (await ask('GET', `/api/v1/secrets?continue=${onward}`)).body as unknown as List;
    expect(rest.items?.map(({ metadata }) => metadata.name)).toEqual(['s-4', 's-5']);
  });

  it('shows metadata alone when asked to, and an empty list of it as null', async () => {
    const accept = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';
    const list = async () =>
      JSON.parse(
        (await kube.request('cp-1', { method: 'GET', path: '/api/v1/secrets', accept }, signal)).text,
      ) as unknown;
    expect(await list()).toMatchObject({ kind: 'PartialObjectMetadataList', items: null });
    await make('db');
    expect(JSON.stringify(await list())).not.toContain('password');
    expect(await list()).toMatchObject({
      items: [{ kind: 'PartialObjectMetadata', metadata: { name: 'db' } }],
    });
  });

  it('a webhook refuses, and a busy server asks to come again', async () => {
    model.admit = (_, { metadata }) => (metadata.name === 'bad' ? 'not this one' : undefined);
    expect((await make('bad')).body).toMatchObject({
      code: 400,
      message: 'admission webhook "guard.example.com" denied the request: not this one',
    });
    model.refusals.push({ matches: () => true, status: 429, message: 'busy', retryAfter: 2, times: 1 });
    const { status, headers } = await make('good');
    expect([status, headers['retry-after']]).toEqual([429, '2']);
    expect((await make('good')).status).toBe(201);
  });

  it('is found by discovery, its custom resource under its group in etcd, as JSON', async () => {
    const found = await discover(
      kube,
      'cp-1',
      ['secrets', 'widgets.example.com', 'gadgets.example.com'],
      signal,
    );
    expect(found.map(({ resources, leftOut }) => resources[0]?.etcdPath ?? leftOut[0]?.why)).toEqual([
      'secrets',
      'example.com/widgets',
      'unknown',
    ]);
    await ask('POST', '/apis/example.com/v1/namespaces/default/widgets', {
      metadata: { name: 'w' },
      spec: { size: 1 },
    });
    expect(model.store.get('/registry/example.com/widgets/default/w')?.value.toString()).toContain(
      '"size":1',
    );
  });

  it('names its servers in Endpoints and Leases while they serve', async () => {
    expect(await endpointAddresses(kube, 'cp-1', signal)).toEqual(nodes.map(({ address }) => address));
    expect((await identityLeases(kube, 'cp-1', signal)).map(({ hostname }) => hostname)).toEqual([
      'cp-1',
      'cp-2',
      'cp-3',
    ]);
    model.powerOff('cp-3');
    clock.advance(61_000);
    expect(await endpointAddresses(kube, 'cp-1', signal)).toEqual(['198.51.100.11', '198.51.100.12']);
    expect((await identityLeases(kube, 'cp-1', signal)).map(({ hostname }) => hostname)).toEqual([
      'cp-1',
      'cp-2',
    ]);
  });
});

describe('hosts', () => {
  it('one that is off answers nothing; after a reboot what was up is up again', async () => {
    model.powerOff('cp-1');
    await expect(links.runtime.version('cp-1', signal)).rejects.toMatchObject({ code: 'NODE_UNREACHABLE' });
    await expect(kube.request('cp-1', { method: 'GET', path: '/version' }, signal)).rejects.toMatchObject({
      code: 'KUBE',
    });
    model.powerOn('cp-1');
    clock.advance(3_000);
    expect((await readiness(kube, 'cp-1', signal)).ready).toBe(true);
    expect((await links.files.read('cp-1', providerPath, signal))?.text).toBe(file);
  });

  it('a container without a policy, or never started, stays down after a reboot', async () => {
    await links.runtime.recreateApiserver('cp-1', { args: ['--secure-port=6443'] }, signal);
    model.reboot('cp-1');
    const states = model.engine('cp-1').containers.map(({ name, status }) => [name, status]);
    expect(Object.fromEntries(states)).toEqual({
      'service-sidekick': 'created',
      'old-kube-apiserver': 'exited',
      ...Object.fromEntries(
        ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy'].map(
          (name) => [name, 'running'],
        ),
      ),
    });
  });

  it('files are replaced by the script inside, with a hash that must fit, also while the server is down', async () => {
    const sha = createHash('sha256').update(file).digest('hex');
    await links.files.replace('cp-1', providerPath, other, sha, signal);
    await expect(links.files.replace('cp-1', providerPath, file, sha, signal)).rejects.toMatchObject({
      code: 'FILE_CHANGED',
    });
    await call('cp-1', 'POST', '/containers/kube-apiserver/stop');
    const now = createHash('sha256').update(other).digest('hex');
    expect(await links.files.replace('cp-1', providerPath, file, now, signal)).toMatchObject({
      mode: 0o600,
      uid: 0,
    });
    await links.files.remove('cp-1', providerPath, sha, signal);
    expect([...model.host('cp-1').files.keys()].filter((path) => path.includes('encryption'))).toEqual([]);
    expect(model.engine('cp-1').containers).toHaveLength(7);
  });

  test.each([
    ['POST', '/containers/kube-apiserver/start', 304],
    ['POST', '/containers/none/start', 404],
    ['POST', '/containers/kube-apiserver/rename?name=etcd', 409],
    ['DELETE', '/containers/kube-apiserver', 409],
    ['POST', '/containers/service-sidekick/stop', 304],
    ['GET', '/containers/kube-apiserver/archive?path=/etc/none', 404],
    ['GET', '/images/none/json', 404],
    ['GET', '/nothing', 404],
  ])('Docker answers %s %s with %i', async (method, path, status) => {
    expect((await call('cp-1', method, path)).status).toBe(status);
  });

  it('a command that the lab does not know ends as a shell ends it', () => {
    const container = model.engine('cp-1').get('kube-apiserver');
    expect(model.engine('cp-1').exec(container, ['rm', '-rf', '/'])).toEqual({
      code: 127,
      output: 'rm: not found\n',
    });
  });
});

describe('etcd', () => {
  it('is up while more than half of its own members are, whatever becomes of the other nodes', async () => {
    const more = [...nodes, ...[4, 5, 6].map((i) => ({ name: `cp-${i}`, address: `198.51.100.${10 + i}` }))];
    const both = ['controlplane', 'etcd'] as const;
    open({ nodes: more.map((node, index) => ({ ...node, roles: both.slice(0, index < 3 ? 2 : 1) })) });
    expect(more.map(({ name }) => model.engine(name).find('etcd') !== undefined)).toEqual([
      ...[true, true, true, false, false, false],
    ]);
    const etcd = links.etcd({ endpoints: [], node: 'cp-1' });
    for (const name of ['cp-3', 'cp-4', 'cp-5', 'cp-6']) model.powerOff(name);
    expect((await etcd.size(signal)).quota).toBe(2 * 1024 ** 3);
    model.powerOff('cp-2');
    await expect(etcd.size(signal)).rejects.toMatchObject({ code: 'ETCD' });
  });

  it('answers as long as most of its members run', async () => {
    const etcd = links.etcd({ endpoints: [], node: 'cp-1' });
    model.powerOff('cp-2');
    expect((await etcd.size(signal)).quota).toBe(2 * 1024 ** 3);
    model.powerOff('cp-3');
    await expect(etcd.size(signal)).rejects.toMatchObject({ code: 'ETCD' });
    expect((await readiness(kube, 'cp-1', signal)).failing).toContain('etcd');
    expect((await ask('GET', '/api/v1/secrets')).status).toBe(500);
  });

  it('reads old revisions until they are compacted, and is another cluster once restored', async () => {
    const etcd = links.etcd({ endpoints: [], node: 'cp-1' });
    await make('db');
    const snapshot = model.snapshot();
    const before = BigInt(model.store.revision);
    await ask('DELETE', `${all}/db`);
    const request = {
      from: Buffer.from('/registry/secrets/'),
      end: Buffer.from('/registry/secrets0'),
      limit: 9,
    };
    expect((await etcd.range({ ...request, revision: before }, signal)).kvs).toHaveLength(1);
    const { clusterId, kvs } = await etcd.range({ ...request, revision: 0n }, signal);
    expect(kvs).toHaveLength(0);
    await etcd.compact(BigInt(model.store.revision), signal);
    await etcd.compact(before, signal);
    await expect(etcd.range({ ...request, revision: before }, signal)).rejects.toMatchObject({
      cause: { message: 'etcdserver: mvcc: required revision has been compacted' },
    });
    model.restore(snapshot);
    const restored = await etcd.range({ ...request, revision: 0n }, signal);
    expect(restored.kvs).toHaveLength(1);
    expect(restored.clusterId).not.toBe(clusterId);
  });
});

async function inspect(node: string): Promise<unknown> {
  const { body } = await call(node, 'GET', '/containers/kube-apiserver/json');
  return (JSON.parse(body.toString()) as { State: unknown }).State;
}

interface List {
  readonly metadata: { readonly continue?: string; readonly remainingItemCount?: number };
  readonly items: readonly { readonly metadata: { readonly name: string } }[] | null;
}
