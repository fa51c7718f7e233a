/** Each protocol of the memory lab, asked by tsrke's own clients. What is asked is made up here; a model has its own tests. */
import ssh2 from 'ssh2';
import { afterEach, describe, expect, it } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { NoAnswer, type HttpAnswer, type HttpAsk, type LabSurface } from '../../src/lab/surface.ts';
import { createSshKey } from '../../src/lab/ssh-keys.ts';
import type { EtcdKeyValue } from '../../src/ports.ts';
import { json, signal, wire, type Wired } from './stand-in.ts';

const version = { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12' };

/** An etcd of these keys; whatever it is asked is written down. */
function etcdOf(keys: readonly string[]) {
  const kvs = keys.map((key, index): EtcdKeyValue => {
    return { key: Buffer.from(key), value: Buffer.from([0, 255, index]), modRevision: 2n ** 53n + 1n };
  });
  const compacted: bigint[] = [];
  const etcd: LabSurface['etcd'] = {
    range({ from, end, limit, revision }) {
      if (revision !== 0n && revision < 50n) {
        const words = 'etcdserver: mvcc: required revision has been compacted';
        return Promise.reject(new TsrkeError('ETCD', words));
      }
      const found = kvs.filter(({ key }) => key.compare(from) >= 0 && key.compare(end) < 0);
      const page = found.slice(0, limit);
      const more = page.length < found.length;
      return Promise.resolve({ kvs: page, more, revision: 77n, clusterId: '14841639068965178418' });
    },
    compact(revision) {
      compacted.push(revision);
      return Promise.resolve();
    },
    size: () => Promise.resolve({ used: 123_456, quota: 2_147_483_648 }),
  };
  return { etcd, compacted };
}

let wired: Wired | undefined;
afterEach(async () => {
  await wired?.close();
  wired = undefined;
});

type Answering = (node: string, ask: HttpAsk) => Promise<HttpAnswer>;
const refused: Answering = () => Promise.reject(new NoAnswer('ECONNREFUSED', 'nothing listens'));

async function open(
  surface: { docker?: Answering; kube?: Answering; etcd?: LabSurface['etcd'] },
  options: Parameters<typeof wire>[1] = {},
): Promise<Wired> {
  const { docker = refused, kube = refused, etcd = etcdOf([]).etcd } = surface;
  wired = await wire({ docker, kube, etcd }, options);
  return wired;
}

const code = (value: string) => expect.objectContaining({ code: value }) as unknown;

describe('SSH', () => {
  const docker: Answering = () => Promise.resolve(json(version));

  it('lets the key of cluster.yml in and no other', async () => {
    const { hosts } = await open({ docker });
    await expect(hosts().runtime.version('cp-1', signal)).resolves.toBe('20.10.24');
    const sshKey = createSshKey().private;
    const stranger = hosts({ sshKey }).connect('cp-1', signal);
    await expect(stranger).rejects.toThrow('lab@127.0.0.11');
    await expect(stranger).rejects.toEqual(code('NODE_UNREACHABLE'));
  });

  it('refuses what does not listen, at once', async () => {
    const { hosts } = await open({ docker });
    await expect(hosts().dial('cp-1', '127.0.0.1', 8080)).rejects.toMatchObject({
      message: 'no stream to 127.0.0.1:8080 through SSH',
      cause: { reason: 2, message: expect.stringMatching(/Connection refused$/) as unknown },
    });
  });

  it('refuses a kube-apiserver that does not listen yet', async () => {
    const { hosts, kube } = await open(
      { docker, kube: () => Promise.resolve(json({})) },
      { listens: (node, port) => port !== 6443 || node === 'cp-2', count: 2 },
    );
    const opened = hosts();
    const api = kube(opened);
    const call = api.request('cp-1', { method: 'GET', path: '/version' }, signal);
    await expect(call).rejects.toEqual(code('KUBE'));
    await expect(opened.dial('cp-1', '127.0.0.1', 6443)).rejects.toMatchObject({ cause: { reason: 2 } });
    await expect(api.request('cp-2', { method: 'GET', path: '/version' }, signal)).resolves.toMatchObject({
      status: 200,
    });
  });

  it('runs what the lab knows, for the plain ssh client too', async () => {
    const { nodes, servers, sshKey } = await open({ docker });
    const run = (command: string) =>
      new Promise<{ code: number; output: string }>((resolve, reject) => {
        const client = new ssh2.Client();
        client.on('error', reject).on('ready', () => {
          client.exec(command, (error, channel) => {
            if (error !== undefined) {
              reject(error);
              return;
            }
            let output = '';
            channel.on('data', (data: Buffer) => (output += data.toString()));
            channel.stderr.on('data', (data: Buffer) => (output += data.toString()));
            channel.on('close', (exit: number) => {
              client.end();
              resolve({ code: exit, output });
            });
          });
        });
        client.connect({
          ...{ host: nodes[0]?.address ?? '', port: servers.ports.get('cp-1') ?? 0 },
          ...{ username: 'lab', privateKey: sshKey },
        });
      });
    await expect(run('hostname')).resolves.toEqual({ code: 0, output: 'cp-1\n' });
    await expect(run('reboot')).resolves.toEqual({
      code: 127,
      output: "a lab's node knows no such command: reboot\n",
    });
  });

  it('leads through a bastion where the nodes have no addresses of their own', async () => {
    const asked: string[] = [];
    const { hosts, nodes } = await open(
      {
        docker: (node) => {
          asked.push(node);
          return docker(node, { method: '', path: '', headers: {}, body: Buffer.alloc(0) });
        },
      },
      { count: 3, bastion: true },
    );
    const opened = hosts();
    for (const { name } of nodes) {
      await expect(opened.runtime.version(name, signal)).resolves.toBe('20.10.24');
    }
    expect([...new Set(asked)]).toEqual(['cp-1', 'cp-2', 'cp-3']);
  });

  it('an unplugged host answers nobody, the others still do; plugged in, it is there again', async () => {
    const { hosts, servers } = await open({ docker }, { count: 2 });
    const opened = hosts();
    await opened.runtime.version('cp-1', signal);
    servers.unplug('cp-1');
    await expect(opened.runtime.version('cp-1', signal)).rejects.toEqual(code('NODE_UNREACHABLE'));
    await expect(opened.dial('cp-2', '127.0.0.11', 6443)).rejects.toEqual(code('NODE_UNREACHABLE'));
    await expect(opened.runtime.version('cp-2', signal)).resolves.toBe('20.10.24');
    await servers.plug('cp-1');
    await expect(opened.runtime.version('cp-1', signal)).resolves.toBe('20.10.24');
  });
});

describe('Docker', () => {
  it('carries method, path, headers and bodies both ways, byte for byte', async () => {
    const asks: HttpAsk[] = [];
    const { hosts } = await open({
      docker: (_, ask) => {
        asks.push(ask);
        if (ask.path === '/version') return Promise.resolve(json(version));
        if (ask.path.endsWith('/json')) {
          const labels = { 'io.rancher.rke.container.name': 'kube-apiserver' };
          return Promise.resolve(json({ Id: 'a', Config: { Labels: labels }, HostConfig: {} }));
        }
        return Promise.resolve(json({ message: 'No such container' }, 404));
      },
    });
    await expect(hosts().runtime.marker('cp-1', 'some', signal)).resolves.toEqual({
      labels: { 'io.rancher.rke.container.name': 'kube-apiserver' },
      beats: 0,
    });
    expect(asks.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'GET /version',
      'GET /v1.41/containers/some/json',
    ]);
  });

  it('an answer that is lost breaks the connection off', async () => {
    const { hosts } = await open({
      docker: (_, { path }) =>
        path === '/version'
          ? Promise.resolve(json(version))
          : Promise.reject(new NoAnswer('ECONNRESET', 'gone')),
    });
    const call = hosts().runtime.marker('cp-1', 'some', signal);
    await expect(call).rejects.toThrow('the connection was lost during docker GET /containers/some/json');
    await expect(call).rejects.toEqual(code('NODE_UNREACHABLE'));
  });

  it('answers a hundred calls at once over one connection', async () => {
    const { hosts } = await open({ docker: () => Promise.resolve(json(version)) });
    const opened = hosts();
    await opened.connect('cp-1', signal);
    const calls = Array.from({ length: 100 }, () => opened.runtime.version('cp-1', signal));
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['20.10.24']));
  });
});

