import { once, setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { TLSSocket } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { createKubeApi, type ClosableKubeApi, type KubeApiOptions } from '../../src/kube/client.ts';
import { messageOf } from '../../src/errors.ts';
import type { Dial } from '../../src/ports.ts';
import { certificate, kubeCa, otherCa } from './certificates.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

const ok: Handler = (_, response) => response.end('ok');
const signal = new AbortController().signal;

async function apiserver(
  handler: Handler = ok,
  port = 0,
  host = '127.0.0.1',
): Promise<{ port: number; sockets: Set<Socket>; server: Server }> {
  const { cert, key } = certificate('kube-apiserver');
  const server = createServer(
    { cert, key, ca: kubeCa, requestCert: true, rejectUnauthorized: true },
    handler,
  );
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.listen(port, host);
  await once(server, 'listening');
  opened.push({
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
  return { port: (server.address() as AddressInfo).port, sockets, server };
}

async function closedPort(): Promise<number> {
  const { port, server } = await apiserver();
  server.close();
  await once(server, 'close');
  return port;
}

const noSsh: Dial = () => Promise.reject(new Error('SSH is down'));

/** SSH to a node: whatever port is asked for leads to `port`. */
function sshTo(port: () => number): { dial: Dial; dialled: string[] } {
  const dialled: string[] = [];
  const dial: Dial = async (node, host, asked) => {
    dialled.push(`${node} ${host}:${asked}`);
    const socket = connect(port(), '127.0.0.1');
    await once(socket, 'connect');
    return socket;
  };
  return { dial, dialled };
}

function kubeAt(
  port: number,
  more: Partial<KubeApiOptions> = {},
): { kube: ClosableKubeApi; lines: string[] } {
  const lines: string[] = [];
  const kube = createKubeApi({
    nodes: [{ name: 'cp-1', addresses: ['127.0.0.1'], port }],
    ca: kubeCa,
    ...certificate('kube-admin'),
    dial: noSsh,
    report: { debug: (text, node) => lines.push(`${node ?? ''}: ${text}`) },
    directTimeout: 300,
    ...more,
  });
  opened.push(kube);
  return { kube, lines };
}

const get = (path: string) => ({ method: 'GET', path }) as const;

describe('kube client', () => {
  test('asks with the client certificate and tells status, headers and text', async () => {
    const { port } = await apiserver((request, response) => {
      const { socket } = request;
      const peer = socket instanceof TLSSocket ? socket.getPeerCertificate().subject.CN : 'nobody';
      response.writeHead(418, { 'X-Peer': peer }).end(`${request.method ?? ''} ${request.url ?? ''}`);
    });
    const { kube } = kubeAt(port);
    expect(await kube.request('cp-1', get('/api?limit=1'), signal)).toMatchObject({
      status: 418,
      headers: { 'x-peer': 'kube-admin' },
      text: 'GET /api?limit=1',
    });
  });

  test('debug shows method, path, status and duration, never the query or a body', async () => {
    const { port } = await apiserver((_, response) => response.writeHead(201).end('answered-secret'));
    const { kube, lines } = kubeAt(port);
    const body = { data: 'sent-secret' };
    await kube.request('cp-1', { method: 'POST', path: '/api/v1/secrets?query=q', body }, signal);
    expect(lines.join()).toMatch(/^cp-1: kube POST \/api\/v1\/secrets 201 \d+ ms$/);
  });

  test('a body goes out as JSON with its content type', async () => {
    const { port } = await apiserver((request, response) => {
      response.writeHead(200, { 'x-type': request.headers['content-type'] });
      request.pipe(response);
    });
    const { kube } = kubeAt(port);
    const contentType = 'application/merge-patch+json';
    const answer = await kube.request(
      'cp-1',
      { method: 'PATCH', path: '/', body: { a: 1 }, contentType },
      signal,
    );
    expect(answer).toMatchObject({ headers: { 'x-type': contentType }, text: '{"a":1}' });
  });

  test('a server whose certificate another CA signed is another cluster', async () => {
    const { port } = await apiserver();
    const { kube } = kubeAt(port, { ca: otherCa });
    await expect(kube.request('cp-1', get('/'), signal)).rejects.toMatchObject({
      code: 'WRONG_CLUSTER',
      node: 'cp-1',
    });
  });

  test('nothing there is KUBE with the reasons of both ways', async () => {
    const { kube } = kubeAt(await closedPort());
    const error: unknown = await kube.request('cp-1', get('/'), signal).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'KUBE', node: 'cp-1' });
    expect((error as Error).cause).toMatchObject({
      message: expect.stringMatching(/ECONNREFUSED.*SSH is down/) as string,
    });
  });

  test('where the network does not let us it goes through SSH to 127.0.0.1, and stays there', async () => {
    const { port, sockets } = await apiserver();
    const { dial, dialled } = sshTo(() => port);
    const blocked = await closedPort();
    const { kube } = kubeAt(blocked, { dial });
    expect((await kube.request('cp-1', get('/'), signal)).text).toBe('ok');
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await kube.request('cp-1', get('/'), signal)).text).toBe('ok');
    expect(dialled).toEqual([`cp-1 127.0.0.1:${blocked}`, `cp-1 127.0.0.1:${blocked}`]);
  });

  test('when SSH stops working and the direct way has opened, that one is taken', async () => {
    const { port, sockets } = await apiserver();
    let works = true;
    const ssh = sshTo(() => port);
    const blocked = await closedPort();
    const dial: Dial = (...to) => (works ? ssh.dial(...to) : noSsh(...to));
    const { kube } = kubeAt(blocked, { dial });
    await kube.request('cp-1', get('/'), signal);
    works = false;
    for (const socket of sockets) socket.destroy();
    await apiserver((_, response) => response.end('direct'), blocked);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await kube.request('cp-1', get('/'), signal)).text).toBe('direct');
  });

  test('a server that is down where it answered before is not looked for through SSH', async () => {
    const { port, server, sockets } = await apiserver();
    const { dial, dialled } = sshTo(() => port);
    const { kube } = kubeAt(port, { dial });
    await kube.request('cp-1', get('/'), signal);
    server.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await expect(kube.request('cp-1', get('/'), signal)).rejects.toMatchObject({ code: 'KUBE' });
    expect(dialled).toEqual([]);
  });

  test('direct: false never connects directly', async () => {
    const { port } = await apiserver();
    const { dial, dialled } = sshTo(() => port);
    const { kube } = kubeAt(port, { dial, direct: false });
    await kube.request('cp-1', get('/'), signal);
    expect(dialled.length).toBe(1);
  });

  test('a name that the certificate does not hold is refused', async () => {
    const { port } = await apiserver(ok, 0, '127.0.0.2');
    const { kube } = kubeAt(port, { nodes: [{ name: 'cp-1', addresses: ['127.0.0.2'], port }] });
    const error: unknown = await kube.request('cp-1', get('/'), signal).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'KUBE' });
    expect(messageOf(error)).toContain("IP: 127.0.0.2 is not in the cert's list");
  });

  test('no answer within the time limit is KUBE', async () => {
    const { port } = await apiserver(() => undefined);
    const { kube } = kubeAt(port);
    const asked = kube.request('cp-1', { ...get('/slow'), timeout: 200 }, signal);
    await expect(asked).rejects.toMatchObject({
      code: 'KUBE',
      message: expect.stringContaining('/slow') as string,
    });
  });

  test('an answer that breaks off is KUBE', async () => {
    const { port } = await apiserver((_, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half');
      setTimeout(() => response.socket?.destroy(), 10);
    });
    const { kube } = kubeAt(port);
    await expect(kube.request('cp-1', get('/'), signal)).rejects.toMatchObject({ code: 'KUBE' });
  });

  test('an abort rejects with its reason', async () => {
    const { port } = await apiserver(() => undefined);
    const { kube } = kubeAt(port);
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error('interrupted')), 30);
    await expect(kube.request('cp-1', get('/'), stop.signal)).rejects.toThrow('interrupted');
    await expect(kube.request('cp-1', get('/'), stop.signal)).rejects.toThrow('interrupted');
  });

  test('metrics come zipped', async () => {
    const { port } = await apiserver((request, response) => {
      expect(request.headers['accept-encoding']).toBe('gzip');
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('a_metric 1\n'));
    });
    const { kube } = kubeAt(port);
    expect((await kube.request('cp-1', get('/metrics'), signal)).text).toBe('a_metric 1\n');
  });

  test('many requests share the connections', async () => {
    const { port, sockets } = await apiserver((_, response) => setTimeout(() => response.end('ok'), 5));
    const { kube } = kubeAt(port, { connections: 8 });
    const many = new AbortController();
    setMaxListeners(0, many.signal);
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => kube.request('cp-1', get('/'), many.signal)),
    );
    expect(answers.every((each) => each.text === 'ok')).toBe(true);
    expect(sockets.size).toBeLessThanOrEqual(8);
  });
});
