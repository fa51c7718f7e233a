/** Health checks against servers on loopback; the node is reached by a plain TCP connection instead of SSH. */
import { createServer as createHttp, type RequestListener, type Server } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { connect, createServer as createTcp, type AddressInfo, type Server as TcpServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, describe, expect, test } from 'vitest';
import { TsrkeError } from '../../src/errors.ts';
import { healthChecks } from '../../src/hosts/health.ts';
import type { ClientCertificate, Dial } from '../../src/ports.ts';
import { certificate, kubeCa } from '../kube/certificates.ts';

const { signal } = new AbortController();
const servers: TcpServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    (server as Partial<Server>).closeAllConnections?.();
    server.close();
  }
});

async function listen(server: TcpServer): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const dialled: string[] = [];
const dial: Dial = (node, host, port) =>
  new Promise((resolve, reject) => {
    dialled.push(`${node} ${host}`);
    const socket = connect(port, host, () => resolve(socket));
    socket.on('error', reject);
  });

const ask = (
  url: string,
  { client, timeout = 5_000, by = dial }: { client?: ClientCertificate; timeout?: number; by?: Dial } = {},
) => healthChecks({ dial: by, timeout }).ask('h1', { url }, client, signal);

const saying =
  (status: number, text: string): RequestListener =>
  (_request, response) =>
    response.writeHead(status).end(text);

describe('over HTTP', () => {
  test.each([
    ['200', 'ok', undefined],
    ['500', 'no way\nmore', 'answers 500: no way'],
    [
      '500',
      '[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed',
      'answers 500: [-]etcd failed: reason withheld',
    ],
    ['503', '', 'answers 503'],
  ])('an answer of %s, %j', async (status, text, expected) => {
    const paths: (string | undefined)[] = [];
    const port = await listen(
      createHttp((request, response) => {
        paths.push(request.url);
        saying(Number(status), text)(request, response);
      }),
    );
    dialled.length = 0;
    expect(await ask(`http://localhost:${port}/healthz`)).toBe(expected);
    expect(paths).toEqual(['/healthz']);
    expect(dialled).toEqual(['h1 127.0.0.1']);
  });

  test.each([
    ['{"health":"true","reason":""}', undefined],
    [
      '{"health":"false","reason":"NO LEADER"}',
      'answers that it is not healthy: {"health":"false","reason":"NO LEADER"}',
    ],
    ['ok', 'answers that it is not healthy: ok'],
  ])('etcd, which says %s', async (text, expected) => {
    const port = await listen(createHttp(saying(200, text)));
    expect(await ask(`http://127.0.0.1:${port}/health`)).toBe(expected);
  });

  test('a server that says nothing, to the connection or to the question', async () => {
    const port = await listen(createTcp());
    expect(await ask(`http://127.0.0.1:${port}/healthz`, { timeout: 50 })).toBe('no answer within 0.05 s');
    const silent: Dial = () => new Promise(() => undefined);
    expect(await ask(`http://127.0.0.1:${port}/`, { timeout: 50, by: silent })).toBe(
      'no answer within 0.05 s',
    );
  });

  test('a server that hangs up', async () => {
    const port = await listen(createTcp((socket) => socket.destroy()));
    expect(await ask(`http://127.0.0.1:${port}/healthz`)).toMatch(/hang up|ECONNRESET/);
  });

  test.each([
    ['(SSH) Channel open failure: Connection refused', 2, 'connection refused'],
    ['(SSH) Channel open failure: No route to host', 2, 'no route to host'],
    ['(SSH) Channel open failure: ', 2, 'no connection'],
    ['(SSH) Channel open failure: open failed', 1, 'sshd forbids it (see AllowTcpForwarding and PermitOpen)'],
  ])('what sshd says: %s', async (message, reason, expected) => {
    const cause = Object.assign(new Error(message), { reason });
    const refusing: Dial = () => Promise.reject(new TsrkeError('NODE_UNREACHABLE', 'no stream', { cause }));
    expect(await ask('http://localhost:1/healthz', { by: refusing })).toBe(expected);
  });

  test('a node that is not reached at all', async () => {
    const gone: Dial = () => Promise.reject(new TsrkeError('NODE_UNREACHABLE', 'no SSH connection to it'));
    expect(await ask('http://localhost:1/healthz', { by: gone })).toBe('no SSH connection to it');
  });
});

describe('a knock', () => {
  const knock = (port: number, { timeout = 5_000, by = dial }: { timeout?: number; by?: Dial } = {}) =>
    healthChecks({ dial: by, timeout }).knock('h1', { host: '127.0.0.1', port }, signal);

  test('at a port where somebody listens is accepted, and hung up', async () => {
    let hungUp: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (hungUp = resolve));
    const port = await listen(createTcp((socket) => socket.on('close', hungUp).resume()));
    expect(await knock(port)).toEqual({ kind: 'accepted', why: '' });
    await ended;
  });

  test.each([
    ['Connection refused', 2, { kind: 'refused', why: 'connection refused' }],
    ['Connection timed out', 2, { kind: 'silent', why: 'connection timed out' }],
    ['Network is unreachable', 2, { kind: 'failed', why: 'network is unreachable' }],
    [
      'administratively prohibited',
      1,
      { kind: 'forbidden', why: 'sshd forbids it (see AllowTcpForwarding and PermitOpen)' },
    ],
  ])('of which sshd says %s', async (said, reason, expected) => {
    const cause = Object.assign(new Error(`(SSH) Channel open failure: ${said}`), { reason });
    const by: Dial = () => Promise.reject(new TsrkeError('NODE_UNREACHABLE', 'no stream', { cause }));
    expect(await knock(1, { by })).toEqual(expected);
  });

  test('that nobody answers is given up, and a stream that comes too late is closed', async () => {
    const port = await listen(createTcp());
    let answer: (stream: Duplex) => void = () => undefined;
    const late = new Promise<Duplex>((resolve) => (answer = resolve));
    expect(await knock(port, { timeout: 50, by: () => late })).toEqual({
      ...{ kind: 'silent', why: 'no answer within 0.05 s' },
    });
    const stream = await dial('h1', '127.0.0.1', port);
    answer(stream);
    await late;
    expect(stream.destroyed).toBe(true);
  });
});

describe('over TLS', () => {
  test.each(['shown', 'not shown'])('with a client certificate that is %s', async (how) => {
    const client = certificate('kube-node');
    const server = createHttps(
      {
        ...certificate('kube-apiserver-requestheader-ca'),
        ca: kubeCa,
        requestCert: true,
        rejectUnauthorized: false,
      },
      (request, response) => {
        const { authorized } = request.socket as unknown as { authorized: boolean };
        saying(authorized ? 200 : 401, 'Unauthorized')(request, response);
      },
    );
    const port = await listen(server);
    const url = `https://127.0.0.1:${port}/healthz`;
    expect(await ask(url, how === 'shown' ? { client } : {})).toBe(
      how === 'shown' ? undefined : 'answers 401: Unauthorized',
    );
  });

  test('asked of a server without TLS', async () => {
    const port = await listen(createHttp(saying(200, 'ok')));
    expect(await ask(`https://127.0.0.1:${port}/healthz`)).toMatch(/SSL|TLS|wrong version/i);
  });
});

test('the one who waits no longer gets the signal’s reason', async () => {
  const port = await listen(createTcp());
  const stop = new AbortController();
  const asked = healthChecks({ dial }).ask(
    'h1',
    { url: `http://127.0.0.1:${port}/` },
    undefined,
    stop.signal,
  );
  stop.abort(new Error('enough'));
  await expect(asked).rejects.toThrow('enough');
});