describe('the kube API', () => {
  const echo: Answering = (node, ask) =>
    Promise.resolve(json({ node, method: ask.method, path: ask.path, body: ask.body.toString() }, 201));

  it('serves kube-admin of the state, over the one way there is', async () => {
    const { hosts, kube } = await open({ kube: echo }, { count: 2 });
    const api = kube(hosts());
    const answer = await api.request(
      'cp-2',
      { method: 'PATCH', path: '/api/v1/secrets?limit=1', body: { metadata: {} } },
      signal,
    );
    expect(answer.status).toBe(201);
    expect(JSON.parse(answer.text)).toEqual({
      ...{ node: 'cp-2', method: 'PATCH', path: '/api/v1/secrets?limit=1', body: '{"metadata":{}}' },
    });
    expect(Date.parse(answer.headers['date'] ?? '')).toBeGreaterThan(0);
  });

  it('refuses a client whose certificate another CA has signed', async () => {
    const asks: string[] = [];
    const { hosts, kube } = await open({
      kube: (node, ask) => {
        asks.push(ask.path);
        return echo(node, ask);
      },
    });
    const stranger = kube(hosts(), 'kube-apiserver-proxy-client');
    await expect(stranger.request('cp-1', { method: 'GET', path: '/version' }, signal)).rejects.toEqual(
      code('KUBE'),
    );
    expect(asks).toEqual([]);
  });

  it('an answer that is lost breaks the connection off, and the next request finds a new one', async () => {
    let lost = 0;
    const { hosts, kube } = await open({
      kube: (node, ask) => {
        if (ask.path === '/lost') lost += 1;
        return ask.path === '/lost' ? Promise.reject(new NoAnswer('ECONNRESET', 'gone')) : echo(node, ask);
      },
    });
    const api = kube(hosts());
    await expect(api.request('cp-1', { method: 'GET', path: '/lost' }, signal)).rejects.toEqual(code('KUBE'));
    expect(lost).toBe(1);
    await expect(api.request('cp-1', { method: 'GET', path: '/' }, signal)).resolves.toMatchObject({
      status: 201,
    });
  });

  it('answers 500 requests on 64 connections through SSH, each its own', async () => {
    const { hosts, kube } = await open({ kube: echo });
    const api = kube(hosts());
    const paths = Array.from({ length: 500 }, (_, n) => `/${n}`);
    const answers = await Promise.all(
      paths.map((path) => api.request('cp-1', { method: 'GET', path }, signal)),
    );
    expect(answers.map(({ text }) => (JSON.parse(text) as { path: string }).path)).toEqual(paths);
  });
});

describe('etcd', () => {
  it('gives pages of keys and values as they are, compacts, and tells its size', async () => {
    const { etcd: model, compacted } = etcdOf(['/registry/a', '/registry/b', '/registry/c', '/registrz']);
    const { hosts, etcd } = await open({ etcd: model }, { count: 2 });
    const client = etcd(hosts());
    const range = { from: Buffer.from('/registry/'), end: Buffer.from('/registry0'), limit: 2, revision: 0n };
    const page = await client.range(range, signal);
    expect(page).toMatchObject({ more: true, revision: 77n, clusterId: '14841639068965178418' });
    expect(page.kvs.map(({ key }) => key.toString())).toEqual(['/registry/a', '/registry/b']);
    expect(page.kvs[1]).toMatchObject({ value: Buffer.from([0, 255, 1]), modRevision: 2n ** 53n + 1n });
    await client.compact(70n, signal);
    expect(compacted).toEqual([70n]);
    await expect(client.size(signal)).resolves.toEqual({ used: 123_456, quota: 2_147_483_648 });
  });

  it('says of a compacted revision what etcd says', async () => {
    const { hosts, etcd } = await open({});
    const range = { from: Buffer.from('a'), end: Buffer.from('b'), limit: 1, revision: 3n };
    await expect(etcd(hosts()).range(range, signal)).rejects.toMatchObject({
      code: 'ETCD',
      cause: { details: 'etcdserver: mvcc: required revision has been compacted' },
    });
  });

  it('refuses a client whose certificate another CA has signed', async () => {
    const { hosts, etcd } = await open({});
    const range = { from: Buffer.from('a'), end: Buffer.from('b'), limit: 1, revision: 0n };
    const stranger = etcd(hosts(), 'kube-apiserver-proxy-client');
    await expect(stranger.range(range, signal)).rejects.toEqual(code('ETCD'));
  });
});
